//! A container becomes an image: its writable layer on top of its image's.

use std::io::Read;
use std::sync::Arc;

use caisson_protocol::task::Request;
use serde_json::{Value, json};

use super::changes::skipped;
use super::{CommitOptions, pack};
use crate::error::{Doing, Error, Result};
use crate::image::apply_changes;
use crate::{Container, Engine, blocking, wire};

impl Engine {
    /// Makes an image of a container; its id.
    pub async fn commit(
        &self,
        container: &str,
        options: CommitOptions,
        config: Option<wire::ContainerConfig>,
    ) -> Result<String> {
        let container = self.0.containers.get(container)?;
        let _busy = container.busy.lock().await;
        let record = container.record();
        let freeze = options.pause && record.running() && !record.state.paused;
        if freeze {
            self.task(&container, Request::Pause).await?;
        }
        let (engine, subject) = (self.clone(), container.clone());
        let (name, comment) = (options.name.clone(), options.comment.clone());
        let made = blocking(move || engine.commit_now(&subject, options, config)).await;
        if freeze {
            self.thaw(&container).await?;
        }
        let id = made?;
        let name = name.and_then(|name| caisson_image::parse_reference(&name).ok());
        let more = [
            ("comment", comment.as_str()),
            ("imageID", &id),
            ("imageRef", name.as_deref().unwrap_or_default()),
        ];
        self.tell_container(&record, "commit", &more);
        if let Some(name) = &name {
            self.tell_image("tag", &id, name);
        }
        Ok(id)
    }

    fn commit_now(
        &self,
        container: &Arc<Container>,
        options: CommitOptions,
        config: Option<wire::ContainerConfig>,
    ) -> Result<String> {
        let record = container.record();
        let parent = self.0.images.of_container(&record.image)?;
        let own = image_config(&record.config, config, &options.changes)?;
        let mut whole = parent.config.clone();
        whole["config"] = own;
        whole["author"] = json!(options.author);
        let entry = json!({
            "created_by": record.config.cmd.clone().unwrap_or_default().join(" "),
            "author": options.author,
            "comment": options.comment,
        });
        let upper = container.places.upper();
        let skipped = skipped(&upper, &record);
        let (reader, mut writer) = std::io::pipe().doing(|| "make a pipe")?;
        let packer = std::thread::spawn(move || pack::layer(&upper, skipped, &mut writer));
        let mut layer = Packed { reader, packer: Some(packer) };
        let name = options.name.as_deref();
        let id = self.0.images.commit(&mut layer, &parent, whole, entry, name)?;
        Ok(id)
    }
}

/// A layer that is being packed: it ends well only if the packing did.
struct Packed {
    reader: std::io::PipeReader,
    packer: Option<std::thread::JoinHandle<Result<()>>>,
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if count == 0
            && !buffer.is_empty()
            && let Some(packer) = self.packer.take()
        {
            let died = || Err(Error::internal("the packing of the layer died"));
            packer.join().unwrap_or_else(|_| died()).map_err(std::io::Error::other)?;
        }
        Ok(count)
    }
}

/// The parts of a container's configuration that an image has.
const FIELDS: [&str; 13] = [
    "User",
    "ExposedPorts",
    "Env",
    "Cmd",
    "Healthcheck",
    "ArgsEscaped",
    "Volumes",
    "WorkingDir",
    "Entrypoint",
    "OnBuild",
    "Labels",
    "StopSignal",
    "Shell",
];

/// The image's configuration: what the client gives, with the changes, filled up from the container's.
fn image_config(
    container: &wire::ContainerConfig,
    given: Option<wire::ContainerConfig>,
    changes: &[String],
) -> Result<Value> {
    let value = |config: &wire::ContainerConfig| {
        serde_json::to_value(config)
            .map_err(|error| Error::internal(format!("write the configuration: {error}")))
    };
    let base = value(container)?;
    let mut own = match &given {
        Some(given) => value(given)?,
        None => base.clone(),
    };
    apply_changes(&mut own, changes)?;
    if let Some(map) = own.as_object_mut() {
        map.retain(|name, _| FIELDS.contains(&name.as_str()));
    }
    // Those of the container are for its own entrypoint.
    let commanded = !empty(&own["Entrypoint"]) || !empty(&own["Cmd"]);
    for field in FIELDS {
        let inherited = &base[field];
        match field {
            "Cmd" | "Entrypoint" if commanded => {}
            "Env" => own[field] = environment(&own[field], inherited),
            "ExposedPorts" | "Volumes" | "Labels" => {
                let mut all = inherited.as_object().cloned().unwrap_or_default();
                all.extend(own[field].as_object().cloned().unwrap_or_default());
                own[field] = if all.is_empty() { Value::Null } else { Value::Object(all) };
            }
            _ if empty(&own[field]) => own[field] = inherited.clone(),
            _ => {}
        }
    }
    if let Some(map) = own.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    Ok(own)
}

fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Variables, and those of `inherited` that are not among them.
fn environment(own: &Value, inherited: &Value) -> Value {
    let name = |entry: &Value| {
        let text = entry.as_str().unwrap_or_default();
        text.split_once('=').map_or(text, |(name, _)| name).to_string()
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut all = list(own);
    for entry in list(inherited) {
        if !all.iter().any(|known| name(known) == name(&entry)) {
            all.push(entry);
        }
    }
    if all.is_empty() { Value::Null } else { Value::Array(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_gives_what_the_client_does_not() {
        let config = |value: Value| serde_json::from_value::<wire::ContainerConfig>(value).unwrap();
        let container = config(json!({
            "Hostname": "web", "Tty": true, "Env": ["A=1", "B=2"], "Cmd": ["sh"], "WorkingDir": "/srv",
            "Labels": {"a": "1", "b": "2"}, "Volumes": {"/v": {}}, "User": "",
        }));
        let own = image_config(&container, None, &["ENV B=3".into(), "CMD run".into()]).unwrap();
        let expected = json!({
            "Env": ["A=1", "B=3"], "Cmd": ["/bin/sh", "-c", "run"], "WorkingDir": "/srv",
            "Labels": {"a": "1", "b": "2"}, "Volumes": {"/v": {}}, "User": "",
        });
        assert_eq!(own, expected);
        let given = config(json!({
            "Env": ["B=4"], "Entrypoint": ["e"], "Labels": {"b": "3"}, "User": "web", "Hostname": "x",
        }));
        let own = image_config(&container, Some(given), &[]).unwrap();
        let expected = json!({
            "Env": ["B=4", "A=1"], "Entrypoint": ["e"], "WorkingDir": "/srv", "User": "web",
            "Labels": {"a": "1", "b": "3"}, "Volumes": {"/v": {}},
        });
        assert_eq!(own, expected);
    }
}
