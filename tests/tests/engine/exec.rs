//! One more process in a running container.

use anyhow::{Result, ensure};
use caisson_tests::Type;
use caisson_tests::engine::{Exec, refused};

use crate::cases;
use crate::context::Ctx;

cases! {
    both: [
        exec_runs_beside_the_first_process,
        exec_takes_user_directory_and_environment,
        exec_takes_stdin,
    ],
    bollard: [
        exec_has_a_terminal,
        exec_of_a_missing_program_is_127,
        exec_needs_a_running_container,
    ],
}

fn exec_runs_beside_the_first_process(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle()?;
    let finished = ctx.exec(&id, &Exec::new(&["sh", "-c", "echo out; echo err >&2; exit 7"]))?;
    ensure!(finished.code == 7, "{finished:?}");
    ensure!(finished.stdout == "out\n" && finished.stderr == "err\n", "{finished:?}");
    let commands = ctx.inside(&id, &["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"])?;
    ensure!(commands.contains("sleep 600"), "{commands}");
    let host = rustix::system::uname().release().to_string_lossy().into_owned();
    let release = ctx.inside(&id, &["uname", "-r"])?;
    ensure!((release.trim() == host) == (ctx.kind == Type::Process), "{release}, host {host}");
    ensure!(ctx.output(&ctx.spec(&["uname", "-r"]))? == release);
    Ok(())
}

fn exec_takes_user_directory_and_environment(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle_with(|spec| spec.env = vec!["KEPT=yes".into()])?;
    let mut exec = Exec::new(&["sh", "-c", "id; pwd; echo $KEPT $OWN $HOME"]);
    exec.user = "web".into();
    exec.workdir = "/data".into();
    exec.env = vec!["OWN=mine".into()];
    let finished = ctx.exec(&id, &exec)?;
    ensure!(finished.code == 0, "{finished:?}");
    ensure!(finished.stdout.starts_with("uid=33(web) gid=34(web)"), "{finished:?}");
    ensure!(finished.stdout.contains("4(log)"), "{finished:?}");
    ensure!(finished.stdout.ends_with("\n/data\nyes mine /data\n"), "{finished:?}");
    Ok(())
}

fn exec_takes_stdin(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle()?;
    let mut exec = Exec::new(&["sh", "-c", "wc -c; echo done"]);
    exec.stdin = Some(vec![b'x'; 100_000]);
    let finished = ctx.exec(&id, &exec)?;
    ensure!(finished.stdout.trim() == "100000\ndone" && finished.code == 0, "{finished:?}");
    Ok(())
}

fn exec_has_a_terminal(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle()?;
    let exec = Exec::new(&["sh", "-c", "tty; read line; echo got $line; exit 6"]);
    let (exec, mut session) = ctx.bollard.exec_session(&id, &exec, true)?;
    session.until("/dev/")?;
    session.send(b"word\n")?;
    session.finish()?;
    ensure!(session.stdout.contains("got word\r\n"), "{:?}", session.stdout);
    ensure!(ctx.bollard.exec_code(&exec)? == 6);
    Ok(())
}

fn exec_of_a_missing_program_is_127(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle()?;
    // Docker answers 400 or, in older engines, writes the failure into the stream: the code is the same.
    let created = ctx.bollard.docker().create_exec(&id, exec_config("no-such-program"));
    let exec = ctx.bollard.call(created)?.id;
    let started = ctx.bollard.call(ctx.bollard.docker().start_exec(&exec, None));
    if let Ok(bollard::exec::StartExecResults::Attached { mut output, .. }) = started {
        use futures_util::StreamExt;
        ctx.bollard.call(async {
            while output.next().await.is_some() {}
            Ok(())
        })?;
    }
    let code = ctx.bollard.exec_code(&exec)?;
    ensure!(code == 127 || code == 126, "{code}");
    ensure!(ctx.status(&id)? == "running");
    Ok(())
}

fn exec_config(program: &str) -> bollard::models::ExecConfig {
    bollard::models::ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(vec![program.into()]),
        ..Default::default()
    }
}

fn exec_needs_a_running_container(ctx: &Ctx) -> Result<()> {
    let id = ctx.create(&ctx.spec(&["true"]))?;
    let no = refused(ctx.exec(&id, &Exec::new(&["true"])))?;
    ensure!(no.status == Some(409) && no.message.contains("is not running"), "{no}");
    let no = refused(ctx.exec("no-such-container", &Exec::new(&["true"])))?;
    ensure!(no.status == Some(404) && no.message.contains("No such container"), "{no}");
    Ok(())
}
