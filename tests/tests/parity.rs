//! The parity suite: every case runs for both runtime types, from outside.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use caisson_bundle::oci;
use caisson_protocol::task::{ProcessId, Reply, Request, TerminalSize};
use caisson_tests::{Container, Type, busybox, demultiplex};

/// A busybox root file system for one test.
struct Place {
    directory: tempfile::TempDir,
    rootfs: PathBuf,
    kind: Type,
}

impl Place {
    fn new(kind: Type) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let rootfs = busybox(directory.path())?;
        Ok(Place { directory, rootfs, kind })
    }

    fn container(&self, args: &[&str]) -> Result<Container> {
        Container::new(self.kind, self.directory.path(), &self.rootfs, args)
    }

    /// A container whose first process does nothing until it is told to end.
    fn idle(&self) -> Result<Container> {
        let script = "trap 'exit 0' TERM; sleep 600 & \
            while ! grep -q ^sleep /proc/$!/cmdline; do :; done; echo up; wait";
        let mut container = self.container(&["sh", "-c", script])?;
        let mut streams = container.attach()?;
        container.start()?;
        let mut up = [0; 8 + 3];
        streams.read_exact(&mut up)?;
        Ok(container)
    }
}

/// Makes one test per runtime type of a function that takes a place.
macro_rules! both {
    ($($name:ident)*) => {
        mod process {
            $(#[test] fn $name() -> anyhow::Result<()> {
                super::$name(super::Place::new(caisson_tests::Type::Process)?)
            })*
        }
        mod hyperv {
            $(#[test] fn $name() -> anyhow::Result<()> {
                super::$name(super::Place::new(caisson_tests::Type::Hyperv)?)
            })*
        }
    };
}

both! {
    output_and_exit_code_come_back
    a_missing_program_is_not_found
    a_file_without_the_x_bit_is_not_executable
    the_kernel_is_the_sandboxs_own
    exec_runs_beside_the_first_process
    users_and_groups_are_the_images
    a_terminal_has_the_size_asked_for
    a_megabyte_of_stdin_comes_back
    binds_are_shared_and_read_only_ones_refuse
    a_read_only_root_refuses
    privileges_are_dockers_defaults
    the_host_is_out_of_sight
    memory_over_the_limit_is_killed_and_said
    signals_reach_and_codes_say_so
    pause_stops_and_resume_goes_on
    processes_and_stats_are_reported
    the_log_is_dockers_json
    the_reaper_collects_orphans
    twenty_at_once_all_come_up
    nothing_is_left_behind
}

fn output_and_exit_code_come_back(place: Place) -> Result<()> {
    let mut container = place.container(&["sh", "-c", "echo out; echo err >&2; exit 42"])?;
    let (output, exit) = container.run()?;
    ensure!(output.contains("out\n") && output.contains("err\n"), "output: {output:?}");
    ensure!(exit.code == 42 && !exit.oom_killed, "{exit:?}");
    container.end()
}

fn a_missing_program_is_not_found(place: Place) -> Result<()> {
    let mut container = place.container(&["no-such-program"])?;
    let error = container.start().unwrap_err().to_string();
    let wanted = "NotFound: exec: \"no-such-program\": executable file not found in $PATH";
    ensure!(error == wanted, "{error}");
    container.end()
}

fn a_file_without_the_x_bit_is_not_executable(place: Place) -> Result<()> {
    let mut container = place.container(&["/etc/passwd"])?;
    let error = container.start().unwrap_err().to_string();
    ensure!(
        error.starts_with("NotExecutable: exec: \"/etc/passwd\": permission denied"),
        "{error}"
    );
    container.end()
}

fn the_kernel_is_the_sandboxs_own(place: Place) -> Result<()> {
    let mut container = place.idle()?;
    let (release, _) = container.exec(&["uname", "-r"])?;
    let host = rustix::system::uname().release().to_string_lossy().into_owned();
    match place.kind {
        Type::Process => ensure!(release.trim() == host, "{release}"),
        Type::Hyperv => ensure!(release.trim().ends_with("-nano") && release.trim() != host),
    }
    container.end()
}

fn exec_runs_beside_the_first_process(place: Place) -> Result<()> {
    let mut container = place.idle()?;
    let (output, code) =
        container.exec(&["sh", "-c", "echo $$; tr '\\0' ' ' < /proc/1/cmdline; exit 7"])?;
    ensure!(code == 7 && output.contains("sleep 600"), "{code}: {output}");
    let error = container.exec(&["no-such-program"]).unwrap_err().to_string();
    ensure!(error.starts_with("NotFound"), "{error}");
    ensure!(container.exec(&["true"])?.1 == 0);
    container.end()
}

