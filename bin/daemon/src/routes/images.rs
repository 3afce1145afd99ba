//! `/images`: what is known of them.

use hyper::StatusCode;

use crate::call::Call;
use crate::reply::{self, Failure, Reply, Result};
use crate::routes::registry::with_tag;

pub async fn list(call: Call) -> Result<Reply> {
    reply::json(&call.engine().image_list(call.query.flag("all"), &call.filters()?).await?)
}

pub async fn inspect(call: Call, name: &str) -> Result<Reply> {
    reply::json(&call.engine().image_inspect(name).await?)
}

pub async fn history(call: Call, name: &str) -> Result<Reply> {
    reply::json(&call.engine().image_history(name).await?)
}

pub async fn tag(call: Call, name: &str) -> Result<Reply> {
    let Some(repository) = call.query.get("repo") else {
        return Err(Failure::invalid("the new name is missing: give it as `repo`"));
    };
    call.engine().image_tag(name, &with_tag(repository, call.query.get("tag"))).await?;
    Ok(reply::empty(StatusCode::CREATED))
}

pub async fn remove(call: Call, name: &str) -> Result<Reply> {
    let (force, no_prune) = (call.query.flag("force"), call.query.flag("noprune"));
    reply::json(&call.engine().image_remove(name, force, no_prune).await?)
}

pub async fn prune(call: Call) -> Result<Reply> {
    reply::json(&call.engine().images_prune(&call.filters()?).await?)
}
