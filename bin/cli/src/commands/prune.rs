//! `prune`, of containers, images, networks, volumes and all of them.

use std::io::{BufRead, Write};

use caisson_api::client::Client;
use caisson_api::words::precise_size;
use clap::Args;
use serde_json::Value;

use super::rmi::deleted;
use crate::failure::{Failure, Outcome, Result};
use crate::filter::filters_with;
use crate::json::{size, texts};
use crate::output;

/// What is asked of every prune.
#[derive(Debug, Args)]
pub struct Prune {
    /// Provide filter values (e.g. "until=24h")
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

/// `image prune` and `volume prune`.
#[derive(Debug, Args)]
pub struct PruneAll {
    /// Remove all unused ones, not just dangling or anonymous ones
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    prune: Prune,
}

/// `system prune`.
#[derive(Debug, Args)]
pub struct PruneSystem {
    /// Remove all unused images not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Prune anonymous volumes
    #[arg(long)]
    volumes: bool,
    #[command(flatten)]
    prune: Prune,
}

/// A kind of thing, its path in the API, and how its removal is told.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Containers,
    Images,
    Networks,
    Volumes,
}

impl Kind {
    fn remove(self, client: &Client, filters: Option<&str>) -> Result<u64> {
        let (path, key, heading) = match self {
            Self::Containers => ("containers", "ContainersDeleted", "Deleted Containers:"),
            Self::Images => ("images", "ImagesDeleted", "Deleted Images:"),
            Self::Networks => ("networks", "NetworksDeleted", "Deleted Networks:"),
            Self::Volumes => ("volumes", "VolumesDeleted", "Deleted Volumes:"),
        };
        let request = client.post(&[path, "prune"]).query_some("filters", filters);
        let answer: Value = request.send()?.json()?;
        let removed = &answer[key];
        if removed.as_array().is_some_and(|list| !list.is_empty()) {
            output::line(heading)?;
            match self {
                // Their items say untagged or deleted.
                Self::Images => deleted(removed)?,
                _ => texts(removed).into_iter().try_for_each(output::line)?,
            }
            output::line("")?;
        }
        Ok(size(&answer["SpaceReclaimed"]))
    }
}

impl Prune {
    pub fn containers(&self, client: &Client) -> Outcome {
        self.one(client, Kind::Containers, "all stopped containers", &[])
    }

    pub fn networks(&self, client: &Client) -> Outcome {
        if !self.agreed("all custom networks not used by at least one container")? {
            return Ok(0);
        }
        Kind::Networks.remove(client, filters_with(&self.filter, &[])?.as_deref())?;
        Ok(0)
    }

    fn one(&self, client: &Client, kind: Kind, what: &str, more: &[(&str, &str)]) -> Outcome {
        if !self.agreed(what)? {
            return Ok(0);
        }
        let filters = filters_with(&self.filter, more)?;
        let reclaimed = kind.remove(client, filters.as_deref())?;
        output::line(format!("Total reclaimed space: {}", precise_size(reclaimed)))?;
        Ok(0)
    }

    fn agreed(&self, what: &str) -> Result<bool> {
        self.force_or_ask(&format!("WARNING! This will remove {what}."))
    }

    fn force_or_ask(&self, warning: &str) -> Result<bool> {
        if self.force {
            return Ok(true);
        }
        output::bytes(format!("{warning}\nAre you sure you want to continue? [y/N] ").as_bytes())?;
        let mut answer = String::new();
        let mut input = std::io::stdin().lock();
        input.read_line(&mut answer).map_err(Failure::io("read the answer"))?;
        let agreed = is_yes(&answer);
        if answer.is_empty() {
            std::io::stdout().write_all(b"\n").map_err(Failure::io("write to standard output"))?;
        }
        Ok(agreed)
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

impl PruneAll {
    pub fn images(&self, client: &Client) -> Outcome {
        let (what, dangling) = match self.all {
            true => ("all images without at least one container associated to them", "false"),
            false => ("all dangling images", "true"),
        };
        self.prune.one(client, Kind::Images, what, &[("dangling", dangling)])
    }

    pub fn volumes(&self, client: &Client) -> Outcome {
        match self.all {
            true => {
                let what = "all volumes not used by at least one container";
                self.prune.one(client, Kind::Volumes, what, &[("all", "true")])
            }
            false => {
                let what = "anonymous local volumes not used by at least one container";
                self.prune.one(client, Kind::Volumes, what, &[])
            }
        }
    }
}

impl PruneSystem {
    pub fn run(&self, client: &Client) -> Outcome {
        let images = match self.all {
            true => "all images without at least one container associated to them",
            false => "all dangling images",
        };
        let mut warning = vec![
            "WARNING! This will remove:",
            "  - all stopped containers",
            "  - all networks not used by at least one container",
        ];
        warning.extend(
            self.volumes.then_some("  - all anonymous volumes not used by at least one container"),
        );
        let images = format!("  - {images}\n");
        warning.push(&images);
        if !self.prune.force_or_ask(&warning.join("\n"))? {
            return Ok(0);
        }
        let given = &self.prune.filter;
        let plain = filters_with(given, &[])?;
        let dangling = if self.all { "false" } else { "true" };
        let for_images = filters_with(given, &[("dangling", dangling)])?;
        let mut reclaimed = Kind::Containers.remove(client, plain.as_deref())?;
        reclaimed += Kind::Networks.remove(client, plain.as_deref())?;
        if self.volumes {
            reclaimed += Kind::Volumes.remove(client, plain.as_deref())?;
        }
        reclaimed += Kind::Images.remove(client, for_images.as_deref())?;
        output::line(format!("Total reclaimed space: {}", precise_size(reclaimed)))?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_one() {
        assert!(is_yes("y\n") && is_yes("YES\n"));
        assert!(!is_yes("") && !is_yes("n\n") && !is_yes("yep\n"));
    }
}
