//! The daemon is killed in the middle of what it does: the next one finds nothing that it cannot mend.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use caisson_tests::Type;
use caisson_tests::engine::{Daemon, Options, at as part};
use serde_json::{Value, json};

use super::{Typed, at, clean};
use crate::context::{Ctx, IDLE, word};

pub const CASES: &[Typed] = &[("a_kill_in_the_middle_is_mended", a_kill_in_the_middle_is_mended)];

/// How long after a request the daemon is killed: moments spread over what a request takes. Nothing is
/// waited for with them, and what must hold does not depend on how far the daemon came.
const MOMENTS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(15),
    Duration::from_millis(60),
    Duration::from_millis(250),
];

/// Sends a request and does not wait for its answer.
fn send(ctx: &Ctx, method: &str, path: &str, body: &Value) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(&ctx.socket)?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    Ok(stream)
}

/// What is going on when the daemon is killed: the request, and whether the container runs before it.
fn requests(kind: Type) -> Vec<(&'static str, String, Value, bool)> {
    let other = crate::types::other(kind);
    let post = |path: &str| ("POST", format!("/containers/NAME{path}"), Value::Null);
    let mut requests = Vec::new();
    let mut add = |(method, path, body): (&'static str, String, Value), runs: bool| {
        requests.push((method, path, body, runs));
    };
    add(post("/start"), false);
    add(post("/stop?t=60"), true);
    add(post("/update"), true);
    add(("DELETE", "/containers/NAME?force=1".into(), Value::Null), true);
    if kind == Type::Process {
        add(post("/restart?t=60"), true);
        add(post("/kill"), true);
        add(post("/rename?name=NAMEnew"), false);
        add(("POST", "/commit?container=NAME&repo=half&tag=made".into(), json!({})), true);
        add(("POST", "/containers/create".into(), json!({"Image": "busybox"})), false);
    }
    for (_, path, body, _) in &mut requests {
        if path.ends_with("/update") {
            *body = json!({"RuntimeType": other, "Memory": 64 << 20, "MemorySwap": 64 << 20});
        }
    }
    requests
}

fn a_kill_in_the_middle_is_mended(kind: Type) -> Result<()> {
    let mut daemon = Daemon::start(Options::default())?;
    let mut ctx = at(&daemon, kind)?;
    for (number, (method, path, body, runs)) in requests(kind).into_iter().enumerate() {
        for (moment, delay) in MOMENTS.iter().enumerate() {
            let what = || format!("{method} {path}, killed after {delay:?}");
            let spec = ctx.named(&format!("at-{number}-{moment}"), &["sh", "-c", IDLE]);
            let id = if runs { ctx.start_until(&spec, "up")? } else { ctx.create(&spec)? };
            if runs {
                ctx.inside(&id, &["sh", "-c", "echo kept > /root/kept"])?;
            }
            let stream = send(&ctx, method, &path.replace("NAME", &id), &body)?;
            std::thread::sleep(*delay);
            daemon.crash()?;
            drop(stream);
            daemon.again().with_context(what)?;
            ctx.reconnect()?;
            works(&ctx, &id, runs, method == "DELETE").with_context(what)?;
            clean_all(&daemon, &ctx).with_context(what)?;
        }
    }
    Ok(())
}

/// The container is as it was or as it should be, and can be used.
fn works(ctx: &Ctx, id: &str, ran: bool, removed: bool) -> Result<()> {
    let Ok(inspect) = ctx.inspect(id) else {
        ensure!(removed, "the container is gone");
        return Ok(());
    };
    let kind = part(&inspect, "HostConfig.Isolation").as_str().context("no type")?;
    ensure!(kind == word(ctx.kind) || kind == crate::types::other(ctx.kind), "{kind}");
    let status = part(&inspect, "State.Status").as_str().context("no status")?.to_string();
    ensure!(["created", "running", "exited", "dead"].contains(&status.as_str()), "{status}");
    if removed {
        return Ok(());
    }
    if status != "running" {
        ctx.start(id).with_context(|| format!("start what is {status}"))?;
    }
    let kept = ctx.inside(id, &["sh", "-c", "cat /root/kept 2> /dev/null; echo alive"])?;
    ensure!(kept == if ran { "kept\nalive\n" } else { "alive\n" }, "{kept:?}, it was {status}");
    Ok(())
}

/// Removes all there is, whoever made it.
fn clean_all(daemon: &Daemon, ctx: &Ctx) -> Result<()> {
    let mut errors = Vec::new();
    for name in ctx.names(&[])? {
        // One that is being removed already may go before it is asked for: its going is waited for.
        if let Err(error) = ctx.remove(&name, true, true) {
            errors.push(format!("{error:#}"));
            let _ = ctx.api("POST", &format!("/containers/{name}/wait?condition=removed"), None);
        }
    }
    let left = ctx.names(&[])?;
    ensure!(left.is_empty(), "{left:?} cannot be removed: {errors:?}\n{}", daemon.log());
    clean(daemon, ctx)
}
