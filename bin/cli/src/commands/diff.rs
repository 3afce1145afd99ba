//! `caisson diff`.

use caisson_api::client::Client;
use clap::Args;
use serde_json::Value;

use crate::failure::Outcome;
use crate::json::{list, number, text};
use crate::output;

/// Inspect changes to files or directories on a container's filesystem
///
/// A is added, C changed, D deleted.
#[derive(Debug, Args)]
pub struct Diff {
    /// The container
    container: String,
}

impl Diff {
    pub fn run(&self, client: &Client) -> Outcome {
        let request = client.get(&["containers", &self.container, "changes"]);
        let changes: Value = request.send()?.json()?;
        for change in list(&changes) {
            let letter = match number(&change["Kind"]) {
                0 => 'C',
                1 => 'A',
                _ => 'D',
            };
            output::line(format!("{letter} {}", text(&change["Path"])))?;
        }
        Ok(0)
    }
}
