//! Restart policies and removal at the end.

use anyhow::{Context, Result, ensure};
use caisson_tests::engine::{Exec, Logs, at, refused};
use serde_json::json;

use crate::cases;
use crate::context::Ctx;

cases! {
    bollard: [
        on_failure_tries_so_many_times,
        on_failure_leaves_a_good_end,
        always_comes_back_until_it_is_stopped,
        a_killed_one_stays_down,
        a_policy_is_taken_away_while_it_restarts,
        removal_at_the_end_takes_nameless_volumes,
        bad_policies_are_refused,
        waits_have_conditions,
    ],
}

fn on_failure_tries_so_many_times(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.script("echo run; exit 3");
    spec.restart = "on-failure:2".into();
    let id = ctx.create(&spec)?;
    let mut events = ctx.bollard.events(1, &[&format!("container={id}")]);
    ctx.start(&id)?;
    for _ in 0..3 {
        let died = events.until("die")?;
        let attributes = died.actor.and_then(|actor| actor.attributes).unwrap_or_default();
        ensure!(attributes.get("exitCode").is_some_and(|code| code == "3"), "{attributes:?}");
    }
    ensure!(ctx.wait(&id)? == 3);
    let inspect = ctx.inspect(&id)?;
    ensure!(at(&inspect, "RestartCount") == 2, "{inspect}");
    ensure!(at(&inspect, "State.Status") == "exited", "{inspect}");
    let logs = ctx.logs(&id, &Logs::default())?;
    ensure!(logs.stdout == "run\nrun\nrun\n", "{logs:?}");
    Ok(())
}

fn on_failure_leaves_a_good_end(ctx: &Ctx) -> Result<()> {
    // The first run fails, the second does not.
    let mut spec = ctx.script("echo run >> /runs; [ $(wc -l < /runs) -gt 1 ]");
    spec.restart = "on-failure".into();
    let id = ctx.create(&spec)?;
    let mut events = ctx.bollard.events(1, &[&format!("container={id}")]);
    ctx.start(&id)?;
    for _ in 0..2 {
        events.until("die")?;
    }
    ensure!(ctx.wait(&id)? == 0);
    let inspect = ctx.inspect(&id)?;
    ensure!(at(&inspect, "RestartCount") == 1, "{inspect}");
    ensure!(at(&inspect, "State.Status") == "exited", "{inspect}");
    Ok(())
}

fn always_comes_back_until_it_is_stopped(ctx: &Ctx) -> Result<()> {
    let script = "echo run >> /runs; [ $(wc -l < /runs) -gt 2 ] || exit 0; \
        trap 'exit 0' TERM; sleep 600 & echo stays; wait";
    let mut spec = ctx.script(script);
    spec.restart = "always".into();
    let id = ctx.create(&spec)?;
    let mut events = ctx.bollard.events(1, &[&format!("container={id}")]);
    ctx.start(&id)?;
    for _ in 0..3 {
        events.until("start")?;
    }
    ensure!(at(&ctx.inspect(&id)?, "RestartCount") == 2);
    ctx.stop(&id, Some(60))?;
    ctx.wait(&id)?;
    ensure!(ctx.status(&id)? == "exited");
    // A start by hand begins to count anew.
    ctx.start(&id)?;
    let inspect = ctx.inspect(&id)?;
    ensure!(at(&inspect, "State.Running") == true, "{inspect}");
    Ok(())
}

fn a_killed_one_stays_down(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle_with(|spec| spec.restart = "always".into())?;
    ctx.kill(&id, "KILL")?;
    ensure!(ctx.wait(&id)? == 137);
    ensure!(ctx.status(&id)? == "exited");
    // One that its own program ends is brought back.
    let mut events = ctx.bollard.events(1, &[&format!("container={id}")]);
    events.until("die")?;
    ctx.start(&id)?;
    events.until("start")?;
    // It may be gone before the one who ended it.
    let _ = ctx.exec(&id, &Exec::new(&["kill", "-TERM", "1"]));
    events.until("die")?;
    events.until("start")?;
    Ok(())
}

