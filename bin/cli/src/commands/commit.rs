//! `caisson commit`.

use caisson_api::client::Client;
use clap::Args;
use serde_json::Value;

use crate::failure::Outcome;
use crate::json::text;
use crate::output;
use crate::pull::split;

/// Create a new image from a container's changes
#[derive(Debug, Args)]
#[command(after_help = "Example: caisson commit -c 'CMD [\"httpd\", \"-f\"]' web web:2")]
pub struct Commit {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long, value_name = "TEXT")]
    author: Option<String>,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Commit message
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Pause container during commit
    #[arg(
        short,
        long,
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pause: bool,
    /// Do not pause container during commit
    #[arg(long)]
    no_pause: bool,
    /// The container
    container: String,
    /// What the image is called
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

impl Commit {
    pub fn run(&self, client: &Client) -> Outcome {
        let pause = self.pause && !self.no_pause;
        let request = client.post(&["commit"]).query("container", &self.container);
        let request = match &self.name {
            Some(name) => {
                let (repository, tag) = split(name);
                request.query("repo", repository).query("tag", tag)
            }
            None => request,
        };
        let request = request
            .query_some("author", self.author.as_deref())
            .query_some("comment", self.message.as_deref())
            .query("pause", if pause { "1" } else { "0" });
        let request =
            self.change.iter().fold(request, |request, line| request.query("changes", line));
        let answer: Value = request.send()?.json()?;
        output::line(text(&answer["Id"]))?;
        Ok(0)
    }
}
