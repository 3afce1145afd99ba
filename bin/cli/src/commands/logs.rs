//! `caisson logs`.

use std::io;

use caisson_api::client::Client;
use clap::Args;
use serde_json::Value;

use crate::failure::Outcome;
use crate::output;
use crate::streams::demultiplex;

/// Fetch the logs of a container
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  caisson logs -f --tail 10 web
  caisson logs --since 10m --until 2m web")]
pub struct Logs {
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Number of lines to show from the end of the logs
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all")]
    tail: String,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The container
    container: String,
}

impl Logs {
    pub fn run(&self, client: &Client) -> Outcome {
        let name = self.container.as_str();
        let container: Value = client.get(&["containers", name, "json"]).send()?.json()?;
        let since = crate::time::for_daemon(self.since.as_deref(), "since")?;
        let until = crate::time::for_daemon(self.until.as_deref(), "until")?;
        let id = container["Id"].as_str().unwrap_or(name);
        let request = client.get(&["containers", id, "logs"]);
        let request = request
            .query("stdout", "1")
            .query("stderr", "1")
            .query_some("since", since.as_deref())
            .query_some("until", until.as_deref())
            .query_if("timestamps", self.timestamps)
            .query_if("follow", self.follow)
            .query_if("details", self.details)
            .query("tail", &self.tail);
        let mut response = request.send()?;
        match container["Config"]["Tty"].as_bool() {
            Some(true) => output::copy(&mut response)?,
            _ => demultiplex(&mut response, &mut io::stdout().lock(), &mut io::stderr())?,
        }
        Ok(0)
    }
}
