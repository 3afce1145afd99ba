//! A container is removed.

use crate::{Engine, Result, pending};

#[derive(Debug, Clone, Default)]
pub struct RemoveOptions {
    pub force: bool,
    pub volumes: bool,
}

impl Engine {
    pub async fn remove(&self, name: &str, options: RemoveOptions) -> Result<()> {
        let _ = (name, options);
        pending()
    }
}
