//! `caisson volume`.

use caisson_api::client::Client;
use caisson_api::words::precise_size;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::inspect::{InspectOne, Kind};
use super::prune::PruneAll;
use crate::create::{pair, pairs};
use crate::each::each_printing;
use crate::failure::{Failure, Outcome};
use crate::filter::filters;
use crate::format::Listing;
use crate::json::{self, list, text};
use crate::output;

/// Manage volumes
#[derive(Debug, Args)]
pub struct Volume {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(Create),
    /// Display detailed information on one or more volumes
    Inspect(InspectOne),
    Ls(Ls),
    /// Remove unused local volumes
    Prune(PruneAll),
    Rm(Rm),
}

impl Volume {
    pub fn run(&self, client: &Client) -> Outcome {
        match &self.command {
            Command::Create(create) => create.run(client),
            Command::Inspect(inspect) => inspect.run(client, Kind::Volume),
            Command::Ls(ls) => ls.run(client),
            Command::Prune(prune) => prune.volumes(client),
            Command::Rm(rm) => rm.run(client),
        }
    }
}

/// Create a volume
#[derive(Debug, Args)]
struct Create {
    /// Specify volume driver name
    #[arg(short, long, value_name = "DRIVER", default_value = "local")]
    driver: String,
    /// Set metadata for a volume
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Set driver specific options
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Its name; one is made up without it
    #[arg(value_name = "VOLUME")]
    name: Option<String>,
    /// Its name
    #[arg(long = "name", value_name = "VOLUME", hide = true)]
    named: Option<String>,
}

impl Create {
    fn run(&self, client: &Client) -> Outcome {
        if self.name.is_some() && self.named.is_some() {
            let text = "conflicting options: cannot specify a volume-name through both --name and as a positional arg";
            return Err(Failure::words(text));
        }
        let labels: serde_json::Map<_, _> = self
            .label
            .iter()
            .map(|text| pair(text))
            .map(|(key, value)| (key, value.into()))
            .collect();
        let request = client.post(&["volumes", "create"]).json(&json!({
            "Name": self.name.as_ref().or(self.named.as_ref()).map_or("", String::as_str),
            "Driver": self.driver,
            "DriverOpts": pairs("opt", &self.opt)?,
            "Labels": labels,
        }));
        let made: Value = request.send()?.json()?;
        output::line(text(&made["Name"]))?;
        Ok(0)
    }
}

const LISTING: Listing = Listing {
    table: "{{.Driver}}\t{{.Name}}",
    quiet: "{{.Name}}",
    headings: &[
        ("Driver", "DRIVER"),
        ("Name", "VOLUME NAME"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("CreatedAt", "CREATED AT"),
    ],
};

/// List volumes
#[derive(Debug, Args)]
#[command(visible_alias = "list")]
struct Ls {
    /// Provide filter values (e.g. "dangling=true")
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format output: table, json, a Go template, or table and a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
}

impl Ls {
    fn run(&self, client: &Client) -> Outcome {
        let request = client.get(&["volumes"]);
        let request = request.query_some("filters", filters(&self.filter)?.as_deref());
        let answer: Value = request.send()?.json()?;
        let mut rows: Vec<Value> = list(&answer["Volumes"]).iter().map(row).collect();
        rows.sort_by(|one, other| text(&one["Name"]).cmp(text(&other["Name"])));
        LISTING.print(self.format.as_deref(), self.quiet, &rows)?;
        Ok(0)
    }
}

/// What a list shows of a volume.
pub fn row(volume: &Value) -> Value {
    let usage = &volume["UsageData"];
    let size = usage["Size"].as_u64().map_or_else(|| "N/A".into(), precise_size);
    let links = usage["RefCount"].as_u64().map_or_else(|| "N/A".into(), |count| count.to_string());
    json!({
        "Driver": volume["Driver"],
        "Name": volume["Name"],
        "Scope": volume["Scope"],
        "Mountpoint": volume["Mountpoint"],
        "Labels": json::pairs(&volume["Labels"]),
        "Links": links,
        "Size": size,
        "CreatedAt": volume["CreatedAt"],
    })
}

/// Remove one or more volumes
#[derive(Debug, Args)]
#[command(visible_alias = "remove")]
struct Rm {
    /// Force the removal of one or more volumes
    #[arg(short, long)]
    force: bool,
    /// The volumes
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
}

impl Rm {
    fn run(&self, client: &Client) -> Outcome {
        each_printing(&self.volumes, |name| {
            client.delete(&["volumes", name]).query_if("force", self.force).send()?;
            Ok(Some(name.to_string()))
        })
    }
}
