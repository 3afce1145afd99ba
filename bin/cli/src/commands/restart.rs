//! `caisson restart`.

use caisson_api::client::Client;
use clap::Args;

use super::stop::End;
use crate::failure::Outcome;

/// Restart one or more containers
#[derive(Debug, Args)]
pub struct Restart {
    #[command(flatten)]
    end: End,
}

impl Restart {
    pub fn run(&self, client: &Client) -> Outcome {
        self.end.ask(client, "restart")
    }
}
