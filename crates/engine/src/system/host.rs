//! What hyperv containers run on: a machine that says it has hardware virtualisation must show it.
//!
//! A guest is booted once by KVM, in the background and with a time limit, and the verdict is kept in
//! `host.json` below the data root with what it depends on. A host that cannot: software emulation, which is
//! said in the log, by `info` and by `inspect`, for it is not a security boundary.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use caisson_protocol::supervisor::{Accelerator, Config, Sandbox};
use caisson_sandbox::probe::{KVM, QEMU, missing, open_kvm};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::containers::write;
use crate::supervisor::{Shape, forget};
use crate::{Engine, Error, Kind, Record, Result, blocking};

/// How long the whole probe may take: longer than a guest may take to boot by hardware.
const LIMIT: Duration = Duration::from_secs(15);
/// Enough to boot.
const SHAPE: Shape = Shape { memory_mib: 128, vcpus: 1 };
/// Said wherever guests are emulated.
pub(crate) const EMULATED: &str = "emulated: not a security boundary";

/// What this host can do, once that is known.
#[derive(Default)]
pub(crate) struct Host(OnceCell<Verdict>);

/// What runs hyperv containers here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub accelerator: Accelerator,
    pub why: String,
}

/// What a verdict depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    kernel: String,
    cpu: String,
    /// Size and time of the guest's kernel and initramfs, and of the machine monitor.
    files: Vec<(u64, i64)>,
    /// The number of the device.
    kvm: Option<u64>,
}

/// `host.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    key: Key,
    /// Which boot of the host the verdict is of.
    boot: String,
    verdict: Verdict,
}

impl Kept {
    /// Whether it is worth a new probe: a no is believed until the host is booted again.
    fn holds(&self, key: &Key, boot: &str) -> bool {
        self.key == *key && (self.verdict.accelerator == Accelerator::Kvm || self.boot == boot)
    }
}

impl Key {
    fn of(guest: &Path) -> Self {
        let identity = |path: &Path| {
            let metadata = std::fs::metadata(path).ok();
            metadata.map_or((0, 0), |metadata| (metadata.len(), metadata.mtime()))
        };
        let files = [guest.join("kernel"), guest.join("initramfs"), QEMU.into()];
        Key {
            kernel: super::facts::kernel(),
            cpu: super::facts::cpu(),
            files: files.iter().map(|path| identity(path)).collect(),
            kvm: std::fs::metadata(KVM).ok().map(|metadata| metadata.rdev()),
        }
    }
}

fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().into()
}

impl Engine {
    /// Finds out in the background what hyperv containers run on, if they can run at all.
    pub(crate) fn host_open(&self) {
        if let Err(error) = self.engine_id() {
            tracing::warn!("this engine has no lasting id: {error}");
        }
        if let Err(error) = self.hyperv_present() {
            return tracing::warn!("{error}");
        }
        let engine = self.clone();
        tokio::spawn(async move { engine.verdict().await.accelerator });
    }

    /// What runs hyperv containers, or why nothing can.
    pub(crate) async fn hyperv_ready(&self) -> Result<Accelerator> {
        self.hyperv_present()?;
        Ok(self.verdict().await.accelerator)
    }

    /// Whether all that hyperv containers need is there.
    pub(crate) fn hyperv_present(&self) -> Result<()> {
        let settings = &self.0.settings;
        match missing(&settings.programs, &settings.guest_dir) {
            None => Ok(()),
            Some(missing) => Err(Error::new(
                Kind::Unavailable,
                format!("hyperv containers cannot run here: {missing}"),
            )),
        }
    }

    /// What was found out, if it was.
    pub(crate) fn verdict_known(&self) -> Option<&Verdict> {
        self.0.host.0.get()
    }

    async fn verdict(&self) -> &Verdict {
        self.0.host.0.get_or_init(|| self.find_out()).await
    }

