//! Signals while a container or a command in one is in the foreground: the window's size, what is passed on
//! to the container, and leaving a raw terminal as it was.

use std::os::raw::c_int;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use caisson_api::client::Client;
use signal_hook::consts::{
    SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::{Handle, Signals};

use crate::failure::{Failure, Result};
use crate::{output, terminal};

/// What is passed on, by the names that the API takes.
const FORWARDED: [(c_int, &str); 9] = [
    (SIGHUP, "HUP"),
    (SIGINT, "INT"),
    (SIGQUIT, "QUIT"),
    (SIGTERM, "TERM"),
    (SIGUSR1, "USR1"),
    (SIGUSR2, "USR2"),
    (SIGALRM, "ALRM"),
    (SIGCONT, "CONT"),
    (SIGTSTP, "TSTP"),
];
/// What ends this program where it is not passed on.
const ENDING: [c_int; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];
/// After so many of SIGINT and SIGTERM the user wants out, whatever the container does.
const IMPATIENT: u32 = 3;

/// What has a terminal: the path of its `resize` call.
pub type Resizable = Vec<String>;

/// Signals for a container that is being started, which may take seconds.
#[derive(Debug, Default)]
struct Early {
    started: bool,
    /// They are passed on when it runs.
    kept: Vec<&'static str>,
}

/// What to do about signals.
#[derive(Debug, Default)]
pub struct Watch {
    /// The container that signals are passed on to.
    pub forward_to: Option<String>,
    /// What is told of the window's size.
    pub resize: Option<Resizable>,
}

/// Signals are watched for as long as this lives.
#[derive(Debug)]
pub struct Watching {
    handle: Option<Handle>,
    early: Arc<Mutex<Early>>,
}

impl Watching {
    /// The container runs: what came before is passed on, and what comes from now on at once.
    pub fn started(&self, client: &Client, container: &str) {
        let mut early = lock(&self.early);
        early.started = true;
        early.kept.drain(..).for_each(|name| pass_on(client, container, name));
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            handle.close();
        }
    }
}

fn lock(early: &Mutex<Early>) -> MutexGuard<'_, Early> {
    early.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pass_on(client: &Client, container: &str, name: &str) {
    // It may run no more: there is nobody to pass the signal on to then.
    let _ = client.post(&["containers", container, "kill"]).query("signal", name).send();
}

impl Watch {
    /// Starts to watch, in a thread of its own.
    pub fn begin(self, client: &Client) -> Result<Watching> {
        let mut wanted: Vec<c_int> = Vec::new();
        if self.forward_to.is_some() {
            wanted.extend(FORWARDED.iter().map(|(number, _)| *number));
        } else if self.resize.is_some() {
            wanted.extend(ENDING);
        }
        if self.resize.is_some() {
            wanted.push(SIGWINCH);
        }
        let early = Arc::new(Mutex::new(Early::default()));
        if wanted.is_empty() {
            return Ok(Watching { handle: None, early });
        }
        let mut signals = Signals::new(wanted).map_err(Failure::io("watch signals"))?;
        let handle = signals.handle();
        let (client, shared) = (client.clone(), early.clone());
        std::thread::spawn(move || {
            let mut asked = 0;
            for number in signals.forever() {
                if number == SIGWINCH {
                    self.tell_size(&client);
                    continue;
                }
                asked += u32::from(matches!(number, SIGINT | SIGTERM));
                self.handle(&client, &shared, number, asked);
            }
        });
        Ok(Watching { handle: Some(handle), early })
    }

    fn handle(&self, client: &Client, early: &Mutex<Early>, number: c_int, asked: u32) {
        let Some(container) = &self.forward_to else {
            terminal::restore();
            std::process::exit(128 + number);
        };
        if asked >= IMPATIENT {
            terminal::restore();
            output::note("got 3 SIGTERM/SIGINTs, forcefully exiting");
            std::process::exit(1);
        }
        let Some((_, name)) = FORWARDED.iter().find(|(known, _)| *known == number) else { return };
        let mut early = lock(early);
        match early.started {
            true => pass_on(client, container, name),
            false => early.kept.push(name),
        }
    }

    /// Tells the window's size.
    pub fn tell_size(&self, client: &Client) {
        if let Some(resizable) = &self.resize {
            tell_size(client, resizable);
        }
    }
}

/// Tells the window's size, if there is a window.
pub fn tell_size(client: &Client, resizable: &Resizable) {
    let Some((rows, columns)) = terminal::size() else { return };
    let path: Vec<&str> = resizable.iter().map(String::as_str).collect();
    let request = client.post(&path);
    // What has ended needs no size.
    let _ = request.query("h", &rows.to_string()).query("w", &columns.to_string()).send();
}
