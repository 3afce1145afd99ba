//! The host check: every item is tried or read, none is guessed.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use caisson_launch::privileges::CAPABILITIES;
use caisson_protocol::supervisor::Accelerator;
use caisson_sandbox::probe::{missing, open_kvm, probe, shape};
use serde::Serialize;

/// How long a guest gets: hardware, emulation. Together they stay under 15 seconds on hosts without KVM.
const LIMITS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(30)];

/// How good it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Judgement {
    Yes,
    Partly,
    No,
}

/// One item.
#[derive(Debug, Serialize)]
pub struct Finding {
    item: &'static str,
    verdict: Judgement,
    evidence: String,
    remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Judgement::Yes => "yes",
            Judgement::Partly => "partly",
            Judgement::No => "no",
        };
        write!(f, "{:<18} {:<7} {}", self.item, verdict, self.evidence)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, " -> {}", self.remedy) }
    }
}

fn finding(item: &'static str, verdict: Judgement, evidence: String, remedy: &str) -> Finding {
    let remedy = if verdict == Judgement::Yes { String::new() } else { remedy.to_string() };
    Finding { item, verdict, evidence, remedy }
}

/// Tries everything; `guest` holds the nano guest.
pub fn run(programs: &Path, guest: &Path) -> Result<Vec<Finding>> {
    let mut findings = vec![virtualisation(programs, guest, Accelerator::Kvm)?];
    findings.push(virtualisation(programs, guest, Accelerator::Emulation)?);
    findings.extend([cgroups(), overlay(), tun(), vsock(), nftables(), capabilities()]);
    Ok(findings)
}

fn virtualisation(programs: &Path, guest: &Path, accelerator: Accelerator) -> Result<Finding> {
    let kvm = accelerator == Accelerator::Kvm;
    let (item, remedy) = if kvm {
        ("hyperv by kvm", "enable (nested) virtualisation in the firmware or the outer hypervisor")
    } else {
        ("hyperv emulated", "install qemu-system-x86 and build the guest with `cargo xtask guest`")
    };
    let no = |evidence: String| Ok(finding(item, Judgement::No, evidence, remedy));
    if let Some(missing) = missing(programs, guest) {
        return no(format!("{} does not exist", missing.path.display()));
    }
    if kvm && let Err(why) = open_kvm() {
        return no(why);
    }
    let place = tempfile::tempdir().context("make a place for the probe")?;
    let shape = shape(programs, guest, accelerator);
    let verdict = probe(&shape, place.path(), LIMITS[usize::from(!kvm)]);
    let evidence = format!("{} ({:.1} s)", verdict.evidence, verdict.took.as_secs_f64());
    Ok(match (verdict.usable, kvm) {
        (false, _) => return no(evidence),
        (true, true) => finding(item, Judgement::Yes, evidence, ""),
        (true, false) => {
            let evidence = format!("{evidence}; emulated: not a security boundary");
            finding(item, Judgement::Partly, evidence, "use a host with KVM for hostile code")
        }
    })
}

fn cgroups() -> Finding {
    let item = "cgroups";
    let hierarchies = match caisson_launch::cgroup::hierarchies() {
        Ok(hierarchies) => hierarchies,
        Err(error) => return finding(item, Judgement::No, error.to_string(), "mount cgroup2"),
    };
    let controllers: Vec<&str> =
        hierarchies.iter().flat_map(|h| &h.controllers).map(String::as_str).collect();
    let layout = match (hierarchies.iter().any(|h| h.version == 1), hierarchies.last()) {
        (false, Some(_)) => "v2",
        (true, Some(last)) if last.version == 2 => "hybrid",
        (true, _) => "v1",
        (false, None) => "none mounted",
    };
    let missing: Vec<&str> = ["cpu", "memory", "pids", "cpuset"]
        .into_iter()
        .filter(|wanted| !controllers.contains(wanted))
        .collect();
    let evidence = format!("{layout}: {}", controllers.join(" "));
    let verdict = if missing.is_empty() { Judgement::Yes } else { Judgement::Partly };
    let remedy = format!("limits need the controllers {}", missing.join(", "));
    finding(item, verdict, evidence, &remedy)
}

fn overlay() -> Finding {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let has = known.lines().any(|line| line.trim_start_matches("nodev").trim() == "overlay");
    let (verdict, text) = if has {
        (Judgement::Yes, "/proc/filesystems lists overlay")
    } else {
        (Judgement::No, "/proc/filesystems does not list overlay")
    };
    finding("overlay", verdict, text.into(), "load the kernel module overlay")
}

fn tun() -> Finding {
    let opened = std::fs::File::options().read(true).write(true).open("/dev/net/tun");
    let (verdict, evidence) = match opened {
        Ok(_) => (Judgement::Yes, "/dev/net/tun opens".into()),
        Err(error) => (Judgement::No, format!("/dev/net/tun: {error}")),
    };
    finding("tun", verdict, evidence, "load the kernel module tun: hyperv networks need it")
}

fn vsock() -> Finding {
    let exists = Path::new("/dev/vhost-vsock").exists();
    let (verdict, text) = if exists {
        (Judgement::Yes, "/dev/vhost-vsock exists")
    } else {
        (Judgement::Partly, "/dev/vhost-vsock does not exist; a virtio-serial port is used instead")
    };
    finding("vsock", verdict, text.into(), "nothing needs it")
}

fn nftables() -> Finding {
    let listed = std::process::Command::new("nft").args(["list", "tables"]).output();
    let (verdict, evidence) = match listed {
        Ok(output) if output.status.success() => (Judgement::Yes, "`nft list tables` works".into()),
        Ok(output) => (Judgement::No, String::from_utf8_lossy(&output.stderr).trim().to_string()),
        Err(error) => (Judgement::No, format!("nft: {error}")),
    };
    finding("nftables", verdict, evidence, "install nftables: bridge networks need it")
}

fn capabilities() -> Finding {
    let item = "capabilities";
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = held.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    let missing: Vec<&str> = CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(bit, _)| held & (1 << bit) == 0)
        .map(|(_, name)| *name)
        .collect();
    match missing.as_slice() {
        [] => finding(item, Judgement::Yes, "all are held".into(), ""),
        list if list.contains(&"CAP_SYS_ADMIN") => {
            finding(item, Judgement::No, format!("missing {}", list.join(" ")), "run as root")
        }
        list => {
            let remedy = "limits above this host's own are lowered, with a warning";
            finding(item, Judgement::Partly, format!("missing {}", list.join(" ")), remedy)
        }
    }
}
