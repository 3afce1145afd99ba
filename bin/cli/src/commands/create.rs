//! `caisson create`.

use caisson_api::client::Client;
use clap::Args;

use crate::create::{body, create, options::Options};
use crate::failure::Outcome;
use crate::output;

/// Create a new container
///
/// The container is made and not started; its ID is printed. All options of `caisson run` that say what the
/// container is are here too.
#[derive(Debug, Args)]
#[command(
    override_usage = "caisson create [OPTIONS] IMAGE [COMMAND] [ARG...]",
    after_help = "Example: caisson create --name web --isolation hyperv -p 8080:80 busybox httpd -f"
)]
pub struct Create {
    #[command(flatten)]
    pub options: Options,
    /// The image, and what is run instead of its own command
    #[arg(value_name = "IMAGE [COMMAND] [ARG...]", required = true, trailing_var_arg = true, help_heading = None)]
    pub words: Vec<String>,
}

impl Create {
    pub fn run(&self, client: &Client) -> Outcome {
        let body = body::body(&self.options, &self.words)?;
        output::line(create(client, &self.options, &body)?)?;
        Ok(0)
    }
}
