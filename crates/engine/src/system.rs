//! What the engine says of itself and its host.

pub(crate) mod facts;
mod host;

use caisson_api::filters::Filters;

use crate::{Engine, Result, pending, wire};
pub(crate) use host::Host;

impl Engine {
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
