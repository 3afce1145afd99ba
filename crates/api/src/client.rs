//! A small blocking HTTP/1.1 client for the Engine API, over unix sockets and TCP.
//!
//! It owns one connection per request and closes it afterwards: a command line makes a handful of requests,
//! and a connection that is never reused can never be stale. It never retries, never follows redirects and
//! knows nothing of containers. Standard library and `httparse` only, so that a program that uses it starts
//! at once.

mod address;
mod body;
mod connection;
mod error;
mod request;
#[cfg(test)]
mod tests;

pub use address::Address;
pub use connection::Stream;
pub use error::Error;
pub use request::{Hijacked, Request, Response};

/// Where the daemon listens when nothing else is said.
pub const DEFAULT_HOST: &str = "unix:///run/caisson.sock";

/// Who is asked.
#[derive(Debug, Clone)]
pub struct Client {
    address: Address,
}

impl Client {
    /// For a daemon at `host`: `unix:///PATH`, `tcp://HOST:PORT` or a bare path. Connects to nothing yet.
    pub fn new(host: &str) -> Result<Self, Error> {
        Ok(Self { address: Address::parse(host)? })
    }

    /// Where the requests go.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// A request for the resource that `segments` name, each percent-encoded as needed.
    pub fn get(&self, segments: &[&str]) -> Request<'_> {
        Request::new(&self.address, "GET", segments)
    }

    /// As `get`; the answer has headers only.
    pub fn head(&self, segments: &[&str]) -> Request<'_> {
        Request::new(&self.address, "HEAD", segments)
    }

    /// As `get`, to make or do something.
    pub fn post(&self, segments: &[&str]) -> Request<'_> {
        Request::new(&self.address, "POST", segments)
    }

    /// As `get`, to put something there.
    pub fn put(&self, segments: &[&str]) -> Request<'_> {
        Request::new(&self.address, "PUT", segments)
    }

    /// As `get`, to remove it.
    pub fn delete(&self, segments: &[&str]) -> Request<'_> {
        Request::new(&self.address, "DELETE", segments)
    }
}
