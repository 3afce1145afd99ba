//! What a container wrote: the json-file log that its supervisor keeps.
//!
//! The supervisor is the only writer; here is only read, from files that grow and are rotated meanwhile. Who
//! follows a log waits for the kernel to tell of a change in the container's directory ([`Watches`]), for
//! the end of the run under way, or for the time `until`. An end is known only after its log is complete:
//! what is read after the end was seen is all there is.

mod files;
mod line;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;

use crate::error::{Doing, Error, Kind, Result};
use crate::record::{Record, Status};
use crate::{Container, Engine, blocking};
use files::{Files, Read};
use line::Wanted;
pub(crate) use watches::Watches;

pub type LogStream = BoxStream<'static, Result<Bytes>>;

#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    pub follow: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Nanoseconds since 1970-01-01 UTC.
    pub since: Option<i64>,
    pub until: Option<i64>,
    pub timestamps: bool,
    /// The last so many records, counted before any other choice; `None`: all.
    pub tail: Option<usize>,
    /// With the labels and variables that the log options name.
    pub details: bool,
}

/// A container's log.
pub struct Logs {
    pub tty: bool,
    /// Raw for a terminal, else Docker's multiplexed stream.
    pub stream: LogStream,
}

impl Engine {
    /// What a container wrote, all its runs included, and with `follow` what it goes on writing until the
    /// run under way ends.
    pub async fn logs(&self, name: &str, options: LogOptions) -> Result<Logs> {
        let container = self.0.containers.get(name)?;
        let record = container.record();
        if !readable(&record) {
            return Err(Error::new(
                Kind::Unsupported,
                "configured logging driver does not support reading",
            ));
        }
        let tty = record.tty();
        let follow = match options.follow && up(&record) {
            true => Some(Follow::new(&self.0.watches, &container, &record, options.until)?),
            false => None,
        };
        let wanted = Wanted::new(&options, &record);
        let path = container.places.log(&container.id);
        let files = blocking(move || Files::open(path, options.tail)).await;
        let files = files.doing(|| format!("read the log of {}", record.id))?;
        let reading = Reading { files: Some(files), wanted: Arc::new(wanted), follow };
        let stream = stream::unfold(reading, async |mut reading| {
            let chunk = reading.next().await?;
            Some((chunk, reading))
        });
        Ok(Logs { tty, stream: stream.boxed() })
    }
}

/// Whether a container's log is kept.
pub(crate) fn readable(record: &Record) -> bool {
    let driver = record.host_config.log_config.as_ref().and_then(|config| config.typ.as_deref());
    matches!(driver, None | Some("" | "json-file"))
}

fn up(record: &Record) -> bool {
    matches!(record.state.status, Status::Starting | Status::Running)
}

/// A log that is being read.
struct Reading {
    /// `None` once there is no more to come.
    files: Option<Files>,
    wanted: Arc<Wanted>,
    follow: Option<Follow>,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Bytes>> {
        loop {
            let mut files = self.files.take()?;
            // Looked at before the files: what is written until now will be read.
            let over = self.follow.as_mut().is_none_or(Follow::over);
            let wanted = self.wanted.clone();
            let (files, text, read) = blocking(move || {
                let mut text = Vec::new();
                let read = files.read(&wanted, &mut text);
                (files, text, read)
            })
            .await;
            match read {
                Err(error) => return Some(Err(error).doing(|| "read the log")),
                Ok(Read::Past) => {}
                Ok(Read::End) if over => {}
                Ok(Read::End | Read::More) => self.files = Some(files),
            }
            if !text.is_empty() {
                return Some(Ok(text.into()));
            }
            if let (Ok(Read::End), Some(follow)) = (read, &mut self.follow) {
                follow.changed().await;
            }
        }
    }
}

/// What tells that there may be more to read, and that there will be no more.
struct Follow {
    files: watches::Watch,
    record: watch::Receiver<Record>,
    /// The ends that there had been when this run was under way.
    exits: u64,
    until: Option<i64>,
}

impl Follow {
    fn new(
        watches: &Watches,
        container: &Container,
        record: &Record,
        until: Option<i64>,
    ) -> Result<Self> {
        let files = watches.watch(&container.places.directory)?;
        Ok(Follow { files, record: container.watch(), exits: record.state.exits, until })
    }

    /// Whether nothing more will be written, or wanted. What changes from now on wakes [`Follow::changed`].
    fn over(&mut self) -> bool {
        self.files.seen();
        self.until.is_some_and(|until| crate::now() > until)
            || ended(self.exits, &self.record.borrow_and_update())
    }

    /// Waits until there is something new.
    async fn changed(&mut self) {
        let exits = self.exits;
        let left = self.until.map(|until| until.saturating_sub(crate::now()).max(0));
        let late = async {
            match left {
                Some(left) => tokio::time::sleep(Duration::from_nanos(left as u64 + 1)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.files.changed() => {}
            _ = self.record.wait_for(|record| ended(exits, record)) => {}
            () = late => {}
        }
    }
}

/// Whether the run that there was after so many ends is over.
fn ended(exits: u64, record: &Record) -> bool {
    record.state.exits != exits || !up(record)
}

#[cfg(test)]
mod tests;
