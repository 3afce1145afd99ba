//! The command line's shape, and reading it as Docker's flags are read.

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, CommandFactory, FromArgMatches, Parser};

use crate::commands::Command;

/// Containers as processes of this host, or each alone in a microVM.
///
/// One image, one set of commands, two runtime types. `process` containers run on this host's kernel: quick
/// and dense, for code you trust. `hyperv` containers run alone in a microVM with a kernel of their own, for
/// code you do not trust. The type is one option of `caisson run`, and `caisson set` changes it later.
#[derive(Debug, Parser)]
#[command(
    name = "caisson",
    version,
    disable_version_flag = true,
    disable_help_subcommand = false,
    after_help = "\
Examples:
  caisson load -i busybox.tar
  caisson run --rm -it --isolation hyperv busybox sh
  caisson run -d --name web busybox httpd -f
  caisson set web --runtime-type hyperv
  caisson get

Run 'caisson COMMAND --help' for more information on a command."
)]
pub struct Arguments {
    /// Daemon socket to connect to
    ///
    /// unix:///PATH or tcp://HOST:PORT. Without it the environment's CAISSON_HOST, then DOCKER_HOST, then
    /// unix:///run/caisson.sock.
    #[arg(short = 'H', long = "host", value_name = "ADDRESS")]
    pub host: Option<String>,
    /// Print version information and quit
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,
    #[command(subcommand)]
    pub command: Command,
}

/// The definition of the whole command line.
pub fn command() -> clap::Command {
    shaped(Arguments::command())
}

/// Reads a command line, its first word being the program.
pub fn parse<I>(words: I) -> Result<Arguments, clap::Error>
where
    I: IntoIterator,
    I::Item: Into<std::ffi::OsString>,
{
    let words: Vec<std::ffi::OsString> = words.into_iter().map(Into::into).collect();
    let read = match command().try_get_matches_from(&words) {
        Err(error) if !is_for_the_user(error.kind()) => {
            // `--rm=false` and `--rm=true` are rare, and would make every help text ugly.
            switches_with_values(command()).try_get_matches_from(&words).map_err(|_| error)
        }
        read => read,
    };
    Arguments::from_arg_matches(&read?)
}

/// Help and version: no failure.
pub fn is_for_the_user(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

/// As Docker's flags: the last one counts, values may begin with a hyphen, and there is no `-h` for help,
/// because `-h` is the host name in `run`.
fn shaped(command: clap::Command) -> clap::Command {
    let help =
        Arg::new("help").long("help").action(ArgAction::Help).help("Print help").help_heading(None);
    let top = command.get_name() == "caisson";
    let help = if top { help.short('h') } else { help };
    command
        .args_override_self(true)
        .disable_help_flag(true)
        .arg(help)
        .mut_args(|arg| {
            let takes_values = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
            let hyphens = takes_values && !arg.is_positional();
            if hyphens { arg.allow_hyphen_values(true) } else { arg }
        })
        .mut_subcommands(shaped)
}

fn switches_with_values(command: clap::Command) -> clap::Command {
    let value = |arg: Arg| match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_value("false")
            .default_missing_value("true")
            .value_parser(clap::builder::BoolishValueParser::new()),
        _ => arg,
    };
    command.mut_args(value).mut_subcommands(switches_with_values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> crate::commands::run::Run {
        match parse(line.split(' ')).unwrap().command {
            Command::Run(run) => *run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
        switches_with_values(command()).debug_assert();
    }

    #[test]
    fn the_last_of_an_option_counts() {
        assert_eq!(run("caisson run --name a --name b x").options.name.as_deref(), Some("b"));
        let line = "caisson run -i -i -e A -e B x";
        assert_eq!(run(line).options.process.env, ["A", "B"]);
    }

    #[test]
    fn switches_may_have_values() {
        assert!(!run("caisson run --rm=false x").options.rm);
        assert!(run("caisson run --rm=true --init x").options.rm);
        assert!(!run("caisson run --sig-proxy=false x").sig_proxy);
        assert!(!run("caisson run x --rm=false").options.rm);
        assert!(run("caisson run x --sig-proxy=false").sig_proxy);
    }

    #[test]
    fn values_may_begin_with_a_hyphen() {
        let options = run("caisson run --memory-swap -1 -e -x x -h").options;
        assert_eq!(options.limits.memory_swap, Some(-1));
        assert_eq!(options.process.env, ["-x"]);
        assert_eq!(options.network.hostname, None);
        let options = run("caisson run -h web x").options;
        assert_eq!(options.network.hostname.as_deref(), Some("web"));
    }

    #[test]
    fn short_options_join() {
        let run = run("caisson run -itdp80:80 -v/a:/b -eA=1 x");
        assert!(run.detach && run.options.tty && run.options.interactive);
        assert_eq!(run.options.network.publish, ["80:80"]);
        assert_eq!(run.options.storage.volume, ["/a:/b"]);
        assert_eq!(run.options.process.env, ["A=1"]);
    }
}
