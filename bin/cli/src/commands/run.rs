//! `caisson run`.

use caisson_api::client::Client;
use clap::Args;

use crate::create::body::{Attached, body};
use crate::create::create;
use crate::create::options::Options;
use crate::failure::{Failure, Outcome};
use crate::foreground::{Exit, Foreground, check_terminal};
use crate::keys::Keys;
use crate::output;

const EXAMPLES: &str = "\
Examples:
  caisson run --rm busybox echo hello
      A process container: it runs on this host's kernel, and is removed at its end.
  caisson run --rm -it --isolation hyperv busybox sh
      The same image alone in a microVM, with a shell in your terminal.
      Leave it running with ctrl-p ctrl-q.
  caisson run -d --name web -p 8080:80 -v site:/www busybox httpd -f -h /www
      In the background, with a published port and a named volume.
  caisson set web --runtime-type hyperv
      Later: the same container, with its files and addresses, as a hyperv container.

Exit codes:
  The container's own; 125 if the daemon refused, 126 if the command cannot be
  run, 127 if it was not found, 128+N if it was ended by signal N.";

/// Create and run a new container from an image
///
/// Everything after IMAGE belongs to the container: options for caisson go before it.
#[derive(Debug, Args)]
#[command(
    override_usage = "caisson run [OPTIONS] IMAGE [COMMAND] [ARG...]",
    after_help = EXAMPLES
)]
pub struct Run {
    /// Run container in background and print container ID
    #[arg(short, long)]
    pub detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<String>,
    /// Proxy received signals to the process
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub sig_proxy: bool,
    #[command(flatten)]
    pub options: Options,
    /// The image, and what is run instead of its own command
    #[arg(value_name = "IMAGE [COMMAND] [ARG...]", required = true, trailing_var_arg = true, help_heading = None)]
    pub words: Vec<String>,
}

impl Run {
    pub fn run(&self, client: &Client) -> Outcome {
        // Before there is a container to be left behind.
        Keys::parse(self.detach_keys.as_deref())?;
        let mut body = body(&self.options, &self.words)?;
        if self.detach {
            return self.run_in_background(client, &mut body);
        }
        let attached = Attached::of(&self.options);
        check_terminal(self.options.tty, attached.stdin)?;
        let id = create(client, &self.options, &body)?;
        let foreground = Foreground {
            client,
            id: &id,
            tty: self.options.tty,
            stdin: attached.stdin && self.options.interactive,
            stdout: attached.stdout,
            stderr: attached.stderr,
            sig_proxy: self.sig_proxy,
            detach_keys: self.detach_keys.as_deref(),
        };
        match foreground.start(self.options.rm).map_err(start_failure)? {
            Exit::Code(code) => Ok(code),
            Exit::Detached => Ok(0),
        }
    }

    fn run_in_background(
        &self,
        client: &Client,
        body: &mut caisson_api::wire::ContainerCreateBody,
    ) -> Outcome {
        if !self.options.attach.is_empty() {
            let text = "conflicting options: cannot specify both --attach and --detach";
            return Err(Failure::words(text));
        }
        body.attach_stdin = Some(false);
        body.attach_stdout = Some(false);
        body.attach_stderr = Some(false);
        body.stdin_once = Some(false);
        let id = create(client, &self.options, body)?;
        let start = client.post(&["containers", &id, "start"]);
        if let Err(error) = start.query_some("detachKeys", self.detach_keys.as_deref()).send() {
            return Err(start_failure(error.into()));
        }
        output::line(id)?;
        Ok(0)
    }
}

/// A command that is not there or cannot be run has its own exit codes, as a shell has them.
fn start_failure(error: Failure) -> Failure {
    let sentence = error.sentence();
    match code_of(&sentence) {
        None => error,
        Some(code) => {
            crate::tell_run_failure(&sentence);
            Failure::Exit(code)
        }
    }
}

fn code_of(sentence: &str) -> Option<u8> {
    let says = |words: &[&str]| words.iter().any(|word| sentence.contains(word));
    if !sentence.starts_with("Error response from daemon: ") {
        None
    } else if says(&["executable file not found", "no such file or directory"]) {
        Some(127)
    } else if says(&["permission denied", "is a directory"]) {
        Some(126)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_of_what_cannot_start() {
        let daemon = "Error response from daemon: ";
        let cases = [
            ("exec: \"x\": executable file not found in $PATH", Some(127)),
            ("exec: \"/x\": stat /x: no such file or directory", Some(127)),
            ("exec: \"/etc\": permission denied", Some(126)),
            ("Conflict. The container name is already in use", None),
        ];
        for (text, code) in cases {
            assert_eq!(code_of(&format!("{daemon}{text}")), code, "{text}");
        }
        assert_eq!(code_of("read /env: no such file or directory"), None);
    }
}
