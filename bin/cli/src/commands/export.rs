//! `caisson export`.

use std::path::PathBuf;

use caisson_api::client::Client;
use clap::Args;

use crate::archive_file::write_archive;
use crate::failure::Outcome;

/// Export a container's filesystem as a tar archive
#[derive(Debug, Args)]
#[command(after_help = "Example: caisson export web | tar t")]
pub struct Export {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The container
    container: String,
}

impl Export {
    pub fn run(&self, client: &Client) -> Outcome {
        let request = client.get(&["containers", &self.container, "export"]);
        write_archive(self.output.as_deref(), || Ok(request.send()?))?;
        Ok(0)
    }
}
