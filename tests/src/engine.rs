//! The engine driven from outside, as any client would: a daemon of the tests' own, and two independent
//! clients (the `bollard` crate and the stock docker CLI) behind one trait.
//!
//! Every wait in here has a limit, and none is a sleep: what is waited for is an event, a stream's end or
//! a request's answer.

mod bollard;
mod cli;
mod daemon;
mod http;
mod session;
mod spec;

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

pub use self::bollard::{Bollard, Events};
pub use self::cli::Cli;
pub use self::daemon::{Daemon, Options, ends_within, kill_process, proportional_memory};
pub use self::http::{Body, Response, request, request_streaming};
pub use self::session::Session;
pub use self::spec::{Exec, Logs, Port, Spec};

/// How long one request may take: an emulated guest boots within it on a machine that is busy ten times over.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The image that every case runs.
pub const IMAGE: &str = "busybox:latest";

/// What a process left when it had ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    pub stdout: String,
    pub stderr: String,
    pub code: i64,
}

/// The engine said no.
#[derive(Debug, Clone)]
pub struct Refused {
    /// The API's status, where the client shows it.
    pub status: Option<u16>,
    /// The command's exit code, where the client is one.
    pub code: Option<i64>,
    pub message: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (self.status, self.code) {
            (Some(status), _) => write!(f, "refused with {status}: {}", self.message),
            (_, Some(code)) => write!(f, "the client ended with {code}: {}", self.message),
            _ => write!(f, "refused: {}", self.message),
        }
    }
}

impl std::error::Error for Refused {}

/// The refusal that `result` must be.
pub fn refused<T: fmt::Debug>(result: Result<T>) -> Result<Refused> {
    match result {
        Ok(value) => anyhow::bail!("it was not refused: {value:?}"),
        Err(error) => error.downcast::<Refused>().context("it failed, but was not refused"),
    }
}

/// What both clients can do, in docker's words. Names are names or ids.
pub trait Client: Send + Sync {
    /// The new container's id.
    fn create(&self, spec: &Spec) -> Result<String>;
    fn start(&self, name: &str) -> Result<()>;
    /// Runs attached to the end, with `stdin` as its whole input when the spec has an open one.
    fn run(&self, spec: &Spec, stdin: &[u8]) -> Result<Finished>;
    /// Waits until it is not running; its exit code.
    fn wait(&self, name: &str) -> Result<i64>;
    fn stop(&self, name: &str, seconds: Option<u32>) -> Result<()>;
    fn restart(&self, name: &str, seconds: Option<u32>) -> Result<()>;
    fn kill(&self, name: &str, signal: &str) -> Result<()>;
    fn pause(&self, name: &str) -> Result<()>;
    fn unpause(&self, name: &str) -> Result<()>;
    fn rename(&self, name: &str, new: &str) -> Result<()>;
    fn remove(&self, name: &str, force: bool, volumes: bool) -> Result<()>;
    /// Runs one more process in it to its end.
    fn exec(&self, name: &str, exec: &Exec) -> Result<Finished>;
    fn inspect(&self, name: &str) -> Result<Value>;
    /// Names of the containers, ended ones included, that `filters` (`key=value`) let through.
    fn names(&self, filters: &[&str]) -> Result<Vec<String>>;
    fn logs(&self, name: &str, logs: &Logs) -> Result<Finished>;
    /// The commands of its processes, as `top` shows them, with their pids.
    fn top(&self, name: &str) -> Result<Vec<(i32, String)>>;
    /// Lines such as `C /etc`.
    fn changes(&self, name: &str) -> Result<Vec<String>>;
    /// Sets the memory limit, and that of memory and swap together, in bytes.
    fn update_memory(&self, name: &str, bytes: i64) -> Result<()>;
    /// Unpacks a tar archive in a directory of the container.
    fn copy_in(&self, name: &str, directory: &str, archive: &[u8]) -> Result<()>;
    /// A path of the container as a tar archive.
    fn copy_out(&self, name: &str, path: &str) -> Result<Vec<u8>>;
    /// The new image's id.
    fn commit(&self, name: &str, image: &str) -> Result<String>;
    /// The whole root file system as a tar archive.
    fn export(&self, name: &str) -> Result<Vec<u8>>;
    /// An image of one layer, named `image`, that runs `command`.
    fn import(&self, archive: &[u8], image: &str, command: &str) -> Result<()>;
    fn load(&self, archive: &[u8]) -> Result<()>;
    fn save(&self, images: &[&str]) -> Result<Vec<u8>>;
    fn tag(&self, image: &str, new: &str) -> Result<()>;
    fn remove_image(&self, image: &str) -> Result<()>;
    /// Every `name:tag`.
    fn images(&self) -> Result<Vec<String>>;
    fn inspect_image(&self, image: &str) -> Result<Value>;
}

/// The part of `value` at a path such as `State.Pid`; null when there is none.
pub fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, key| match key.parse::<usize>() {
        Ok(index) if value.is_array() => &value[index],
        _ => &value[key],
    })
}
