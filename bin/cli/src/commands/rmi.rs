//! `caisson rmi`.

use caisson_api::client::Client;
use clap::Args;
use serde_json::Value;

use crate::failure::{Failure, Outcome};
use crate::json::{list, text};
use crate::output;

/// Remove one or more images
#[derive(Debug, Args)]
pub struct Rmi {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents
    #[arg(long)]
    no_prune: bool,
    /// The images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

impl Rmi {
    pub fn run(&self, client: &Client) -> Outcome {
        let mut code = 0;
        for image in &self.images {
            let request = client.delete(&["images", image]).query_if("force", self.force);
            match request.query_if("noprune", self.no_prune).send() {
                Ok(response) => deleted(&response.json()?)?,
                Err(error) => {
                    let missing = error.status() == Some(404);
                    output::note(Failure::from(error).sentence());
                    code = if missing && self.force { code } else { 1 };
                }
            }
        }
        Ok(code)
    }
}

/// Tells what was untagged and what was deleted.
pub fn deleted(answer: &Value) -> Result<(), Failure> {
    for item in list(answer) {
        for key in ["Untagged", "Deleted"] {
            if item[key].is_string() {
                output::line(format!("{key}: {}", text(&item[key])))?;
            }
        }
    }
    Ok(())
}
