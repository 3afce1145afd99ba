//! The user's terminal: its size, and raw mode, which is undone however the program ends.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::failure::{Failure, Result};

/// What the terminal was before raw mode.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Raw mode, for as long as this lives.
#[derive(Debug)]
pub struct Raw(());

impl Raw {
    /// Makes the terminal at standard input raw; nothing if it is no terminal.
    pub fn enter() -> Result<Option<Self>> {
        if !input_is_terminal() {
            return Ok(None);
        }
        let failed = |error: rustix::io::Errno| Failure::io("make the terminal raw")(error.into());
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        restore_after_panics();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Some(Self(())))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Undoes raw mode, if it is on.
pub fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // The terminal may be gone: there is nothing left to restore then.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

/// A panic ends the program without unwinding.
fn restore_after_panics() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        restore();
        told(panic);
    }));
}

pub fn input_is_terminal() -> bool {
    io::stdin().is_terminal()
}

pub fn output_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Rows and columns of the terminal at standard output, else at standard input.
pub fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// `ConsoleSize` as the API takes it.
pub fn console_size() -> Option<Vec<usize>> {
    size().map(|(rows, columns)| vec![rows.into(), columns.into()])
}