fn users_and_groups_are_the_images(place: Place) -> Result<()> {
    let mut container = place.container(&["sh", "-c", "id; echo $HOME; id >/dev/stdout"])?;
    let mut annotations = std::collections::HashMap::new();
    annotations.insert("io.caisson.user".to_string(), "web".to_string());
    container.bundle.spec.set_annotations(Some(annotations));
    let (output, exit) = container.run()?;
    ensure!(exit.code == 0, "{exit:?}: {output}");
    ensure!(output.matches("uid=33(web) gid=34(web) groups=").count() == 2, "{output}");
    ensure!(output.contains("4(log)") && output.contains("/data\n"), "{output}");
    container.end()
}

fn a_terminal_has_the_size_asked_for(place: Place) -> Result<()> {
    let mut container =
        place.container(&["sh", "-c", "stty size; tty; read line; stty size; echo got $line"])?;
    container.stdio.terminal = Some(TerminalSize { rows: 33, columns: 99 });
    container.stdio.stdin = true;
    let mut streams = container.attach()?;
    container.start()?;
    let mut output = String::new();
    while !output.contains("/dev/pts/0") {
        let mut buffer = [0; 256];
        let count = streams.read(&mut buffer)?;
        ensure!(count > 0, "the terminal ended: {output:?}");
        output.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    ensure!(output.contains("33 99"), "{output:?}");
    let size = TerminalSize { rows: 50, columns: 120 };
    container.task(Request::Resize { process: ProcessId::Init, size })?;
    streams.write_all(b"word\n")?;
    streams.read_to_string(&mut output)?;
    ensure!(output.contains("50 120") && output.contains("got word"), "{output:?}");
    ensure!(container.wait()?.code == 0);
    container.end()
}

fn a_megabyte_of_stdin_comes_back(place: Place) -> Result<()> {
    let mut container = place.container(&["cat"])?;
    container.stdio.stdin = true;
    let mut streams = container.attach()?;
    container.start()?;
    let text: String = (0..1 << 20).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
    let (mut writer, sent) = (streams.try_clone()?, text.clone());
    let writing = std::thread::spawn(move || {
        writer.write_all(sent.as_bytes()).and_then(|()| writer.shutdown(Shutdown::Write))
    });
    let output = demultiplex(&mut streams)?;
    match writing.join() {
        Ok(written) => written?,
        Err(_) => bail!("the writer panicked"),
    }
    ensure!(output == text, "{} of {} bytes came back", output.len(), text.len());
    ensure!(container.wait()?.code == 0);
    container.end()
}

fn binds_are_shared_and_read_only_ones_refuse(place: Place) -> Result<()> {
    let host = tempfile::tempdir()?;
    std::fs::write(host.path().join("in"), "from the host\n")?;
    let script = "cat /both/in; echo from inside > /both/out; echo x > /ro/x; cat /one";
    let mut container = place.container(&["sh", "-c", script])?;
    let one = host.path().join("in");
    bind(&mut container, host.path(), "/both", &["rbind"]);
    bind(&mut container, host.path(), "/ro", &["rbind", "ro"]);
    bind(&mut container, &one, "/one", &["rbind"]);
    let (output, exit) = container.run()?;
    ensure!(output.matches("from the host\n").count() == 2, "{output}");
    ensure!(output.contains("Read-only file system"), "{output}");
    ensure!(std::fs::read_to_string(host.path().join("out"))? == "from inside\n");
    ensure!(exit.code == 0 && !host.path().join("x").exists());
    container.end()
}

fn bind(container: &mut Container, source: &std::path::Path, target: &str, options: &[&str]) {
    let mut mount = oci::Mount::default();
    mount
        .set_destination(target.into())
        .set_typ(Some("bind".into()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|option| option.to_string()).collect()));
    let spec = &mut container.bundle.spec;
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.push(mount);
    spec.set_mounts(Some(mounts));
}

fn a_read_only_root_refuses(place: Place) -> Result<()> {
    let mut container =
        place.container(&["sh", "-c", "echo x > /x; echo y > /dev/shm/y && echo fine"])?;
    let mut root = oci::Root::default();
    root.set_readonly(Some(true));
    container.bundle.spec.set_root(Some(root));
    let (output, _) = container.run()?;
    ensure!(output.contains("Read-only file system") && output.contains("fine"), "{output}");
    container.end()
}

