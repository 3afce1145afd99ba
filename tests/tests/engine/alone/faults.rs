//! A daemon that lacks something, and two that share a host.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use caisson_tests::Type;
use caisson_tests::engine::{
    Bollard, Client, Daemon, IMAGE, LIMIT, Options, at as part, ends_within, refused,
};
use caisson_tests::{busybox_archive, programs};

use super::{Plain, at, clean};
use crate::context::word;

pub const CASES: &[Plain] = &[
    ("without_a_guest_processes_run_and_hyperv_says_why", without_a_guest),
    ("a_change_that_fails_late_leaves_all_as_it_was", a_change_that_fails_late),
    ("two_daemons_do_not_meet", two_daemons_do_not_meet),
    ("a_second_daemon_on_the_same_roots_is_refused", a_second_daemon_is_refused),
    ("a_full_disk_is_told_and_leaves_nothing", a_full_disk_is_told),
    ("the_default_type_is_the_one_asked_for", the_default_type_is_the_one_asked_for),
    ("a_guest_that_waits_is_used_and_ends_with_the_daemon", a_guest_that_waits_is_used),
    ("what_was_running_is_told_by_the_next_daemons_lists", lists_are_the_same_afterwards),
];

fn without_a_guest() -> Result<()> {
    let place = tempfile::tempdir()?;
    let empty = place.path().join("no-guest");
    std::fs::create_dir(&empty)?;
    let options = Options { guest_directory: Some(empty.clone()), ..Options::default() };
    let daemon = Daemon::start(options)?;
    let ctx = at(&daemon, Type::Process)?;
    ensure!(ctx.output(&ctx.spec(&["echo", "fine"]))? == "fine\n");
    let running = ctx.idle()?;
    let hyperv = at(&daemon, Type::Hyperv)?;
    let created = hyperv.create(&hyperv.spec(&["true"]));
    let no = refused(created.and_then(|id| hyperv.start(&id)))?;
    ensure!(no.message.contains(&*empty.to_string_lossy()), "{no}");
    // A running one is not stopped for what cannot be.
    let body = serde_json::json!({"RuntimeType": "hyperv"});
    let answer = ctx.api("POST", &format!("/containers/{running}/update"), Some(body))?;
    ensure!(answer.status >= 400, "{answer:?}");
    ensure!(answer.message().contains(&*empty.to_string_lossy()), "{}", answer.message());
    let inspect = ctx.inspect(&running)?;
    ensure!(part(&inspect, "State.Running") == true, "{inspect}");
    ensure!(part(&inspect, "HostConfig.Isolation") == "process", "{inspect}");
    hyperv.clean()?;
    clean(&daemon, &ctx)
}

/// The guest's kernel has no SYN cookies: the start fails there, when all on the host is ready for it.
fn a_change_that_fails_late() -> Result<()> {
    let daemon = Daemon::start(Options::default())?;
    let ctx = at(&daemon, Type::Process)?;
    let script = crate::context::IDLE;
    let body = serde_json::json!({
        "Image": IMAGE,
        "Cmd": ["sh", "-c", script],
        "Labels": ctx.spec(&[]).labels,
        "HostConfig": {
            "Sysctls": {"net.ipv4.tcp_syncookies": "1"},
            "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
        },
    });
    let answer = ctx.api("POST", "/containers/create", Some(body))?;
    ensure!(answer.status == 201, "{}", answer.message());
    let id = answer.json()?["Id"].as_str().context("no id")?.to_string();
    ctx.start(&id)?;
    ctx.inside(&id, &["sh", "-c", "echo mine > /root/mine"])?;
    let port = |inspect: &serde_json::Value| part(inspect, "NetworkSettings.Ports").clone();
    let before = port(&ctx.inspect(&id)?);
    let to = serde_json::json!({"RuntimeType": "hyperv"});
    let answer = ctx.api("POST", &format!("/containers/{id}/update"), Some(to))?;
    ensure!(answer.status >= 400, "{answer:?}");
    for words in ["tcp_syncookies", "it runs as process again"] {
        ensure!(answer.message().contains(words), "{}", answer.message());
    }
    let inspect = ctx.inspect(&id)?;
    ensure!(part(&inspect, "State.Running") == true, "{inspect}");
    ensure!(part(&inspect, "HostConfig.Isolation") == "process", "{inspect}");
    ensure!(port(&inspect) == before, "{before} became {}", port(&inspect));
    ensure!(ctx.inside(&id, &["cat", "/root/mine"])? == "mine\n");
    clean(&daemon, &ctx)
}

