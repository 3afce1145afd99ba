//! `caisson wait`.

use caisson_api::client::Client;
use clap::Args;
use serde_json::Value;

use crate::each::each_printing;
use crate::failure::{Failure, Outcome};

/// Block until one or more containers stop, then print their exit codes
#[derive(Debug, Args)]
pub struct Wait {
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Wait {
    pub fn run(&self, client: &Client) -> Outcome {
        each_printing(&self.containers, |name| {
            let answer: Value = client.post(&["containers", name, "wait"]).send()?.json()?;
            match answer["Error"]["Message"].as_str().filter(|text| !text.is_empty()) {
                Some(text) => Err(Failure::words(text)),
                None => Ok(Some(answer["StatusCode"].to_string())),
            }
        })
    }
}
