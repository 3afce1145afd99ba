//! What the engine tells: inspect, lists and their filters, processes, statistics, events, itself.

use anyhow::{Context, Result, ensure};
use caisson_tests::Type;
use caisson_tests::engine::{IMAGE, Port, at, refused};
use serde_json::{Value, json};

use crate::cases;
use crate::context::{Ctx, word};

cases! {
    both: [
        top_shows_the_processes_and_where_they_are,
    ],
    bollard: [
        inspect_shows_what_was_asked_for,
        the_state_is_told_at_each_step,
        lists_are_filtered,
        statistics_are_told,
        events_tell_a_containers_life,
        events_are_replayed_and_end,
        the_engine_tells_of_itself,
        unknown_and_ambiguous_names_are_refused,
        names_are_unique_and_well_formed,
    ],
    docker_cli: [
        the_command_line_shows_tables,
    ],
    caisson: [
        the_runtime_type_is_told,
    ],
}

fn inspect_shows_what_was_asked_for(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.named("shown", &["sh", "-c", "true"]);
    spec.env = vec!["A=b".into()];
    spec.user = "web".into();
    spec.workdir = "/data".into();
    spec.hostname = "host-name".into();
    spec.ports = vec![Port { container: 80, host: 0 }];
    spec.restart = "on-failure:3".into();
    spec.memory = Some(64 << 20);
    spec.pids = Some(50);
    spec.cap_add = vec!["NET_ADMIN".into()];
    spec.stop_signal = "SIGUSR1".into();
    spec.stop_timeout = Some(7);
    spec.ulimits = vec![("nofile".into(), 100, 200)];
    let id = ctx.create(&spec)?;
    let inspect = ctx.inspect(&id)?;
    for (path, wanted) in [
        ("Id", json!(id)),
        ("Name", json!(format!("/{}", spec.name))),
        ("Path", json!("sh")),
        ("Args", json!(["-c", "true"])),
        ("RestartCount", json!(0)),
        ("Config.Image", json!(IMAGE)),
        ("Config.User", json!("web")),
        ("Config.WorkingDir", json!("/data")),
        ("Config.Hostname", json!("host-name")),
        ("Config.Cmd", json!(["sh", "-c", "true"])),
        ("Config.StopSignal", json!("SIGUSR1")),
        ("Config.StopTimeout", json!(7)),
        ("Config.Tty", json!(false)),
        ("HostConfig.Memory", json!(64 << 20)),
        ("HostConfig.PidsLimit", json!(50)),
        ("HostConfig.RestartPolicy.Name", json!("on-failure")),
        ("HostConfig.RestartPolicy.MaximumRetryCount", json!(3)),
        ("HostConfig.Ulimits.0.Name", json!("nofile")),
        ("HostConfig.Ulimits.0.Hard", json!(200)),
        ("HostConfig.LogConfig.Type", json!("json-file")),
        ("HostConfig.PortBindings", json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]})),
    ] {
        let found = at(&inspect, path);
        ensure!(found == &wanted, "{path} is {found}, not {wanted}");
    }
    let added = at(&inspect, "HostConfig.CapAdd").as_array().context("no capabilities")?;
    let added = added[0].as_str().unwrap_or_default().trim_start_matches("CAP_");
    ensure!(added == "NET_ADMIN", "{added}");
    let env = at(&inspect, "Config.Env").as_array().context("no environment")?;
    ensure!(env.contains(&json!("A=b")), "{env:?}");
    ensure!(at(&inspect, "Config.Labels")[ctx.label().0] == ctx.label().1);
    let image = at(&inspect, "Image").as_str().unwrap_or_default();
    ensure!(image.starts_with("sha256:"), "{image}");
    // By the beginning of its id too, and with its size when asked.
    ensure!(ctx.inspect(&id[..12])?["Id"] == id.as_str());
    let sized = ctx.api("GET", &format!("/containers/{id}/json?size=1"), None)?.json()?;
    ensure!(sized["SizeRootFs"].as_i64().is_some_and(|size| size > 100_000), "{sized}");
    Ok(())
}

