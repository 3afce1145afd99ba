//! `/build`: there is no builder yet.

use crate::reply::{self, Failure, Reply, Result};

pub fn build() -> Result<Reply> {
    Err(Failure::unsupported(
        "building images is not supported yet: build the image elsewhere, save it to a file, and load that with `docker load`",
    ))
}

/// There is no cache to prune; `docker system prune` asks for it.
pub fn prune() -> Result<Reply> {
    reply::json(&serde_json::json!({ "CachesDeleted": null, "SpaceReclaimed": 0 }))
}
