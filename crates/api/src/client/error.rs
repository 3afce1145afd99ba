//! What can go wrong between here and the daemon.

use std::io;

use thiserror::Error;

/// Why there is no answer, or not the one hoped for.
#[derive(Debug, Error)]
pub enum Error {
    /// The address cannot be one.
    #[error("daemon address `{address}`: {reason}")]
    Address {
        /// As given.
        address: String,
        /// What is wrong, and what to write.
        reason: &'static str,
    },
    /// Nobody answers there.
    #[error("cannot connect to the Caisson daemon at {address}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("{method} {path}: the connection to the daemon failed")]
    Connection {
        /// The request's method.
        method: &'static str,
        /// The request's path.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The request's body could not be made.
    #[error("cannot read what is to be sent")]
    Input(#[source] io::Error),
    /// The answer is not HTTP, or not the kind of answer that was asked for.
    #[error("{method} {path}: the daemon's answer makes no sense: {reason}")]
    Answer {
        /// The request's method.
        method: &'static str,
        /// The request's path.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The daemon said no. Its own sentence, as it is.
    #[error("{message}")]
    Refused {
        /// The HTTP status, 400 or more.
        status: u16,
        /// What the daemon said.
        message: String,
    },
}

impl Error {
    /// The HTTP status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}
