//! What this host can really run: a nano guest is booted, with a time limit, and that is the verdict.
//!
//! Some hosts open /dev/kvm and still cannot run a Linux guest; a device node proves nothing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use caisson_protocol::supervisor::{Accelerator, Microvm};

use crate::Sandbox;
use crate::microvm::MicrovmSandbox;

/// The machine monitor.
pub const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// The node of hardware virtualisation.
pub const KVM: &str = "/dev/kvm";
/// The unprivileged user that a probe's machine monitor runs as; those of containers follow it.
const MONITOR_UID: u32 = 231_071;

/// A file that microVMs need and that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub path: PathBuf,
    /// What to do about it.
    pub remedy: &'static str,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} does not exist: {}", self.path.display(), self.remedy)
    }
}

/// The first of the files that microVMs need and that are not there.
pub fn missing(programs: &Path, guest: &Path) -> Option<Missing> {
    let guest_remedy = "build the nano guest with `cargo xtask guest`, or name its directory";
    let needed = [
        (QEMU.into(), "install qemu-system-x86"),
        (guest.join("kernel"), guest_remedy),
        (guest.join("initramfs"), guest_remedy),
        (programs.join("caisson-fsd"), "install all of Caisson's programs in one directory"),
    ];
    let missing = needed.into_iter().find(|(path, _)| !path.exists());
    missing.map(|(path, remedy)| Missing { path, remedy })
}

/// Opens the node of hardware virtualisation; why not, if so.
pub fn open_kvm() -> Result<(), String> {
    let opened = std::fs::File::options().read(true).write(true).open(KVM);
    opened.map(drop).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{KVM} does not exist"),
        _ => format!("{KVM}: {error}"),
    })
}

/// The guest that a probe boots: as small as it can be.
pub fn shape(programs: &Path, guest: &Path, accelerator: Accelerator) -> Microvm {
    Microvm {
        kernel: guest.join("kernel"),
        initramfs: guest.join("initramfs"),
        qemu: QEMU.into(),
        fsd_program: programs.join("caisson-fsd"),
        accelerator,
        memory_mib: 128,
        vcpus: 1,
        tap: None,
        uid: MONITOR_UID,
        template_directory: None,
        cgroup: format!("caisson/probe-{}", std::process::id()),
    }
}

/// What booting a guest has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// A guest came up and its agent answered.
    pub usable: bool,
    /// The guest's kernel release, or what went wrong in the monitor's own words.
    pub evidence: String,
    /// How long it took.
    pub took: Duration,
}

/// Boots a guest of this shape in `directory` and ends it. Only for a process with one thread: what it starts
/// is forked.
pub fn probe(shape: &Microvm, directory: &Path, limit: Duration) -> Verdict {
    let begun = Instant::now();
    let booted = MicrovmSandbox::boot_within(shape, directory, limit);
    let took = begun.elapsed();
    match booted {
        Ok(mut guest) => {
            let mut evidence = format!("a nano guest said hello from Linux {}", guest.kernel());
            if let Err(failure) = guest.destroy() {
                evidence = format!("{evidence}; ending it failed: {}", failure.message);
            }
            Verdict { usable: true, evidence, took }
        }
        Err(failure) => Verdict { usable: false, evidence: failure.message, took },
    }
}
