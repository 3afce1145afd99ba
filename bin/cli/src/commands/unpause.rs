//! `caisson unpause`.

use caisson_api::client::Client;
use clap::Args;

use crate::each::each;
use crate::failure::Outcome;

/// Unpause all processes within one or more containers
#[derive(Debug, Args)]
pub struct Unpause {
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Unpause {
    pub fn run(&self, client: &Client) -> Outcome {
        each(&self.containers, |name| {
            client.post(&["containers", name, "unpause"]).send()?;
            Ok(())
        })
    }
}
