//! `/networks`.

use caisson_engine::wire;
use hyper::StatusCode;

use crate::call::Call;
use crate::reply::{self, Reply, Result};

pub async fn list(call: Call) -> Result<Reply> {
    reply::json(&call.engine().networks(&call.filters()?).await?)
}

pub async fn inspect(call: Call, name: &str) -> Result<Reply> {
    reply::json(&call.engine().network(name).await?)
}

pub async fn create(mut call: Call) -> Result<Reply> {
    let request: wire::NetworkCreateRequest = call.json().await?;
    reply::json_with(StatusCode::CREATED, &call.engine().network_create(request).await?)
}

pub async fn remove(call: Call, name: &str) -> Result<Reply> {
    call.engine().network_remove(name).await?;
    reply::no_content()
}

pub async fn connect(mut call: Call, name: &str) -> Result<Reply> {
    let request: wire::NetworkConnectRequest = call.json().await?;
    call.engine().network_connect(name, request).await?;
    Ok(reply::empty(StatusCode::OK))
}

pub async fn disconnect(mut call: Call, name: &str) -> Result<Reply> {
    let request: wire::NetworkDisconnectRequest = call.json().await?;
    call.engine().network_disconnect(name, request).await?;
    Ok(reply::empty(StatusCode::OK))
}

pub async fn prune(call: Call) -> Result<Reply> {
    reply::json(&call.engine().networks_prune(&call.filters()?).await?)
}
