//! A container's files as archives: `/archive`, `/export`.

use base64::Engine as _;
use hyper::StatusCode;

use crate::call::Call;
use crate::reply::{self, Failure, Reply, Result};
use crate::transfer;
use caisson_engine::{PathStat, PutOptions};

const TAR: &str = "application/x-tar";
const STAT: &str = "x-docker-container-path-stat";

pub async fn export(call: Call, name: &str) -> Result<Reply> {
    let (engine, name) = (call.engine().clone(), name.to_string());
    transfer::respond("application/octet-stream", |output| async move {
        engine.export(&name, output).await
    })
    .await
}

pub async fn stat(call: Call, name: &str) -> Result<Reply> {
    let stat = call.engine().archive_stat(name, path(&call)?).await?;
    reply::empty(StatusCode::OK).header(STAT, &encode(&stat)?)
}

pub async fn get(call: Call, name: &str) -> Result<Reply> {
    let path = path(&call)?.to_string();
    let engine = call.engine().clone();
    let stat = encode(&engine.archive_stat(name, &path).await?)?;
    let name = name.to_string();
    let reply =
        transfer::respond(
            TAR,
            |output| async move { engine.archive_get(&name, &path, output).await },
        );
    reply.await?.header(STAT, &stat)
}

pub async fn put(call: Call, name: &str) -> Result<Reply> {
    let path = path(&call)?.to_string();
    let options = PutOptions {
        no_overwrite_dir_non_dir: call.query.flag("noOverwriteDirNonDir"),
        copy_uid_gid: call.query.flag("copyUIDGID"),
    };
    let engine = call.engine().clone();
    engine.archive_put(name, &path, transfer::reader(call.body), options).await?;
    Ok(reply::empty(StatusCode::OK))
}

fn path(call: &Call) -> Result<&str> {
    call.query.get("path").ok_or_else(|| Failure::invalid("bad parameter: path cannot be empty"))
}

fn encode(stat: &PathStat) -> Result<String> {
    let text = serde_json::to_vec(stat)
        .map_err(|error| Failure::internal(format!("write the path's stat as JSON: {error}")))?;
    Ok(base64::prelude::BASE64_STANDARD.encode(text))
}
