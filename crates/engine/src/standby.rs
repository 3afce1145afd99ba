//! Supervisors that wait for a container, so that a start need not boot a guest.
//!
//! The pool is filled after the first start of a hyperv container: a host that has none pays nothing. All
//! guests in it have the default shape and run on one machine; each serves one container and is gone with it.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::supervisor::{Shape, Supervisor, forget};
use crate::{Engine, Record, Result, RuntimeType, blocking};

/// Guest memory of a container that sets no limit, MiB.
const MEMORY_MIB: u32 = 512;
/// What a guest needs beside the container's own limit, MiB.
const OVERHEAD_MIB: u32 = 64;
/// Guests that boot at the same time: more of them only wait for each other.
const BOOTS: usize = 2;

pub(crate) struct Standby {
    ready: Mutex<Vec<Supervisor>>,
    /// Held by who fills the pool.
    filling: tokio::sync::Mutex<()>,
    boots: Semaphore,
}

impl Default for Standby {
    fn default() -> Self {
        Standby {
            ready: Mutex::default(),
            filling: tokio::sync::Mutex::default(),
            boots: Semaphore::new(BOOTS),
        }
    }
}

/// The microVM that a container gets.
pub(crate) fn shape(record: &Record) -> Shape {
    let host = &record.host_config;
    let limit = host.memory.unwrap_or_default().max(0) as u64;
    let wanted = (limit.div_ceil(1 << 20) + u64::from(OVERHEAD_MIB)).min(u64::from(u32::MAX));
    let memory_mib = if limit == 0 { MEMORY_MIB } else { MEMORY_MIB.max(wanted as u32) };
    // Whole CPUs: a part of one is what the limit inside takes away.
    let cpus = host.nano_cpus.unwrap_or_default().max(0) as u64;
    let cpus = cpus.div_ceil(1_000_000_000);
    let most = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    Shape { memory_mib, vcpus: cpus.clamp(1, most) as u32 }
}

const DEFAULT: Shape = Shape { memory_mib: MEMORY_MIB, vcpus: 1 };

impl Engine {
    /// A supervisor that can start this container at once.
    pub(crate) async fn supervisor_for(&self, record: &Record) -> Result<Supervisor> {
        if record.runtime_type == RuntimeType::Process {
            return self.supervisor(None).await;
        }
        let shape = shape(record);
        if shape == DEFAULT {
            while let Some(mut supervisor) = self.standby_take() {
                // It may have died while it waited.
                if supervisor.client.ready().await.is_ok() {
                    return Ok(supervisor);
                }
                blocking(move || forget(&supervisor.directory)).await;
            }
        }
        fits(shape)?;
        let _boot = self.0.standby.boots.acquire().await;
        self.supervisor(Some(shape)).await
    }

    fn standby_take(&self) -> Option<Supervisor> {
        self.0.standby.ready.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Fills the pool in the background.
    pub(crate) fn standby_refill(&self) {
        let engine = self.clone();
        tokio::spawn(async move {
            let standby = &engine.0.standby;
            let Ok(_filling) = standby.filling.try_lock() else { return };
            let count = || standby.ready.lock().unwrap_or_else(PoisonError::into_inner).len();
            while count() < engine.0.settings.standby && fits(DEFAULT).is_ok() {
                let boot = standby.boots.acquire().await;
                let made = engine.supervisor(Some(DEFAULT)).await;
                drop(boot);
                match made {
                    Ok(supervisor) => {
                        standby
                            .ready
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(supervisor);
                    }
                    Err(error) => {
                        tracing::warn!("no guest waits for a start: {error}");
                        return;
                    }
                }
            }
        });
    }

    /// Guests that wait, told by `info`.
    pub(crate) fn standby_count(&self) -> usize {
        self.0.standby.ready.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Refuses a guest that this host's memory has no room for.
fn fits(shape: Shape) -> Result<()> {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    match available_mib(&text) {
        Some(available) if available < u64::from(shape.memory_mib) => {
            Err(crate::Error::internal(format!(
                "a guest of {} MiB does not fit: {available} MiB of this host's memory are available; stop something, or give the container a smaller limit (-m)",
                shape.memory_mib
            )))
        }
        _ => Ok(()),
    }
}

fn available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::tests::record;

    #[test]
    fn a_guest_is_as_large_as_its_container_may_be() {
        let mut one = record('a', "web", 100);
        assert_eq!(shape(&one), DEFAULT);
        one.host_config.memory = Some(64 << 20);
        one.host_config.nano_cpus = Some(500_000_000);
        assert_eq!(shape(&one), DEFAULT);
        one.host_config.memory = Some((1 << 30) + 1);
        assert_eq!(shape(&one).memory_mib, 1025 + 64);
    }

    #[test]
    fn available_memory_is_read() {
        let text = "MemTotal:  100 kB\nMemAvailable:    4096 kB\n";
        assert_eq!(available_mib(text), Some(4));
        assert_eq!(available_mib(""), None);
    }
}
