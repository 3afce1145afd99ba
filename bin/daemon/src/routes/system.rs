//! `/_ping`, `/version`, `/info`, `/system/df`, `/plugins`: what this engine is.

use hyper::StatusCode;

use crate::call::Call;
use crate::reply::{self, Reply, Result};

pub fn ping() -> Result<Reply> {
    reply::bytes(StatusCode::OK, "text/plain; charset=utf-8", "OK")
        .header("builder-version", "1")?
        .header("cache-control", "no-cache, no-store, must-revalidate")?
        .header("pragma", "no-cache")?
        .header("swarm", "inactive")
}

pub async fn version(call: Call) -> Result<Reply> {
    reply::json(&call.engine().version().await?)
}

pub async fn info(call: Call) -> Result<Reply> {
    reply::json(&call.engine().info().await?)
}

pub async fn disk_usage(call: Call) -> Result<Reply> {
    reply::json(&call.engine().disk_usage().await?)
}

pub fn no_plugins() -> Result<Reply> {
    reply::json(&[(); 0])
}
