//! Where a daemon listens.

use std::fmt;
use std::path::PathBuf;

use super::Error;

/// A daemon's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
}

impl Address {
    /// Reads `unix:///PATH`, `tcp://HOST:PORT`, `http://HOST:PORT` or an absolute path.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |reason| Error::Address { address: text.to_string(), reason };
        if let Some(path) = text.strip_prefix("unix://") {
            return match path.starts_with('/') {
                true => Ok(Self::Unix(path.into())),
                false => Err(wrong("a unix socket needs an absolute path: unix:///PATH")),
            };
        }
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        let rest = text.strip_prefix("tcp://").or_else(|| text.strip_prefix("http://"));
        let Some(rest) = rest else {
            return Err(wrong("use unix:///PATH or tcp://HOST:PORT"));
        };
        let place = rest.trim_end_matches('/');
        let port = place.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        match port {
            Some(_) => Ok(Self::Tcp(place.to_string())),
            None => Err(wrong("the port is missing: tcp://HOST:PORT")),
        }
    }

    /// What the request's `Host` header says.
    pub(super) fn host_header(&self) -> &str {
        match self {
            Self::Unix(_) => "api.moby.localhost",
            Self::Tcp(place) => place,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(place) => write!(f, "tcp://{place}"),
        }
    }
}
