//! The engine: containers, images, networks and volumes, and their recorded state.
//!
//! Everything here is written once for both runtime types: a container's processes are behind its
//! supervisor, and the engine never asks how that one runs them. It owns the records below the data root,
//! the root file systems' mounts, the networks, and the connections to supervisors. It never speaks HTTP.

mod attach;
mod containers;
mod create;
mod error;
mod events;
mod exec;
mod exit;
mod files;
mod image;
mod inspect;
mod kill;
mod list;
mod logs;
mod mount;
mod network;
mod open;
mod record;
mod remove;
mod set_type;
mod settings;
mod size;
mod spec;
mod standby;
mod start;
mod stats;
mod stop;
mod supervisor;
mod system;
mod top;
mod update;
mod volume;
mod wait;

use std::sync::Arc;

use caisson_image::Store;

pub use attach::{AttachOptions, Attached, Pending};
pub use caisson_api::wire;
pub use error::{Error, Kind, Result};
pub use events::{Event, Events};
pub use exec::ExecStart;
pub use files::{CommitOptions, PathStat, PutOptions};
pub use image::LoadMessage;
pub use list::ListOptions;
pub use logs::{LogOptions, LogStream, Logs};
pub use record::{Record, RuntimeType, Status};
pub use remove::RemoveOptions;
pub use settings::Settings;
pub use wait::{Wait, WaitCondition};

pub(crate) use containers::{Container, Containers};

/// One engine; clones are the same one.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub settings: Settings,
    pub images: Store,
    pub events: Events,
    pub containers: Containers,
    pub networks: network::Networks,
    pub host: system::Host,
    pub execs: exec::Execs,
    pub standby: standby::Standby,
    pub watches: logs::Watches,
}

impl Engine {
    /// What happens in this engine.
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// What it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The images.
    pub fn images(&self) -> &Store {
        &self.0.images
    }
}

/// The host's real time, nanoseconds since 1970-01-01 UTC.
pub(crate) fn now() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// Runs what may wait (for a disk, a mount, a process) off the async workers.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => panic!("the runtime ended while work was under way"),
    }
}
