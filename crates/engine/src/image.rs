//! Images, as the API shows them, and what is done to them.

mod changes;
mod list;
mod transfer;

use std::collections::HashMap;

use caisson_image::{Image, Removed};
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
        let upper = self.0.images.layer_paths(image).first().map(|path| path.display().to_string());
        let data = upper.map(|path| ("UpperDir".to_string(), path)).into_iter().collect();
        wire::ImageInspect {
            id: Some(image.id.clone()),
            repo_tags: Some(image.names.clone()),
            repo_digests: Some(Vec::new()),
            parent: Some(String::new()),
            comment: Some(last_comment(config)),
            created: text("created"),
            docker_version: Some(String::new()),
            author: Some(text("author").unwrap_or_default()),
            config: serde_json::from_value(own).ok(),
            architecture: text("architecture"),
            variant: text("variant"),
            os: text("os"),
            size: Some(size(image.size)),
            graph_driver: Some(wire::DriverData { name: "overlay2".into(), data }),
            root_fs: Some(wire::ImageInspectRootFs {
                typ: "layers".into(),
                layers: Some(image.layers.clone()),
            }),
            metadata: Some(wire::ImageInspectMetadata { last_tag_time: None }),
            ..wire::ImageInspect::default()
        }
    }

    pub async fn image_history(&self, name: &str) -> Result<Vec<wire::HistoryResponseItem>> {
        let (engine, name) = (self.clone(), name.to_string());
        blocking(move || {
            let image = engine.0.images.get(&name)?;
            Ok(history(&image))
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

    /// Removes a name, and the image with its last one.
    pub async fn image_remove(
        &self,
        name: &str,
        force: bool,
        _no_prune: bool,
    ) -> Result<Vec<wire::ImageDeleteResponseItem>> {
        let (engine, name) = (self.clone(), name.to_string());
        blocking(move || engine.image_remove_now(&name, force)).await
    }

    pub(crate) fn image_remove_now(
        &self,
        name: &str,
        force: bool,
    ) -> Result<Vec<wire::ImageDeleteResponseItem>> {
        let id = self.0.images.get(name)?.id;
        let user = |id: &str| self.image_user(id);
        let removed = self.0.images.remove(name, force, &user)?;
        let items = removed.into_iter().map(|item| match item {
            Removed::Untagged(name) => {
                self.tell_image("untag", &id, &name);
                wire::ImageDeleteResponseItem { untagged: Some(name), deleted: None }
            }
            Removed::Deleted(gone) => {
                if gone == id {
                    self.tell_image("delete", &id, &id);
                }
                wire::ImageDeleteResponseItem { untagged: None, deleted: Some(gone) }
            }
        });
        Ok(items.collect())
    }

    /// A container that has the image.
    fn image_user(&self, id: &str) -> Option<String> {
        let containers = self.0.containers.all();
        let users = containers.iter().filter(|container| container.look(|r| r.image == id));
        // One that runs says more.
        let user = users.max_by_key(|container| container.look(Record::running))?;
        let how = if user.look(Record::running) { "running" } else { "stopped" };
        Some(format!("{how} container {}", &user.id[..12]))
    }

    fn tell_image(&self, action: &str, id: &str, name: &str) {
        let attributes = HashMap::from([("name".to_string(), name.to_string())]);
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

/// Seconds since 1970 of a time in a configuration.
fn seconds(time: Option<&Value>) -> i64 {
    let text = time.and_then(Value::as_str).unwrap_or_default();
    chrono::DateTime::parse_from_rfc3339(text).map_or(0, |time| time.timestamp())
}

/// The steps that made an image, newest first; the newest carries the image's id and names.
fn history(image: &Image) -> Vec<wire::HistoryResponseItem> {
    let entries = image.config.get("history").and_then(Value::as_array);
    let mut items: Vec<_> = entries
        .into_iter()
        .flatten()
        .map(|entry| {
            let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
            wire::HistoryResponseItem {
                id: "<missing>".into(),
                created: seconds(entry.get("created")),
                created_by: text("created_by").into(),
                tags: Vec::new(),
                size: 0,
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
            size: 0,
            comment: String::new(),
        });
    }
    items.reverse();
    items[0].id = image.id.clone();
    items[0].tags = image.names.clone();
    items[0].size = size(image.size);
    items
}
