//! `caisson import`.

use std::fs::File;
use std::io::{self, Read};

use caisson_api::client::Client;
use clap::Args;

use crate::failure::{Failure, Outcome, Result};
use crate::output;
use crate::pull::split;

/// Import the contents from a tarball to create a filesystem image
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  caisson import -c 'CMD [\"sh\"]' rootfs.tar mine:latest
  caisson export web | caisson import - web:frozen")]
pub struct Import {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Set platform of the image
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// A tar archive, or - for STDIN
    #[arg(value_name = "FILE|-")]
    source: String,
    /// What the image is called
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

impl Import {
    pub fn run(&self, client: &Client) -> Outcome {
        let mut input: Box<dyn Read> = match self.source.as_str() {
            "-" => Box::new(io::stdin()),
            path => Box::new(File::open(path).map_err(Failure::io(format!("open {path}")))?),
        };
        let request = client.post(&["images", "create"]).query("fromSrc", "-");
        let request = match &self.name {
            Some(name) => {
                let (repository, tag) = split(name);
                request.query("repo", repository).query("tag", tag)
            }
            None => request,
        };
        let request = request
            .query_some("message", self.message.as_deref())
            .query_some("platform", self.platform.as_deref());
        let request =
            self.change.iter().fold(request, |request, line| request.query("changes", line));
        let request = request.tar(|out| io::copy(&mut input, out).map(drop));
        tell(request.send()?.values())?;
        Ok(0)
    }
}

/// The last thing that the daemon says is the image's id.
fn tell(
    values: impl Iterator<Item = Result<serde_json::Value, caisson_api::client::Error>>,
) -> Result<()> {
    for value in values {
        let value = value?;
        if let Some(error) = value["error"].as_str() {
            return Err(Failure::words(error));
        }
        if let Some(status) = value["status"].as_str().filter(|text| text.contains("sha256:")) {
            output::line(status)?;
        }
    }
    Ok(())
}
