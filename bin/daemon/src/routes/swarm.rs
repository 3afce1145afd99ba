//! `/swarm`, `/services` and what else belongs to a swarm: this engine is in none.

use hyper::StatusCode;

use crate::reply::{Failure, Reply, Result};

/// Refuses in Docker's words.
pub fn refuse() -> Result<Reply> {
    Err(Failure::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
    ))
}
