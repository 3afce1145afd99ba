//! What the engine says of itself and its host.

use caisson_api::filters::Filters;
use caisson_protocol::supervisor::Accelerator;
use serde_json::{Value, json};

use crate::{Engine, Result, pending, wire};

/// What this host can do, found out when the engine is opened.
#[derive(Default)]
pub(crate) struct Host;

impl Engine {
    /// Finds out, or reads what was found out before.
    pub(crate) async fn host_open(&self) -> Result<()> {
        Ok(())
    }

    /// What runs hyperv containers, once that is known.
    pub(crate) async fn accelerator(&self) -> Accelerator {
        Accelerator::Emulation
    }

    /// What runs hyperv containers, or why nothing can.
    pub(crate) async fn hyperv_ready(&self) -> Result<Accelerator> {
        Ok(self.accelerator().await)
    }

    /// What a hyperv container is kept in, told by `inspect`.
    pub(crate) fn sandbox_shown(&self) -> Value {
        json!({"Monitor": "qemu", "Accelerator": "emulation", "Boundary": "emulated: not a security boundary"})
    }

    pub async fn info(&self) -> Result<wire::SystemInfo> {
        pending()
    }

    pub async fn version(&self) -> Result<wire::SystemVersion> {
        pending()
    }

    pub async fn disk_usage(&self) -> Result<wire::SystemDataUsageResponse> {
        pending()
    }

    pub async fn containers_prune(
        &self,
        filters: &Filters,
    ) -> Result<wire::ContainerPruneResponse> {
        let _ = filters;
        pending()
    }
}
