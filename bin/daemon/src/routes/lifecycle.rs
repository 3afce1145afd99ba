//! What is done to a container: start, stop, kill, …

use bytes::Bytes;
use caisson_engine::{RuntimeType, wire};
use futures_util::stream;
use hyper::StatusCode;
use serde::Deserialize;

use crate::call::{self, Call};
use crate::query::Query;
use crate::reply::{self, Failure, Reply, Result};
use caisson_engine::{RemoveOptions, WaitCondition};

pub async fn start(call: Call, name: &str) -> Result<Reply> {
    if call.query.get("checkpoint").is_some() {
        return Err(Failure::unsupported("starting from a checkpoint is not supported"));
    }
    call.engine().start(name).await?;
    reply::no_content()
}

pub async fn stop(call: Call, name: &str) -> Result<Reply> {
    let timeout = call.query.number("t")?;
    call.engine().stop(name, timeout, call.query.get("signal")).await?;
    reply::no_content()
}

pub async fn restart(call: Call, name: &str) -> Result<Reply> {
    let timeout = call.query.number("t")?;
    call.engine().restart(name, timeout, call.query.get("signal")).await?;
    reply::no_content()
}

pub async fn kill(call: Call, name: &str) -> Result<Reply> {
    call.engine().kill(name, call.query.get("signal")).await?;
    reply::no_content()
}

pub async fn pause(call: Call, name: &str) -> Result<Reply> {
    call.engine().pause(name).await?;
    reply::no_content()
}

pub async fn unpause(call: Call, name: &str) -> Result<Reply> {
    call.engine().unpause(name).await?;
    reply::no_content()
}

pub async fn rename(call: Call, name: &str) -> Result<Reply> {
    let Some(new) = call.query.get("name") else {
        return Err(Failure::invalid("Neither old nor new names may be empty"));
    };
    call.engine().rename(name, new).await?;
    reply::no_content()
}

pub async fn resize(call: Call, name: &str) -> Result<Reply> {
    let (rows, columns) = size(&call.query)?;
    call.engine().resize(name, rows, columns).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// A terminal's size: rows and columns.
pub fn size(query: &Query) -> Result<(u16, u16)> {
    match (query.number("h")?, query.number("w")?) {
        (Some(rows), Some(columns)) => Ok((rows, columns)),
        _ => Err(Failure::invalid("a terminal's size is needed: `h` rows and `w` columns")),
    }
}

/// Caisson's additions to the body of an update.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Additions {
    runtime_type: Option<String>,
    no_restart: Option<bool>,
}

pub async fn update(mut call: Call, name: &str) -> Result<Reply> {
    let bytes = call.json_bytes().await?;
    let fields: serde_json::Value = call::parse(&bytes)?;
    super::containers::restart_policy(fields.get("RestartPolicy"))?;
    let body: wire::ContainerUpdateBody = call::parse(&bytes)?;
    let additions: Additions = call::parse(&bytes)?;
    let wanted = additions.runtime_type.filter(|wanted| !wanted.is_empty());
    let wanted = wanted.map(|wanted| wanted.parse::<RuntimeType>()).transpose()?;
    let mut warnings = Vec::new();
    if wanted.is_none() || body != wire::ContainerUpdateBody::default() {
        warnings = call.engine().update(name, body).await?;
    }
    if let Some(wanted) = wanted {
        call.engine().set_type(name, wanted, additions.no_restart != Some(true)).await?;
    }
    reply::json(&wire::ContainerUpdateResponse { warnings: Some(warnings) })
}

/// Answers at once that it waits, and later what it waited for.
pub async fn wait(call: Call, name: &str) -> Result<Reply> {
    let condition = match call.query.get("condition") {
        None | Some("not-running") => WaitCondition::NotRunning,
        Some("next-exit") => WaitCondition::NextExit,
        Some("removed") => WaitCondition::Removed,
        Some(other) => return Err(Failure::invalid(format!("invalid condition: {other:?}"))),
    };
    let wait = call.engine().wait(name, condition).await?;
    let result = stream::once(async move {
        let line = reply::line(&wait.result().await);
        line.map(Bytes::from).map_err(|failure| std::io::Error::other(failure.message))
    });
    Ok(reply::stream("application/json", result))
}

pub async fn remove(call: Call, name: &str) -> Result<Reply> {
    if call.query.flag("link") {
        return Err(Failure::unsupported(
            "links are not supported: remove the container without `link`",
        ));
    }
    let options = RemoveOptions { force: call.query.flag("force"), volumes: call.query.flag("v") };
    call.engine().remove(name, options).await?;
    reply::no_content()
}
