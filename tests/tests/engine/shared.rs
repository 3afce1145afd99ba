//! The one engine that the ordinary cases share: started when the first of them needs it.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, anyhow};
use caisson_tests::busybox_archive;
use caisson_tests::engine::{Bollard, Client, Daemon, IMAGE, Options};

/// Where the cases' engine is.
pub struct Shared {
    /// Another engine's socket, when the environment names one.
    reference: Option<PathBuf>,
    state: Mutex<State>,
}

enum State {
    NotYet,
    Reference(PathBuf),
    Own(Daemon),
    Failed(String),
}

impl Shared {
    pub fn from_environment() -> Self {
        let host = std::env::var("CAISSON_TEST_HOST").ok().filter(|host| !host.is_empty());
        let reference = host.map(|host| PathBuf::from(host.trim_start_matches("unix://")));
        Shared { reference, state: Mutex::new(State::NotYet) }
    }

    /// Whether the engine is not Caisson's.
    pub fn is_reference(&self) -> bool {
        self.reference.is_some()
    }

    /// Its socket; an engine that could not be started once is not tried again.
    pub fn socket(&self) -> Result<PathBuf> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::NotYet) {
            *state = self.begin().unwrap_or_else(|error| State::Failed(format!("{error:#}")));
        }
        match &*state {
            State::Own(daemon) => Ok(daemon.socket()),
            State::Reference(socket) => Ok(socket.clone()),
            State::Failed(error) => Err(anyhow!("the shared daemon did not start: {error}")),
            State::NotYet => Err(anyhow!("the shared daemon was never started")),
        }
    }

    fn begin(&self) -> Result<State> {
        let Some(socket) = &self.reference else {
            return Ok(State::Own(Daemon::start(Options::default())?));
        };
        let place = tempfile::tempdir()?;
        Bollard::new(socket)?.import(&busybox_archive(place.path())?, IMAGE, "sh")?;
        Ok(State::Reference(socket.clone()))
    }
}
