//! A container is stopped, restarted, paused, renamed.

use crate::{Engine, Result, pending};

impl Engine {
    pub async fn stop(&self, name: &str, timeout: Option<i64>, signal: Option<&str>) -> Result<()> {
        let _ = (name, timeout, signal);
        pending()
    }

    pub async fn restart(
        &self,
        name: &str,
        timeout: Option<i64>,
        signal: Option<&str>,
    ) -> Result<()> {
        let _ = (name, timeout, signal);
        pending()
    }

    pub async fn pause(&self, name: &str) -> Result<()> {
        let _ = name;
        pending()
    }

    pub async fn unpause(&self, name: &str) -> Result<()> {
        let _ = name;
        pending()
    }

    pub async fn rename(&self, name: &str, new: &str) -> Result<()> {
        let _ = (name, new);
        pending()
    }
}
