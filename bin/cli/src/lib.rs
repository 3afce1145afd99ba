//! The command line: a small program that speaks Docker's Engine API to `caissond`.
//!
//! It owns what the user types and reads: arguments, terminals, tables. It knows nothing of how containers
//! are made; whatever it shows comes from the daemon. The exception is `caisson host check`, which looks at
//! this host itself and needs no daemon. Everything is blocking, so that it starts at once.
//!
//! A library so that the manual pages and the completions are generated from the same definitions
//! ([`command`]).

use std::process::ExitCode;

use caisson_api::client::{Client, DEFAULT_HOST};

mod archive_file;
mod arguments;
mod commands;
mod create;
mod each;
mod failure;
mod filter;
mod foreground;
mod format;
mod json;
mod keys;
mod output;
mod ports;
mod pull;
mod signals;
mod streams;
mod table;
mod terminal;
mod time;

pub use arguments::command;

use arguments::Arguments;
use failure::{Failure, Result};

/// The exit code of `run` when the daemon is the reason, and of everything that is written wrongly.
const REFUSED: u8 = 125;
/// The exit code of a program that SIGPIPE ended.
const BROKEN_PIPE: u8 = 128 + 13;

/// Runs the program with its own arguments.
pub fn main() -> ExitCode {
    let arguments = match arguments::parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let is_run = arguments.command.is_run();
    let failure = match run(&arguments) {
        Ok(code) => return code.into(),
        Err(failure) => failure,
    };
    match failure {
        Failure::Exit(code) => code,
        Failure::OutputClosed => BROKEN_PIPE,
        failure if is_run => {
            tell_run_failure(&failure.sentence());
            REFUSED
        }
        failure => {
            output::note(failure.sentence());
            1
        }
    }
    .into()
}

fn run(arguments: &Arguments) -> Result<u8> {
    let client = Client::new(&host(arguments.host.as_deref()))?;
    arguments.command.run(&client)
}

/// Where the daemon is: as said, as the environment says, or where it is by default.
fn host(given: Option<&str>) -> String {
    let own = |name| std::env::var(name).ok();
    choose_host(given, [own("CAISSON_HOST"), own("DOCKER_HOST")])
}

fn choose_host(given: Option<&str>, environment: [Option<String>; 2]) -> String {
    let given = given.map(String::from).into_iter();
    let mut all = given.chain(environment.into_iter().flatten());
    all.find(|host| !host.is_empty()).unwrap_or_else(|| DEFAULT_HOST.into())
}

/// A failure of `run` is told from the container's own output by its beginning.
fn tell_run_failure(sentence: &str) {
    output::note(format!("caisson: {sentence}\n\nRun 'caisson run --help' for more information"));
}

fn usage(error: &clap::Error) -> ExitCode {
    // Nobody may be reading.
    let _ = error.print();
    use clap::error::ErrorKind;
    match error.kind() {
        kind if arguments::is_for_the_user(kind) && !error.use_stderr() => 0,
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::InvalidSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::TooFewValues => 1,
        _ => REFUSED,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_is_where_the_user_says() {
        let own = |text: &str| Some(text.to_string());
        assert_eq!(choose_host(Some("/a"), [own("/b"), own("/c")]), "/a");
        assert_eq!(choose_host(None, [own("/b"), own("/c")]), "/b");
        assert_eq!(choose_host(None, [own(""), own("/c")]), "/c");
        assert_eq!(choose_host(None, [None, None]), "unix:///run/caisson.sock");
    }
}
