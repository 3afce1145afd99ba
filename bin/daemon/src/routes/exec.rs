//! `/exec`: more processes in a container.

use std::io;

use caisson_engine::wire;
use hyper::StatusCode;
use tokio::io::AsyncWriteExt;

use crate::call::Call;
use crate::detach::{self, Watcher};
use crate::hijack::{self, Input, Raw, Takeover};
use crate::reply::{self, Failure, Reply, Result};
use crate::routes::lifecycle::size;
use caisson_engine::{Engine, ExecStart};

pub async fn create(mut call: Call, name: &str) -> Result<Reply> {
    let config: wire::ExecConfig = call.json().await?;
    if config.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(Failure::invalid("No exec command specified"));
    }
    let keys = config.detach_keys.clone().filter(|keys| !keys.is_empty());
    detach::parse(keys.as_deref())?;
    let id = call.engine().exec_create(name, config).await?;
    if let Some(keys) = keys {
        call.shared.detach_keys.keep(&id, keys);
    }
    reply::json_with(StatusCode::CREATED, &serde_json::json!({ "Id": id }))
}

pub async fn inspect(call: Call, id: &str) -> Result<Reply> {
    reply::json(&call.engine().exec_inspect(id).await?)
}

pub async fn resize(call: Call, id: &str) -> Result<Reply> {
    let (rows, columns) = size(&call.query)?;
    call.engine().exec_resize(id, rows, columns).await?;
    Ok(reply::empty(StatusCode::OK))
}

pub async fn start(mut call: Call, id: &str) -> Result<Reply> {
    let config: wire::ExecStartConfig = call.json_or_default().await?;
    let tty = call.engine().exec_tty(id).await?;
    let detach = config.detach == Some(true);
    let rows_columns = match config.console_size.as_deref() {
        Some([rows, columns]) if *rows > 0 && *columns > 0 => {
            let most = usize::from(u16::MAX);
            Some(((*rows).min(most) as u16, (*columns).min(most) as u16))
        }
        _ => None,
    };
    let start = ExecStart { detach, tty, rows_columns };
    let keys = detach::parse(call.shared.detach_keys.take(id).as_deref())?;
    if detach {
        call.engine().exec_start(id, start).await?;
        return Ok(reply::empty(StatusCode::OK));
    }
    let content_type = hijack::content_type(tty, call.version);
    let head = hijack::head(&call.headers, content_type, &crate::route::own_lines());
    let input = if tty { Input::Watched(Watcher::new(keys)) } else { Input::All };
    let (engine, id) = (call.engine().clone(), id.to_string());
    Ok(Reply::Takeover(Takeover::new(head, move |raw| carry(raw, engine, id, start, input))))
}

/// Starts the process once the client has its answer; a start that fails is told on the stream, and by the
/// exit code, as Docker's clients expect.
async fn carry(
    mut raw: Raw,
    engine: Engine,
    id: String,
    start: ExecStart,
    input: Input,
) -> io::Result<()> {
    let tty = start.tty;
    match engine.exec_start(&id, start).await {
        Ok(Some(process)) => hijack::tunnel(raw, process, input).await.map(|_| ()),
        Ok(None) => hijack::finish(raw).await,
        Err(error) => {
            tracing::debug!("exec {id}: {error}");
            raw.stream.write_all(&framed(tty, &format!("{error}\r\n"))).await?;
            hijack::finish(raw).await
        }
    }
}

/// A text on the standard output.
fn framed(tty: bool, text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + text.len());
    if !tty {
        bytes.extend_from_slice(&[1, 0, 0, 0]);
        bytes.extend_from_slice(&(text.len() as u32).to_be_bytes());
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes
}