fn the_state_is_told_at_each_step(ctx: &Ctx) -> Result<()> {
    let never = "0001-01-01T00:00:00Z";
    let id = ctx.create(&ctx.script(crate::context::IDLE))?;
    let state = || anyhow::Ok(at(&ctx.inspect(&id)?, "State").clone());
    let created = state()?;
    ensure!(created["Status"] == "created" && created["Running"] == false, "{created}");
    ensure!(created["StartedAt"] == never && created["FinishedAt"] == never, "{created}");
    ensure!(created["Pid"] == 0 && created["ExitCode"] == 0, "{created}");
    ctx.start(&id)?;
    let running = state()?;
    ensure!(running["Status"] == "running" && running["Running"] == true, "{running}");
    ensure!(running["Pid"].as_i64().is_some_and(|pid| pid > 1), "{running}");
    ensure!(running["StartedAt"] != never, "{running}");
    ctx.kill(&id, "KILL")?;
    ctx.wait(&id)?;
    let ended = state()?;
    ensure!(ended["Status"] == "exited" && ended["Running"] == false, "{ended}");
    ensure!(ended["Pid"] == 0 && ended["ExitCode"] == 137, "{ended}");
    ensure!(ended["FinishedAt"] != never && ended["Error"] == "", "{ended}");
    // Starting again what runs is no error; starting what has ended works.
    ctx.start(&id)?;
    ctx.start(&id)?;
    ensure!(state()?["Status"] == "running");
    Ok(())
}

fn lists_are_filtered(ctx: &Ctx) -> Result<()> {
    let (key, value) = ctx.label();
    let mine = format!("label={key}={value}");
    let mut spec = ctx.named("one", &["sh", "-c", "exit 5"]);
    spec.volumes = vec!["/in/one".into()];
    ctx.run(&spec, &[])?;
    let mut second = ctx.named("two", &["true"]);
    second.labels.insert("extra".into(), "yes".into());
    ctx.create(&second)?;
    let third = ctx.idle_with(|spec| spec.name = ctx.name("three"))?;
    let [one, two, three] = ["one", "two", "three"].map(|part| ctx.name(part));
    let all = [&three, &two, &one];
    for (filter, wanted) in [
        (format!("name={}", ctx.name("")), &all[..]),
        ("status=exited".to_string(), &[&one]),
        ("status=created".to_string(), &[&two]),
        ("status=running".to_string(), &[&three]),
        ("exited=5".to_string(), &[&one]),
        ("exited=0".to_string(), &[]),
        ("label=extra".to_string(), &[&two]),
        ("label=extra=no".to_string(), &[]),
        (format!("id={}", &third[..12]), &[&three]),
        (format!("ancestor={IMAGE}"), &all[..]),
        ("ancestor=no-such-image".to_string(), &[]),
        ("volume=/in/one".to_string(), &[&one]),
        ("network=bridge".to_string(), &all[..]),
        ("network=none".to_string(), &[]),
        (format!("before={two}"), &[&one]),
        (format!("since={two}"), &[&three]),
    ] {
        // The newest comes first.
        let found = ctx.names(&[&mine, &filter])?;
        ensure!(found.iter().eq(wanted.iter().copied()), "{filter}: {found:?}, not {wanted:?}");
    }
    let list = |query: &str| ctx.api("GET", &format!("/containers/json?{query}"), None);
    let filters = format!("filters=%7B%22label%22%3A%5B%22{key}%3D{value}%22%5D%7D");
    let running = list(&filters)?.json()?;
    ensure!(running.as_array().map(Vec::len) == Some(1), "{running}");
    let entry = &running[0];
    ensure!(entry["Names"] == json!([format!("/{three}")]) && entry["State"] == "running");
    ensure!(entry["Status"].as_str().is_some_and(|text| text.starts_with("Up ")), "{entry}");
    ensure!(entry["Image"] == IMAGE && entry["Id"] == third.as_str(), "{entry}");
    let two_last = list(&format!("limit=2&{filters}"))?.json()?;
    ensure!(two_last.as_array().map(Vec::len) == Some(2), "{two_last}");
    for bad in ["filters=%7B%22no-such-filter%22%3A%5B%22x%22%5D%7D", "filters=nonsense"] {
        let answer = list(bad)?;
        ensure!(answer.status == 400 || ctx.reference, "{bad}: {answer:?}");
        ensure!(answer.status >= 400, "{bad}: {answer:?}");
    }
    Ok(())
}

