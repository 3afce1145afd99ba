//! `caisson attach`.

use caisson_api::client::Client;
use clap::Args;
use serde_json::Value;

use crate::failure::{Failure, Outcome};
use crate::foreground::{Exit, Foreground, check_terminal};
use crate::output;

/// Attach local standard input, output, and error streams to a running container
#[derive(Debug, Args)]
#[command(after_help = "Leave a container with a terminal running with ctrl-p ctrl-q.")]
pub struct Attach {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// Proxy all received signals to the process
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
    sig_proxy: bool,
    /// The container
    container: String,
}

impl Attach {
    pub fn run(&self, client: &Client) -> Outcome {
        let name = self.container.as_str();
        let container: Value = client.get(&["containers", name, "json"]).send()?.json()?;
        let on = |value: &Value| value.as_bool().unwrap_or_default();
        let state = &container["State"];
        let refusal = if !on(&state["Running"]) {
            Some("You cannot attach to a stopped container, start it first")
        } else if on(&state["Paused"]) {
            Some("You cannot attach to a paused container, unpause it first")
        } else if on(&state["Restarting"]) {
            Some("You cannot attach to a restarting container, wait until it is running")
        } else {
            None
        };
        if let Some(text) = refusal {
            return Err(Failure::words(text));
        }
        let tty = on(&container["Config"]["Tty"]);
        let stdin = !self.no_stdin && on(&container["Config"]["OpenStdin"]);
        check_terminal(tty, stdin)?;
        let foreground = Foreground {
            client,
            id: container["Id"].as_str().unwrap_or(name),
            tty,
            stdin,
            stdout: true,
            stderr: true,
            sig_proxy: self.sig_proxy,
            detach_keys: self.detach_keys.as_deref(),
        };
        match foreground.join()? {
            Exit::Code(code) => Ok(code),
            Exit::Detached => {
                output::note("read escape sequence");
                Ok(1)
            }
        }
    }
}
