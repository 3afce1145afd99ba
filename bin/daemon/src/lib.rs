//! The daemon: the Docker Engine API over the engine.
//!
//! It owns the listeners, the connections and what is said on them; what is done is the engine's. Containers
//! do not depend on it: they run on when it ends, and the next one takes them over.

mod call;
mod claim;
mod connection;
mod detach;
mod hijack;
mod hold;
mod listen;
mod options;

mod query;
mod reply;
mod route;
mod routes;
mod stream;
mod systemd;
mod transfer;
mod version;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use caisson_engine::Engine;
use call::{DetachKeys, Shared};
use connection::Handler;
use listen::Listeners;
pub use options::{Flags, Options, settle};
use reply::{Failure, Reply};

/// How long requests under way may take when the daemon is told to end.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

/// Where the other programs are: CAISSON_PROGRAMS, or where this one is.
pub fn programs() -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os("CAISSON_PROGRAMS") {
        return std::path::absolute(directory).context("find CAISSON_PROGRAMS");
    }
    let program = std::env::current_exe().context("find this program")?;
    Ok(program.parent().context("find this program's directory")?.into())
}

/// Serves until it is told to end by SIGTERM or SIGINT.
pub async fn run(options: Options) -> Result<()> {
    // Before anything is announced: a signal must find who handles it.
    let mut terminate = signal(SignalKind::terminate()).context("watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watch for SIGINT")?;
    let _pidfile = claim::pidfile(&options.pidfile)?;
    let _data = claim::root(&options.settings.data_root, "--data-root")?;
    let _exec = claim::root(&options.settings.exec_root, "--exec-root")?;
    let listeners =
        Listeners::open(&options.hosts, options.group.as_deref(), options.insecure_loopback)?;
    let engine = Engine::open(options.settings).await.context("open the engine")?;

    let (closing, requests) = (CancellationToken::new(), TaskTracker::new());
    let handler = handler(
        Shared { engine: engine.clone(), detach_keys: DetachKeys::default() },
        requests.clone(),
    );
    for listener in listeners.open {
        tokio::spawn(listen::serve(listener, handler.clone(), closing.clone()));
    }
    tracing::info!("API listens on {}", options.hosts.join(" and "));
    systemd::notify("READY=1");

    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!("{name}: ending; containers run on");
    systemd::notify("STOPPING=1");
    drop(listeners.files);
    closing.cancel();
    requests.close();
    tokio::select! {
        done = tokio::time::timeout(LAST_REQUESTS, requests.wait()) => if done.is_err() {
            tracing::warn!("{} requests were still under way", requests.len());
        },
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    engine.networks_close().await;
    Ok(())
}

/// Each request is a task of its own: a client that goes away does not stop what it asked for half-way.
fn handler(shared: Shared, requests: TaskTracker) -> Handler {
    Arc::new(move |request| {
        let answer = requests.spawn(route::answer(shared.clone(), request));
        Box::pin(async move {
            answer.await.unwrap_or_else(|error| {
                tracing::error!("a request died: {error}");
                Reply::from(Failure::internal(
                    "the daemon failed at this request: its log tells more",
                ))
            })
        })
    })
}