fn top_shows_the_processes_and_where_they_are(ctx: &Ctx) -> Result<()> {
    // A duration that no other case sleeps: it is looked for on the whole host.
    let seconds = 100_000 + u64::from(std::process::id());
    let script = format!("trap 'exit 0' TERM; sleep {seconds} & echo up; wait");
    let id = ctx.start_until(&ctx.script(&script), "up")?;
    let wanted = format!("sleep {seconds}");
    // The shell has said `up` once it has forked: what was forked may not be `sleep` yet.
    ctx.inside(&id, &["sh", "-c", "until grep -q ^sleep /proc/[2-9]*/cmdline; do :; done"])?;
    let top = ctx.top(&id)?;
    let found = top.iter().find(|(_, command)| *command == wanted);
    let (pid, _) = found.with_context(|| format!("{top:?}"))?;
    ensure!(top.len() == 2 && *pid > 1, "{top:?}");
    let line = |pid: i32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let name = format!("sleep\0{seconds}\0").into_bytes();
    let pids = std::fs::read_dir("/proc")?.flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let seen: Vec<i32> = pids.filter(|pid| line(*pid) == name).collect();
    let first = at(&ctx.inspect(&id)?, "State.Pid").as_i64().context("no pid")?;
    match ctx.kind {
        // The host sees it, under the pid that is told.
        Type::Process => {
            ensure!(line(*pid) == name, "{top:?}, on the host {seen:?}");
            ensure!(top.iter().any(|(pid, _)| i64::from(*pid) == first), "{top:?}, {first}");
        }
        Type::Hyperv => ensure!(seen.is_empty(), "on the host: {seen:?}"),
    }
    ctx.stop(&id, Some(60))?;
    let no = refused(ctx.top(&id))?;
    ensure!(no.message.contains("is not running"), "{no}");
    Ok(())
}

fn statistics_are_told(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle_with(|spec| {
        spec.memory = Some(128 << 20);
        spec.pids = Some(40);
    })?;
    let path = format!("/containers/{id}/stats");
    let once = ctx.api("GET", &format!("{path}?stream=false&one-shot=true"), None)?.json()?;
    ensure!(at(&once, "id") == id.as_str(), "{once}");
    ensure!(at(&once, "memory_stats.limit") == 128 << 20, "{once}");
    let number = |value: &Value, path: &str| at(value, path).as_u64().unwrap_or_default();
    ensure!(number(&once, "memory_stats.usage") > 0, "{once}");
    ensure!(number(&once, "pids_stats.current") >= 2, "{once}");
    ensure!(at(&once, "pids_stats.limit") == 40, "{once}");
    ensure!(number(&once, "cpu_stats.cpu_usage.total_usage") > 0, "{once}");
    ensure!(number(&once, "cpu_stats.system_cpu_usage") > 0, "{once}");
    ensure!(at(&once, "networks.eth0.rx_bytes").is_u64(), "{once}");
    // Two samples: the second holds the first.
    let twice = ctx.api("GET", &format!("{path}?stream=false"), None)?.json()?;
    let before = number(&twice, "precpu_stats.cpu_usage.total_usage");
    ensure!(before > 0, "{twice}");
    ensure!(number(&twice, "cpu_stats.cpu_usage.total_usage") >= before, "{twice}");
    // What does not run has none, and is no error.
    ctx.stop(&id, Some(60))?;
    let none = ctx.api("GET", &format!("{path}?stream=false&one-shot=true"), None)?;
    ensure!(none.status == 200, "{none:?}");
    ensure!(number(&none.json()?, "pids_stats.current") == 0);
    Ok(())
}

fn events_tell_a_containers_life(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.named("lived", &["sh", "-c", "exit 6"]);
    spec.labels.insert("extra".into(), "yes".into());
    let (key, value) = ctx.label();
    let label = format!("label={key}={value}");
    let mut events = ctx.bollard.events(1, &[&label, "type=container"]);
    let id = ctx.create(&spec)?;
    ctx.start(&id)?;
    ctx.wait(&id)?;
    ctx.rename(&id, &ctx.name("renamed"))?;
    ctx.remove(&id, false, false)?;
    let mut seen = Vec::new();
    while seen.last().map(String::as_str) != Some("destroy") {
        let event = events.take().with_context(|| format!("{seen:?}"))?;
        let actor = event.actor.context("no actor")?;
        ensure!(actor.id.as_deref() == Some(&id), "{actor:?}");
        let attributes = actor.attributes.unwrap_or_default();
        let has = |key: &str, value: &str| attributes.get(key).is_some_and(|v| v == value);
        ensure!(has("image", IMAGE) && has("extra", "yes"), "{attributes:?}");
        let action = event.action.unwrap_or_default();
        if action == "die" {
            ensure!(has("exitCode", "6"), "{attributes:?}");
        }
        ensure!(event.time.is_some_and(|time| time > 1_000_000_000), "{seen:?}");
        seen.push(action);
    }
    ensure!(seen == ["create", "start", "die", "rename", "destroy"], "{seen:?}");
    Ok(())
}

