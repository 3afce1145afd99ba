//! Waiting for a container's end.

use std::sync::Arc;

use crate::record::{Record, Status};
use crate::{Container, Engine, Result, wire};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitCondition {
    NotRunning,
    NextExit,
    Removed,
}

/// Registered: what happens from now on counts.
pub struct Wait {
    container: Arc<Container>,
    condition: WaitCondition,
    /// Ends seen before.
    exits: u64,
}

impl Wait {
    /// Waits until the condition holds.
    pub async fn result(self) -> wire::ContainerWaitResponse {
        let Wait { container, condition, exits } = self;
        let ended = |record: &Record| record.state.exits > exits || removed(record);
        let record = match condition {
            // One that its restart policy starts again has not stopped.
            WaitCondition::NotRunning => container.until(|record| !up(record)).await,
            WaitCondition::NextExit => container.until(ended).await,
            WaitCondition::Removed => container.until(removed).await,
        };
        let state = record.state;
        let code = if state.exits > exits { state.last_exit } else { state.exit_code };
        // Once it is gone, why it did not start has been told by the start.
        let told = condition == WaitCondition::Removed;
        let error = Some(state.error).filter(|error| !told && !error.is_empty());
        let error = error.map(|message| wire::ContainerWaitExitError { message: Some(message) });
        wire::ContainerWaitResponse { status_code: i64::from(code), error }
    }
}

fn up(record: &Record) -> bool {
    matches!(record.state.status, Status::Starting | Status::Running | Status::Restarting)
}

fn removed(record: &Record) -> bool {
    record.state.status == Status::Removed
}

impl Engine {
    /// Registers who waits.
    pub async fn wait(&self, name: &str, condition: WaitCondition) -> Result<Wait> {
        let container = self.0.containers.get(name)?;
        let exits = container.look(|record| record.state.exits);
        Ok(Wait { container, condition, exits })
    }
}
