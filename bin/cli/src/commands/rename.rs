//! `caisson rename`.

use caisson_api::client::Client;
use clap::Args;

use crate::failure::Outcome;

/// Rename a container
#[derive(Debug, Args)]
pub struct Rename {
    /// The container
    container: String,
    /// What it is called from now on
    new_name: String,
}

impl Rename {
    pub fn run(&self, client: &Client) -> Outcome {
        let request = client.post(&["containers", &self.container, "rename"]);
        request.query("name", &self.new_name).send()?;
        Ok(0)
    }
}
