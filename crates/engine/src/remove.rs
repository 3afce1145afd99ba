//! A container is removed.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Doing, Error, Kind, Result};
use crate::kill::SIGKILL;
use crate::record::{MountKind, Record, Status};
use crate::{Container, Engine, blocking};

#[derive(Debug, Clone, Default)]
pub struct RemoveOptions {
    /// Kill it if it runs.
    pub force: bool,
    /// With its anonymous volumes.
    pub volumes: bool,
}

impl Engine {
    pub async fn remove(&self, name: &str, options: RemoveOptions) -> Result<()> {
        let container = self.0.containers.get(name)?;
        if !options.force {
            refuse_running(&container)?;
        }
        let _busy = container.busy.lock().await;
        match container.look(|record| record.state.status) {
            Status::Removed => return Err(Error::not_found(format!("No such container: {name}"))),
            Status::Removing => {
                return Err(Error::conflict(format!(
                    "removal of container {name} is already in progress"
                )));
            }
            Status::Running if options.force => self.kill_for_removal(&container).await?,
            // Its next start sees that it is being removed.
            Status::Restarting if options.force => {}
            _ => refuse_running(&container)?,
        }
        self.remove_now(&container, options.volumes).await
    }

    async fn kill_for_removal(&self, container: &Arc<Container>) -> Result<()> {
        container.run().changing = true;
        let id = &container.id;
        let killed = async {
            let record = container.record();
            let started = record.state.started;
            self.signal(id, SIGKILL).await?;
            self.tell_container(&record, "kill", &[("signal", "9")]);
            if record.state.paused {
                self.thaw(container).await?;
            }
            self.await_end(container, started, super::stop::KILLED).await
        };
        let killed = killed.await;
        container.run().changing = false;
        killed.map_err(|error| error.doing(format!("could not kill container {id}")))
    }

    /// Removes a container that does not run; the caller holds [`Container::busy`].
    async fn remove_now(&self, container: &Arc<Container>, volumes: bool) -> Result<()> {
        container.settle(|record| record.state.status = Status::Removing)?;
        let record = container.record();
        let (engine, subject) = (self.clone(), container.clone());
        let doomed = blocking(move || {
            // Somebody may still copy from it.
            caisson_image::overlay::unmount(&subject.places.rootfs())?;
            let root = engine.0.settings.data_root.join("containers");
            let name = format!("removed-{}", subject.id);
            std::fs::rename(&subject.places.directory, root.join(&name))
                .doing(|| format!("remove {}", subject.places.directory.display()))?;
            Ok::<_, Error>((root, name))
        })
        .await;
        let (root, name) = match doomed {
            Ok(doomed) => doomed,
            Err(error) => {
                container.settle(|record| record.state.status = Status::Dead)?;
                return Err(error);
            }
        };
        self.0.containers.remove(container);
        self.network_forget(&record);
        self.execs_forget(&container.id);
        if volumes {
            self.remove_volumes(&record).await;
        }
        self.tell_container(&record, "destroy", &[]);
        container.run().waiting.clear();
        container.note(|record| record.state.status = Status::Removed);
        // Its name is free already; its files take their time.
        let engine = self.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = remove_files(&root, &name) {
                tracing::warn!("{error}");
            }
            engine.images_release();
        });
        Ok(())
    }

    async fn remove_volumes(&self, record: &Record) {
        for mount in &record.mounts {
            if let MountKind::Volume { name, anonymous: true, .. } = &mount.kind {
                let (engine, name) = (self.clone(), name.clone());
                let removed = blocking(move || engine.volume_remove_now(&name)).await;
                // Another container may have it by now.
                if let Err(error) = removed
                    && !matches!(error.kind, Kind::Conflict | Kind::NotFound)
                {
                    tracing::warn!("container {}: {error}", record.id);
                }
            }
        }
    }

    /// Removes a container in the background, with its anonymous volumes: `--rm`.
    pub(crate) fn remove_later(&self, container: &Arc<Container>) {
        let (engine, container) = (self.clone(), container.clone());
        tokio::spawn(async move {
            let _busy = container.busy.lock().await;
            let status = container.look(|record| record.state.status);
            if !matches!(status, Status::Created | Status::Exited | Status::Dead) {
                return;
            }
            if let Err(error) = engine.remove_now(&container, true).await {
                tracing::error!("container {} is not removed: {error}", container.id);
            }
        });
    }
}

fn refuse_running(container: &Container) -> Result<()> {
    let record = container.record();
    let advice = match record.state.status {
        Status::Running if record.state.paused => "container is paused and must be unpaused first",
        Status::Running => {
            "container is running: stop the container before removing or force remove"
        }
        Status::Restarting => {
            "container is restarting: stop the container before removing or force remove"
        }
        _ => return Ok(()),
    };
    Err(Error::conflict(format!("cannot remove container \"/{}\": {advice}", record.name)))
}

/// Removes the directory of a container that is no more.
pub(crate) fn remove_files(root: &Path, name: &str) -> Result<()> {
    let what = || format!("remove {}", root.join(name).display());
    let root = std::fs::File::open(root).doing(what)?;
    caisson_image::unpack::remove_tree(&root.into(), name.as_ref()).doing(what)
}
