//! More processes in a container.

use tokio::net::UnixStream;

use crate::{Engine, Result, pending, wire};

/// The execs that are known.
#[derive(Default)]
pub(crate) struct Execs;

#[derive(Debug, Clone, Default)]
pub struct ExecStart {
    pub detach: bool,
    pub tty: bool,
    pub rows_columns: Option<(u16, u16)>,
}

impl Engine {
    pub async fn exec_create(&self, name: &str, config: wire::ExecConfig) -> Result<String> {
        let _ = (name, config);
        pending()
    }

    pub async fn exec_start(&self, id: &str, start: ExecStart) -> Result<Option<UnixStream>> {
        let _ = (id, start);
        pending()
    }

    pub async fn exec_inspect(&self, id: &str) -> Result<wire::ExecInspectResponse> {
        let _ = id;
        pending()
    }

    pub async fn exec_resize(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        let _ = (id, rows, columns);
        pending()
    }

    pub async fn exec_tty(&self, id: &str) -> Result<bool> {
        let _ = id;
        pending()
    }

    /// The ids of a container's execs that are under way.
    pub(crate) fn exec_ids(&self, _id: &str) -> Option<Vec<String>> {
        None
    }
}