    async fn find_out(&self) -> Verdict {
        let engine = self.clone();
        let (key, boot, kept) = blocking(move || {
            let (key, boot) = (Key::of(&engine.0.settings.guest_dir), boot());
            let text = std::fs::read(engine.0.settings.data_root.join("host.json"));
            let kept = text.ok().and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
            let verdict = kept.filter(|kept| kept.holds(&key, &boot)).map(|kept| kept.verdict);
            (key, boot, verdict)
        })
        .await;
        let verdict = match (kept, open_kvm()) {
            (Some(verdict), Ok(())) => verdict,
            (_, Err(why)) => Verdict { accelerator: Accelerator::Emulation, why },
            (None, Ok(())) => {
                let verdict = self.probe().await;
                let kept = Kept { key, boot, verdict: verdict.clone() };
                let path = self.0.settings.data_root.join("host.json");
                if let Err(error) = blocking(move || write(&path, &kept)).await {
                    tracing::warn!("the probe's verdict is not kept: {error}");
                }
                verdict
            }
        };
        match verdict.accelerator {
            Accelerator::Kvm => tracing::info!("hyperv containers run by KVM: {}", verdict.why),
            Accelerator::Emulation => {
                tracing::warn!("hyperv containers are {EMULATED}: no KVM here: {}", verdict.why);
            }
        }
        verdict
    }

    /// Boots a guest by KVM.
    async fn probe(&self) -> Verdict {
        let begun = Instant::now();
        let booting = self.supervisor_in(Some((SHAPE, Accelerator::Kvm)));
        match tokio::time::timeout(LIMIT, booting).await {
            Ok(Ok(supervisor)) => {
                let took = begun.elapsed().as_secs_f64();
                let directory = supervisor.directory.clone();
                // It ends with its connection.
                drop(supervisor);
                blocking(move || forget(&directory)).await;
                let why = format!("a nano guest booted in {took:.1} s");
                Verdict { accelerator: Accelerator::Kvm, why }
            }
            Ok(Err(error)) => {
                let why = error.message.trim_start_matches("prepare a place for the container: ");
                Verdict { accelerator: Accelerator::Emulation, why: why.into() }
            }
            Err(_) => {
                let why = format!("no nano guest booted within {} s", LIMIT.as_secs());
                Verdict { accelerator: Accelerator::Emulation, why }
            }
        }
    }

    /// What a hyperv container is kept in, told by `inspect`: as it is running, else as it would be.
    pub(crate) fn sandbox_shown(&self, record: &Record) -> Value {
        let own = record.state.supervisor.as_deref().and_then(|supervisor| {
            let path = self.supervisor_directory(supervisor).join("config.json");
            let config: Config = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
            match config.sandbox {
                Sandbox::Microvm(microvm) => Some(microvm.accelerator),
                Sandbox::Process => None,
            }
        });
        let known = self.verdict_known().map(|verdict| verdict.accelerator);
        let (accelerator, boundary) = match own.or(known) {
            Some(Accelerator::Kvm) => ("kvm", "hardware virtualisation"),
            Some(Accelerator::Emulation) => ("emulation", EMULATED),
            None => ("unknown", "not known yet: this host has not been probed"),
        };
        json!({"Monitor": "qemu", "Accelerator": accelerator, "Boundary": boundary})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_holds_as_long_as_what_it_depends_on() {
        let key = Key::of(Path::new("/nowhere"));
        assert_eq!(key.files[0], (0, 0));
        let verdict = |accelerator| Verdict { accelerator, why: String::new() };
        let kept = |accelerator| Kept {
            key: key.clone(),
            boot: "one".into(),
            verdict: verdict(accelerator),
        };
        let (yes, no) = (kept(Accelerator::Kvm), kept(Accelerator::Emulation));
        assert!(yes.holds(&key, "one") && yes.holds(&key, "two"));
        assert!(no.holds(&key, "one") && !no.holds(&key, "two"));
        let other = Key { kernel: "other".into(), ..key.clone() };
        assert!(!yes.holds(&other, "one") && !no.holds(&other, "one"));
        let text = serde_json::to_vec(&yes).unwrap();
        assert_eq!(serde_json::from_slice::<Kept>(&text).unwrap(), yes);
    }
}
