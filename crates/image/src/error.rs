//! What can go wrong with images, and the class of it that the API's status codes follow.

use std::io;

/// An image operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Docker's words for an image that is not there.
    #[error("No such image: {0}")]
    NotFound(String),
    /// The request does not fit what is there.
    #[error("{0}")]
    Conflict(String),
    /// The input is wrong: a name, an archive, a layer.
    #[error("{0}")]
    Invalid(String),
    /// A file of the store or of a layer.
    #[error("{what}")]
    Io {
        /// What was being done, to which path.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// The classes of failure that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// There is no such image.
    NotFound,
    /// The image is in use, or a name is ambiguous.
    Conflict,
    /// The input is wrong.
    Invalid,
    /// The disk is full.
    NoSpace,
    /// Anything else.
    Internal,
}

impl Error {
    /// Its class.
    pub fn kind(&self) -> Kind {
        match self {
            Error::NotFound(_) => Kind::NotFound,
            Error::Conflict(_) => Kind::Conflict,
            Error::Invalid(_) => Kind::Invalid,
            Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Kind::NoSpace
            }
            Error::Io { .. } => Kind::Internal,
        }
    }
}

/// The result of an image operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Names what was being done when an input or output failed.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::Io { what: what(), source: error.into() })
    }
}
