//! `caisson pause`.

use caisson_api::client::Client;
use clap::Args;

use crate::each::each;
use crate::failure::Outcome;

/// Pause all processes within one or more containers
#[derive(Debug, Args)]
pub struct Pause {
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Pause {
    pub fn run(&self, client: &Client) -> Outcome {
        each(&self.containers, |name| {
            client.post(&["containers", name, "pause"]).send()?;
            Ok(())
        })
    }
}