fn two_daemons_do_not_meet() -> Result<()> {
    let mut one = Daemon::start(Options::default())?;
    let two = Daemon::start(Options::default())?;
    for kind in [Type::Process, Type::Hyperv] {
        let (first, second) = (at(&one, kind)?, at(&two, kind)?);
        let named = |ctx: &crate::context::Ctx| {
            let mut spec = ctx.script(crate::context::IDLE);
            spec.name = format!("the-same-{}", word(kind));
            ctx.start_until(&spec, "up")
        };
        let (here, there) = (named(&first)?, named(&second)?);
        ensure!(here != there && first.names(&[])?.len() == 1 && second.names(&[])?.len() == 1);
        ensure!(first.address(&here)? != second.address(&there)?, "they have one address");
        one.crash()?;
        ensure!(second.inside(&there, &["echo", "alive"])? == "alive\n");
        one.again()?;
        let first = at(&one, kind)?;
        ensure!(first.inside(&here, &["echo", "alive"])? == "alive\n");
        first.remove(&here, true, false)?;
        ensure!(second.inside(&there, &["echo", "alive"])? == "alive\n");
        clean(&two, &second)?;
        clean(&one, &first)?;
    }
    Ok(())
}

fn a_second_daemon_is_refused() -> Result<()> {
    let daemon = Daemon::start_empty(Options::default())?;
    let place = tempfile::tempdir()?;
    let path = |name: &str| place.path().join(name).display().to_string();
    for (data, exec, named) in [
        (daemon.data_root().display().to_string(), path("exec"), daemon.data_root()),
        (path("data"), daemon.exec_root().display().to_string(), daemon.exec_root()),
    ] {
        let output = Command::new("timeout")
            .arg("120")
            .arg(programs()?.join("caissond"))
            .args(["--data-root", &data, "--exec-root", &exec, "--pidfile", &path("pid")])
            .args(["-H", &format!("unix://{}", path("api.sock"))])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
        ensure!(said.contains(&*named.to_string_lossy()), "{said}");
    }
    // The first one did not notice.
    daemon.bollard()?.images()?;
    Ok(())
}

fn a_full_disk_is_told() -> Result<()> {
    let daemon = Daemon::start_empty(Options { disk: Some(24), ..Options::default() })?;
    let place = tempfile::tempdir()?;
    let rootfs = caisson_tests::busybox(place.path())?;
    let small = busybox_archive(tempfile::tempdir()?.path())?;
    std::fs::write(rootfs.join("large"), vec![7; 48 << 20])?;
    let mut large = tar::Builder::new(Vec::new());
    large.follow_symlinks(false);
    large.append_dir_all(".", &rootfs)?;
    let bollard = daemon.bollard()?;
    let no = refused(bollard.import(&large.into_inner()?, "large:1", "sh"))?;
    ensure!(no.message.to_lowercase().contains("no space left"), "{no}");
    ensure!(bollard.images()?.is_empty(), "{:?}", bollard.images()?);
    // What does not fit has been taken away again: what is small fits.
    bollard.import(&small, IMAGE, "sh")?;
    let ctx = at(&daemon, Type::Process)?;
    let mut spec = ctx.script("dd if=/dev/zero of=/root/large bs=1M count=48; rm /root/large");
    spec.name = ctx.name("full");
    let finished = ctx.run(&spec, &[])?;
    ensure!(finished.stderr.contains("No space left"), "{finished:?}");
    ensure!(ctx.output(&ctx.spec(&["echo", "fine"]))? == "fine\n");
    clean(&daemon, &ctx)
}

