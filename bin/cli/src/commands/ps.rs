//! `caisson ps`.

use caisson_api::client::Client;
use caisson_api::words::decimal_size;
use clap::Args;
use serde_json::{Value, json};

use crate::failure::Outcome;
use crate::filter::filters;
use crate::format::Listing;
use crate::json::{list, number, pairs, size, text, texts};
use crate::ports::displayed;
use crate::table::{ellipsis, short_id};
use crate::time::{ago, local};

const LISTING: Listing = Listing {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    quiet: "{{.ID}}",
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Names", "NAMES"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
    ],
};
const WITH_SIZE: Listing = Listing {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}",
    ..LISTING
};

/// List containers
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  caisson ps -a --filter status=exited
  caisson ps --format 'table {{.Names}}\\t{{.Status}}'

`caisson get` shows the runtime type of containers.")]
pub struct Ps {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format output: table, json, a Go template, or table and a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<i64>,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
}

impl Ps {
    pub fn run(&self, client: &Client) -> Outcome {
        let listing = if self.size { WITH_SIZE } else { LISTING };
        let format = self.format.as_deref();
        let limit = if self.latest { Some(1) } else { self.last.filter(|last| *last > 0) };
        let sized = self.size || (format.is_some() && !self.quiet && listing.shows(format, "Size"));
        let request = client.get(&["containers", "json"]);
        let request = request
            .query_if("all", self.all || limit.is_some())
            .query_some("limit", limit.map(|limit| limit.to_string()).as_deref())
            .query_if("size", sized)
            .query_some("filters", filters(&self.filter)?.as_deref());
        let containers: Vec<Value> = request.send()?.json()?;
        let rows: Vec<Value> = containers.iter().map(|one| row(one, !self.no_trunc)).collect();
        listing.print(format, self.quiet, &rows)?;
        Ok(0)
    }
}

/// What a list shows of a container.
pub fn row(container: &Value, cut: bool) -> Value {
    let id = text(&container["Id"]);
    let command = text(&container["Command"]);
    let command = if cut { ellipsis(command, 20) } else { command.to_string() };
    let mounts = list(&container["Mounts"]).iter().map(mount);
    let mounts = mounts.map(|name| if cut { ellipsis(name, 15) } else { name.to_string() });
    let volumes = list(&container["Mounts"]).iter();
    let volumes = volumes.filter(|mount| text(&mount["Driver"]) == "local").count();
    let networks = container["NetworkSettings"]["Networks"].as_object().into_iter().flatten();
    let networks: Vec<&str> = networks.map(|(name, _)| name.as_str()).collect();
    json!({
        "ID": if cut { short_id(id) } else { id },
        "Image": image(container, cut),
        "Command": quote(&command),
        "CreatedAt": local(number(&container["Created"])),
        "RunningFor": ago(number(&container["Created"])),
        "Ports": displayed(list(&container["Ports"])),
        "State": container["State"],
        "Status": container["Status"],
        "Size": sizes(container),
        "Names": names(container, cut),
        "Labels": pairs(&container["Labels"]),
        "Mounts": mounts.collect::<Vec<_>>().join(","),
        "LocalVolumes": volumes.to_string(),
        "Networks": networks.join(","),
    })
}

fn quote(command: &str) -> String {
    format!("\"{}\"", command.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn mount(mount: &Value) -> &str {
    let name = text(&mount["Name"]);
    if name.is_empty() { text(&mount["Source"]) } else { name }
}

fn image(container: &Value, cut: bool) -> &str {
    match text(&container["Image"]) {
        "" => "<no image>",
        id if cut && id.starts_with("sha256:") => short_id(id),
        name => name,
    }
}

/// Without the slash, and without the names that other containers' links give.
pub fn names(container: &Value, cut: bool) -> String {
    let names = texts(&container["Names"]).into_iter();
    let names = names.map(|name| name.strip_prefix('/').unwrap_or(name));
    names.filter(|name| !cut || !name.contains('/')).collect::<Vec<_>>().join(",")
}

fn sizes(container: &Value) -> String {
    let own = decimal_size(size(&container["SizeRw"]));
    match size(&container["SizeRootFs"]) {
        0 => own,
        whole => format!("{own} (virtual {})", decimal_size(whole)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_in_a_list() {
        let container = json!({
            "Id": "0123456789abcdef", "Names": ["/web", "/other/alias"], "Image": "busybox",
            "Command": "sh -c 'echo \"a long command\"'", "Created": 0, "State": "running",
            "Status": "Up 2 hours", "SizeRw": 12, "SizeRootFs": 4_500_000,
            "Labels": { "a": "b", "c": "d" },
            "Mounts": [{ "Name": "v", "Driver": "local" }, { "Source": "/a/very/long/path/indeed" }],
            "NetworkSettings": { "Networks": { "bridge": {} } },
            "Ports": [{ "IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp" }],
        });
        let row = row(&container, true);
        assert_eq!(row["ID"], "0123456789ab");
        assert_eq!(row["Names"], "web");
        assert_eq!(row["Command"], "\"sh -c 'echo \\\"a long…\"");
        assert_eq!(row["Size"], "12B (virtual 4.5MB)");
        assert_eq!(row["Mounts"], "v,/a/very/long/p…");
        assert_eq!((&row["LocalVolumes"], &row["Networks"]), (&json!("1"), &json!("bridge")));
        assert_eq!(row["Ports"], "0.0.0.0:8080->80/tcp");
        assert_eq!(row["Labels"], "a=b,c=d");
        assert_eq!(super::row(&container, false)["Names"], "web,other/alias");
    }
}
