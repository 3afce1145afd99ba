//! What this host can really run: a nano guest is booted, with a time limit, and that is the verdict.
//!
//! Some hosts open /dev/kvm and still cannot run a Linux guest; a device node proves nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use caisson_protocol::supervisor::Microvm;

use crate::Sandbox;
use crate::microvm::MicrovmSandbox;

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

/// Boots a guest of this shape in `directory` and ends it.
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