fn a_policy_is_taken_away_while_it_restarts(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.script("exit 1");
    spec.restart = "always".into();
    let id = ctx.create(&spec)?;
    let mut events = ctx.bollard.events(1, &[&format!("container={id}")]);
    ctx.start(&id)?;
    for _ in 0..2 {
        events.until("die")?;
    }
    let none = json!({"RestartPolicy": {"Name": "no"}});
    let answer = ctx.api("POST", &format!("/containers/{id}/update"), Some(none))?;
    ensure!(answer.status == 200, "{}", answer.message());
    ctx.wait(&id)?;
    let inspect = ctx.inspect(&id)?;
    ensure!(at(&inspect, "State.Status") == "exited", "{inspect}");
    ensure!(at(&inspect, "HostConfig.RestartPolicy.Name") == "no", "{inspect}");
    Ok(())
}

fn removal_at_the_end_takes_nameless_volumes(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.script("read x; exit 4");
    spec.stdin = true;
    spec.auto_remove = true;
    spec.volumes = vec!["/nameless".into()];
    let named = ctx.name("named");
    spec.binds = vec![format!("{named}:/named")];
    let id = ctx.create(&spec)?;
    let inspect = ctx.inspect(&id)?;
    let mounts = at(&inspect, "Mounts").as_array().context("no mounts")?;
    let nameless = mounts.iter().find(|mount| mount["Destination"] == "/nameless");
    let nameless = nameless.and_then(|mount| mount["Name"].as_str()).context("no volume")?;
    let mut session = ctx.attach(&id)?;
    ctx.start(&id)?;
    let path = format!("/containers/{id}/wait?condition=removed");
    // The wait's head is here once it is registered.
    let waiting = caisson_tests::engine::request_streaming(&ctx.socket, "POST", &path, None)?;
    session.send(b"\n")?;
    let waited = waiting.finish()?;
    ensure!(waited.json()?["StatusCode"] == 4, "{waited:?}");
    let no = refused(ctx.inspect(&id))?;
    ensure!(no.status == Some(404), "{no}");
    let docker = ctx.bollard.docker();
    ensure!(ctx.bollard.call(docker.inspect_volume(nameless)).is_err(), "{nameless} is left");
    ctx.bollard.call(docker.inspect_volume(&named))?;
    Ok(())
}

fn bad_policies_are_refused(ctx: &Ctx) -> Result<()> {
    let labels = ctx.spec(&[]).labels;
    for (policy, remove, wanted) in [
        (json!({"Name": "sometimes"}), false, "sometimes"),
        (json!({"Name": "always", "MaximumRetryCount": 3}), false, "maximum retry count"),
        (json!({"Name": "on-failure", "MaximumRetryCount": -1}), false, "negative"),
        (json!({"Name": "always"}), true, "restart policy"),
    ] {
        let host_config = json!({"RestartPolicy": policy, "AutoRemove": remove});
        let body = json!({
            "Image": caisson_tests::engine::IMAGE,
            "Labels": labels,
            "HostConfig": host_config,
        });
        let answer = ctx.api("POST", "/containers/create", Some(body))?;
        ensure!(answer.status == 400, "{policy}: {answer:?}");
        ensure!(answer.message().contains(wanted), "{policy}: {}", answer.message());
    }
    ensure!(ctx.own()?.is_empty(), "{:?} is left", ctx.own()?);
    Ok(())
}

fn waits_have_conditions(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.script("read x; exit 8");
    spec.stdin = true;
    let id = ctx.create(&spec)?;
    let wait = |condition: &str| {
        let path = format!("/containers/{id}/wait?condition={condition}");
        caisson_tests::engine::request_streaming(&ctx.socket, "POST", &path, None)
    };
    // It does not run: that is waited for no longer; the next exit is.
    ensure!(wait("not-running")?.finish()?.json()?["StatusCode"] == 0);
    let next = wait("next-exit")?;
    let mut session = ctx.attach(&id)?;
    ctx.start(&id)?;
    let running = wait("not-running")?;
    let removed = wait("removed")?;
    session.send(b"\n")?;
    ensure!(next.finish()?.json()?["StatusCode"] == 8);
    ensure!(running.finish()?.json()?["StatusCode"] == 8);
    ctx.remove(&id, false, false)?;
    ensure!(removed.finish()?.json()?["StatusCode"] == 8);
    let answer = ctx.api("POST", &format!("/containers/{id}/wait?condition=not-running"), None)?;
    ensure!(answer.status == 404, "{answer:?}");
    Ok(())
}
