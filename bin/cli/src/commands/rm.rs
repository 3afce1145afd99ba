//! `caisson rm`.

use caisson_api::client::Client;
use clap::Args;

use crate::each::each_printing;
use crate::failure::{Failure, Outcome};
use crate::output;

/// Remove one or more containers
#[derive(Debug, Args)]
pub struct Rm {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    force: bool,
    /// Remove the specified link
    #[arg(short, long)]
    link: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    volumes: bool,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Rm {
    pub fn run(&self, client: &Client) -> Outcome {
        each_printing(&self.containers, |given| {
            let name = given.trim_matches('/');
            if name.is_empty() {
                return Err(Failure::words("Container name cannot be empty"));
            }
            let request = client.delete(&["containers", name]).query_if("v", self.volumes);
            let request = request.query_if("link", self.link).query_if("force", self.force);
            match request.send() {
                // What is gone already is as it should be.
                Err(error) if self.force && error.status() == Some(404) => {
                    output::note(Failure::from(error).sentence());
                    Ok(None)
                }
                sent => Ok(sent.map(|_| Some(given.to_string()))?),
            }
        })
    }
}
