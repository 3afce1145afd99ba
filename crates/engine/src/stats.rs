//! What a container uses.

use crate::{Engine, Result, pending, wire};

impl Engine {
    pub async fn stats(
        &self,
        name: &str,
        previous: Option<&wire::ContainerStatsResponse>,
    ) -> Result<wire::ContainerStatsResponse> {
        let _ = (name, previous);
        pending()
    }
}
