//! `caisson kill`.

use caisson_api::client::Client;
use clap::Args;

use crate::each::each;
use crate::failure::Outcome;

/// Kill one or more running containers
#[derive(Debug, Args)]
pub struct Kill {
    /// Signal to send to the container [default: KILL]
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Kill {
    pub fn run(&self, client: &Client) -> Outcome {
        each(&self.containers, |name| {
            let request = client.post(&["containers", name, "kill"]);
            request.query_some("signal", self.signal.as_deref()).send()?;
            Ok(())
        })
    }
}
