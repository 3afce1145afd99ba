//! The daemon ends, by a kill or because it was asked to: the containers do not notice.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use caisson_tests::Type;
use caisson_tests::engine::{
    Daemon, Exec, LIMIT, Logs, Options, Port, at as part, ends_within, kill_process,
};
use rustix::process::Signal;

use super::{Typed, at, clean};
use crate::context::Ctx;
use crate::network::{SERVE, fetch, free_port};

pub const CASES: &[Typed] = &[
    ("a_running_container_goes_on_over_a_kill", a_running_container_goes_on_over_a_kill),
    ("what_ends_meanwhile_is_told", what_ends_meanwhile_is_told),
    ("restart_policies_are_applied_at_the_next_start", restart_policies_are_applied),
    ("a_daemon_that_is_asked_to_end_leaves_its_containers", asked_to_end),
    ("a_killed_supervisor_ends_its_container", a_killed_supervisor_ends_its_container),
    ("a_slow_supervisor_is_waited_for", a_slow_supervisor_is_waited_for),
];

fn pid(ctx: &Ctx, id: &str) -> Result<i32> {
    let pid = part(&ctx.inspect(id)?, "State.Pid").as_i64().context("no pid")?;
    ensure!(pid > 1, "{pid}");
    Ok(pid as i32)
}

/// A container that runs a script once a file has come into the host's directory `/host`.
fn upon(ctx: &Ctx, trigger: &str, script: &str, policy: &str) -> Result<String> {
    let script = format!("echo up; until [ -e /host/{trigger} ]; do sleep 0.1; done; {script}");
    let mut spec = ctx.script(&script);
    spec.binds = vec![format!("{}:/host", ctx.place().display())];
    spec.restart = policy.into();
    ctx.start_until(&spec, "up")
}

fn touch(place: &Path, name: &str) -> Result<()> {
    Ok(std::fs::write(place.join(name), "")?)
}

fn a_running_container_goes_on_over_a_kill(kind: Type) -> Result<()> {
    let mut daemon = Daemon::start(Options::default())?;
    let mut ctx = at(&daemon, kind)?;
    let port = free_port()?;
    let mut spec = ctx.script(SERVE);
    spec.ports = vec![Port { container: 80, host: port }];
    let server = ctx.start_until(&spec, "up")?;
    let mut spec = ctx.script("while read line; do echo got $line; done; exit 9");
    spec.stdin = true;
    let reader = ctx.create(&spec)?;
    ctx.start(&reader)?;
    let talker = upon(&ctx, "talk", "echo while nobody heard; touch /host/said; sleep 600", "")?;
    let before = ctx.inspect(&server)?;
    let guest = ctx.inside(&server, &["cat", "/proc/sys/kernel/random/boot_id"])?;
    daemon.crash()?;
    // While there is no daemon: the port answers, and what is written is not lost.
    ensure!(fetch(port)?.contains("200 OK"), "the port does not answer");
    touch(ctx.place(), "talk")?;
    daemon.again()?;
    ctx.reconnect()?;
    let after = ctx.inspect(&server)?;
    for path in ["State", "NetworkSettings.Networks.bridge", "NetworkSettings.Ports"] {
        let (before, after) = (part(&before, path), part(&after, path));
        ensure!(before == after, "{path}: {before} is now {after}");
    }
    ensure!(guest == ctx.inside(&server, &["cat", "/proc/sys/kernel/random/boot_id"])?);
    ensure!(fetch(port)?.contains("200 OK"), "the port does not answer");
    let mut session = ctx.attach(&reader)?;
    session.send(b"one\n")?;
    session.until("got one")?;
    session.close_input()?;
    session.finish()?;
    ensure!(ctx.wait(&reader)? == 9);
    ctx.inside(&talker, &["sh", "-c", "until [ -e /host/said ]; do sleep 0.1; done"])?;
    let logs = ctx.logs(&talker, &Logs::default())?;
    ensure!(logs.stdout == "up\nwhile nobody heard\n", "{logs:?}");
    ctx.stop(&server, Some(60))?;
    ensure!(ctx.wait(&server)? == 0);
    ctx.start(&server)?;
    clean(&daemon, &ctx)
}

