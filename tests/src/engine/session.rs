//! A live connection to a process's streams.

use std::pin::Pin;

use anyhow::{Context, Result, bail};
use bollard::container::LogOutput;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::bollard::{bounded, fail};

pub(super) type Output =
    Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;
pub(super) type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// An attach or an exec: what it writes can be awaited, what it reads can be sent.
pub struct Session {
    output: Output,
    input: Input,
    /// A terminal's output is here too.
    pub stdout: String,
    pub stderr: String,
}

impl Session {
    pub(super) fn new(output: Output, input: Input) -> Self {
        Session { output, input, stdout: String::new(), stderr: String::new() }
    }

    /// Sends bytes to its standard input.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = async {
            self.input.write_all(bytes).await?;
            self.input.flush().await?;
            Ok(())
        };
        bounded("send to the process", sent)
    }

    /// Its standard input ends; its outputs go on.
    pub fn close_input(&mut self) -> Result<()> {
        bounded("close the input", async { Ok(self.input.shutdown().await?) })
    }

    /// Sends all of `bytes` and the end, and reads to the end: at the same time.
    pub fn exchange(&mut self, bytes: &[u8]) -> Result<()> {
        let Session { output, input, stdout, stderr } = self;
        let send = async {
            input.write_all(bytes).await?;
            input.shutdown().await?;
            anyhow::Ok(())
        };
        let receive = async {
            while let Some(part) = output.next().await {
                add(part.map_err(fail)?, stdout, stderr);
            }
            anyhow::Ok(())
        };
        let both = async { tokio::try_join!(send, receive).map(drop) };
        bounded("exchange the streams", both)
    }

    /// Reads until `wanted` has come from either output.
    pub fn until(&mut self, wanted: &str) -> Result<()> {
        while !self.stdout.contains(wanted) && !self.stderr.contains(wanted) {
            let more = self.read().with_context(|| {
                format!("waiting for {wanted:?}: {:?} {:?}", self.stdout, self.stderr)
            })?;
            if !more {
                bail!("it ended without {wanted:?}: {:?} {:?}", self.stdout, self.stderr);
            }
        }
        Ok(())
    }

    /// Reads to the end.
    pub fn finish(&mut self) -> Result<()> {
        while self.read()? {}
        Ok(())
    }

    fn read(&mut self) -> Result<bool> {
        let next = bounded("read the streams", async {
            self.output.next().await.transpose().map_err(fail)
        })?;
        let more = next.is_some();
        if let Some(part) = next {
            add(part, &mut self.stdout, &mut self.stderr);
        }
        Ok(more)
    }
}

pub(super) fn add(part: LogOutput, stdout: &mut String, stderr: &mut String) {
    match part {
        LogOutput::StdErr { message } => stderr.push_str(&String::from_utf8_lossy(&message)),
        LogOutput::StdOut { message }
        | LogOutput::Console { message }
        | LogOutput::StdIn { message } => stdout.push_str(&String::from_utf8_lossy(&message)),
    }
}
