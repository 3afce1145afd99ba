//! What would need a registry: login, search, push and pull.

use caisson_engine::wire;

use crate::call::Call;
use crate::reply::{Failure, Reply, Result};

/// What to do instead.
const INSTEAD: &str = "registries are not supported yet: bring images as files, with `docker load` or `docker import`";

pub async fn login(mut call: Call) -> Result<Reply> {
    let login: wire::AuthConfig = call.json_or_default().await?;
    let address = login.serveraddress.filter(|address| !address.is_empty());
    let address = address.unwrap_or_else(|| "the registry".into());
    Err(Failure::unsupported(format!("cannot log in to {address}: {INSTEAD}")))
}

pub fn search(call: &Call) -> Result<Reply> {
    let term = call.query.get("term").unwrap_or_default();
    Err(Failure::unsupported(format!("cannot search for {term:?}: {INSTEAD}")))
}

pub fn push(call: &Call, name: &str) -> Result<Reply> {
    let name = with_tag(name, call.query.get("tag"));
    Err(Failure::unsupported(format!(
        "cannot push {name}: registries are not supported yet: bring the image away as a file, with `docker save`"
    )))
}

pub fn pull(call: &Call, image: &str) -> Result<Reply> {
    let name = with_tag(image, call.query.get("tag"));
    Err(Failure::unsupported(format!("cannot pull {name}: {INSTEAD}")))
}

pub fn distribution(name: &str) -> Result<Reply> {
    Err(Failure::unsupported(format!("cannot look up {name}: {INSTEAD}")))
}

/// A name with a tag, or with a digest given in its place.
pub fn with_tag(name: &str, tag: Option<&str>) -> String {
    match tag {
        Some(digest) if digest.contains(':') => format!("{name}@{digest}"),
        Some(tag) => format!("{name}:{tag}"),
        None => name.into(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_get_a_tag_or_a_digest() {
        use super::with_tag;
        assert_eq!(with_tag("a/b", Some("1")), "a/b:1");
        assert_eq!(with_tag("a/b", Some("sha256:00")), "a/b@sha256:00");
        assert_eq!(with_tag("a/b", None), "a/b");
    }
}
