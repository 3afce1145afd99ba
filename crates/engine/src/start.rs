//! A container is started.

use crate::{Engine, Result, pending};

impl Engine {
    pub async fn start(&self, name: &str) -> Result<()> {
        let _ = name;
        pending()
    }
}