fn events_are_replayed_and_end(ctx: &Ctx) -> Result<()> {
    let spec = ctx.named("past", &["true"]);
    ctx.run(&spec, &[])?;
    let id = ctx.inspect(&spec.name)?["Id"].as_str().context("no id")?.to_string();
    ctx.remove(&id, false, false)?;
    let mut watch = ctx.bollard.events(1, &[&format!("container={id}")]);
    let last = watch.until("destroy")?;
    let time = last.time_nano.context("no time")?;
    let until = format!("{}.{:09}", time / 1_000_000_000, time % 1_000_000_000);
    let filters = format!("%7B%22container%22%3A%5B%22{id}%22%5D%7D");
    // It ends of itself: its time is past.
    let path = format!("/events?since=1&until={until}&filters={filters}");
    let answer = ctx.api("GET", &path, None)?;
    let text = String::from_utf8(answer.body)?;
    let actions: Vec<String> = serde_json::Deserializer::from_str(&text)
        .into_iter::<Value>()
        .map(|event| Ok(event?["Action"].as_str().unwrap_or_default().to_string()))
        .collect::<Result<_>>()?;
    ensure!(actions.first().is_some_and(|action| action == "create"), "{actions:?}");
    ensure!(actions.contains(&"die".to_string()), "{actions:?}");
    Ok(())
}

fn the_engine_tells_of_itself(ctx: &Ctx) -> Result<()> {
    let get = |path: &str| {
        let answer = ctx.api("GET", path, None)?;
        ensure!(answer.status == 200, "{path}: {answer:?}");
        anyhow::Ok(answer)
    };
    ensure!(get("/_ping")?.body == b"OK");
    let info = get("/info")?.json()?;
    ensure!(info["OSType"] == "linux" && info["NCPU"].as_i64() > Some(0), "{info}");
    ensure!(info["Containers"].as_i64().is_some() && info["MemTotal"].as_i64() > Some(0));
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    ensure!(info["KernelVersion"] == kernel.as_str(), "{info}");
    let version = get("/version")?.json()?;
    ensure!(version["Os"] == "linux" && version["Arch"] == "amd64", "{version}");
    ensure!(version["ApiVersion"].is_string() && version["Version"].is_string(), "{version}");
    let use_of_disk = get("/system/df")?.json()?;
    ensure!(use_of_disk["Images"].is_array() && use_of_disk["Volumes"].is_array());
    let answer = ctx.api("GET", "/v9.99/info", None)?;
    ensure!(answer.status == 400 && answer.message().contains("too new"), "{answer:?}");
    let answer = ctx.api("GET", "/no/such/page", None)?;
    ensure!(answer.status == 404, "{answer:?}");
    if !ctx.reference {
        // What hyperv is worth on this host is said, not hidden.
        let text = info.to_string();
        ensure!(text.contains("hyperv"), "{info}");
    }
    Ok(())
}

fn unknown_and_ambiguous_names_are_refused(ctx: &Ctx) -> Result<()> {
    let none = "no-such-container";
    let wanted = format!("No such container: {none}");
    for no in [
        refused(ctx.inspect(none))?,
        refused(ctx.start(none))?,
        refused(ctx.stop(none, None))?,
        refused(ctx.kill(none, "KILL"))?,
        refused(ctx.pause(none))?,
        refused(ctx.rename(none, &ctx.name("x")))?,
        refused(ctx.top(none))?,
        refused(ctx.changes(none))?,
        refused(ctx.export(none))?,
        refused(ctx.remove(none, true, false))?,
        refused(ctx.commit(none, &ctx.image("x")))?,
    ] {
        ensure!(no.status == Some(404) && no.message.contains(&wanted), "{no}");
    }
    let no = refused(ctx.wait(none))?;
    ensure!(no.message.contains(&wanted), "{no}");
    // Sixteen of them and one more: two of their ids begin with the same digit.
    let ids: Result<Vec<String>> = (0..17).map(|_| ctx.create(&ctx.spec(&["true"]))).collect();
    let ids = ids?;
    let twice =
        ids.iter().filter(|id| ids.iter().filter(|other| other[..1] == id[..1]).count() > 1);
    let first = twice.min().context("no two ids begin alike")?;
    let no = refused(ctx.inspect(&first[..1]))?;
    ensure!(no.status == Some(400) || ctx.reference, "{no}");
    ensure!(no.message.contains("ultiple IDs found"), "{no}");
    Ok(())
}

