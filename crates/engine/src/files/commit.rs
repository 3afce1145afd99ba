//! A container becomes an image: its writable layer on top of its image's.

use std::io::Read;
use std::sync::Arc;

use caisson_protocol::task::Request;
use serde_json::{Value, json};

use super::changes::skipped;
use super::{CommitOptions, pack};
use crate::error::{Doing, Error, Result};
use crate::image::apply_changes;
use crate::{Container, Engine, Record, blocking, wire};

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
        let made = blocking(move || engine.commit_now(&subject, options, config)).await;
        if freeze {
            self.thaw(&container).await?;
        }
        let id = made?;
        self.tell_container(&record, "commit", &[("imageID", &id)]);
        Ok(id)
    }

    fn commit_now(
        &self,
        container: &Arc<Container>,
        options: CommitOptions,
        config: Option<wire::ContainerConfig>,
    ) -> Result<String> {
        let record = container.record();
        let parent = self.0.images.get(&record.image)?;
        let mut own = image_config(&record, config)?;
        apply_changes(&mut own, &options.changes)?;
        let mut whole = parent.config.clone();
        whole["config"] = own;
        whole["author"] = json!(options.author);
        let entry = json!({
            "created_by": record.args.join(" "),
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

/// The image's configuration: the container's, replaced by what the client gives.
fn image_config(record: &Record, given: Option<wire::ContainerConfig>) -> Result<Value> {
    let value = |config: &wire::ContainerConfig| {
        serde_json::to_value(config)
            .map_err(|error| Error::internal(format!("write the configuration: {error}")))
    };
    let mut own = value(&record.config)?;
    for field in [
        "Hostname",
        "Domainname",
        "AttachStdin",
        "AttachStdout",
        "AttachStderr",
        "Tty",
        "OpenStdin",
        "StdinOnce",
        "Image",
        "MacAddress",
        "NetworkDisabled",
        "StopTimeout",
    ] {
        if let Some(map) = own.as_object_mut() {
            map.remove(field);
        }
    }
    if let Some(given) = given {
        let given = value(&given)?;
        for field in [
            "Cmd",
            "Entrypoint",
            "Env",
            "ExposedPorts",
            "Labels",
            "User",
            "Volumes",
            "WorkingDir",
            "OnBuild",
            "StopSignal",
        ] {
            let new = &given[field];
            let empty = new.is_null()
                || new.as_str().is_some_and(str::is_empty)
                || new.as_array().is_some_and(Vec::is_empty)
                || new.as_object().is_some_and(serde_json::Map::is_empty);
            if !empty {
                own[field] = new.clone();
            }
        }
    }
    Ok(own)
}
