//! Images, as the API shows them, and what is done to them.

mod changes;
mod list;
mod transfer;

use std::collections::HashMap;

use caisson_image::{Image, Removed, User};
use serde_json::Value;

use crate::error::Result;
use crate::{Engine, Record, blocking, wire};
pub(crate) use changes::apply_changes;
pub use transfer::LoadMessage;

impl Engine {
    pub async fn image_inspect(&self, name: &str) -> Result<wire::ImageInspect> {
        let (engine, name) = (self.clone(), name.to_string());
        blocking(move || {
            let image = engine.0.images.get(&name)?;
            Ok(engine.image_described(&image))
        })
        .await
    }

    fn image_described(&self, image: &Image) -> wire::ImageInspect {
        let config = &image.config;
        let text = |name: &str| config.get(name).and_then(Value::as_str).map(String::from);
        let own = config.get("config").cloned().unwrap_or_default();
        let mut paths = self.0.images.layer_paths(image).into_iter();
        let upper = paths.next().map(|path| ("UpperDir".into(), path.display().to_string()));
        let lower: Vec<_> = paths.map(|path| path.display().to_string()).collect();
        let lower = (!lower.is_empty()).then(|| ("LowerDir".to_string(), lower.join(":")));
        let tagged = if image.names.is_empty() { 0 } else { image.tagged };
        wire::ImageInspect {
            id: Some(image.id.clone()),
            repo_tags: Some(image.names.clone()),
            repo_digests: Some(Vec::new()),
            parent: Some(image.parent.clone().unwrap_or_default()),
            comment: Some(text("comment").unwrap_or_else(|| last_comment(config))),
            created: text("created"),
            docker_version: Some(text("docker_version").unwrap_or_default()),
            author: Some(text("author").unwrap_or_default()),
            config: Some(serde_json::from_value(own).unwrap_or_default()),
            architecture: text("architecture"),
            variant: text("variant"),
            os: text("os"),
            os_version: text("os.version"),
            size: Some(size(image.size)),
            graph_driver: Some(wire::DriverData {
                name: "overlay2".into(),
                data: lower.into_iter().chain(upper).collect(),
            }),
            root_fs: Some(wire::ImageInspectRootFs {
                typ: "layers".into(),
                layers: Some(image.layers.clone()),
            }),
            metadata: Some(wire::ImageInspectMetadata {
                last_tag_time: Some(caisson_api::time::rfc3339(tagged)),
            }),
            ..wire::ImageInspect::default()
        }
    }

    pub async fn image_history(&self, name: &str) -> Result<Vec<wire::HistoryResponseItem>> {
        let (engine, name) = (self.clone(), name.to_string());
        blocking(move || {
            let image = engine.0.images.get(&name)?;
            Ok(history(&image, |id| engine.0.images.get(id).ok()))
        })
        .await
    }

    /// Gives an image one more name.
    pub async fn image_tag(&self, name: &str, new: &str) -> Result<()> {
        let (engine, name, new) = (self.clone(), name.to_string(), new.to_string());
        blocking(move || {
            let id = engine.0.images.get(&name)?.id;
            engine.0.images.tag(&id, &new)?;
            engine.tell_image("tag", &id, &caisson_image::parse_reference(&new)?);
            Ok(())
        })
        .await
    }

    /// Removes a name, and the image with its last one; nameless images that it was made from go along
    /// unless `no_prune`.
    pub async fn image_remove(
        &self,
        name: &str,
        force: bool,
        no_prune: bool,
    ) -> Result<Vec<wire::ImageDeleteResponseItem>> {
        let (engine, name) = (self.clone(), name.to_string());
        blocking(move || Ok(engine.image_remove_now(&name, force, !no_prune)?.0)).await
    }

    /// What went, and the bytes of it.
    pub(crate) fn image_remove_now(
        &self,
        name: &str,
        force: bool,
        prune: bool,
    ) -> Result<(Vec<wire::ImageDeleteResponseItem>, i64)> {
        let image = self.0.images.get(name)?;
        let removed = self.0.images.remove(name, force, prune, &|id| self.image_user(id))?;
        let mut items = Vec::new();
        let mut bytes = 0;
        for item in removed {
            let (untagged, deleted) = match item {
                Removed::Untagged { image: id, name } => {
                    self.tell_image_of(&image, "untag", &id);
                    (Some(name), None)
                }
                Removed::Image(id) => {
                    self.tell_image_of(&image, "delete", &id);
                    (None, Some(id))
                }
                Removed::Layer(digest, size) => {
                    bytes += self::size(size);
                    (None, Some(digest))
                }
            };
            items.push(wire::ImageDeleteResponseItem { untagged, deleted });
        }
        Ok((items, bytes))
    }

    /// Removes what was kept of images for containers that are gone. May wait for a disk.
    pub(crate) fn images_release(&self) {
        if let Err(error) = self.0.images.release(&|id| self.image_user(id)) {
            tracing::warn!("images of containers that are gone: {}", crate::error::chain(&error));
        }
    }

