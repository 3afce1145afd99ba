//! Docker's own daemon, when it is installed: started privately, with roots, a socket and a bridge of its
//! own, and ended with them.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use caisson_tests::engine::{ends_within, kill_process};
use rustix::process::Signal;

use super::engine::Client;

const PROGRAM: &str = "/usr/sbin/dockerd";
const BRIDGE: &str = "caisson-peer";
/// Of the benchmarking range (RFC 2544), which nobody routes.
const ADDRESS: &str = "198.18.250.1/24";
const LIMIT: Duration = Duration::from_secs(60);

/// A running peer.
pub struct Peer {
    place: tempfile::TempDir,
    child: Child,
    pub client: Client,
    /// Such as `Docker 20.10.24`.
    pub name: String,
}

impl Peer {
    /// None when it is not installed.
    pub fn start() -> Result<Option<Self>> {
        if !Path::new(PROGRAM).exists() || !caisson_tests::engine::Cli::is_installed() {
            return Ok(None);
        }
        let place = tempfile::Builder::new().prefix("caisson-peer-").tempdir()?;
        let at = |name: &str| place.path().join(name);
        let ready = UnixDatagram::bind(at("notify")).context("bind the notify socket")?;
        bridge()?;
        let log = fs::File::create(at("log"))?;
        let mut command = Command::new(PROGRAM);
        command
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .arg("--host")
            .arg(format!("unix://{}", at("api.sock").display()))
            // The host's firewall is not the benchmark's to change.
            .args(["--bridge", BRIDGE, "--iptables=false", "--ip6tables=false"])
            .env("NOTIFY_SOCKET", at("notify"))
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            .process_group(0);
        let child = command.spawn().context("start dockerd")?;
        let client = Client::new("docker".into(), &at("api.sock"), place.path());
        let mut peer = Peer { place, child, client, name: String::new() };
        peer.await_ready(&ready)?;
        let (version, _) = peer.client.run(&["version", "--format", "{{.Server.Version}}"])?;
        peer.name = format!("Docker {}", version.split('+').next().unwrap_or_default());
        Ok(Some(peer))
    }

    fn await_ready(&mut self, ready: &UnixDatagram) -> Result<()> {
        ready.set_read_timeout(Some(Duration::from_millis(500)))?;
        let deadline = Instant::now() + LIMIT;
        let log = || fs::read_to_string(self.place.path().join("log")).unwrap_or_default();
        while Instant::now() < deadline {
            let mut buffer = [0; 1024];
            if let Ok(count) = ready.recv(&mut buffer)
                && String::from_utf8_lossy(&buffer[..count]).contains("READY=1")
            {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("dockerd ended with {status}: {}", log());
            }
        }
        bail!("dockerd is not ready after {LIMIT:?}: {}", log())
    }

    /// The daemon, and the containerd that it started.
    pub fn pids(&self) -> Vec<i32> {
        let family = crate::memory::family(self.child.id() as i32);
        // A shim leaves its parent, so what is below is the daemon's own.
        family.into_iter().filter(|pid| !name(*pid).starts_with("containerd-shim")).collect()
    }

    /// The shim of a container's first process.
    pub fn shim(&self, pid: i32) -> Result<i32> {
        let shim = crate::memory::parent(pid)?;
        ensure!(name(shim).starts_with("containerd-shim"), "the parent of {pid} is {}", name(shim));
        Ok(shim)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let pid = self.child.id() as i32;
        let asked = kill_process(pid, Signal::TERM);
        if asked.is_err() || !ends_within(pid, LIMIT) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        let _ = ip(&["link", "delete", BRIDGE]);
        let place = self.place.path().display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let targets = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let own: Vec<_> = targets.filter(|target| target.starts_with(&place)).collect();
        for target in own.iter().rev() {
            let _ = rustix::mount::unmount(*target, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

fn name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default()
}

/// One that an interrupted run left is made anew.
fn bridge() -> Result<()> {
    let _ = ip(&["link", "delete", BRIDGE]);
    ip(&["link", "add", BRIDGE, "type", "bridge"])?;
    ip(&["address", "add", ADDRESS, "dev", BRIDGE])?;
    ip(&["link", "set", BRIDGE, "up"])
}

fn ip(words: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(words).output().context("run ip")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", words.join(" "), errors.trim());
    Ok(())
}
