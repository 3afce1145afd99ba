//! A signal to a container.

use crate::{Engine, Result, pending};

impl Engine {
    pub async fn kill(&self, name: &str, signal: Option<&str>) -> Result<()> {
        let _ = (name, signal);
        pending()
    }
}
