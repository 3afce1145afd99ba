//! A container is created.

use crate::{Engine, Result, pending, wire};

impl Engine {
    pub async fn create(
        &self,
        name: Option<String>,
        body: wire::ContainerCreateBody,
    ) -> Result<wire::ContainerCreateResponse> {
        let _ = (name, body);
        pending()
    }
}