fn the_default_type_is_the_one_asked_for() -> Result<()> {
    let arguments = vec!["--default-runtime-type".to_string(), "hyperv".to_string()];
    let daemon = Daemon::start(Options { arguments, ..Options::default() })?;
    let ctx = at(&daemon, Type::Hyperv)?;
    let mut spec = ctx.named("default", &["uname", "-r"]);
    spec.isolation = String::new();
    let host = rustix::system::uname().release().to_string_lossy().into_owned();
    let release = ctx.output(&spec)?;
    ensure!(release.trim() != host, "{release}");
    ensure!(part(&ctx.inspect(&spec.name)?, "HostConfig.Isolation") == "hyperv");
    clean(&daemon, &ctx)
}

fn a_guest_that_waits_is_used() -> Result<()> {
    let mut daemon = Daemon::start(Options { standby: 1, ..Options::default() })?;
    let ctx = at(&daemon, Type::Hyperv)?;
    for word in ["one", "two", "three"] {
        let mut spec = ctx.script("cat /proc/sys/kernel/random/boot_id; hostname; echo $WORD");
        spec.env = vec![format!("WORD={word}")];
        spec.hostname = format!("named-{word}");
        let output = ctx.output(&spec)?;
        ensure!(output.ends_with(&format!("named-{word}\n{word}\n")), "{output}");
    }
    let kept = ctx.idle()?;
    daemon.terminate()?;
    // The container goes on; the guest that waited for one does not.
    daemon.again()?;
    let ctx = at(&daemon, Type::Hyperv)?;
    ensure!(ctx.inside(&kept, &["echo", "alive"])? == "alive\n");
    ctx.remove(&kept, true, false)?;
    daemon.terminate()?;
    let processes = daemon.processes().into_iter();
    let processes: Vec<i32> = processes.filter(|pid| !ends_within(*pid, LIMIT)).collect();
    ensure!(processes.is_empty(), "{processes:#?}");
    Ok(())
}

fn lists_are_the_same_afterwards() -> Result<()> {
    let mut daemon = Daemon::start(Options::default())?;
    let ctx = at(&daemon, Type::Process)?;
    let mut spec = ctx.named("with-all", &["true"]);
    let network = ctx.name("net");
    let docker = ctx.bollard.docker();
    ctx.bollard.call(docker.create_network(bollard::models::NetworkCreateRequest {
        name: network.clone(),
        ..Default::default()
    }))?;
    spec.network = network;
    spec.binds = vec![format!("{}:/vol", ctx.name("vol"))];
    let id = ctx.create(&spec)?;
    let image = ctx.image("made");
    ctx.commit(&id, &image)?;
    let paths = [
        format!("/containers/{id}/json"),
        "/images/json".into(),
        "/volumes".into(),
        "/networks".into(),
        format!("/images/{image}/json"),
    ];
    let look = |daemon: &Daemon| {
        let all = paths.iter().map(|path| {
            let answer = caisson_tests::engine::request(&daemon.socket(), "GET", path, None)?;
            ensure!(answer.status == 200, "{path}: {}", answer.message());
            answer.json()
        });
        all.collect::<Result<Vec<_>>>()
    };
    let before = look(&daemon)?;
    daemon.crash()?;
    daemon.again()?;
    for ((path, before), after) in paths.iter().zip(before).zip(look(&daemon)?) {
        ensure!(before == after, "{path}: {before} is now {after}");
    }
    let bollard: Bollard = daemon.bollard()?;
    bollard.remove(&id, false, true).context("remove it")?;
    bollard.call(bollard.docker().remove_network(&spec.network)).context("remove its network")
}
