//! A container changes its runtime type: what it keeps, and what happens when it cannot.

use anyhow::{Context, Result, ensure};
use caisson_tests::Type;
use caisson_tests::engine::{Exec, Logs, Port, Response, at, request_streaming};
use serde_json::{Value, json};

use crate::cases;
use crate::context::{Ctx, IDLE, word};

cases! {
    caisson: [
        a_stopped_one_is_changed_in_place,
        a_running_one_keeps_all_that_it_has,
        a_running_one_is_not_stopped_when_that_is_not_wanted,
        the_same_type_changes_nothing,
        one_that_cannot_be_the_other_runs_on,
        one_that_does_not_start_as_the_other_is_as_before,
        removal_at_the_end_is_not_a_change,
        a_restart_policy_does_not_see_a_change,
        a_paused_one_is_changed_too,
        two_changes_at_once_are_one_after_the_other,
        bad_changes_are_refused,
    ],
}

pub fn other(kind: Type) -> &'static str {
    match kind {
        Type::Process => "hyperv",
        Type::Hyperv => "process",
    }
}

fn set_type(ctx: &Ctx, id: &str, kind: &str, no_restart: bool) -> Result<Response> {
    let body = json!({"RuntimeType": kind, "NoRestart": no_restart});
    ctx.api("POST", &format!("/containers/{id}/update"), Some(body))
}

fn change(ctx: &Ctx, id: &str, kind: &str) -> Result<()> {
    let answer = set_type(ctx, id, kind, false)?;
    ensure!(answer.status == 200, "{answer:?}: {}", answer.message());
    ensure!(at(&ctx.inspect(id)?, "HostConfig.Isolation") == kind);
    Ok(())
}

/// Whether what runs in it is on this host's kernel, as its type says.
fn on_its_kernel(ctx: &Ctx, id: &str, kind: &str) -> Result<()> {
    let host = rustix::system::uname().release().to_string_lossy().into_owned();
    let release = ctx.inside(id, &["uname", "-r"])?;
    ensure!((release.trim() == host) == (kind == "process"), "{kind}: {release}, host {host}");
    Ok(())
}

fn a_stopped_one_is_changed_in_place(ctx: &Ctx) -> Result<()> {
    let id = ctx.create(&ctx.script("uname -r; echo run >> /runs; cat /runs"))?;
    for (number, kind) in [word(ctx.kind), other(ctx.kind), word(ctx.kind)].iter().enumerate() {
        change(ctx, &id, kind)?;
        ensure!(ctx.status(&id)? == if number == 0 { "created" } else { "exited" });
        let mut session = ctx.bollard.attach(&id, false, None)?;
        ctx.start(&id)?;
        session.finish()?;
        ensure!(ctx.wait(&id)? == 0);
        let (release, runs) = session.stdout.split_once('\n').context("no release")?;
        let host = rustix::system::uname().release().to_string_lossy().into_owned();
        ensure!((release == host) == (*kind == "process"), "{kind}: {release}");
        ensure!(runs == "run\n".repeat(number + 1), "{runs:?}");
    }
    // Without a restart too: there is nothing to restart.
    let answer = set_type(ctx, &id, other(ctx.kind), true)?;
    ensure!(answer.status == 200, "{}", answer.message());
    Ok(())
}

/// What must be the same before and after.
fn kept(inspect: &Value) -> Value {
    let endpoint = at(inspect, "NetworkSettings.Networks.bridge");
    json!({
        "id": inspect["Id"],
        "name": inspect["Name"],
        "created": inspect["Created"],
        "image": inspect["Image"],
        "config": inspect["Config"],
        "mounts": inspect["Mounts"],
        "memory": at(inspect, "HostConfig.Memory"),
        "pids": at(inspect, "HostConfig.PidsLimit"),
        "restart": at(inspect, "HostConfig.RestartPolicy"),
        "bindings": at(inspect, "HostConfig.PortBindings"),
        "address": endpoint["IPAddress"],
        "mac": endpoint["MacAddress"],
        "log": inspect["LogPath"],
    })
}

