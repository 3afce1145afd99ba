//! `caisson start`.

use caisson_api::client::Client;
use clap::Args;
use serde_json::Value;

use crate::each::each;
use crate::failure::{Failure, Outcome};
use crate::foreground::{Exit, Foreground, check_terminal};

/// Start one or more stopped containers
#[derive(Debug, Args)]
pub struct Start {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    attach: bool,
    /// Attach container's STDIN
    #[arg(short, long)]
    interactive: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Start {
    pub fn run(&self, client: &Client) -> Outcome {
        if !self.attach && !self.interactive {
            return each(&self.containers, |name| {
                client.post(&["containers", name, "start"]).send()?;
                Ok(())
            });
        }
        let [name] = self.containers.as_slice() else {
            return Err(Failure::words("you cannot start and attach multiple containers at once"));
        };
        let container: Value = client.get(&["containers", name, "json"]).send()?.json()?;
        let config = &container["Config"];
        let on = |value: &Value| value.as_bool().unwrap_or_default();
        let stdin = self.interactive && on(&config["OpenStdin"]);
        check_terminal(on(&config["Tty"]), stdin)?;
        let foreground = Foreground {
            client,
            id: container["Id"].as_str().unwrap_or(name),
            tty: on(&config["Tty"]),
            stdin,
            stdout: true,
            stderr: true,
            sig_proxy: true,
            detach_keys: self.detach_keys.as_deref(),
        };
        match foreground.start(on(&container["HostConfig"]["AutoRemove"]))? {
            Exit::Code(code) => Ok(code),
            Exit::Detached => Ok(0),
        }
    }
}
