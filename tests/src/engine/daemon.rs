//! A daemon of the tests' own: its roots in a temporary directory, ended with everything it started.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::mount::MountFlags;
use rustix::process::{Pid, Signal, kill_process as signal_process};

use super::{Bollard, Client, IMAGE, LIMIT, request};
use crate::{busybox_archive, programs};

/// How long a daemon may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(30);

/// How a daemon is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How many booted guests it keeps ready.
    pub standby: usize,
    /// Where it looks for the guest, when not beside its program.
    pub guest_directory: Option<PathBuf>,
    /// More of its arguments.
    pub arguments: Vec<String>,
    /// The data root is a file system of its own, with this size in MiB.
    pub disk: Option<u64>,
}

/// A running daemon, or one that was killed and can be started again.
pub struct Daemon {
    place: tempfile::TempDir,
    options: Options,
    child: Option<Child>,
    /// Of its default network; learnt when it is first up.
    bridge: Option<String>,
}

impl Daemon {
    /// Starts a daemon and gives it the image.
    pub fn start(options: Options) -> Result<Self> {
        let daemon = Self::start_empty(options)?;
        let archive = busybox_archive(daemon.place.path())?;
        daemon.bollard()?.import(&archive, IMAGE, "sh")?;
        Ok(daemon)
    }

    /// Starts a daemon without any image.
    pub fn start_empty(options: Options) -> Result<Self> {
        let place = tempfile::Builder::new().prefix("caisson-").tempdir()?;
        let mut daemon = Daemon { place, options, child: None, bridge: None };
        if let Some(size) = daemon.options.disk {
            let root = daemon.data_root();
            fs::create_dir(&root)?;
            let data = CString::new(format!("size={size}m,mode=711"))?;
            rustix::mount::mount("disk", &root, "tmpfs", MountFlags::empty(), &*data)
                .context("mount a disk of one's own")?;
        }
        daemon.again()?;
        daemon.bridge = bridge(&daemon.socket());
        Ok(daemon)
    }

    /// Starts it once more on the same roots; returns when it is ready.
    pub fn again(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the daemon runs already");
        let notify = self.place.path().join("notify");
        // One that an earlier start left.
        let _ = fs::remove_file(&notify);
        let ready = UnixDatagram::bind(&notify).context("bind the notify socket")?;
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new(programs()?.join("caissond"));
        command
            .arg("--data-root")
            .arg(self.data_root())
            .arg("--exec-root")
            .arg(self.exec_root())
            .arg("--pidfile")
            .arg(self.place.path().join("pid"))
            .arg("-H")
            .arg(format!("unix://{}", self.socket().display()))
            .args(["--standby", &self.options.standby.to_string()])
            .args(["--cgroup-parent", &format!("/{}", self.cgroup())])
            .args(&self.options.arguments)
            .env("NOTIFY_SOCKET", &notify)
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            .process_group(0);
        if let Some(directory) = &self.options.guest_directory {
            command.arg("--guest-dir").arg(directory);
        }
        self.child = Some(command.spawn().context("start caissond")?);
        self.await_ready(&ready)
    }

