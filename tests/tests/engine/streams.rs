//! Terminals, standard input, attach and detach.

use anyhow::{Result, ensure};
use bollard::query_parameters::ResizeContainerTTYOptions;
use caisson_tests::engine::Exec;

use crate::cases;
use crate::context::{Ctx, IDLE};

cases! {
    both: [
        stdin_comes_back,
    ],
    bollard: [
        a_terminal_has_a_size_and_takes_another,
        half_a_close_leaves_the_other_half,
        detach_keys_leave_it_running,
        attach_shows_only_what_comes,
        two_attached_clients_see_the_same,
    ],
}

fn stdin_comes_back(ctx: &Ctx) -> Result<()> {
    let text: String = (0..1 << 19).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
    let mut spec = ctx.spec(&["cat"]);
    spec.stdin = true;
    let finished = ctx.run(&spec, text.as_bytes())?;
    ensure!(finished.code == 0, "{:?}", finished.stderr);
    ensure!(finished.stdout == text, "{} of {} bytes", finished.stdout.len(), text.len());
    Ok(())
}

fn a_terminal_has_a_size_and_takes_another(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.script("tty; read line; stty size; read line; stty size; echo got $line");
    spec.tty = true;
    spec.stdin = true;
    let id = ctx.create(&spec)?;
    let mut session = ctx.attach(&id)?;
    ctx.start(&id)?;
    session.until("/dev/")?;
    resize(ctx, &id, 33, 99)?;
    session.send(b"one\n")?;
    session.until("33 99")?;
    resize(ctx, &id, 50, 120)?;
    session.send(b"two\n")?;
    session.finish()?;
    ensure!(session.stdout.contains("50 120"), "{:?}", session.stdout);
    ensure!(session.stdout.contains("got two\r\n"), "{:?}", session.stdout);
    ensure!(ctx.wait(&id)? == 0);
    Ok(())
}

fn resize(ctx: &Ctx, id: &str, h: i32, w: i32) -> Result<()> {
    let options = ResizeContainerTTYOptions { h, w };
    ctx.bollard.call(ctx.bollard.docker().resize_container_tty(id, options))
}

fn half_a_close_leaves_the_other_half(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.script("wc -c; echo after the end");
    spec.stdin = true;
    let id = ctx.create(&spec)?;
    let mut session = ctx.attach(&id)?;
    ctx.start(&id)?;
    session.send(b"12345")?;
    session.close_input()?;
    session.finish()?;
    ensure!(session.stdout.trim() == "5\nafter the end", "{:?}", session.stdout);
    ensure!(ctx.wait(&id)? == 0);
    Ok(())
}

fn detach_keys_leave_it_running(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.script("while read line; do echo got $line; done; echo ended");
    spec.tty = true;
    spec.stdin = true;
    let id = ctx.create(&spec)?;
    let mut session = ctx.attach(&id)?;
    ctx.start(&id)?;
    session.send(b"one\n")?;
    session.until("got one")?;
    // Control-P, control-Q.
    session.send(&[16, 17])?;
    session.finish()?;
    ensure!(ctx.status(&id)? == "running");
    let mut session = ctx.bollard.attach(&id, true, Some("ctrl-a,x"))?;
    session.send(b"two\n")?;
    session.until("got two")?;
    session.send(&[1, b'x'])?;
    session.finish()?;
    ensure!(ctx.status(&id)? == "running");
    let mut session = ctx.attach(&id)?;
    // The terminal's end of file.
    session.send(&[4])?;
    session.until("ended")?;
    ensure!(ctx.wait(&id)? == 0);
    Ok(())
}

fn attach_shows_only_what_comes(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.script("echo before; read line; echo $line");
    spec.stdin = true;
    let id = ctx.create(&spec)?;
    let mut first = ctx.bollard.attach(&id, false, None)?;
    ctx.start(&id)?;
    first.until("before")?;
    let mut second = ctx.attach(&id)?;
    second.send(b"after\n")?;
    second.finish()?;
    ensure!(second.stdout == "after\n", "{:?}", second.stdout);
    first.finish()?;
    ensure!(first.stdout == "before\nafter\n", "{:?}", first.stdout);
    Ok(())
}

fn two_attached_clients_see_the_same(ctx: &Ctx) -> Result<()> {
    let id = ctx.create(&ctx.script(IDLE))?;
    let mut one = ctx.bollard.attach(&id, false, None)?;
    let mut two = ctx.bollard.attach(&id, false, None)?;
    ctx.start(&id)?;
    one.until("up\n")?;
    two.until("up\n")?;
    drop(one);
    let finished = ctx.exec(&id, &Exec::new(&["sh", "-c", "echo more > /proc/1/fd/1"]))?;
    ensure!(finished.code == 0, "{finished:?}");
    two.until("more\n")?;
    Ok(())
}
