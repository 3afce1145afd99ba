//! What can go wrong, by what a caller would do about it.

use caisson_protocol::task::{Failure, FailureKind};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The class of a failure; the API turns it into a status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 400: the request itself is wrong.
    Invalid,
    /// 403: not allowed.
    Forbidden,
    /// 404: no such object.
    NotFound,
    /// 409: it does not fit the state of an object.
    Conflict,
    /// 304: it is so already.
    NotModified,
    /// 501: not implemented.
    Unsupported,
    /// 503: not available here.
    Unavailable,
    /// 500: anything else.
    Internal,
}

/// A failure: one sentence for the user, naming what they gave.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: Kind,
    pub message: String,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// The same failure, with what was being done in front of it.
    pub fn doing(self, what: impl std::fmt::Display) -> Self {
        Error { message: format!("{what}: {}", self.message), ..self }
    }
}

/// The whole chain of causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl From<caisson_image::Error> for Error {
    fn from(error: caisson_image::Error) -> Self {
        use caisson_image::Kind as K;
        let kind = match error.kind() {
            K::NotFound => Kind::NotFound,
            K::Invalid => Kind::Invalid,
            K::Conflict => Kind::Conflict,
            _ => Kind::Internal,
        };
        Self::new(kind, chain(&error))
    }
}

impl From<caisson_net::Error> for Error {
    fn from(error: caisson_net::Error) -> Self {
        use caisson_net::Error as E;
        let kind = match &error {
            E::NotInSubnet { .. } | E::Name(_) => Kind::Invalid,
            E::AddressTaken(_) => Kind::Forbidden,
            _ => Kind::Internal,
        };
        Self::new(kind, chain(&error))
    }
}

impl From<caisson_api::filters::Invalid> for Error {
    fn from(error: caisson_api::filters::Invalid) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let kind = match failure.kind {
            FailureKind::NotFound | FailureKind::NotExecutable | FailureKind::Invalid => {
                Kind::Invalid
            }
            FailureKind::State => Kind::Conflict,
            FailureKind::Resources | FailureKind::Internal => Kind::Internal,
        };
        Self::new(kind, failure.message)
    }
}

/// Adds what was being done to the failure of a system call.
pub(crate) trait Doing<T> {
    fn doing<W: std::fmt::Display>(self, what: impl FnOnce() -> W) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing<W: std::fmt::Display>(self, what: impl FnOnce() -> W) -> Result<T> {
        self.map_err(|error| Error::internal(format!("{}: {}", what(), error.into())))
    }
}
