//! Stop, kill, restart, pause, wait, rename, remove.

use anyhow::{Result, ensure};
use caisson_tests::engine::{at, refused};

use crate::cases;
use crate::context::Ctx;

cases! {
    both: [
        stop_is_graceful_then_kills,
        kill_sends_any_signal,
        restart_starts_again,
        pause_stops_and_unpause_goes_on,
        rename_moves_the_name,
        remove_wants_it_stopped_or_force,
    ],
}

fn stop_is_graceful_then_kills(ctx: &Ctx) -> Result<()> {
    let good = ctx.idle()?;
    ctx.stop(&good, Some(60))?;
    ensure!(ctx.wait(&good)? == 0);
    let deaf =
        ctx.start_until(&ctx.script("trap '' TERM; echo up; while :; do sleep 1; done"), "up")?;
    ctx.stop(&deaf, Some(1))?;
    ensure!(ctx.wait(&deaf)? == 137);
    ensure!(ctx.status(&deaf)? == "exited");
    // Stopping what has stopped is no error.
    ctx.stop(&deaf, Some(1))?;
    let mut spec = ctx.script("trap 'exit 9' USR1; sleep 600 & echo up; wait");
    spec.stop_signal = "SIGUSR1".into();
    let own = ctx.start_until(&spec, "up")?;
    ctx.stop(&own, None)?;
    ensure!(ctx.wait(&own)? == 9);
    Ok(())
}

fn kill_sends_any_signal(ctx: &Ctx) -> Result<()> {
    let script =
        "trap 'echo usr1' USR1; trap 'exit 3' HUP; echo up; while :; do sleep 600 & wait; done";
    let id = ctx.create(&ctx.script(script))?;
    let mut session = ctx.bollard.attach(&id, false, None)?;
    ctx.start(&id)?;
    session.until("up")?;
    ctx.kill(&id, "SIGUSR1")?;
    session.until("usr1")?;
    ctx.kill(&id, "1")?;
    ensure!(ctx.wait(&id)? == 3);
    let no = refused(ctx.kill(&id, "KILL"))?;
    ensure!(no.message.contains("is not running"), "{no}");
    let id = ctx.idle()?;
    ctx.kill(&id, "KILL")?;
    ensure!(ctx.wait(&id)? == 137);
    let inspect = ctx.inspect(&id)?;
    ensure!(at(&inspect, "State.OOMKilled") == false, "{inspect}");
    Ok(())
}

fn restart_starts_again(ctx: &Ctx) -> Result<()> {
    let script = "echo x >> /count; trap 'exit 0' TERM; sleep 600 & echo up; wait";
    let id = ctx.start_until(&ctx.script(script), "up")?;
    let before = ctx.inspect(&id)?;
    ctx.restart(&id, Some(60))?;
    let after = ctx.inspect(&id)?;
    ensure!(at(&after, "State.Running") == true, "{after}");
    ensure!(at(&before, "State.StartedAt") != at(&after, "State.StartedAt"), "{after}");
    let ran = |times: u32| format!("until [ $(wc -l < /count) = {times} ]; do sleep 0.1; done");
    ctx.inside(&id, &["sh", "-c", &ran(2)])?;
    // One that has ended is started by it too.
    ctx.kill(&id, "KILL")?;
    ctx.wait(&id)?;
    ctx.restart(&id, Some(60))?;
    ctx.inside(&id, &["sh", "-c", &ran(3)])?;
    Ok(())
}

fn pause_stops_and_unpause_goes_on(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle()?;
    ctx.pause(&id)?;
    ensure!(ctx.status(&id)? == "paused");
    let no = refused(ctx.pause(&id))?;
    ensure!(no.message.contains("already paused"), "{no}");
    ensure!(ctx.names(&["status=paused", &format!("id={id}")])?.len() == 1);
    ctx.unpause(&id)?;
    ensure!(ctx.status(&id)? == "running");
    let no = refused(ctx.unpause(&id))?;
    ensure!(no.message.contains("not paused"), "{no}");
    ensure!(ctx.inside(&id, &["echo", "awake"])? == "awake\n");
    ctx.pause(&id)?;
    // Stopping a paused one wakes it for its end.
    ctx.stop(&id, Some(60))?;
    ensure!(ctx.wait(&id)? == 0);
    Ok(())
}

fn rename_moves_the_name(ctx: &Ctx) -> Result<()> {
    let id = ctx.create(&ctx.named("old", &["true"]))?;
    let other = ctx.create(&ctx.named("other", &["true"]))?;
    ctx.rename(&ctx.name("old"), &ctx.name("new"))?;
    ensure!(ctx.inspect(&ctx.name("new"))?["Id"] == id.as_str());
    let no = refused(ctx.inspect(&ctx.name("old")))?;
    ensure!(no.message.to_lowercase().contains("no such container"), "{no}");
    let no = refused(ctx.rename(&other, &ctx.name("new")))?;
    ensure!(no.message.contains("already in use"), "{no}");
    Ok(())
}

fn remove_wants_it_stopped_or_force(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle()?;
    let no = refused(ctx.remove(&id, false, false))?;
    ensure!(no.message.contains("force remove"), "{no}");
    ensure!(ctx.status(&id)? == "running");
    ctx.remove(&id, true, false)?;
    ensure!(refused(ctx.inspect(&id)).is_ok());
    let id = ctx.create(&ctx.spec(&["true"]))?;
    ctx.remove(&id, false, false)?;
    ensure!(ctx.own()?.is_empty());
    Ok(())
}
