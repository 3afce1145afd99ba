//! The processes of a container, as `ps` would list them.

use crate::{Engine, Result, pending, wire};

impl Engine {
    pub async fn top(
        &self,
        name: &str,
        ps_args: Option<&str>,
    ) -> Result<wire::ContainerTopResponse> {
        let _ = (name, ps_args);
        pending()
    }
}
