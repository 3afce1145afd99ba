//! Networks are made and removed.

use caisson_api::filters::Filters;

use crate::{Engine, Result, pending, wire};

impl Engine {
    pub async fn networks(&self, filters: &Filters) -> Result<Vec<wire::Network>> {
        let _ = filters;
        pending()
    }

    pub async fn network(&self, name: &str) -> Result<wire::Network> {
        let _ = name;
        pending()
    }

    pub async fn network_create(
        &self,
        request: wire::NetworkCreateRequest,
    ) -> Result<wire::NetworkCreateResponse> {
        let _ = request;
        pending()
    }

    pub async fn network_remove(&self, name: &str) -> Result<()> {
        let _ = name;
        pending()
    }

    pub async fn networks_prune(&self, filters: &Filters) -> Result<wire::NetworkPruneResponse> {
        let _ = filters;
        pending()
    }
}
