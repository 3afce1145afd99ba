//! A signal to a container.

use std::time::Duration;

use caisson_protocol::task::{ProcessId, Request};

use crate::error::{Error, Result};
use crate::record::Record;
use crate::{Engine, Kind};

/// How long an end may be on its way whose supervisor is gone.
const ON_ITS_WAY: Duration = Duration::from_secs(10);
pub(crate) const SIGTERM: i32 = 15;
pub(crate) const SIGKILL: i32 = 9;

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Reads a signal: a number, or a name with or without `SIG`.
pub(crate) fn signal(text: &str) -> Result<i32> {
    let invalid = || Error::invalid(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(invalid()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(at) = NAMES.iter().position(|known| *known == name) {
        return Ok(at as i32 + 1);
    }
    let relative = |prefix: &str| name.strip_prefix(prefix)?.parse::<i32>().ok();
    let number = match name {
        "CLD" => 17,
        "IOT" => 6,
        "POLL" => 29,
        "RTMIN" => 34,
        "RTMAX" => 64,
        _ => match (relative("RTMIN+"), relative("RTMAX-")) {
            (Some(above), _) if (0..=30).contains(&above) => 34 + above,
            (_, Some(below)) if (0..=30).contains(&below) => 64 - below,
            _ => return Err(invalid()),
        },
    };
    Ok(number)
}

/// The signal that asks a container to end.
pub(crate) fn stop_signal(record: &Record) -> i32 {
    let given = record.config.stop_signal.as_deref().filter(|signal| !signal.is_empty());
    given.and_then(|given| signal(given).ok()).unwrap_or(SIGTERM)
}

impl Engine {
    /// Sends a signal to a container's first process; `KILL` waits for its end.
    pub async fn kill(&self, name: &str, signal: Option<&str>) -> Result<()> {
        let number = signal.map_or(Ok(SIGKILL), self::signal)?;
        let container = self.0.containers.get(name)?;
        let record = container.record();
        if !record.running() {
            return Err(Error::conflict(format!(
                "cannot kill container: {name}: container {} is not running",
                record.id
            )));
        }
        let fatal = number == SIGKILL || number == stop_signal(&record);
        if fatal {
            container.settle(|record| record.state.stopped_by_user = true)?;
        }
        self.signal(&record.id, number).await?;
        self.tell_container(&record, "kill", &[("signal", &number.to_string())]);
        if fatal && record.state.paused {
            // It would not hear it while it is frozen.
            self.thaw(&container).await?;
        }
        if number == SIGKILL {
            let started = record.state.started;
            return self.await_end(&container, started, super::stop::KILLED).await;
        }
        Ok(())
    }

    /// Sends a signal; that the process has ended meanwhile is no error.
    pub(crate) async fn signal(&self, id: &str, signal: i32) -> Result<()> {
        let container = self.0.containers.get(id)?;
        let started = container.look(|record| record.state.started);
        let request = Request::Signal { process: ProcessId::Init, signal, all: false };
        match self.task(&container, request).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == Kind::Conflict || error.message.contains("ended") => Ok(()),
            // A supervisor that is not there any more: the end is on its way.
            Err(error) => match self.await_end(&container, started, ON_ITS_WAY).await {
                Ok(()) => Ok(()),
                Err(_) => Err(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::signal;

    #[test]
    fn signals_have_numbers_and_names() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGTERM", 15),
            ("sigusr1", 10),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("SYS", 31),
        ] {
            assert_eq!(signal(text).unwrap(), number, "{text}");
        }
        for bad in ["", "0", "65", "-1", "SIGNONE", "RTMIN+31"] {
            assert_eq!(signal(bad).unwrap_err().message, format!("invalid signal: {bad}"));
        }
    }
}
