//! `caisson inspect`.

use caisson_api::client::Client;
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::failure::{Failure, Outcome, Result};
use crate::{format, json, output};

/// What can be inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

/// Return low-level information on Docker objects
///
/// Names are looked for among containers, images, networks and volumes, in this order.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  caisson inspect -f '{{.HostConfig.Isolation}}' web
  caisson inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' web")]
pub struct Inspect {
    /// Format output: json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,
    /// Only inspect objects of the given type
    #[arg(long, value_name = "TYPE", value_enum, hide_possible_values = true)]
    r#type: Option<Kind>,
    /// What is inspected
    #[arg(value_name = "NAME|ID", required = true)]
    names: Vec<String>,
}

impl Inspect {
    pub fn run(&self, client: &Client) -> Outcome {
        inspect(
            client,
            &Wanted {
                kind: self.r#type,
                names: &self.names,
                format: self.format.as_deref(),
                size: self.size,
            },
        )
    }
}

/// What is to be shown.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Any kind, if nothing.
    pub kind: Option<Kind>,
    pub names: &'a [String],
    pub format: Option<&'a str>,
    pub size: bool,
}

/// Shows what there is, and tells what there is not.
pub fn inspect(client: &Client, wanted: &Wanted<'_>) -> Outcome {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for name in wanted.names {
        match find(client, wanted, name) {
            Ok(text) => found.push(text),
            Err(error @ Failure::Api(caisson_api::client::Error::Connect { .. })) => {
                return Err(error);
            }
            Err(error) => missing.push(error.sentence()),
        }
    }
    match wanted.format {
        None | Some("" | "json") => {
            let array = format!("[{}]", found.join(","));
            let text = if wanted.format == Some("json") { array } else { json::indent(&array, 4) };
            output::line(text)?;
        }
        Some(template) => {
            for text in &found {
                let value: Value = serde_json::from_str(text)
                    .map_err(|error| Failure::words(format!("the daemon's answer: {error}")))?;
                output::line(format::render(template, &value)?)?;
            }
        }
    }
    missing.iter().for_each(output::note);
    Ok(u8::from(!missing.is_empty()))
}

/// The JSON, as the daemon has it.
fn find(client: &Client, wanted: &Wanted<'_>, name: &str) -> Result<String> {
    let ask = |kind: Kind| -> Result<String> {
        let request = match kind {
            Kind::Container => {
                client.get(&["containers", name, "json"]).query_if("size", wanted.size)
            }
            Kind::Image => client.get(&["images", name, "json"]),
            Kind::Network => client.get(&["networks", name]),
            Kind::Volume => client.get(&["volumes", name]),
        };
        Ok(request.send()?.text()?)
    };
    if let Some(kind) = wanted.kind {
        return ask(kind);
    }
    for kind in [Kind::Container, Kind::Image, Kind::Network, Kind::Volume] {
        match ask(kind) {
            Err(error) if error.status() == Some(404) => {}
            answer => return answer,
        }
    }
    Err(Failure::words(format!("Error: No such object: {name}")))
}

/// `inspect` of one kind, as under `caisson network`.
#[derive(Debug, Args)]
pub struct InspectOne {
    /// Format output: json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// What is inspected
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

impl InspectOne {
    pub fn run(&self, client: &Client, kind: Kind) -> Outcome {
        inspect(
            client,
            &Wanted {
                kind: Some(kind),
                names: &self.names,
                format: self.format.as_deref(),
                size: false,
            },
        )
    }
}

/// `caisson container inspect`.
#[derive(Debug, Args)]
pub struct InspectContainer {
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
    #[command(flatten)]
    one: InspectOne,
}

impl InspectContainer {
    pub fn run(&self, client: &Client) -> Outcome {
        inspect(
            client,
            &Wanted {
                kind: Some(Kind::Container),
                names: &self.one.names,
                format: self.one.format.as_deref(),
                size: self.size,
            },
        )
    }
}
