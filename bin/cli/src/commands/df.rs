//! `caisson system df`.

use caisson_api::client::Client;
use caisson_api::words::precise_size;
use clap::Args;
use serde_json::{Value, json};

use super::{images, ps, volume};
use crate::failure::{Failure, Outcome, Result};
use crate::format::Listing;
use crate::json::{list, size, text};
use crate::output;

const LISTING: Listing = Listing {
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    quiet: "{{.Type}}",
    headings: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
};

/// Show disk usage
#[derive(Debug, Args)]
pub struct Df {
    /// Format output: table, json, a Go template, or table and a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
}

impl Df {
    pub fn run(&self, client: &Client) -> Outcome {
        let usage: Value = client.get(&["system", "df"]).send()?.json()?;
        match (self.verbose, self.format.is_some()) {
            (false, _) => LISTING.print(self.format.as_deref(), false, &summary(&usage))?,
            (true, false) => verbose(&usage)?,
            (true, true) => {
                return Err(Failure::words("the verbose and the format options conflict"));
            }
        }
        Ok(0)
    }
}

/// Images, containers, volumes.
fn summary(usage: &Value) -> Vec<Value> {
    vec![
        images_row(usage),
        containers_row(list(&usage["Containers"])),
        volumes_row(list(&usage["Volumes"])),
        row("Build Cache", 0, 0, 0, 0),
    ]
}

fn images_row(usage: &Value) -> Value {
    let all = list(&usage["Images"]);
    let used: Vec<&Value> = all.iter().filter(|image| size(&image["Containers"]) > 0).collect();
    let own = |image: &&Value| size(&image["Size"]).saturating_sub(size(&image["SharedSize"]));
    let total = size(&usage["LayersSize"]);
    let kept: u64 = used.iter().map(own).sum();
    row("Images", all.len(), used.len(), total, total.saturating_sub(kept))
}

fn containers_row(all: &[Value]) -> Value {
    let active = |container: &&Value| {
        matches!(text(&container["State"]), "running" | "paused" | "restarting")
    };
    let bytes = |container: &Value| size(&container["SizeRw"]);
    let total: u64 = all.iter().map(bytes).sum();
    let used: u64 = all.iter().filter(active).map(bytes).sum();
    row("Containers", all.len(), all.iter().filter(active).count(), total, total - used)
}

fn volumes_row(all: &[Value]) -> Value {
    let used = |volume: &&Value| size(&volume["UsageData"]["RefCount"]) > 0;
    let bytes = |volume: &Value| size(&volume["UsageData"]["Size"]);
    let total: u64 = all.iter().map(bytes).sum();
    let kept: u64 = all.iter().filter(used).map(bytes).sum();
    row("Local Volumes", all.len(), all.iter().filter(used).count(), total, total - kept)
}

fn row(kind: &str, count: usize, active: usize, total: u64, reclaimable: u64) -> Value {
    let mut free = precise_size(reclaimable);
    if total > 0 {
        free = format!("{free} ({}%)", u128::from(reclaimable) * 100 / u128::from(total));
    }
    json!({
        "Type": kind,
        "TotalCount": count.to_string(),
        "Active": active.to_string(),
        "Size": precise_size(total),
        "Reclaimable": free,
    })
}

const IMAGES: Listing = Listing {
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
    quiet: "",
    headings: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ],
};
const CONTAINERS: Listing = Listing {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
    quiet: "",
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
    ],
};
const VOLUMES: Listing = Listing {
    table: "{{.Name}}\t{{.Links}}\t{{.Size}}",
    quiet: "",
    headings: &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")],
};

fn verbose(usage: &Value) -> Result<()> {
    let image_rows = |image: &Value| {
        let (whole, shared) = (size(&image["Size"]), size(&image["SharedSize"]));
        images::rows(image, true)
            .into_iter()
            .map(move |mut row| {
                row["SharedSize"] = precise_size(shared).into();
                row["UniqueSize"] = precise_size(whole.saturating_sub(shared)).into();
                row
            })
            .collect::<Vec<_>>()
    };
    let rows: Vec<Value> = list(&usage["Images"]).iter().flat_map(image_rows).collect();
    output::line("Images space usage:\n")?;
    IMAGES.print(None, false, &rows)?;
    let rows: Vec<Value> =
        list(&usage["Containers"]).iter().map(|one| ps::row(one, true)).collect();
    output::line("\nContainers space usage:\n")?;
    CONTAINERS.print(None, false, &rows)?;
    let rows: Vec<Value> = list(&usage["Volumes"]).iter().map(volume::row).collect();
    output::line("\nLocal Volumes space usage:\n")?;
    VOLUMES.print(None, false, &rows)?;
    output::line("\nBuild cache usage: 0B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_used_can_be_had_back() {
        let usage = json!({
            "LayersSize": 1000,
            "Images": [
                { "Containers": 1, "Size": 600, "SharedSize": 100 },
                { "Containers": 0, "Size": 500, "SharedSize": 100 },
            ],
            "Containers": [
                { "State": "running", "SizeRw": 10 }, { "State": "exited", "SizeRw": 30 },
            ],
            "Volumes": [{ "UsageData": { "Size": 7, "RefCount": 0 } }],
        });
        let rows = summary(&usage);
        let reclaimable: Vec<_> = rows.iter().map(|row| text(&row["Reclaimable"])).collect();
        assert_eq!(reclaimable, ["500B (50%)", "30B (75%)", "7B (100%)", "0B"]);
        let active: Vec<_> = rows.iter().map(|row| text(&row["Active"])).collect();
        assert_eq!(active, ["1", "1", "0", "0"]);
    }
}
