//! `caisson cp`.

use std::io::{self, IsTerminal, Read};

use base64::Engine;
use caisson_api::client::Client;
use caisson_api::words::decimal_size;
use clap::Args;
use serde_json::Value;

use crate::failure::{Failure, Outcome, Result};
use crate::json::{size, text};
use crate::output;

mod extract;
mod pack;
mod place;

use place::{Destination, Side, Source};

/// Go's bits of a file's mode.
const DIRECTORY: u64 = 1 << 31;
const SYMLINK: u64 = 1 << 27;
const SPECIAL: u64 = (1 << 26) | (1 << 25) | (1 << 24);

/// Copy files/folders between a container and the local filesystem
///
/// Works on running and on stopped containers of both runtime types. A directory that is copied to an existing
/// directory becomes a child of it; with `/.` at its end only its contents are copied. To a destination that
/// does not exist it is copied under the new name. The parent of the destination must exist.
#[derive(Debug, Args)]
#[command(
    override_usage = "caisson cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n       \
                      caisson cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    after_help = "\
Examples:
  caisson cp site/. web:/www
      The contents of site, into /www of the container.
  caisson cp web:/var/log ./log
      The directory, as ./log, or as ./log/log if ./log exists.
  caisson cp web:/etc - | tar t
      As a tar archive; the other way a tar archive from standard input is unpacked.
  caisson cp web:/etc/hosts .
      A colon in a local name is written with a path: ./a:b"
)]
pub struct Cp {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Suppress the summary
    #[arg(short, long)]
    quiet: bool,
    /// From where: CONTAINER:PATH, a local path, or - for a tar archive on standard input
    source: String,
    /// To where: CONTAINER:PATH, a local path, or - for a tar archive on standard output
    destination: String,
}

/// A reader that counts.
struct Counted<R> {
    from: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.count += read as u64;
        Ok(read)
    }
}

impl Cp {
    pub fn run(&self, client: &Client) -> Outcome {
        match (Side::of(&self.source), Side::of(&self.destination)) {
            (Side::Container(name, path), Side::Local(to)) => self.copy_out(client, name, path, to),
            (Side::Local(from), Side::Container(name, path)) => {
                self.copy_in(client, from, name, path)
            }
            (Side::Container(..), Side::Container(..)) => {
                Err(Failure::words("copying between containers is not supported"))
            }
            (Side::Local(_), Side::Local(_)) => {
                Err(Failure::words("must specify at least one container source"))
            }
        }
    }

    fn copy_out(&self, client: &Client, name: &str, path: &str, to: &str) -> Outcome {
        let path = match self.follow_link {
            true => followed(client, name, path),
            false => path.to_string(),
        };
        let request = client.get(&["containers", name, "archive"]).query("path", &path);
        let mut response = request.send()?;
        if to == "-" {
            output::copy(&mut response)?;
            return Ok(0);
        }
        let stat = decode(response.header("x-docker-container-path-stat"))?;
        // A followed link keeps its own name.
        let given = if self.follow_link { &self.source } else { &path };
        let source = Source::new(given, size(&stat["mode"]) & DIRECTORY != 0);
        let (directory, root) = place::place(&source, &Destination::local(to)?)?;
        let mut counted = Counted { from: response, count: 0 };
        extract::extract(&mut counted, &directory, root.as_deref(), self.archive)?;
        self.tell(counted.count, to);
        Ok(0)
    }

    fn copy_in(&self, client: &Client, from: &str, name: &str, path: &str) -> Outcome {
        let shown = format!("{name}:{path}");
        let (path, stat) = destination(client, name, path);
        let mode = stat.as_ref().map_or(0, |stat| size(&stat["mode"]));
        if mode & SPECIAL != 0 {
            let text = format!("destination {shown:?} must be a directory or a regular file");
            return Err(Failure::words(text));
        }
        let to = Destination { path, exists: stat.is_some(), is_directory: mode & DIRECTORY != 0 };
        let mut sent = 0;
        if from == "-" {
            if !to.is_directory {
                let text = format!("destination {shown:?} must be a directory");
                return Err(Failure::words(text));
            }
            let request = self.put(client, name, &to.path);
            request.tar(|out| io::copy(&mut io::stdin(), out).map(|count| sent = count)).send()?;
            return Ok(0);
        }
        let (local, source) = pack::source(from, self.follow_link)?;
        let (directory, root) = place::place(&source, &to)?;
        let request = self.put(client, name, &directory);
        let packed = request.tar(|out| {
            sent = pack::pack(&local, root.as_deref(), out)?;
            Ok(())
        });
        packed.send()?;
        self.tell(sent, &shown);
        Ok(0)
    }

    fn put<'a>(
        &self,
        client: &'a Client,
        name: &str,
        directory: &str,
    ) -> caisson_api::client::Request<'a> {
        let request = client.put(&["containers", name, "archive"]).query("path", directory);
        let request = request.query("noOverwriteDirNonDir", "true");
        if self.archive { request.query("copyUIDGID", "true") } else { request }
    }

    fn tell(&self, bytes: u64, to: &str) {
        if !self.quiet && io::stderr().is_terminal() {
            output::note(format!("Successfully copied {} to {to}", decimal_size(bytes)));
        }
    }
}

/// What the daemon says of a path in a container.
fn stat(client: &Client, name: &str, path: &str) -> Result<Value> {
    let response = client.head(&["containers", name, "archive"]).query("path", path).send()?;
    decode(response.header("x-docker-container-path-stat"))
}

fn decode(header: Option<&str>) -> Result<Value> {
    let bytes = header.and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok());
    let stat = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    stat.ok_or_else(|| Failure::words("the daemon's answer does not tell what is copied"))
}

/// Where a link in a container points to.
fn target(path: &str, stat: &Value) -> Option<String> {
    let link = text(&stat["linkTarget"]);
    if size(&stat["mode"]) & SYMLINK == 0 || link.is_empty() {
        return None;
    }
    Some(match link.starts_with('/') {
        true => link.to_string(),
        false => format!("{}/{link}", place::split(path).0),
    })
}

/// The source with `-L`: the link's target. What cannot be looked at is told by the copy itself.
fn followed(client: &Client, name: &str, path: &str) -> String {
    let stat = stat(client, name, path).ok();
    stat.and_then(|stat| target(path, &stat)).unwrap_or_else(|| path.to_string())
}

/// A destination in a container, with a link followed, and what it is, if it is there.
fn destination(client: &Client, name: &str, path: &str) -> (String, Option<Value>) {
    let path = if path.is_empty() { "/" } else { path };
    let Ok(found) = stat(client, name, path) else { return (path.to_string(), None) };
    match target(path, &found) {
        Some(target) => {
            let found = stat(client, name, &target).ok();
            (target, found)
        }
        None => (path.to_string(), Some(found)),
    }
}
