//! Fetching an image that is not here.

use caisson_api::client::Client;
use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::output;

/// Asks the daemon to fetch an image; progress goes to standard error.
pub fn pull(client: &Client, image: &str, platform: Option<&str>) -> Result<()> {
    let (name, tag) = split(image);
    let request = client.post(&["images", "create"]).query("fromImage", name).query("tag", tag);
    progress(request.query_some("platform", platform).send()?.values())
}

/// Tells what the daemon reports while it works, without the moving parts; its error is the result.
pub fn progress(
    values: impl Iterator<Item = Result<Value, caisson_api::client::Error>>,
) -> Result<()> {
    for value in values {
        let value = value?;
        if let Some(error) = value["error"].as_str() {
            return Err(Failure::words(error));
        }
        if value["progressDetail"].as_object().is_some_and(|detail| !detail.is_empty()) {
            continue;
        }
        match (value["id"].as_str(), value["status"].as_str(), value["stream"].as_str()) {
            (Some(id), Some(status), _) => output::note(format!("{id}: {status}")),
            (None, Some(status), _) => output::note(status),
            (_, None, Some(text)) => output::note(text.trim_end()),
            _ => {}
        }
    }
    Ok(())
}

/// Name and tag or digest; the tag may be left out.
pub fn split(image: &str) -> (&str, &str) {
    if let Some((name, digest)) = image.split_once('@') {
        return (name, digest);
    }
    match image.rsplit_once(':') {
        // A colon before a slash is a registry's port.
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

/// As a user would write it in full.
pub fn with_tag(image: &str) -> String {
    let (name, tag) = split(image);
    let separator = if image.contains('@') { '@' } else { ':' };
    format!("{name}{separator}{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named() {
        assert_eq!(split("busybox"), ("busybox", "latest"));
        assert_eq!(split("host:5000/a/b"), ("host:5000/a/b", "latest"));
        assert_eq!(split("host:5000/a/b:1.2"), ("host:5000/a/b", "1.2"));
        assert_eq!(with_tag("a@sha256:00"), "a@sha256:00");
        assert_eq!(with_tag("a"), "a:latest");
    }

    #[test]
    fn an_error_in_the_stream_is_the_result() {
        let values = [serde_json::json!({ "status": "x" }), serde_json::json!({ "error": "no" })];
        let told = progress(values.into_iter().map(Ok)).unwrap_err().sentence();
        assert_eq!(told, "no");
    }
}
