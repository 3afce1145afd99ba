//! `caisson stop`.

use caisson_api::client::Client;
use clap::Args;

use crate::each::each;
use crate::failure::Outcome;

/// Stop one or more running containers
#[derive(Debug, Args)]
pub struct Stop {
    #[command(flatten)]
    end: End,
}

/// How containers are ended, and which.
#[derive(Debug, Args)]
pub struct End {
    /// Signal to send to the container
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Seconds to wait before killing the container: -1 for ever
    #[arg(short, long = "timeout", visible_alias = "time", value_name = "SECONDS")]
    timeout: Option<i64>,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl End {
    /// Asks for each of them to be stopped or restarted.
    pub fn ask(&self, client: &Client, verb: &str) -> Outcome {
        let seconds = self.timeout.map(|seconds| seconds.to_string());
        each(&self.containers, |name| {
            let request = client.post(&["containers", name, verb]);
            let request = request.query_some("signal", self.signal.as_deref());
            request.query_some("t", seconds.as_deref()).send()?;
            Ok(())
        })
    }
}

impl Stop {
    pub fn run(&self, client: &Client) -> Outcome {
        self.end.ask(client, "stop")
    }
}
