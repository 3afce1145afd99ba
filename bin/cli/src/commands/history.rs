//! `caisson history`.

use caisson_api::client::Client;
use caisson_api::words::decimal_size;
use clap::Args;
use serde_json::{Value, json};

use crate::failure::Outcome;
use crate::format::Listing;
use crate::json::{number, size, text};
use crate::table::{ellipsis, short_id};
use crate::time::{ago, local};

const LISTING: Listing = Listing {
    table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    quiet: "{{.ID}}",
    headings: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
};

/// Show the history of an image
#[derive(Debug, Args)]
pub struct History {
    /// Format output: table, json, a Go template, or table and a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print sizes and dates in human readable format
    #[arg(
        short = 'H',
        long,
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// The image
    image: String,
}

impl History {
    pub fn run(&self, client: &Client) -> Outcome {
        let request = client.get(&["images", &self.image, "history"]);
        let layers: Vec<Value> = request.send()?.json()?;
        let rows: Vec<Value> = layers.iter().map(|layer| self.row(layer)).collect();
        LISTING.print(self.format.as_deref(), self.quiet, &rows)?;
        Ok(0)
    }

    fn row(&self, layer: &Value) -> Value {
        let cut = !self.no_trunc;
        let id = text(&layer["Id"]);
        let by = text(&layer["CreatedBy"]).replace('\t', " ");
        let (created, bytes) = (number(&layer["Created"]), size(&layer["Size"]));
        json!({
            "ID": if cut { short_id(id) } else { id },
            "CreatedSince": if self.human { ago(created) } else { local(created) },
            "CreatedAt": local(created),
            "CreatedBy": if cut { ellipsis(&by, 45) } else { by },
            "Size": if self.human { decimal_size(bytes) } else { bytes.to_string() },
            "Comment": layer["Comment"],
        })
    }
}