fn a_running_one_keeps_all_that_it_has(ctx: &Ctx) -> Result<()> {
    let script = "trap 'exit 0' TERM; echo start; mkdir -p /www; echo page > /www/index.html; \
        httpd -p 80 -h /www; sleep 600 & echo up; wait";
    let mut spec = ctx.named("changing", &["sh", "-c", script]);
    let free = crate::network::free_port()?;
    spec.env = vec!["WORD=kept".into()];
    spec.hostname = "kept-name".into();
    spec.volumes = vec!["/nameless".into()];
    spec.binds =
        vec![format!("{}:/named", ctx.name("vol")), format!("{}:/host", ctx.place().display())];
    spec.ports = vec![Port { container: 80, host: free }];
    spec.memory = Some(100 << 20);
    spec.pids = Some(77);
    spec.restart = "on-failure:2".into();
    let id = ctx.start_until(&spec, "up")?;
    let write = "echo layer > /root/own; chown 33:34 /root/own; chmod 604 /root/own; \
        rm /etc/group; ln -s own /root/link; echo nameless > /nameless/own; \
        echo named > /named/own; echo host > /host/own";
    ctx.inside(&id, &["sh", "-c", write])?;
    let before = ctx.inspect(&id)?;
    for kind in [other(ctx.kind), word(ctx.kind)] {
        change(ctx, &id, kind)?;
        let after = ctx.inspect(&id)?;
        ensure!(kept(&before) == kept(&after), "{}\n{}", kept(&before), kept(&after));
        ensure!(at(&after, "State.Running") == true, "{}", after["State"]);
        ensure!(at(&after, "RestartCount") == 0, "{}", after["State"]);
        on_its_kernel(ctx, &id, kind)?;
        let read = "cat /root/link /nameless/own /named/own /host/own; hostname; echo $WORD; \
            stat -c '%a %u:%g' /root/own; ls /etc/group 2> /dev/null; ip addr show eth0";
        let inside = ctx.exec(&id, &Exec::new(&["sh", "-c", read]))?;
        let wanted = "layer\nnameless\nnamed\nhost\nkept-name\nkept\n604 33:34\n";
        ensure!(inside.stdout.starts_with(wanted), "{inside:?}");
        let endpoint = at(&after, "NetworkSettings.Networks.bridge");
        for key in ["IPAddress", "MacAddress"] {
            let value = endpoint[key].as_str().context("no address")?;
            ensure!(inside.stdout.contains(value), "{value} is missing: {inside:?}");
        }
        // The server may be a moment behind its container's start.
        let serving = "until grep -q ':0050 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done";
        ctx.inside(&id, &["sh", "-c", serving])?;
        let page = crate::network::fetch(free)?;
        ensure!(page.ends_with("page\n"), "{page:?}");
        let killed = Exec::new(&["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"]);
        let killed = ctx.exec(&id, &killed)?;
        ensure!(killed.code == 137, "{killed:?}");
    }
    let logs = ctx.logs(&id, &Logs::default())?;
    ensure!(logs.stdout == "start\nup\n".repeat(3), "{logs:?}");
    Ok(())
}

fn a_running_one_is_not_stopped_when_that_is_not_wanted(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle()?;
    let before = at(&ctx.inspect(&id)?, "State").clone();
    let answer = set_type(ctx, &id, other(ctx.kind), true)?;
    ensure!(answer.status == 409, "{answer:?}");
    ensure!(answer.message().contains("is running"), "{}", answer.message());
    let inspect = ctx.inspect(&id)?;
    ensure!(at(&inspect, "State") == &before, "{inspect}");
    ensure!(at(&inspect, "HostConfig.Isolation") == word(ctx.kind), "{inspect}");
    Ok(())
}

fn the_same_type_changes_nothing(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle()?;
    let before = at(&ctx.inspect(&id)?, "State").clone();
    change(ctx, &id, word(ctx.kind))?;
    ensure!(at(&ctx.inspect(&id)?, "State") == &before);
    // No type at all is no change either.
    let answer = set_type(ctx, &id, "", false)?;
    ensure!(answer.status == 200, "{}", answer.message());
    ensure!(at(&ctx.inspect(&id)?, "State") == &before);
    Ok(())
}

fn one_that_cannot_be_the_other_runs_on(ctx: &Ctx) -> Result<()> {
    // There is nothing that a process cannot be and a guest can.
    if ctx.kind == Type::Hyperv {
        return Ok(());
    }
    for network in ["host", "container"] {
        let base = ctx.idle()?;
        let id = ctx.idle_with(|spec| {
            spec.network = match network {
                "container" => format!("container:{base}"),
                other => other.into(),
            }
        })?;
        let before = at(&ctx.inspect(&id)?, "State").clone();
        let answer = set_type(ctx, &id, "hyperv", false)?;
        ensure!((400..500).contains(&answer.status), "{answer:?}");
        let message = answer.message();
        ensure!(message.contains("hyperv") && message.contains(network), "{message}");
        let inspect = ctx.inspect(&id)?;
        ensure!(at(&inspect, "State") == &before, "{inspect}");
        ensure!(at(&inspect, "HostConfig.Isolation") == "process", "{inspect}");
        on_its_kernel(ctx, &id, "process")?;
    }
    Ok(())
}

