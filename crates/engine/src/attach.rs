//! A client on a container's streams.

use tokio::net::UnixStream;

use crate::{Engine, LogStream, Result, pending};

#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    pub stream: bool,
    pub logs: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

pub struct Attached {
    pub tty: bool,
    pub logs: Option<LogStream>,
    pub stream: Option<Pending>,
}

pub struct Pending;

impl Pending {
    pub async fn connect(self) -> Result<Option<UnixStream>> {
        Ok(None)
    }
}

impl Engine {
    pub async fn attach(&self, name: &str, options: AttachOptions) -> Result<Attached> {
        let _ = (name, options);
        pending()
    }

    /// Tells that a client left by its detach keys.
    pub fn detached(&self, name: &str) {
        let _ = name;
    }

    pub async fn resize(&self, name: &str, rows: u16, columns: u16) -> Result<()> {
        let _ = (name, rows, columns);
        pending()
    }
}
