//! `caisson image`: the management forms of the commands for images.

use caisson_api::client::Client;
use clap::{Args, Subcommand};

use super::inspect::{InspectOne, Kind};
use super::prune::PruneAll;
use super::*;

/// Manage images
#[derive(Debug, Args)]
pub struct Image {
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    History(history::History),
    Import(import::Import),
    /// Display detailed information on one or more images
    Inspect(InspectOne),
    Load(load::Load),
    #[command(visible_alias = "list")]
    Ls(images::Images),
    /// Remove unused images
    Prune(PruneAll),
    #[command(visible_alias = "remove")]
    Rm(rmi::Rmi),
    Save(save::Save),
    Tag(tag::Tag),
}

impl Image {
    pub fn run(&self, client: &Client) -> Outcome {
        match &self.command {
            ImageCommand::History(history) => history.run(client),
            ImageCommand::Import(import) => import.run(client),
            ImageCommand::Inspect(inspect) => inspect.run(client, Kind::Image),
            ImageCommand::Load(load) => load.run(client),
            ImageCommand::Ls(images) => images.run(client),
            ImageCommand::Prune(prune) => prune.images(client),
            ImageCommand::Rm(rmi) => rmi.run(client),
            ImageCommand::Save(save) => save.run(client),
            ImageCommand::Tag(tag) => tag.run(client),
        }
    }
}
