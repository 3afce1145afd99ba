//! `caisson load`.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use caisson_api::client::Client;
use clap::Args;
use serde_json::Value;

use crate::failure::{Failure, Outcome, Result};
use crate::{output, terminal};

/// Load an image from a tar archive or STDIN
///
/// Archives of `docker save` and OCI layouts, plain or compressed.
#[derive(Debug, Args)]
#[command(after_help = "Example: docker save busybox | caisson load")]
pub struct Load {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
    /// Load only the given platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
}

impl Load {
    pub fn run(&self, client: &Client) -> Outcome {
        let mut input = self.open()?;
        let request = client.post(&["images", "load"]).query_if("quiet", self.quiet);
        let request = request.query_some("platform", self.platform.as_deref());
        let request = request.tar(|out| io::copy(&mut input, out).map(drop));
        for value in request.send()?.values() {
            tell(&value?, self.quiet)?;
        }
        Ok(0)
    }

    fn open(&self) -> Result<Box<dyn Read>> {
        match &self.input {
            Some(path) => {
                let opened = File::open(path);
                let file = opened.map_err(Failure::io(format!("open {}", path.display())))?;
                Ok(Box::new(file))
            }
            None if terminal::input_is_terminal() => {
                Err(Failure::words("requested load from stdin, but stdin is empty"))
            }
            None => Ok(Box::new(io::stdin())),
        }
    }
}

/// Results on standard output, progress nowhere.
fn tell(value: &Value, quiet: bool) -> Result<()> {
    if let Some(error) = value["error"].as_str() {
        return Err(Failure::words(error));
    }
    match value["stream"].as_str() {
        Some(text) if !quiet || text.starts_with("Loaded image") => output::bytes(text.as_bytes()),
        _ => Ok(()),
    }
}