fn privileges_are_dockers_defaults(place: Place) -> Result<()> {
    let script = "grep -E 'CapEff|CapBnd|Seccomp:|NoNewPrivs' /proc/self/status; \
        mount -t tmpfs x /tmp; unshare -r true; echo 1 > /proc/sys/kernel/panic; \
        cat /proc/kcore | head -c 1 | wc -c; mknod /tmp/d b 8 0 && head -c 1 /tmp/d";
    let mut container = place.container(&["sh", "-c", script])?;
    let (output, _) = container.run()?;
    for wanted in ["CapEff:\t00000000a80425fb", "CapBnd:\t00000000a80425fb", "Seccomp:\t2"] {
        ensure!(output.contains(wanted), "{wanted} is missing: {output}");
    }
    ensure!(output.contains("mount: permission denied") && output.contains("unshare:"), "{output}");
    ensure!(output.contains("Read-only file system") && output.contains("\n0\n"), "{output}");
    let device = output.contains("/tmp/d: Operation not permitted")
        || output.contains("/tmp/d: No such device")
        || output.contains("/tmp/d: Permission denied");
    ensure!(device, "a block device could be read: {output}");
    container.end()
}

fn the_host_is_out_of_sight(place: Place) -> Result<()> {
    let mut container = place.idle()?;
    let (output, _) =
        container.exec(&["sh", "-c", "ls -d /proc/[0-9]* | wc -l; hostname; ls /"])?;
    let count: usize = output.lines().next().unwrap_or_default().trim().parse()?;
    ensure!(count < 10, "{count} processes are seen inside");
    let seen = visible_on_host("sleep\x00600", container.id())?;
    match place.kind {
        Type::Process => ensure!(seen > 0, "a process container's processes are the host's"),
        Type::Hyperv => ensure!(seen == 0, "a hyperv container's process is seen on the host"),
    }
    container.end()
}

/// Host processes with this command line, in a cgroup of this container.
fn visible_on_host(command: &str, id: &str) -> Result<usize> {
    let mut seen = 0;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let groups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        seen += usize::from(line.starts_with(command) && groups.contains(id));
    }
    Ok(seen)
}

fn memory_over_the_limit_is_killed_and_said(place: Place) -> Result<()> {
    let mut container =
        place.container(&["sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1"])?;
    let mut memory = oci::LinuxMemory::default();
    memory.set_limit(Some(32 << 20)).set_swap(Some(32 << 20));
    resources(&mut container, |resources| {
        resources.set_memory(Some(memory));
    });
    let (output, exit) = container.run()?;
    ensure!(exit.oom_killed && exit.code == 137, "{exit:?}: {output}");
    container.end()
}

fn resources(container: &mut Container, change: impl FnOnce(&mut oci::LinuxResources)) {
    let spec = &mut container.bundle.spec;
    let mut linux = spec.linux().clone().unwrap_or_default();
    let mut resources = linux.resources().clone().unwrap_or_default();
    change(&mut resources);
    linux.set_resources(Some(resources));
    spec.set_linux(Some(linux));
}

fn signals_reach_and_codes_say_so(place: Place) -> Result<()> {
    let mut container =
        place.container(&["sh", "-c", "trap 'exit 3' USR1; echo up; while :; do sleep 1; done"])?;
    let mut streams = container.attach()?;
    container.start()?;
    let mut first = [0; 8 + 3];
    streams.read_exact(&mut first)?;
    container.signal(10)?;
    ensure!(container.wait()?.code == 3);
    container.end()?;
    let mut container = place.idle()?;
    container.signal(9)?;
    let exit = container.wait()?;
    ensure!(exit.code == 137 && !exit.oom_killed, "{exit:?}");
    container.end()
}

fn pause_stops_and_resume_goes_on(place: Place) -> Result<()> {
    let mut container = place.idle()?;
    ensure!(matches!(container.task(Request::Pause)?, Reply::Done));
    ensure!(container.status()?.paused);
    ensure!(matches!(container.task(Request::Pause)?, Reply::Failed(_)), "paused twice");
    container.signal(15)?;
    ensure!(container.status()?.exit.is_none(), "a paused container handled a signal");
    ensure!(matches!(container.task(Request::Resume)?, Reply::Done));
    ensure!(container.wait()?.code == 0);
    container.end()
}

fn processes_and_stats_are_reported(place: Place) -> Result<()> {
    let mut container = place.idle()?;
    let Reply::Processes(list) = container.task(Request::Processes)? else { bail!("no list") };
    ensure!(list.iter().any(|process| process.command == "sleep 600"), "{list:?}");
    let Reply::Stats(stats) = container.task(Request::Stats)? else { bail!("no stats") };
    ensure!(stats.memory_usage > 0 && stats.pids >= 2 && stats.cpu_total > 0, "{stats:?}");
    container.end()
}

