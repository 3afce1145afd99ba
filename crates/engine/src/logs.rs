//! What a container wrote.

use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::{Engine, Result, pending};

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
    pub tail: Option<usize>,
    pub details: bool,
}

/// A container's log.
pub struct Logs {
    pub tty: bool,
    /// Raw for a terminal, else Docker's multiplexed stream.
    pub stream: LogStream,
}

impl Engine {
    pub async fn logs(&self, name: &str, options: LogOptions) -> Result<Logs> {
        let _ = (name, options);
        pending()
    }
}
