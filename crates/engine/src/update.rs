//! Limits and the restart policy change while the container runs.

use crate::{Engine, Result, pending, wire};

impl Engine {
    pub async fn update(&self, name: &str, body: wire::ContainerUpdateBody) -> Result<Vec<String>> {
        let _ = (name, body);
        pending()
    }
}
