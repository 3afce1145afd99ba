//! Waiting for a container's end.

use crate::{Engine, Result, pending, wire};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitCondition {
    NotRunning,
    NextExit,
    Removed,
}

pub struct Wait;

impl Wait {
    pub async fn result(self) -> wire::ContainerWaitResponse {
        wire::ContainerWaitResponse::default()
    }
}

impl Engine {
    pub async fn wait(&self, name: &str, condition: WaitCondition) -> Result<Wait> {
        let _ = (name, condition);
        pending()
    }
}
