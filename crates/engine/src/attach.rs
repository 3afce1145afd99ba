//! A client on a container's streams.

use std::path::Path;

use caisson_protocol::supervisor::{Attach, Request, Streams};
use caisson_protocol::task::{self, ProcessId, TerminalSize};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::supervisor::Client;
use crate::{Engine, LogOptions, LogStream};

#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    pub stream: bool,
    /// What was written before, first.
    pub logs: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

pub struct Attached {
    pub tty: bool,
    pub logs: Option<LogStream>,
    pub stream: Option<Pending>,
}

/// The streams of a container that runs, or those of its next start.
pub struct Pending(Source);

enum Source {
    Now(UnixStream),
    Later(oneshot::Receiver<UnixStream>),
}

/// Who attached before the start.
pub(crate) struct Waiting {
    streams: Streams,
    client: oneshot::Sender<UnixStream>,
}

impl Pending {
    /// Waits until the container is started; `None`: it was not, after all.
    pub async fn connect(self) -> Result<Option<UnixStream>> {
        match self.0 {
            Source::Now(stream) => Ok(Some(stream)),
            Source::Later(receiver) => Ok(receiver.await.ok()),
        }
    }
}

/// Connects to the streams of a supervisor's container.
async fn connect(directory: &Path, streams: Streams) -> Result<UnixStream> {
    let request = Request::Attach(Attach { process: ProcessId::Init, streams });
    Client::connect(directory).await?.streams(&request).await
}

impl Engine {
    pub async fn attach(&self, name: &str, options: AttachOptions) -> Result<Attached> {
        let container = self.0.containers.get(name)?;
        let record = container.record();
        if record.state.paused && record.running() {
            return Err(Error::conflict(format!(
                "container {name} is paused, unpause the container before attach"
            )));
        }
        let logs = if options.logs {
            let (stdout, stderr) = (options.stdout, options.stderr);
            let past = LogOptions { stdout, stderr, ..LogOptions::default() };
            Some(self.logs(&record.id, past).await?.stream)
        } else {
            None
        };
        let mut stream = None;
        if options.stream {
            let open = record.config.open_stdin == Some(true);
            let (stdout, stderr) = (options.stdout, options.stderr);
            let streams = Streams { stdin: options.stdin && open, stdout, stderr };
            let source = {
                let mut run = container.run();
                match run.supervisor.clone() {
                    Some(directory) => Err(directory),
                    None => {
                        let (client, receiver) = oneshot::channel();
                        run.waiting.retain(|waiting| !waiting.client.is_closed());
                        run.waiting.push(Waiting { streams, client });
                        Ok(receiver)
                    }
                }
            };
            let source = match source {
                Ok(receiver) => Source::Later(receiver),
                Err(directory) => Source::Now(connect(&directory, streams).await?),
            };
            stream = Some(Pending(source));
        }
        self.tell_container(&record, "attach", &[]);
        Ok(Attached { tty: record.tty(), logs, stream })
    }

    /// Gives those who attached before the start their streams. What they miss is theirs alone.
    pub(crate) async fn attach_waiting(&self, directory: &Path, waiting: Vec<Waiting>) {
        for waiting in waiting.into_iter().filter(|waiting| !waiting.client.is_closed()) {
            match connect(directory, waiting.streams).await {
                // Who is gone meanwhile needs nothing.
                Ok(stream) => drop(waiting.client.send(stream)),
                Err(error) => tracing::warn!("attach at the start: {error}"),
            }
        }
    }

    /// Tells that a client left by its detach keys.
    pub fn detached(&self, name: &str) {
        if let Ok(container) = self.0.containers.get(name) {
            self.tell_container(&container.record(), "detach", &[]);
        }
    }

    /// Sets the size of a container's terminal.
    pub async fn resize(&self, name: &str, rows: u16, columns: u16) -> Result<()> {
        let container = self.0.containers.get(name)?;
        let size = TerminalSize { rows, columns };
        let request = task::Request::Resize { process: ProcessId::Init, size };
        self.task(&container, request).await?;
        let size = format!("{rows}x{columns}");
        tracing::debug!("container {}: terminal {size}", container.id);
        Ok(())
    }
}