fn what_ends_meanwhile_is_told(kind: Type) -> Result<()> {
    let mut daemon = Daemon::start(Options::default())?;
    let mut ctx = at(&daemon, kind)?;
    let ends = upon(&ctx, "go", "echo last words; exit 7", "")?;
    let mut spec = ctx.script("echo up; until [ -e /host/go ]; do sleep 0.1; done; exit 6");
    spec.binds = vec![format!("{}:/host", ctx.place().display())];
    spec.auto_remove = true;
    let vanishes = ctx.start_until(&spec, "up")?;
    let killed = ctx.idle()?;
    let pids = [pid(&ctx, &ends)?, pid(&ctx, &vanishes)?, pid(&ctx, &killed)?];
    daemon.crash()?;
    touch(ctx.place(), "go")?;
    kill_process(pids[2], Signal::KILL)?;
    for pid in pids {
        ensure!(ends_within(pid, LIMIT), "process {pid} did not end");
    }
    daemon.again()?;
    ctx.reconnect()?;
    for (id, code) in [(&ends, 7), (&killed, 137)] {
        ensure!(ctx.wait(id)? == code);
        let state = part(&ctx.inspect(id)?, "State").clone();
        ensure!(state["Status"] == "exited" && state["ExitCode"] == code, "{state}");
        ensure!(state["FinishedAt"].as_str() > state["StartedAt"].as_str(), "{state}");
    }
    let logs = ctx.logs(&ends, &Logs::default())?;
    ensure!(logs.stdout == "up\nlast words\n", "{logs:?}");
    // The daemon removes it in its own time; waiting for that ends when it has.
    let path = format!("/containers/{vanishes}/wait?condition=removed");
    let answer = ctx.api("POST", &path, None)?;
    ensure!(answer.status == 404 || answer.json()?["StatusCode"] == 6, "{answer:?}");
    ensure!(ctx.inspect(&vanishes).is_err(), "{vanishes} is still there");
    // It can be started again, with its files.
    ctx.start(&ends)?;
    ensure!(ctx.wait(&ends)? == 7);
    clean(&daemon, &ctx)
}

fn restart_policies_are_applied(kind: Type) -> Result<()> {
    let mut daemon = Daemon::start(Options::default())?;
    let mut ctx = at(&daemon, kind)?;
    let always = upon(&ctx, "go", "exec sleep 600", "always")?;
    let stopped = ctx.idle_with(|spec| spec.restart = "unless-stopped".into())?;
    let plain = ctx.idle()?;
    ctx.stop(&stopped, Some(60))?;
    let pids = [pid(&ctx, &always)?, pid(&ctx, &plain)?];
    daemon.crash()?;
    for pid in pids {
        kill_process(pid, Signal::KILL)?;
        ensure!(ends_within(pid, LIMIT), "process {pid} did not end");
    }
    daemon.again()?;
    ctx.reconnect()?;
    // It may have been taken over before its supervisor knew of the end: the start tells.
    ctx.bollard.events(1, &[&format!("container={always}")]).until("start")?;
    ensure!(ctx.status(&always)? == "running", "{}", daemon.log());
    let runs = ctx.exec(&always, &Exec::new(&["echo", "alive"]))?;
    ensure!(runs.stdout == "alive\n", "{runs:?}");
    ensure!(ctx.status(&plain)? == "exited", "{}", ctx.status(&plain)?);
    ensure!(ctx.status(&stopped)? == "exited", "{}", ctx.status(&stopped)?);
    clean(&daemon, &ctx)
}

fn asked_to_end(kind: Type) -> Result<()> {
    let mut daemon = Daemon::start(Options::default())?;
    let mut ctx = at(&daemon, kind)?;
    let id = ctx.idle()?;
    let before = part(&ctx.inspect(&id)?, "State").clone();
    daemon.terminate()?;
    daemon.again()?;
    ctx.reconnect()?;
    let after = part(&ctx.inspect(&id)?, "State").clone();
    ensure!(before == after, "{before} is now {after}");
    ensure!(ctx.inside(&id, &["echo", "alive"])? == "alive\n");
    ctx.stop(&id, Some(60))?;
    ensure!(ctx.wait(&id)? == 0);
    clean(&daemon, &ctx)
}

fn a_killed_supervisor_ends_its_container(kind: Type) -> Result<()> {
    let daemon = Daemon::start(Options::default())?;
    let ctx = at(&daemon, kind)?;
    let id = ctx.idle()?;
    ctx.inside(&id, &["sh", "-c", "echo kept > /root/kept"])?;
    let first = pid(&ctx, &id)?;
    let supervisors = daemon.supervisors();
    ensure!(supervisors.len() == 1, "{supervisors:?}");
    kill_process(supervisors[0], Signal::KILL)?;
    ctx.wait(&id)?;
    ensure!(ctx.status(&id)? == "exited");
    ensure!(ends_within(first, LIMIT), "its process outlives it");
    ctx.start(&id)?;
    ensure!(ctx.inside(&id, &["cat", "/root/kept"])? == "kept\n");
    clean(&daemon, &ctx)
}

/// Longer than the next daemon gives a supervisor that no container has.
const SLOW: Duration = Duration::from_secs(8);

fn a_slow_supervisor_is_waited_for(kind: Type) -> Result<()> {
    let mut daemon = Daemon::start(Options::default())?;
    let mut ctx = at(&daemon, kind)?;
    let id = ctx.idle()?;
    let first = pid(&ctx, &id)?;
    let supervisors = daemon.supervisors();
    ensure!(supervisors.len() == 1, "{supervisors:?}");
    daemon.crash()?;
    kill_process(supervisors[0], Signal::STOP)?;
    let awake = std::thread::spawn(move || {
        std::thread::sleep(SLOW);
        kill_process(supervisors[0], Signal::CONT)
    });
    let again = daemon.again();
    awake.join().map_err(|_| anyhow::anyhow!("the waker panicked"))??;
    again?;
    ctx.reconnect()?;
    ensure!(pid(&ctx, &id)? == first, "it is another process");
    ensure!(ctx.inside(&id, &["echo", "alive"])? == "alive\n");
    clean(&daemon, &ctx)
}
