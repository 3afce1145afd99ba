//! One container, run to its end: what it is given, what comes back.

use anyhow::{Result, ensure};
use caisson_tests::engine::{Port, refused};

use crate::cases;
use crate::context::{Ctx, all};

cases! {
    both: [
        output_and_exit_code_come_back,
        the_environment_is_the_images_and_ones_own,
        the_working_directory_is_made,
        a_user_has_its_groups,
        a_hostname_is_set,
        an_entrypoint_comes_first,
        an_init_reaps_and_passes_the_code,
        a_read_only_root_refuses,
        a_killed_process_is_128_and_the_signal,
        a_container_is_its_own_machine,
    ],
    bollard: [
        a_missing_program_is_not_found,
        a_directory_is_not_executable,
        no_signal_is_ignored_or_blocked,
    ],
    docker_cli: [
        exit_codes_of_the_command_line,
        rm_leaves_nothing,
    ],
}

fn output_and_exit_code_come_back(ctx: &Ctx) -> Result<()> {
    for code in [0, 3] {
        let spec = ctx.script(&format!("echo out; echo err >&2; exit {code}"));
        let finished = ctx.run(&spec, &[])?;
        ensure!(finished.stdout == "out\n" && finished.stderr == "err\n", "{finished:?}");
        ensure!(finished.code == code, "{finished:?}");
    }
    Ok(())
}

fn the_environment_is_the_images_and_ones_own(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.script("env");
    spec.env = vec!["WORD=one two".into(), "EMPTY=".into()];
    spec.hostname = "named".into();
    let output = ctx.output(&spec)?;
    let lines: Vec<&str> = output.lines().collect();
    for wanted in ["WORD=one two", "EMPTY=", "HOSTNAME=named", "HOME=/root"] {
        ensure!(lines.contains(&wanted), "{wanted} is missing: {output}");
    }
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    ensure!(lines.contains(&path), "{output}");
    Ok(())
}

fn the_working_directory_is_made(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.script("pwd; ls -ld .");
    spec.workdir = "/a/new/place".into();
    let output = ctx.output(&spec)?;
    ensure!(output.starts_with("/a/new/place\ndrwxr-xr-x"), "{output}");
    Ok(())
}

fn a_user_has_its_groups(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.script("id; echo $HOME");
    spec.user = "web".into();
    spec.groups = vec!["999".into()];
    let output = ctx.output(&spec)?;
    ensure!(output.starts_with("uid=33(web) gid=34(web) groups="), "{output}");
    for wanted in ["4(log)", "999", "\n/data\n"] {
        ensure!(output.contains(wanted), "{wanted} is missing: {output}");
    }
    spec.user = "1234:5678".into();
    spec.groups.clear();
    let output = ctx.output(&spec)?;
    ensure!(output.starts_with("uid=1234 gid=5678"), "{output}");
    Ok(())
}

fn a_hostname_is_set(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.script("hostname; cat /etc/hostname; cat /etc/hosts");
    spec.hostname = "caisson-one".into();
    let output = ctx.output(&spec)?;
    ensure!(output.starts_with("caisson-one\ncaisson-one\n"), "{output}");
    let named = |line: &str| line.split_whitespace().any(|word| word == "caisson-one");
    ensure!(output.lines().skip(2).any(named), "{output}");
    ensure!(output.contains("localhost"), "{output}");
    Ok(())
}

fn an_entrypoint_comes_first(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.spec(&["a b", "c"]);
    spec.entrypoint = Some("/bin/echo".into());
    ensure!(ctx.output(&spec)? == "a b c\n");
    Ok(())
}

fn an_init_reaps_and_passes_the_code(ctx: &Ctx) -> Result<()> {
    // The orphan's end is awaited by its pid: it is gone from /proc only when it has been reaped.
    let script = "(sh -c 'echo $$ > /tmp/orphan' &); \
        while ! [ -s /tmp/orphan ] || [ -e /proc/$(cat /tmp/orphan) ]; do :; done; \
        echo $$; exit 5";
    let mut spec = ctx.script(script);
    spec.init = true;
    let finished = ctx.run(&spec, &[])?;
    ensure!(finished.code == 5, "{finished:?}");
    ensure!(finished.stdout.trim() != "1", "the program is process 1: {finished:?}");
    Ok(())
}

