//! `caisson save`.

use std::path::PathBuf;

use caisson_api::client::Client;
use clap::Args;

use crate::archive_file::write_archive;
use crate::failure::Outcome;

/// Save one or more images to a tar archive (streamed to STDOUT by default)
#[derive(Debug, Args)]
#[command(after_help = "Example: caisson save -o busybox.tar busybox")]
pub struct Save {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Save only the given platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// The images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

impl Save {
    pub fn run(&self, client: &Client) -> Outcome {
        let request = client.get(&["images", "get"]);
        let request =
            self.images.iter().fold(request, |request, name| request.query("names", name));
        let request = request.query_some("platform", self.platform.as_deref());
        write_archive(self.output.as_deref(), || Ok(request.send()?))?;
        Ok(0)
    }
}