fn names_are_unique_and_well_formed(ctx: &Ctx) -> Result<()> {
    let spec = ctx.named("one", &["true"]);
    let id = ctx.create(&spec)?;
    let no = refused(ctx.create(&spec))?;
    ensure!(no.status == Some(409), "{no}");
    ensure!(no.message.contains("is already in use by container") && no.message.contains(&id));
    for bad in ["a/b", ".hidden", "-dash", "sp%20ace", "..", "x%00y"] {
        let body = json!({"Image": IMAGE, "Labels": spec.labels});
        let answer = ctx.api("POST", &format!("/containers/create?name={bad}"), Some(body))?;
        ensure!(answer.status == 400, "{bad}: {answer:?}");
        let answer = ctx.api("POST", &format!("/containers/{id}/rename?name={bad}"), None)?;
        ensure!(answer.status == 400 || ctx.reference, "{bad}: {answer:?}");
        ensure!(answer.status >= 400, "{bad}: {answer:?}");
    }
    ensure!(ctx.own()? == [spec.name], "{:?}", ctx.own()?);
    // Without a name it gets one of two words.
    let unnamed = ctx.create(&ctx.spec(&["true"]))?;
    let inspect = ctx.inspect(&unnamed)?;
    let name = inspect["Name"].as_str().unwrap_or_default();
    ensure!(name.starts_with('/') && name.contains('_'), "{name}");
    Ok(())
}

fn the_command_line_shows_tables(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.named("shown", &["sh", "-c", crate::context::IDLE]);
    spec.ports = vec![Port { container: 80, host: 0 }];
    let id = ctx.start_until(&spec, "up")?;
    let cli = ctx.cli()?;
    let row = cli.text(&["ps", "--filter", &format!("id={id}")])?;
    let wanted = [&id[..12], IMAGE, "Up ", "127.0.0.1:", "->80/tcp", &spec.name];
    for wanted in wanted {
        ensure!(row.contains(wanted), "{wanted} is missing: {row}");
    }
    let port = cli.text(&["port", &id])?;
    ensure!(port.starts_with("80/tcp -> 127.0.0.1:"), "{port}");
    let stats = cli.text(&["stats", "--no-stream", "--format={{.Name}} {{.PIDs}}", &id])?;
    ensure!(stats.starts_with(&spec.name), "{stats}");
    for arguments in [
        &["info"][..],
        &["version"],
        &["images"],
        &["image", "history", IMAGE],
        &["network", "ls"],
        &["volume", "ls"],
        &["system", "df"],
        &["logs", &id],
        &["inspect", &id],
    ] {
        ensure!(!cli.text(arguments)?.is_empty(), "{arguments:?}");
    }
    let format = "--format={{.State.Status}} {{.HostConfig.Isolation}}";
    let state = cli.text(&["inspect", format, &id])?;
    let kind = if ctx.reference { "" } else { word(ctx.kind) };
    ensure!(state == format!("running {kind}").trim_end(), "{state}");
    Ok(())
}

fn the_runtime_type_is_told(ctx: &Ctx) -> Result<()> {
    let id = ctx.create(&ctx.spec(&["true"]))?;
    ensure!(at(&ctx.inspect(&id)?, "HostConfig.Isolation") == word(ctx.kind));
    // What the default was when it was made, is told too.
    let body = |isolation: &str| json!({"Image": IMAGE, "Labels": ctx.spec(&[]).labels, "HostConfig": {"Isolation": isolation}});
    for isolation in ["", "default"] {
        let answer = ctx.api("POST", "/containers/create", Some(body(isolation)))?;
        ensure!(answer.status == 201, "{}", answer.message());
        let id = answer.json()?["Id"].as_str().context("no id")?.to_string();
        // As it is sent: the client crate knows nothing of the addition.
        let inspect = ctx.api("GET", &format!("/containers/{id}/json"), None)?.json()?;
        ensure!(at(&inspect, "HostConfig.Isolation") == "process", "{inspect}");
        ensure!(inspect["RuntimeType"] == "process", "{inspect}");
    }
    let answer = ctx.api("POST", "/containers/create", Some(body("tinfoil")))?;
    ensure!(answer.status == 400 && answer.message().contains("tinfoil"), "{answer:?}");
    Ok(())
}