    fn await_ready(&mut self, ready: &UnixDatagram) -> Result<()> {
        ready.set_read_timeout(Some(Duration::from_millis(500)))?;
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            let mut buffer = [0; 1024];
            if let Ok(count) = ready.recv(&mut buffer)
                && String::from_utf8_lossy(&buffer[..count]).lines().any(|l| l == "READY=1")
            {
                return Ok(());
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok()?) {
                self.child = None;
                bail!("caissond ended with {status}: {}", self.log());
            }
        }
        bail!("caissond is not ready after {LIMIT:?}: {}", self.log())
    }

    pub fn socket(&self) -> PathBuf {
        self.place.path().join("api.sock")
    }

    pub fn data_root(&self) -> PathBuf {
        self.place.path().join("data")
    }

    pub fn exec_root(&self) -> PathBuf {
        self.place.path().join("exec")
    }

    /// The cgroup that all its containers are below.
    pub fn cgroup(&self) -> String {
        let name = self.place.path().file_name().unwrap_or_default();
        format!("caisson-test-{}", name.to_string_lossy())
    }

    fn log_path(&self) -> PathBuf {
        self.place.path().join("caissond.log")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The temporary directory with all that is its own.
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    /// Its process.
    pub fn pid(&self) -> Result<i32> {
        Ok(self.child.as_ref().context("the daemon does not run")?.id() as i32)
    }

    pub fn bollard(&self) -> Result<Bollard> {
        Bollard::new(&self.socket()).with_context(|| self.log())
    }

    /// Kills it as nothing else would: no handler runs.
    pub fn crash(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the daemon does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(&mut self) -> Result<()> {
        let pid = self.pid()?;
        kill_process(pid, Signal::TERM)?;
        let ended = ends_within(pid, GRACE);
        let mut child = self.child.take().context("the daemon does not run")?;
        if !ended {
            child.kill()?;
        }
        let status = child.wait()?;
        ensure!(ended, "caissond did not end in {GRACE:?}: {}", self.log());
        ensure!(status.success(), "caissond ended with {status}: {}", self.log());
        Ok(())
    }

    /// What there is of containers, in words, once nothing of it goes away any more; nothing when all have
    /// been removed.
    pub fn left(&self) -> Result<Vec<String>> {
        let deadline = Instant::now() + LIMIT;
        for pid in self.processes() {
            ends_within(pid, deadline.saturating_duration_since(Instant::now()));
        }
        loop {
            let left = self.left_now()?;
            if left.is_empty() || Instant::now() > deadline {
                return Ok(left);
            }
            // The files of a removed container go after the answer, and the kernel takes links away in its
            // own time: neither tells when it is done.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn left_now(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for pid in self.processes() {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            left.push(format!("process {pid}: {line}"));
        }
        let (containers, exec) = (self.data_root().join("containers"), self.exec_root());
        for directory in [&containers, &exec.join("s"), &exec.join("netns")] {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path().display().to_string()));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let place = self.place.path().display().to_string();
        let targets = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let own = targets.filter(|target| target.starts_with(&place));
        let root = self.data_root().display().to_string();
        left.extend(own.filter(|target| *target != root).map(|target| format!("mount {target}")));
        for hierarchy in caisson_launch::cgroup::hierarchies()? {
            let all = below(&hierarchy.mount.join(self.cgroup()));
            left.extend(all.iter().skip(1).map(|path| format!("cgroup {}", path.display())));
        }
        left.extend(self.links().into_iter().map(|name| format!("link {name}")));
        Ok(left)
    }

    /// The containers' links at its default network's bridge.
    fn links(&self) -> Vec<String> {
        let Some(bridge) = &self.bridge else { return Vec::new() };
        let entries = fs::read_dir(format!("/sys/class/net/{bridge}/brif")).into_iter().flatten();
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        // Spare ones have another name.
        names.filter(|name| name.starts_with("csv") || name.starts_with("cst")).collect()
    }

    /// Its supervisors' processes.
    pub fn supervisors(&self) -> Vec<i32> {
        let line = |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let all = self.processes().into_iter();
        all.filter(|pid| String::from_utf8_lossy(&line(pid)).contains("caisson-supervisor"))
            .collect()
    }

    /// How many descriptors its process has open.
    pub fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()?))?.count())
    }

    /// The processes that belong to this daemon: those that name its place, and all below them.
    pub fn processes(&self) -> Vec<i32> {
        let own = self.child.as_ref().map(|child| child.id() as i32);
        family(&self.place.path().display().to_string())
            .into_iter()
            .filter(|pid| Some(*pid) != own)
            .collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.is_some()
            && let Err(error) = self.terminate()
        {
            eprintln!("{error:#}");
        }
        for pid in self.processes() {
            // It may have ended with another one.
            let _ = kill_process(pid, Signal::KILL);
        }
        if let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") {
            let place = self.place.path().display().to_string();
            let targets = mounts.lines().filter_map(|line| line.split(' ').nth(4));
            let own: Vec<&str> = targets.filter(|target| target.starts_with(&place)).collect();
            for target in own.iter().rev() {
                let _ = rustix::mount::unmount(*target, rustix::mount::UnmountFlags::DETACH);
            }
        }
        if let Some(bridge) = &self.bridge {
            let mut command = Command::new("ip");
            command.args(["link", "delete", bridge]).stderr(Stdio::null());
            let _ = command.status();
            remove_tables(bridge);
        }
        remove_cgroups(&self.cgroup());
    }
}

/// Removes the firewall's tables that name a bridge.
fn remove_tables(bridge: &str) {
    let nft = |arguments: &[&str]| {
        let output = Command::new("nft").args(arguments).stderr(Stdio::null()).output();
        output
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default()
    };
    for line in nft(&["list", "tables"]).lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if let [_, family, name] = words[..]
            && name.starts_with("caisson")
            && nft(&["list", "table", family, name]).contains(bridge)
        {
            nft(&["delete", "table", family, name]);
        }
    }
}

/// Removes a cgroup with all that are below it, in every hierarchy.
fn remove_cgroups(name: &str) {
    for hierarchy in caisson_launch::cgroup::hierarchies().unwrap_or_default() {
        for directory in below(&hierarchy.mount.join(name)).iter().rev() {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// A directory and all below it, each before what is in it; nothing when it does not exist.
fn below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::from_iter(root.is_dir().then(|| root.to_path_buf()));
    let mut next = 0;
    while let Some(directory) = found.get(next).cloned() {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()));
        found.extend(directories.map(|entry| entry.path()));
        next += 1;
    }
    found
}

/// The default network's bridge.
fn bridge(socket: &Path) -> Option<String> {
    let network = request(socket, "GET", "/networks/bridge", None).ok()?.json().ok()?;
    Some(network["Options"]["com.docker.network.bridge.name"].as_str()?.to_string())
}

/// Sends a signal to a process by its pid.
pub fn kill_process(pid: i32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid).context("no pid")?;
    signal_process(pid, signal).with_context(|| format!("signal {pid:?}"))
}

/// Whether a process ends in time. Waits on a descriptor of it, not for its number.
pub fn ends_within(pid: i32, limit: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let Some(raw) = Pid::from_raw(pid) else { return true };
    let Ok(fd) = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty()) else {
        return true;
    };
    let limit = rustix::time::Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: 0 };
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&limit)), Ok(1))
}

/// Processes whose command line has `word` in it, and all their descendants.
fn family(word: &str) -> Vec<i32> {
    let mut parents = Vec::new();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split(' ').nth(2)?.parse().ok());
        parents.push((pid, parent.unwrap_or(0)));
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(word) && pid != std::process::id() as i32 {
            found.push(pid);
        }
    }
    let mut known: HashSet<i32> = found.iter().copied().collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        let children = parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid);
        found.extend(children.filter(|pid| known.insert(*pid)));
        next += 1;
    }
    found
}

/// Proportional share of memory of a process, KiB.
pub fn proportional_memory(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
