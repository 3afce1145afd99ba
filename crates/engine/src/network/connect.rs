//! Containers are connected to networks and disconnected from them.

use crate::{Engine, Result, pending, wire};

impl Engine {
    pub async fn network_connect(
        &self,
        name: &str,
        request: wire::NetworkConnectRequest,
    ) -> Result<()> {
        let _ = (name, request);
        pending()
    }

    pub async fn network_disconnect(
        &self,
        name: &str,
        request: wire::NetworkDisconnectRequest,
    ) -> Result<()> {
        let _ = (name, request);
        pending()
    }
}