fn one_that_does_not_start_as_the_other_is_as_before(ctx: &Ctx) -> Result<()> {
    let source = ctx.place().join("source");
    std::fs::create_dir(&source)?;
    let mount = json!({"Type": "bind", "Source": source, "Target": "/bound"});
    let spec = ctx.script(IDLE);
    let body = json!({
        "Image": spec.image,
        "Cmd": spec.args,
        "Labels": spec.labels,
        "HostConfig": {"Mounts": [mount], "Isolation": spec.isolation},
    });
    let answer = ctx.api("POST", "/containers/create", Some(body))?;
    ensure!(answer.status == 201, "{}", answer.message());
    let id = answer.json()?["Id"].as_str().context("no id")?.to_string();
    ctx.start(&id)?;
    ctx.inside(&id, &["sh", "-c", "echo mine > /root/mine"])?;
    // Now it starts as neither type.
    std::fs::remove_dir(&source)?;
    let answer = set_type(ctx, &id, other(ctx.kind), false)?;
    ensure!(answer.status >= 400, "{answer:?}");
    ensure!(answer.message().contains("did not start as"), "{}", answer.message());
    ensure!(answer.message().contains(&*source.to_string_lossy()), "{}", answer.message());
    let inspect = ctx.inspect(&id)?;
    ensure!(at(&inspect, "HostConfig.Isolation") == word(ctx.kind), "{inspect}");
    std::fs::create_dir(&source)?;
    ctx.start(&id)?;
    on_its_kernel(ctx, &id, word(ctx.kind))?;
    ensure!(ctx.inside(&id, &["cat", "/root/mine"])? == "mine\n");
    Ok(())
}

fn removal_at_the_end_is_not_a_change(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle_with(|spec| {
        spec.auto_remove = true;
        spec.volumes = vec!["/vol".into()];
    })?;
    ctx.inside(&id, &["sh", "-c", "echo mine > /vol/mine"])?;
    change(ctx, &id, other(ctx.kind))?;
    ensure!(ctx.inside(&id, &["cat", "/vol/mine"])? == "mine\n");
    let path = format!("/containers/{id}/wait?condition=removed");
    let removed = request_streaming(&ctx.socket, "POST", &path, None)?;
    ctx.stop(&id, Some(60))?;
    ensure!(removed.finish()?.json()?["StatusCode"] == 0);
    ensure!(ctx.inspect(&id).is_err());
    Ok(())
}

fn a_restart_policy_does_not_see_a_change(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle_with(|spec| spec.restart = "always".into())?;
    change(ctx, &id, other(ctx.kind))?;
    ensure!(at(&ctx.inspect(&id)?, "RestartCount") == 0);
    let mut events = ctx.bollard.events(1, &[&format!("container={id}")]);
    for wanted in ["start", "die", "start"] {
        events.until(wanted)?;
    }
    // It still holds: what ends is started again, as the new type.
    let _ = ctx.exec(&id, &Exec::new(&["kill", "-TERM", "1"]));
    events.until("die")?;
    events.until("start")?;
    ensure!(at(&ctx.inspect(&id)?, "HostConfig.Isolation") == other(ctx.kind));
    ctx.stop(&id, Some(60))
}

fn a_paused_one_is_changed_too(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle()?;
    ctx.pause(&id)?;
    let answer = set_type(ctx, &id, other(ctx.kind), false)?;
    // Done or refused; never stuck.
    let inspect = ctx.inspect(&id)?;
    match answer.status {
        200 => ensure!(at(&inspect, "HostConfig.Isolation") == other(ctx.kind), "{inspect}"),
        409 => {
            ensure!(answer.message().contains("pause"), "{}", answer.message());
            ensure!(at(&inspect, "State.Status") == "paused", "{inspect}");
        }
        _ => anyhow::bail!("{answer:?}: {}", answer.message()),
    }
    ctx.remove(&id, true, false)
}

fn two_changes_at_once_are_one_after_the_other(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle()?;
    let answers = std::thread::scope(|scope| {
        let threads: Vec<_> = [other(ctx.kind), word(ctx.kind)]
            .map(|kind| scope.spawn(|| set_type(ctx, &id, kind, false)))
            .into();
        threads.into_iter().map(|thread| thread.join().ok()).collect::<Vec<_>>()
    });
    for answer in answers {
        let answer = answer.context("a thread panicked")??;
        ensure!(answer.status == 200, "{answer:?}: {}", answer.message());
    }
    let inspect = ctx.inspect(&id)?;
    ensure!(at(&inspect, "State.Running") == true, "{inspect}");
    let kind = at(&inspect, "HostConfig.Isolation").as_str().context("no type")?;
    on_its_kernel(ctx, &id, kind)
}

fn bad_changes_are_refused(ctx: &Ctx) -> Result<()> {
    let id = ctx.create(&ctx.script(IDLE))?;
    let answer = set_type(ctx, &id, "tinfoil", false)?;
    ensure!(answer.status == 400 && answer.message().contains("tinfoil"), "{answer:?}");
    let answer = set_type(ctx, "no-such-container", "hyperv", false)?;
    ensure!(answer.status == 404, "{answer:?}");
    // A limit that is refused leaves the type as it is.
    let body = json!({"RuntimeType": other(ctx.kind), "Memory": 1});
    let answer = ctx.api("POST", &format!("/containers/{id}/update"), Some(body))?;
    ensure!(answer.status >= 400, "{answer:?}");
    let inspect = ctx.inspect(&id)?;
    ensure!(at(&inspect, "HostConfig.Isolation") == word(ctx.kind), "{inspect}");
    Ok(())
}
