//! What ends a command, and the words it ends with.

use std::error::Error;
use std::io;

use caisson_api::client;
use thiserror::Error as ThisError;

/// Why a command did not do what it was asked to.
#[derive(Debug, ThisError)]
pub enum Failure {
    /// The daemon refused, or could not be asked.
    #[error(transparent)]
    Api(#[from] client::Error),
    /// What was given cannot be. The sentence names it.
    #[error("{0}")]
    Words(String),
    /// The operating system refused.
    #[error("{what}")]
    Io {
        /// What was tried, with the path.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Nobody reads the output any more.
    #[error("nobody reads the output")]
    OutputClosed,
    /// Everything has been said; only the exit code is left.
    #[error("exit code {0}")]
    Exit(u8),
}

/// What commands return: the exit code.
pub type Outcome = Result<u8>;

/// The result of a step.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// What was given cannot be.
    pub fn words(text: impl Into<String>) -> Self {
        Self::Words(text.into())
    }

    /// For `map_err`: what was tried when the operating system refused.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::Io { what, source }
    }

    /// The status of the daemon's refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api(error) => error.status(),
            _ => None,
        }
    }

    /// The sentence for the user, with the whole chain of reasons.
    pub fn sentence(&self) -> String {
        match self {
            Self::Api(client::Error::Refused { message, .. }) => {
                format!("Error response from daemon: {message}")
            }
            Self::Api(client::Error::Connect { address, source }) => no_daemon(address, source),
            _ => {
                let mut text = self.to_string();
                let mut source = self.source();
                while let Some(error) = source {
                    let words = without_number(error.to_string());
                    // A transparent error has said its source's words already.
                    if !text.ends_with(&words) {
                        text = format!("{text}: {words}");
                    }
                    source = error.source();
                }
                text
            }
        }
    }
}

/// Rust adds the number of a system call's error to its words.
fn without_number(text: String) -> String {
    match text.rsplit_once(" (os error ") {
        Some((words, _)) if text.ends_with(')') => words.to_string(),
        _ => text,
    }
}

fn no_daemon(address: &str, source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "permission denied while trying to connect to the Caisson daemon at {address}: \
             use sudo, or join the group that owns the socket"
        ),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => format!(
            "Cannot connect to the Caisson daemon at {address}. Start one: sudo caissond -H {address}"
        ),
        _ => format!("Cannot connect to the Caisson daemon at {address}: {source}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_the_daemons_own_words() {
        let refused = client::Error::Refused { status: 404, message: "No such image: x".into() };
        let failure = Failure::from(refused);
        assert_eq!(failure.sentence(), "Error response from daemon: No such image: x");
        assert_eq!(failure.status(), Some(404));
    }

    #[test]
    fn without_a_daemon_the_user_reads_how_to_start_one() {
        let address = "unix:///run/caisson.sock".to_string();
        let source = io::Error::from(io::ErrorKind::NotFound);
        let text = Failure::from(client::Error::Connect { address, source }).sentence();
        let begin = "Cannot connect to the Caisson daemon at unix:///run/caisson.sock. ";
        assert!(text.starts_with(begin) && text.contains("sudo caissond"), "{text}");
    }

    #[test]
    fn the_chain_is_printed_once() {
        let source = io::Error::from_raw_os_error(2);
        let text = Failure::io("read /x")(source).sentence();
        assert_eq!(text, "read /x: No such file or directory");
    }
}
