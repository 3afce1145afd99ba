//! `/commit`: a container becomes an image.

use caisson_engine::wire;
use hyper::StatusCode;

use crate::call::Call;
use crate::reply::{self, Failure, Reply, Result};
use crate::routes::registry::with_tag;
use caisson_engine::CommitOptions;

pub async fn commit(mut call: Call) -> Result<Reply> {
    let config: Option<wire::ContainerConfig> = call.json_or_default().await?;
    let query = &call.query;
    let Some(container) = query.get("container") else {
        return Err(Failure::invalid("the container to commit is missing: give it as `container`"));
    };
    let options = CommitOptions {
        name: query.get("repo").map(|repository| with_tag(repository, query.get("tag"))),
        comment: query.get("comment").unwrap_or_default().into(),
        author: query.get("author").unwrap_or_default().into(),
        changes: query.all("changes"),
        pause: query.flag_or("pause", true),
    };
    let id = call.engine().commit(container, options, config).await?;
    reply::json_with(StatusCode::CREATED, &serde_json::json!({ "Id": id }))
}