    /// A container that has the image; one that runs comes first.
    fn image_user(&self, id: &str) -> Option<User> {
        let containers = self.0.containers.all();
        let users = containers.iter().filter(|container| container.look(|r| r.image == id));
        let user = users.max_by_key(|container| container.look(Record::running))?;
        let running = user.look(Record::running);
        Some(User { container: user.id[..12].to_string(), running })
    }

    pub(crate) fn tell_image(&self, action: &str, id: &str, name: &str) {
        let labels = self.0.images.get(id).map(|image| list::labels(&image));
        self.tell_image_with(labels.unwrap_or_default(), action, id, name);
    }

    /// Of an image that may be gone by now: its labels are those of `image` if that is the one.
    fn tell_image_of(&self, image: &Image, action: &str, id: &str) {
        let labels = if image.id == id { list::labels(image) } else { HashMap::new() };
        self.tell_image_with(labels, action, id, id);
    }

    fn tell_image_with(
        &self,
        mut attributes: HashMap<String, String>,
        action: &str,
        id: &str,
        name: &str,
    ) {
        attributes.insert("name".to_string(), name.to_string());
        self.0.events.tell(wire::EventMessageTypeEnum::IMAGE, action, id, attributes);
    }
}

fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn last_comment(config: &Value) -> String {
    let last = config.get("history").and_then(Value::as_array).and_then(|list| list.last());
    let comment = last.and_then(|entry| entry.get("comment")?.as_str());
    comment.unwrap_or_default().to_string()
}

/// Nanoseconds since 1970 of a time in a configuration.
fn moment(time: Option<&Value>) -> i64 {
    let text = time.and_then(Value::as_str).unwrap_or_default();
    caisson_api::time::parse_rfc3339(text).unwrap_or_default()
}

fn seconds(time: Option<&Value>) -> i64 {
    moment(time).div_euclid(1_000_000_000)
}

/// The steps that made an image, newest first, each with the size of its layer. The newest carries the
/// image's id and names, those before it their parents' as far as those are here.
fn history(
    image: &Image,
    parent: impl Fn(&str) -> Option<Image>,
) -> Vec<wire::HistoryResponseItem> {
    let entries = image.config.get("history").and_then(Value::as_array);
    let mut sizes = image.layer_sizes.iter();
    let mut items: Vec<_> = entries
        .into_iter()
        .flatten()
        .map(|entry| {
            let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
            let empty = entry.get("empty_layer").and_then(Value::as_bool).unwrap_or_default();
            let layer = if empty { None } else { sizes.next() };
            wire::HistoryResponseItem {
                id: "<missing>".into(),
                created: seconds(entry.get("created")),
                created_by: text("created_by").into(),
                tags: Vec::new(),
                size: size(layer.copied().unwrap_or_default()),
                comment: text("comment").into(),
            }
        })
        .collect();
    if items.is_empty() {
        items.push(wire::HistoryResponseItem {
            id: String::new(),
            created: seconds(image.config.get("created")),
            created_by: String::new(),
            tags: Vec::new(),
            size: size(image.size),
            comment: String::new(),
        });
    }
    items.reverse();
    let mut known = Some(image.clone());
    for item in &mut items {
        let Some(image) = known else { break };
        known = image.parent.as_deref().and_then(&parent);
        (item.id, item.tags) = (image.id, image.names);
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn image(id: &str, parent: Option<&str>, config: Value) -> Image {
        Image {
            id: id.into(),
            config,
            names: vec![format!("{id}:1")],
            size: 7,
            layers: vec!["sha256:a".into(), "sha256:b".into()],
            layer_sizes: vec![5, 2],
            parent: parent.map(String::from),
            tagged: 0,
        }
    }

    #[test]
    fn history_is_told_from_the_newest_step_on() {
        let steps = json!({"history": [
            {"created": "1970-01-01T00:01:40.5Z", "created_by": "ADD"},
            {"created_by": "ENV", "empty_layer": true, "comment": "c"},
            {"created_by": "RUN"},
        ]});
        let top = image("top", Some("base"), steps);
        let told = history(&top, |id| Some(image(id, None, json!({}))));
        let lines: Vec<_> = told
            .iter()
            .map(|item| (item.id.as_str(), item.created_by.as_str(), item.size, item.tags.len()))
            .collect();
        let expected = [("top", "RUN", 2, 1), ("base", "ENV", 0, 1), ("<missing>", "ADD", 5, 0)];
        assert_eq!(lines, expected);
        assert_eq!((told[2].created, told[1].comment.as_str()), (100, "c"));
        let told = history(&image("none", None, json!({})), |_| None);
        assert_eq!((told.len(), told[0].size, told[0].id.as_str()), (1, 7, "none"));
    }
}
