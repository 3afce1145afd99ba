//! Many containers, one after the other and at once: all come up, and nothing is left of them.

use anyhow::{Context, Result, ensure};
use caisson_tests::Type;
use caisson_tests::engine::{Daemon, Options, request};
use serde_json::json;

use super::{Typed, at, clean};
use crate::context::{Ctx, word};

pub const CASES: &[Typed] = &[
    ("cycles_leave_nothing", cycles_leave_nothing),
    ("many_at_once_all_come_up", many_at_once_all_come_up),
];

/// Creates, starts, awaits and removes one, by requests that keep no connection.
fn cycle(ctx: &Ctx, number: usize) -> Result<()> {
    let post = |path: &str, body: Option<serde_json::Value>| {
        let answer = request(&ctx.socket, "POST", path, body.as_ref())?;
        ensure!(answer.status < 300, "{path}: {}", answer.message());
        anyhow::Ok(answer)
    };
    let spec = ctx.script(&format!("echo {number} > /vol/n; exit {}", number % 100));
    let body = json!({
        "Image": spec.image,
        "Cmd": spec.args,
        "Volumes": {"/vol": {}},
        "HostConfig": {"Isolation": spec.isolation},
    });
    let created = post("/containers/create", Some(body))?.json()?;
    let id = created["Id"].as_str().context("no id")?;
    post(&format!("/containers/{id}/start"), None)?;
    let waited = post(&format!("/containers/{id}/wait"), None)?.json()?;
    ensure!(waited["StatusCode"] == number % 100, "{waited}");
    let removed = request(&ctx.socket, "DELETE", &format!("/containers/{id}?v=1"), None)?;
    ensure!(removed.status == 204, "{}", removed.message());
    Ok(())
}

/// Files below the daemon's roots.
fn files(daemon: &Daemon) -> usize {
    let mut count = 0;
    let mut directories = vec![daemon.data_root(), daemon.exec_root()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            count += 1;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(entry.path());
            }
        }
    }
    count
}

fn cycles_leave_nothing(kind: Type) -> Result<()> {
    let daemon = Daemon::start(Options::default())?;
    let ctx = at(&daemon, kind)?;
    let rounds = if kind == Type::Process { 100 } else { 10 };
    // What is made once is made by the first.
    for number in 0..3 {
        cycle(&ctx, number)?;
    }
    clean(&daemon, &ctx)?;
    let (descriptors, found) = (daemon.descriptors()?, files(&daemon));
    for number in 0..rounds {
        cycle(&ctx, number).with_context(|| format!("round {number}"))?;
    }
    clean(&daemon, &ctx)?;
    ensure!(files(&daemon) == found, "{} files, {found} before", files(&daemon));
    // Some come and go with what is spare or in flight; a leak would be one or more for each round.
    let now = daemon.descriptors()?;
    ensure!(now < descriptors + rounds / 2, "{now} descriptors, {descriptors} before");
    Ok(())
}

fn many_at_once_all_come_up(kind: Type) -> Result<()> {
    let daemon = Daemon::start(Options::default())?;
    let ctx = at(&daemon, kind)?;
    let count = if kind == Type::Process { 20 } else { 8 };
    let ids = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|number| {
                let ctx = &ctx;
                scope.spawn(move || {
                    let script = format!("echo number {number}; {}", crate::context::IDLE);
                    ctx.start_until(&ctx.script(&script), "up")
                })
            })
            .collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => anyhow::bail!("a thread panicked"),
        });
        joined.collect::<Result<Vec<String>>>()
    })?;
    ensure!(ctx.names(&["status=running"])?.len() == count, "{} run", word(kind));
    let mut addresses: Vec<String> = ids.iter().map(|id| ctx.address(id)).collect::<Result<_>>()?;
    addresses.sort();
    addresses.dedup();
    ensure!(addresses.len() == count, "{addresses:?}");
    let result: Result<()> = std::thread::scope(|scope| {
        let threads: Vec<_> = ids.iter().map(|id| scope.spawn(|| ctx.stop(id, Some(60)))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
    });
    result?;
    for id in &ids {
        ensure!(ctx.wait(id)? == 0);
    }
    clean(&daemon, &ctx)
}
