//! `/volumes`.

use caisson_engine::wire;
use hyper::StatusCode;

use crate::call::Call;
use crate::reply::{self, Reply, Result};

pub async fn list(call: Call) -> Result<Reply> {
    reply::json(&call.engine().volumes(&call.filters()?).await?)
}

pub async fn inspect(call: Call, name: &str) -> Result<Reply> {
    reply::json(&call.engine().volume(name).await?)
}

pub async fn create(mut call: Call) -> Result<Reply> {
    let options: wire::VolumeCreateOptions = call.json().await?;
    reply::json_with(StatusCode::CREATED, &call.engine().volume_create(options).await?)
}

pub async fn remove(call: Call, name: &str) -> Result<Reply> {
    call.engine().volume_remove(name, call.query.flag("force")).await?;
    reply::no_content()
}

pub async fn prune(call: Call) -> Result<Reply> {
    reply::json(&call.engine().volumes_prune(&call.filters()?).await?)
}