fn the_log_is_dockers_json(place: Place) -> Result<()> {
    let mut container = place.container(&["sh", "-c", "echo one; echo two >&2; printf three"])?;
    container.run()?;
    let mut records: Vec<(String, String)> = Vec::new();
    for line in container.log().lines() {
        let value: serde_json::Value = serde_json::from_str(line)?;
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_string();
        ensure!(text("time").ends_with('Z'), "{line}");
        records.push((text("stream"), text("log")));
    }
    records.sort();
    let wanted = [("stderr", "two\n"), ("stdout", "one\n"), ("stdout", "three")];
    let wanted: Vec<_> = wanted.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
    ensure!(records == wanted, "{records:?}");
    container.end()
}

fn the_reaper_collects_orphans(place: Place) -> Result<()> {
    let script = "(sleep 0.1 &) ; (true &); sleep 0.5; grep -c . /proc/1/comm; \
        grep -l 'State:.Z' /proc/[0-9]*/status; tr '\\0' ' ' </proc/1/cmdline; exit 5";
    let mut container = place.container(&["sh", "-c", script])?;
    let mut annotations = std::collections::HashMap::new();
    annotations.insert("io.caisson.init".to_string(), "true".to_string());
    container.bundle.spec.set_annotations(Some(annotations));
    let (output, exit) = container.run()?;
    ensure!(exit.code == 5, "{exit:?}: {output}");
    ensure!(!output.contains("/status"), "zombies: {output}");
    container.end()
}

fn twenty_at_once_all_come_up(place: Place) -> Result<()> {
    let place = &place;
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..20)
            .map(|number| {
                scope.spawn(move || {
                    let script = format!("echo number {number}; exit {number}");
                    let mut container = place.container(&["sh", "-c", &script])?;
                    let (output, exit) = container.run()?;
                    ensure!(exit.code == number && output == format!("number {number}\n"));
                    container.end()
                })
            })
            .collect();
        for (number, thread) in started.into_iter().enumerate() {
            match thread.join() {
                Ok(result) => {
                    result.map_err(|error| error.context(format!("container {number}")))?
                }
                Err(_) => bail!("the thread of container {number} panicked"),
            }
        }
        Ok(())
    })
}

fn nothing_is_left_behind(place: Place) -> Result<()> {
    let before = leftovers(place.directory.path())?;
    let rounds = if place.kind == Type::Process { 50 } else { 5 };
    for round in 0..rounds {
        let mut container = place.container(&["sh", "-c", "exit 0"])?;
        let (_, exit) = container.run()?;
        ensure!(exit.code == 0, "round {round}: {exit:?}");
        let id = container.id().to_string();
        container.end()?;
        ensure!(
            !cgroups()?.iter().any(|path| path.contains(&id[..12])),
            "a cgroup of {id} is left"
        );
    }
    let after = leftovers(place.directory.path())?;
    ensure!(before == after, "mounts or processes are left: {before:?}, {after:?}");
    Ok(())
}

/// Mounts below `directory`, and processes whose command line names it.
fn leftovers(directory: &std::path::Path) -> Result<(usize, usize)> {
    let name = directory.display().to_string();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let mounts = mounts.lines().filter(|line| line.contains(&name)).count();
    let mut processes = 0;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        processes += usize::from(line.contains(&name));
    }
    Ok((mounts, processes))
}

/// Every cgroup that Caisson made.
fn cgroups() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for hierarchy in caisson_launch::cgroup::hierarchies()? {
        for parent in ["caisson", "caisson-test"] {
            let entries = std::fs::read_dir(hierarchy.mount.join(parent));
            found.extend(
                entries.into_iter().flatten().flatten().map(|e| e.path().display().to_string()),
            );
        }
    }
    Ok(found)
}

/// Changing the type: the same root file system, started as the other type, keeps what was written.
#[test]
fn a_container_changes_its_type_and_keeps_its_files() -> Result<()> {
    let mut place = Place::new(Type::Process)?;
    for (kind, word) in [(Type::Process, "one"), (Type::Hyperv, "two"), (Type::Process, "three")] {
        place.kind = kind;
        let script =
            format!("echo {word} >> /root/words; chown 33:34 /root/words; cat /root/words");
        let mut container = place.container(&["sh", "-c", &script])?;
        let (output, exit) = container.run()?;
        ensure!(exit.code == 0 && output.ends_with(&format!("{word}\n")), "{exit:?}: {output}");
        container.end()?;
    }
    let words = place.rootfs.join("root/words");
    ensure!(std::fs::read_to_string(&words)? == "one\ntwo\nthree\n");
    let owner = rustix::fs::stat(&words)?;
    ensure!((owner.st_uid, owner.st_gid) == (33, 34));
    Ok(())
}

