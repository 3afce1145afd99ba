//! Images as archives: `/images/load`, `/images/create`, `/images/get`.

use std::io;

use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use tokio::sync::mpsc;

use crate::call::Call;
use crate::reply::{self, Failure, Reply, Result};
use crate::routes::registry::{self, with_tag};
use crate::transfer;

pub async fn save(call: Call, names: Vec<String>) -> Result<Reply> {
    if names.is_empty() {
        return Err(Failure::invalid("no image is named: give its name as `names`"));
    }
    let engine = call.engine().clone();
    transfer::respond("application/x-tar", |output| async move {
        engine.image_save(names, output).await
    })
    .await
}

/// Loads an archive; messages come as it goes. A failure before the first one is the answer's status.
pub async fn load(call: Call) -> Result<Reply> {
    let quiet = call.query.flag("quiet");
    let engine = call.engine().clone();
    let input = transfer::reader(call.body);
    let (sender, receiver) = mpsc::unbounded_channel();
    let messages = sender.clone();
    let work = async move {
        let progress = move |message: caisson_engine::LoadMessage| {
            let _ = (quiet, messages.send(reply::line(&message)));
        };
        engine.image_load(input, progress).await
    };
    tokio::spawn(async move {
        if let Err(error) = work.await {
            let _ = sender.send(Err(error.into()));
        }
    });
    progress(receiver).await
}

/// Imports a file system, or pulls.
pub async fn create(call: Call) -> Result<Reply> {
    if let Some(image) = call.query.get("fromImage") {
        return registry::pull(&call, image);
    }
    match call.query.get("fromSrc") {
        Some("-") => {}
        Some(source) => {
            return Err(Failure::unsupported(format!(
                "cannot import from {source}: download it and give the file to `docker import`"
            )));
        }
        None => return Err(Failure::invalid("neither `fromImage` nor `fromSrc` is given")),
    }
    let query = &call.query;
    let name = query.get("repo").map(|repository| with_tag(repository, query.get("tag")));
    let changes = query.all("changes");
    let message = query.get("message").unwrap_or("Imported from -").to_string();
    let engine = call.engine().clone();
    let id = engine.image_import(transfer::reader(call.body), name, changes, &message).await?;
    Ok(reply::bytes(
        hyper::StatusCode::OK,
        "application/json",
        reply::line(&json!({ "status": id }))?,
    ))
}

type Line = Result<Vec<u8>>;

/// Lines as they come; once the first has been sent, a failure is a line too.
async fn progress(mut receiver: mpsc::UnboundedReceiver<Line>) -> Result<Reply> {
    let first = match receiver.recv().await {
        Some(line) => line?,
        None => Vec::new(),
    };
    let lines = stream::unfold((Some(first), receiver), async |(first, mut receiver)| {
        let line = match first {
            Some(line) => line,
            None => receiver.recv().await?.unwrap_or_else(|failure| told(&failure)),
        };
        Some((io::Result::Ok(Bytes::from(line)), (None, receiver)))
    });
    Ok(reply::stream("application/json", lines))
}

/// A failure in the middle of messages, as Docker tells it.
fn told(failure: &Failure) -> Vec<u8> {
    let message = &failure.message;
    let text = json!({ "errorDetail": { "message": message }, "error": message });
    format!("{text}\n").into_bytes()
}
