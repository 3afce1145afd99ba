//! What can go wrong on the way to `execve`, and its class.

use std::io;

use caisson_protocol::task::{Failure, FailureKind};

/// A failed launch step.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Error {
    /// What class of failure it is.
    pub kind: FailureKind,
    what: String,
    #[source]
    source: Option<io::Error>,
}

impl Error {
    /// A failure without a system call behind it.
    pub fn new(kind: FailureKind, what: impl Into<String>) -> Self {
        Error { kind, what: what.into(), source: None }
    }

    /// The whole chain as one sentence, for the wire.
    pub fn into_failure(self) -> Failure {
        let message = match &self.source {
            Some(source) => format!("{}: {}", self.what, reason(source)),
            None => self.what.clone(),
        };
        Failure { kind: self.kind, message }
    }
}

/// The text of a system error without Rust's `(os error N)`.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}

/// Names what was being done when a system call failed.
pub trait Context<T> {
    /// Adds the step's name; the class follows from the error number.
    fn context(self, what: impl Into<String>) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, what: impl Into<String>) -> Result<T, Error> {
        self.map_err(|error| {
            let source: io::Error = error.into();
            let kind = match source.raw_os_error() {
                Some(libc::ENOMEM | libc::ENOSPC | libc::EDQUOT | libc::EMFILE | libc::ENFILE) => {
                    FailureKind::Resources
                }
                Some(libc::EAGAIN) => FailureKind::Resources,
                _ => FailureKind::Internal,
            };
            Error { kind, what: what.into(), source: Some(source) }
        })
    }
}
