//! `caisson set`: changes the runtime type of a container.

use caisson_api::client::Client;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::each::each;
use crate::failure::Outcome;
use crate::output;

/// What a container can be changed to.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RuntimeType {
    /// On this host's kernel.
    Process,
    /// Alone in a microVM with a kernel of its own.
    Hyperv,
}

/// Change the runtime type of containers
///
/// An existing container becomes a process or a hyperv container and stays the same container: its ID, name,
/// files, volumes, environment, addresses, ports, limits, restart policy and logs. A stopped one is changed in
/// place; a running one is stopped gracefully and started as the other type. If it cannot start as the other
/// type, it is started as what it was, and the reason is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  caisson set web --runtime-type hyperv
      Move a container that runs code you no longer trust into a microVM.
  caisson set web --runtime-type hyperv --no-restart
      The same, but only if it is stopped: a running one is refused.
  caisson get web
      Show what it is now.")]
pub struct Set {
    /// What they are from now on: process or hyperv
    #[arg(
        long,
        visible_alias = "isolation",
        value_name = "TYPE",
        value_enum,
        ignore_case = true,
        required = true,
        hide_possible_values = true
    )]
    runtime_type: RuntimeType,
    /// Refuse a running container instead of restarting it
    #[arg(long)]
    no_restart: bool,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Set {
    pub fn run(&self, client: &Client) -> Outcome {
        let runtime_type = match self.runtime_type {
            RuntimeType::Process => "process",
            RuntimeType::Hyperv => "hyperv",
        };
        let body = json!({ "RuntimeType": runtime_type, "NoRestart": self.no_restart });
        each(&self.containers, |name| {
            let request = client.post(&["containers", name, "update"]).json(&body);
            output::warnings(&request.send()?.json::<Value>()?);
            Ok(())
        })
    }
}