fn a_read_only_root_refuses(ctx: &Ctx) -> Result<()> {
    let mut spec =
        ctx.script("echo x > /x; echo y > /dev/shm/y && echo z > /scratch/z && echo fine");
    spec.read_only = true;
    spec.tmpfs = vec!["/scratch".into()];
    let finished = ctx.run(&spec, &[])?;
    ensure!(finished.stderr.contains("Read-only file system"), "{finished:?}");
    ensure!(finished.stdout == "fine\n", "{finished:?}");
    Ok(())
}

fn a_killed_process_is_128_and_the_signal(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.script("kill -KILL $$; sleep 600");
    // Process 1 of a PID namespace does not take its own signals; its child does.
    spec.init = true;
    let finished = ctx.run(&spec, &[])?;
    ensure!(finished.code == 137, "{finished:?}");
    Ok(())
}

fn a_container_is_its_own_machine(ctx: &Ctx) -> Result<()> {
    let script = "ls /proc | grep -c '^[0-9]'; ls /home/caisson-host 2>&1; uname -r; \
        ls /sys/class/net | tr '\\n' ' '; echo";
    let output = ctx.output(&ctx.script(script))?;
    let lines: Vec<&str> = output.lines().collect();
    ensure!(lines.len() == 4, "{output}");
    let processes: usize = lines[0].trim().parse()?;
    ensure!(processes < 8, "it sees {processes} processes: {output}");
    let host = rustix::system::uname().release().to_string_lossy().into_owned();
    let is_hosts = lines[2] == host;
    ensure!(is_hosts == (ctx.kind == caisson_tests::Type::Process), "{output}, host {host}");
    let mut links: Vec<&str> = lines[3].split_whitespace().collect();
    links.sort_unstable();
    ensure!(links == ["eth0", "lo"], "{output}");
    Ok(())
}

fn a_missing_program_is_not_found(ctx: &Ctx) -> Result<()> {
    let id = ctx.create(&ctx.spec(&["no-such-program"]))?;
    let no = refused(ctx.start(&id))?;
    ensure!(no.status == Some(400), "{no}");
    let wanted = "exec: \"no-such-program\": executable file not found in $PATH";
    ensure!(no.message.contains(wanted), "{no}");
    let inspect = ctx.inspect(&id)?;
    ensure!(
        inspect["State"]["ExitCode"] == 127 && inspect["State"]["Running"] == false,
        "{inspect}"
    );
    Ok(())
}

fn a_directory_is_not_executable(ctx: &Ctx) -> Result<()> {
    let id = ctx.create(&ctx.spec(&["/etc/passwd"]))?;
    let no = refused(ctx.start(&id))?;
    ensure!(no.status == Some(400) && no.message.contains("permission denied"), "{no}");
    let inspect = ctx.inspect(&id)?;
    ensure!(inspect["State"]["ExitCode"] == 126, "{inspect}");
    Ok(())
}

fn no_signal_is_ignored_or_blocked(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.spec(&["grep", "-E", "SigIgn|SigBlk", "/proc/self/status"]);
    for init in [false, true] {
        spec.init = init;
        let output = ctx.output(&spec)?;
        let zero = "0".repeat(16);
        ensure!(output == format!("SigBlk:\t{zero}\nSigIgn:\t{zero}\n"), "{output}");
    }
    Ok(())
}

fn exit_codes_of_the_command_line(ctx: &Ctx) -> Result<()> {
    let missing = ctx.run(&ctx.spec(&["no-such-program"]), &[])?;
    ensure!(missing.code == 127 && missing.stderr.contains("not found in $PATH"), "{missing:?}");
    let denied = ctx.run(&ctx.spec(&["/etc/passwd"]), &[])?;
    ensure!(denied.code == 126 && denied.stderr.contains("permission denied"), "{denied:?}");
    let mut spec = ctx.spec(&["true"]);
    spec.image = "no-such-image:1".into();
    let no = refused(ctx.run(&spec, &[]))?;
    ensure!(no.code == Some(125) && no.message.contains("No such image"), "{no}");
    let mut spec = ctx.spec(&["true"]);
    spec.ports = vec![Port { container: 80, host: 0 }];
    let good = ctx.run(&spec, &[])?;
    ensure!(good.code == 0, "{}", all(&good));
    Ok(())
}

fn rm_leaves_nothing(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.named("gone", &["sh", "-c", "echo x > /vol/x; echo done; exit 4"]);
    spec.auto_remove = true;
    spec.volumes = vec!["/vol".into()];
    let finished = ctx.run(&spec, &[])?;
    ensure!(finished.code == 4 && finished.stdout == "done\n", "{finished:?}");
    ensure!(ctx.own()?.is_empty(), "{:?} is left", ctx.own()?);
    Ok(())
}
