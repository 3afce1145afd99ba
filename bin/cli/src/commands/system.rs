//! `caisson system`.

use caisson_api::client::Client;
use clap::{Args, Subcommand};

use super::df::Df;
use super::events::Events;
use super::info::Info;
use super::prune::PruneSystem;
use crate::failure::Outcome;

/// Manage the daemon's host
#[derive(Debug, Args)]
pub struct System {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Df(Df),
    Events(Events),
    Info(Info),
    /// Remove unused data
    Prune(PruneSystem),
}

impl System {
    pub fn run(&self, client: &Client) -> Outcome {
        match &self.command {
            Command::Df(df) => df.run(client),
            Command::Events(events) => events.run(client),
            Command::Info(info) => info.run(client),
            Command::Prune(prune) => prune.run(client),
        }
    }
}
