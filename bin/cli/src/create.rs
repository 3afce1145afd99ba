//! Making a container: the options, and the calls to the daemon.

use std::io::Write;
use std::path::Path;

use caisson_api::client::Client;
use caisson_api::wire::ContainerCreateBody;
use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::{output, pull};

pub mod body;
mod environment;
pub mod limits;
mod mount;
mod network;
pub mod options;
mod port;

pub use body::pairs;
pub use environment::{environment, pair};
use options::{Options, Pull};

/// Makes the container and returns its id.
pub fn create(client: &Client, options: &Options, body: &ContainerCreateBody) -> Result<String> {
    let mut id_file = options.cidfile.as_deref().map(IdFile::new).transpose()?;
    let image = body.image.as_deref().unwrap_or_default();
    if options.pull == Pull::Always {
        pull::pull(client, image, options.platform.as_deref())?;
    }
    let answer = match ask(client, options, body) {
        Err(error) if is_missing_image(&error) && options.pull == Pull::Missing => {
            let name = pull::with_tag(image);
            output::note(format!("Unable to find image '{name}' locally"));
            pull::pull(client, image, options.platform.as_deref())?;
            ask(client, options, body)?
        }
        answer => answer?,
    };
    output::warnings(&answer);
    let id = answer["Id"].as_str().unwrap_or_default().to_string();
    if let Some(file) = &mut id_file {
        file.write(&id)?;
    }
    Ok(id)
}

fn ask(client: &Client, options: &Options, body: &ContainerCreateBody) -> Result<Value> {
    let request = client.post(&["containers", "create"]);
    let request = request.query_some("name", options.name.as_deref());
    let request = request.query_some("platform", options.platform.as_deref());
    Ok(request.json(body).send()?.json()?)
}

fn is_missing_image(error: &Failure) -> bool {
    error.status() == Some(404) && error.sentence().contains("No such image")
}

/// The file of `--cidfile`: made before the container, and removed again if there is none.
struct IdFile {
    path: std::path::PathBuf,
    file: std::fs::File,
    written: bool,
}

impl IdFile {
    fn new(path: &Path) -> Result<Self> {
        let shown = path.display();
        let file = match std::fs::File::create_new(path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Failure::words(format!(
                    "container ID file found, make sure the other container isn't running or delete {shown}"
                )));
            }
            opened => {
                opened.map_err(Failure::io(format!("create the container ID file {shown}")))?
            }
        };
        Ok(Self { path: path.into(), file, written: false })
    }

    fn write(&mut self, id: &str) -> Result<()> {
        let what = format!("write the container ID file {}", self.path.display());
        self.file.write_all(id.as_bytes()).map_err(Failure::io(what))?;
        self.written = true;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.written {
            // It is empty: nothing is lost if it stays.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_file_is_never_overwritten_and_never_left_empty() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("id");
        drop(IdFile::new(&path).unwrap());
        assert!(!path.exists());
        IdFile::new(&path).unwrap().write("abc").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "abc");
        let error = IdFile::new(&path).err().unwrap().sentence();
        assert!(error.starts_with("container ID file found"), "{error}");
    }
}
