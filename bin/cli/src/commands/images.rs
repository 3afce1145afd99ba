//! `caisson images`.

use caisson_api::client::Client;
use caisson_api::words::decimal_size;
use clap::Args;
use serde_json::{Value, json};

use crate::failure::Outcome;
use crate::filter::filters_with;
use crate::format::Listing;
use crate::json::{number, size, text, texts};
use crate::table::short_id;
use crate::time::{ago, local};

const LISTING: Listing = Listing {
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    quiet: "{{.ID}}",
    headings: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("VirtualSize", "SIZE"),
    ],
};
const WITH_DIGESTS: Listing = Listing {
    table: "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    ..LISTING
};

/// List images
#[derive(Debug, Args)]
pub struct Images {
    /// Show all images (default hides intermediate images)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format output: table, json, a Go template, or table and a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// Only images of this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

impl Images {
    pub fn run(&self, client: &Client) -> Outcome {
        let more = self.name.as_deref().map(|name| ("reference", name));
        let filters = filters_with(&self.filter, more.as_slice())?;
        let request = client.get(&["images", "json"]).query_if("all", self.all);
        let request = request.query_some("filters", filters.as_deref());
        let images: Vec<Value> = request.send()?.json()?;
        let rows: Vec<Value> =
            images.iter().flat_map(|image| rows(image, !self.no_trunc)).collect();
        let listing = if self.digests { WITH_DIGESTS } else { LISTING };
        listing.print(self.format.as_deref(), self.quiet, &rows)?;
        Ok(0)
    }
}

/// One row for each name of an image.
pub fn rows(image: &Value, cut: bool) -> Vec<Value> {
    let id = text(&image["Id"]);
    let digests = texts(&image["RepoDigests"]);
    let digest_of = |repository: &str| {
        let mut pairs = digests.iter().filter_map(|text| text.split_once('@'));
        let found = pairs.find(|(name, digest)| *name == repository && !digest.contains('<'));
        found.map_or("<none>", |(_, digest)| digest)
    };
    let row = |repository: &str, tag: &str, digest: &str| {
        let counted = |key: &str| match image[key].as_i64() {
            Some(count) if count >= 0 => count.to_string(),
            _ => "N/A".into(),
        };
        let created = number(&image["Created"]);
        json!({
            "Repository": repository,
            "Tag": tag,
            "Digest": digest,
            "ID": if cut { short_id(id) } else { id },
            "CreatedSince": if created > 0 { ago(created) } else { "N/A".into() },
            "CreatedAt": local(created),
            "Size": decimal_size(size(&image["Size"])),
            "Containers": counted("Containers"),
            "SharedSize": "N/A",
            "UniqueSize": "N/A",
            "VirtualSize": decimal_size(size(&image["Size"])),
        })
    };
    let tags = texts(&image["RepoTags"]);
    let named = tags.iter().filter(|name| **name != "<none>:<none>");
    let mut rows: Vec<Value> = named
        .filter_map(|name| name.rsplit_once(':'))
        .map(|(repository, tag)| row(repository, tag, digest_of(repository)))
        .collect();
    if rows.is_empty() {
        let digest = digests.iter().find_map(|text| text.split_once('@'));
        let (repository, digest) =
            digest.filter(|(name, _)| *name != "<none>").unwrap_or(("<none>", "<none>"));
        rows.push(row(repository, "<none>", digest));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_for_each_name() {
        let image = json!({
            "Id": "sha256:0123456789abcdef", "Created": 1, "Size": 4_500_000, "Containers": -1,
            "RepoTags": ["host:5000/a:1", "b:latest"], "RepoDigests": ["b@sha256:ff"],
        });
        let all = rows(&image, true);
        let names: Vec<_> = all.iter().map(|row| (&row["Repository"], &row["Tag"])).collect();
        assert_eq!(names, [(&json!("host:5000/a"), &json!("1")), (&json!("b"), &json!("latest"))]);
        assert_eq!((&all[0]["Digest"], &all[1]["Digest"]), (&json!("<none>"), &json!("sha256:ff")));
        assert_eq!((&all[0]["ID"], &all[0]["Size"]), (&json!("0123456789ab"), &json!("4.5MB")));
        assert_eq!(all[0]["Containers"], "N/A");
        let nameless = rows(&json!({ "Id": "sha256:01", "RepoTags": null }), false);
        assert_eq!(
            (&nameless[0]["Repository"], &nameless[0]["ID"]),
            (&json!("<none>"), &json!("sha256:01"))
        );
    }
}
