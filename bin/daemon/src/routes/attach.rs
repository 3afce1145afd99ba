//! `/containers/{id}/attach`: a container's streams on the client's connection.

use std::io;

use crate::call::Call;
use crate::detach::{self, Watcher};
use crate::hijack::{self, End, Input, Raw, Takeover};
use crate::reply::{Failure, Reply, Result};
use caisson_engine::{AttachOptions, Attached, Engine};

pub async fn attach(call: Call, name: &str) -> Result<Reply> {
    let query = &call.query;
    let keys = detach::parse(query.get("detachKeys"))?;
    let options = AttachOptions {
        stream: query.flag("stream"),
        logs: query.flag("logs"),
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
    };
    let stdin = options.stdin;
    let attached = call.engine().attach(name, options).await?;
    let content_type = hijack::content_type(attached.tty, call.version);
    let head = hijack::head(&call.headers, content_type, "");
    let input = match (stdin, attached.tty) {
        (false, _) => Input::None,
        (true, false) => Input::All,
        (true, true) => Input::Watched(Watcher::new(keys)),
    };
    let (engine, name) = (call.engine().clone(), name.to_string());
    Ok(Reply::Takeover(Takeover::new(head, move |raw| carry(raw, attached, input, engine, name))))
}

async fn carry(
    mut raw: Raw,
    attached: Attached,
    input: Input,
    engine: Engine,
    name: String,
) -> io::Result<()> {
    if let Some(logs) = attached.logs {
        hijack::write_stream(&mut raw, logs).await?;
    }
    let Some(pending) = attached.stream else { return hijack::finish(raw).await };
    match hijack::while_connected(&raw.stream, pending.connect()).await? {
        None => Ok(()),
        Some(Ok(None)) => hijack::finish(raw).await,
        Some(Ok(Some(process))) => {
            if hijack::tunnel(raw, process, input).await? == End::Detached {
                engine.detached(&name);
            }
            Ok(())
        }
        Some(Err(error)) => {
            tracing::debug!("attach to {name}: {error}");
            hijack::finish(raw).await
        }
    }
}

pub fn web_socket() -> Result<Reply> {
    Err(Failure::unsupported(
        "attaching by web socket is not supported: use POST /containers/{id}/attach",
    ))
}
