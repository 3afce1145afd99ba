//! The images in short, and which of them go.

use std::collections::{BTreeSet, HashMap};

use caisson_api::filters::Filters;
use caisson_image::Image;
use serde_json::Value;

use super::{moment, seconds, size};
use crate::error::{Error, Kind, Result};
use crate::{Engine, blocking, wire};

const FILTERS: [&str; 7] = ["before", "dangling", "label", "label!", "reference", "since", "until"];

impl Engine {
    /// The images that filters leave, newest first; nameless ones that others were made from only if `all`.
    pub async fn image_list(
        &self,
        all: bool,
        filters: &Filters,
    ) -> Result<Vec<wire::ImageSummary>> {
        let (engine, filters) = (self.clone(), filters.clone());
        let mut list = blocking(move || engine.image_list_now(&filters)).await?;
        if !all {
            let parents: BTreeSet<String> =
                list.iter().map(|image| image.parent_id.clone()).collect();
            list.retain(|image| !image.repo_tags.is_empty() || !parents.contains(&image.id));
        }
        for image in &mut list {
            // Docker counts them for the use of disk alone.
            image.containers = -1;
        }
        Ok(list)
    }

    pub(crate) fn image_list_now(&self, filters: &Filters) -> Result<Vec<wire::ImageSummary>> {
        let mut users: HashMap<String, i64> = HashMap::new();
        for container in self.0.containers.all() {
            *users.entry(container.look(|record| record.image.clone())).or_default() += 1;
        }
        let images = self.images_wanted(filters)?;
        let mut list: Vec<_> = images
            .iter()
            .map(|image| wire::ImageSummary {
                id: image.id.clone(),
                parent_id: image.parent.clone().unwrap_or_default(),
                repo_tags: tags(image, filters),
                repo_digests: Vec::new(),
                created: seconds(image.config.get("created")),
                size: size(image.size),
                shared_size: -1,
                virtual_size: None,
                labels: labels(image),
                containers: users.get(&image.id).copied().unwrap_or_default(),
                manifests: None,
                descriptor: None,
            })
            .collect();
        list.sort_by_key(|image| std::cmp::Reverse(image.created));
        Ok(list)
    }

    fn images_wanted(&self, filters: &Filters) -> Result<Vec<Image>> {
        filters.check(&FILTERS)?;
        let of = |key: &str| -> Result<Option<i64>> {
            let Some(name) = filters.get(key).next() else { return Ok(None) };
            Ok(Some(moment(self.0.images.get(name)?.config.get("created"))))
        };
        let (before, since) = (of("before")?, of("since")?);
        let until = filters.until(crate::now())?;
        let dangling = match filters.contains("dangling") {
            true => Some(filters.flag("dangling", false)?),
            false => None,
        };
        let wanted = |image: &Image| {
            let created = moment(image.config.get("created"));
            before.is_none_or(|before| created < before)
                && since.is_none_or(|since| created > since)
                && until.is_none_or(|until| created < until)
                && dangling.is_none_or(|dangling| dangling == image.names.is_empty())
                && filters.labels(&labels(image))
                && (!filters.contains("reference") || !tags(image, filters).is_empty())
        };
        Ok(self.0.images.list().into_iter().filter(wanted).collect())
    }

    /// Removes images that no container has: those without a name, or all with `dangling=false`.
    pub async fn images_prune(&self, filters: &Filters) -> Result<wire::ImagePruneResponse> {
        let (engine, filters) = (self.clone(), filters.clone());
        blocking(move || engine.images_prune_now(&filters)).await
    }

    fn images_prune_now(&self, filters: &Filters) -> Result<wire::ImagePruneResponse> {
        filters.check(&["dangling", "label", "label!", "until"])?;
        let all = !filters.flag("dangling", true)?;
        let mut rest = Filters::default();
        for key in ["label", "label!", "until"] {
            for value in filters.get(key) {
                rest.add(key, value);
            }
        }
        self.images_release();
        let mut deleted = Vec::new();
        let mut bytes = 0;
        for image in self.images_wanted(&rest)? {
            if !all && !image.names.is_empty() {
                continue;
            }
            if self.image_user(&image.id).is_some() {
                continue;
            }
            match self.image_remove_now(&image.id, true, true) {
                Ok((items, freed)) => {
                    bytes += freed;
                    deleted.extend(items);
                }
                // A container or another image needs it, or it went meanwhile.
                Err(Error { kind: Kind::Conflict | Kind::NotFound, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let attributes = HashMap::from([("reclaimed".to_string(), bytes.to_string())]);
        self.0.events.tell(wire::EventMessageTypeEnum::IMAGE, "prune", "", attributes);
        Ok(wire::ImagePruneResponse { images_deleted: Some(deleted), space_reclaimed: Some(bytes) })
    }
}

/// The labels of an image.
pub(super) fn labels(image: &Image) -> HashMap<String, String> {
    let map = image.config.pointer("/config/Labels").and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_string())))
        .collect()
}

/// The names of an image that the filter `reference` leaves.
fn tags(image: &Image, filters: &Filters) -> Vec<String> {
    let fits = |name: &String| {
        !filters.contains("reference")
            || filters.get("reference").any(|pattern| reference_fits(pattern, name))
    };
    image.names.iter().filter(|name| fits(name)).cloned().collect()
}

/// Whether a name fits a pattern with `*` (not across `/`), `?`; without a tag it fits every tag.
fn reference_fits(pattern: &str, name: &str) -> bool {
    let path = name.rsplit_once(':').map_or(name, |(path, _)| path);
    wild(pattern.as_bytes(), name.as_bytes()) || wild(pattern.as_bytes(), path.as_bytes())
}

fn wild(pattern: &[u8], text: &[u8]) -> bool {
    // Where to go on after the last star: one more byte of the text belongs to it.
    let (mut at, mut seen, mut star) = (0, 0, None);
    while seen < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, seen));
                at += 1;
            }
            Some(byte) if *byte == text[seen] || (*byte == b'?' && text[seen] != b'/') => {
                at += 1;
                seen += 1;
            }
            _ => match star {
                Some((after, from)) if text[from] != b'/' => {
                    star = Some((after, from + 1));
                    at = after;
                    seen = from + 1;
                }
                _ => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::reference_fits;

    #[test]
    fn references_fit_patterns() {
        for (pattern, name, fits) in [
            ("busybox", "busybox:latest", true),
            ("busy*", "busybox:1", true),
            ("*:1", "busybox:1", true),
            ("busybox:2", "busybox:1", false),
            ("*", "me/app:1", false),
            ("me/*", "me/app:1", true),
            ("m?/a*p:?", "me/app:1", true),
            ("", "a:1", false),
        ] {
            assert_eq!(reference_fits(pattern, name), fits, "{pattern} {name}");
        }
        // Many stars take no longer than few.
        assert!(!reference_fits(&"*a".repeat(40), &"a".repeat(30)));
    }
}