/// A machine monitor that dies takes its container along, with the exit code of a kill.
#[test]
fn a_killed_machine_monitor_ends_its_container() -> Result<()> {
    let place = Place::new(Type::Hyperv)?;
    let mut container = place.container(&["sleep", "600"])?;
    let pid = container.start()?;
    let pid = rustix::process::Pid::from_raw(pid).ok_or(anyhow::anyhow!("no pid"))?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    let exit = container.wait()?;
    ensure!(exit.code == 137, "{exit:?}");
    container.end()
}

/// A guest has the addresses it was given, and reaches the host over its tap. In a network namespace of
/// this test's own.
#[test]
fn a_guest_reaches_the_host_over_its_tap() -> Result<()> {
    // SAFETY: only this test's thread moves to the new network namespace.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET)? };
    let place = Place::new(Type::Hyperv)?;
    let script = "ping -c 1 -W 5 10.99.0.1 && ip addr show eth0 && ip route";
    let mut container = place.container(&["sh", "-c", script])?;
    container.ready()?;
    let tap = caisson_tests::tap_name(container.id());
    for arguments in
        [vec!["addr", "add", "10.99.0.1/24", "dev", &tap], vec!["link", "set", &tap, "up"]]
    {
        let status = std::process::Command::new("ip").args(&arguments).status()?;
        ensure!(status.success(), "ip {arguments:?}: {status}");
    }
    container.interfaces = vec![caisson_protocol::agent::Interface {
        name: "eth0".into(),
        mac: [2, 0x42, 10, 99, 0, 2],
        addresses: vec![("10.99.0.2".parse()?, 24)],
        gateways: vec!["10.99.0.1".parse()?],
        mtu: 1400,
    }];
    let (output, exit) = container.run()?;
    for wanted in ["1 packets received", "10.99.0.2/24", "02:42:0a:63:00:02", "mtu 1400"] {
        ensure!(output.contains(wanted), "{wanted} is missing: {exit:?}: {output}");
    }
    ensure!(exit.code == 0 && output.contains("default via 10.99.0.1"), "{exit:?}: {output}");
    container.end()
}

/// The machine monitor runs without privilege, filtered, with no network of the host's.
#[test]
fn the_machine_monitor_is_confined() -> Result<()> {
    let place = Place::new(Type::Hyperv)?;
    let mut container = place.container(&["sleep", "600"])?;
    let pid = container.start()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    for wanted in
        ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"]
    {
        ensure!(status.contains(wanted), "{wanted} is missing: {status}");
    }
    ensure!(!status.contains("Uid:\t0"), "{status}");
    for namespace in ["net", "ipc", "uts", "mnt"] {
        let own = std::fs::read_link(format!("/proc/{pid}/ns/{namespace}"))?;
        ensure!(own != std::fs::read_link(format!("/proc/self/ns/{namespace}"))?, "{namespace}");
    }
    container.end()
}

/// CVE-2024-21626: a working directory that is a leaked descriptor of the host is not entered.
#[test]
fn cve_2024_21626_a_leaked_directory_is_not_entered() -> Result<()> {
    let place = Place::new(Type::Process)?;
    for number in 3..16 {
        let mut container = place.container(&["ls", "-l"])?;
        let path = format!("/proc/self/fd/{number}");
        if let Some(process) = container.bundle.spec.process_mut() {
            process.set_cwd(path.clone().into());
        }
        let started = container.start();
        ensure!(started.is_err(), "{path} was entered");
        container.end()?;
    }
    Ok(())
}

/// CVE-2019-5736: the host's init program cannot be reached through /proc from inside.
#[test]
fn cve_2019_5736_the_init_program_cannot_be_written() -> Result<()> {
    let place = Place::new(Type::Process)?;
    let program = caisson_tests::programs()?.join("caisson-init");
    let before = std::fs::read(&program)?;
    let mut container = place.container(&["/proc/self/exe", "x"])?;
    // Whether it starts or not, what it executes is a sealed copy.
    let _ = container.start();
    container.end()?;
    ensure!(std::fs::read(&program)? == before, "the init program has changed");
    Ok(())
}
