//! A container in the foreground: attached, started, watched, waited for.

use std::thread::JoinHandle;

use caisson_api::client::{Client, Hijacked, Response};
use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::keys::Keys;
use crate::signals::{Watch, Watching, tell_size};
use crate::streams::{Ended, Streams};
use crate::terminal::{self, Raw};

/// How a container is taken to the foreground.
#[derive(Debug, Clone)]
pub struct Foreground<'a> {
    pub client: &'a Client,
    pub id: &'a str,
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Signals are passed on to it.
    pub sig_proxy: bool,
    pub detach_keys: Option<&'a str>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The container ended, with this code.
    Code(u8),
    /// The user left it running.
    Detached,
}

/// An answer of `wait` that is being waited for.
struct Waiting(JoinHandle<Result<u8>>);

impl Waiting {
    /// Asks now; the answer is read by a thread.
    fn begin(client: &Client, id: &str, condition: &str) -> Result<Self> {
        let request = client.post(&["containers", id, "wait"]).query("condition", condition);
        let response = request.send()?;
        Ok(Self(std::thread::spawn(move || exit_code(response))))
    }

    fn end(self) -> Result<u8> {
        self.0.join().unwrap_or_else(|_| Err(Failure::words("the waiting thread panicked")))
    }
}

fn exit_code(response: Response) -> Result<u8> {
    let answer: Value = response.json()?;
    if let Some(error) = answer["Error"]["Message"].as_str().filter(|text| !text.is_empty()) {
        return Err(Failure::words(format!("Error waiting for container: {error}")));
    }
    Ok(answer["StatusCode"].as_i64().unwrap_or_default() as u8)
}

impl Foreground<'_> {
    /// Attaches, waits, starts, and stays until the end: in this order, so that nothing is missed. `removed`
    /// says that the daemon removes the container at its end.
    pub fn start(&self, removed: bool) -> Result<Exit> {
        let keys = Keys::parse(self.detach_keys)?;
        let connection = self.attach()?;
        let condition = if removed { "removed" } else { "next-exit" };
        let waiting = Waiting::begin(self.client, self.id, condition)?;
        let watching = self.watch()?;
        let start = self.client.post(&["containers", self.id, "start"]);
        if let Err(error) = start.query_some("detachKeys", self.detach_keys).send() {
            drop(watching);
            if removed {
                // The daemon removes what could not be started; its answer says that this is done.
                let _ = waiting.end();
            }
            return Err(error.into());
        }
        watching.started(self.client, self.id);
        self.stay(connection, keys, waiting)
    }

    /// Attaches to a container that runs.
    pub fn join(&self) -> Result<Exit> {
        let keys = Keys::parse(self.detach_keys)?;
        let waiting = Waiting::begin(self.client, self.id, "not-running")?;
        let connection = self.attach()?;
        let watching = self.watch()?;
        watching.started(self.client, self.id);
        self.stay(connection, keys, waiting)
    }

    fn stay(&self, connection: Hijacked, keys: Keys, waiting: Waiting) -> Result<Exit> {
        let raw = if self.tty && self.stdin { Raw::enter()? } else { None };
        if self.tty && terminal::output_is_terminal() {
            tell_size(self.client, &self.resize());
        }
        let streams = Streams { input: self.stdin, tty: self.tty, keys };
        let ended = streams.run(connection);
        drop(raw);
        match ended? {
            Ended::Detached => Ok(Exit::Detached),
            Ended::Output => waiting.end().map(Exit::Code),
        }
    }

    fn attach(&self) -> Result<Hijacked> {
        let request = self.client.post(&["containers", self.id, "attach"]).query("stream", "1");
        let request = request
            .query_if("stdin", self.stdin)
            .query_if("stdout", self.stdout)
            .query_if("stderr", self.stderr)
            .query_some("detachKeys", self.detach_keys);
        Ok(request.hijack()?)
    }

    fn resize(&self) -> Vec<String> {
        ["containers", self.id, "resize"].map(String::from).to_vec()
    }

    fn watch(&self) -> Result<Watching> {
        let watch = Watch {
            forward_to: self.sig_proxy.then(|| self.id.to_string()),
            resize: (self.tty && terminal::output_is_terminal()).then(|| self.resize()),
        };
        watch.begin(self.client)
    }
}

/// A terminal for the container needs one here, if its input is taken from here.
pub fn check_terminal(tty: bool, stdin: bool) -> Result<()> {
    if tty && stdin && !terminal::input_is_terminal() {
        crate::output::note("the input device is not a TTY");
        return Err(Failure::Exit(1));
    }
    Ok(())
}
