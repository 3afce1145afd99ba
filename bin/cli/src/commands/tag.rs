//! `caisson tag`.

use caisson_api::client::Client;
use clap::Args;

use crate::failure::Outcome;
use crate::pull::split;

/// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
#[derive(Debug, Args)]
pub struct Tag {
    /// The image
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    /// The new name
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

impl Tag {
    pub fn run(&self, client: &Client) -> Outcome {
        let (repository, tag) = split(&self.target);
        let request = client.post(&["images", &self.source, "tag"]);
        request.query("repo", repository).query("tag", tag).send()?;
        Ok(0)
    }
}
