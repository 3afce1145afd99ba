//! An engine is opened: what an earlier one left running is taken over, what ended meanwhile is finished,
//! and what a restart policy wants is started.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use caisson_image::Store;
use caisson_protocol::supervisor::Status as Found;
use caisson_protocol::task::Exit;

use crate::error::{Doing, Result};
use crate::exit::recorded;
use crate::record::Status;
use crate::supervisor::{Client, forget};
use crate::wire::RestartPolicyNameEnum as Policy;
use crate::{Container, Engine, Inner, Record, Settings, blocking};

/// How long a supervisor that no container has may take to say what it is: it may be booting a guest.
const STATUS: Duration = Duration::from_secs(5);

impl Engine {
    /// Opens the engine and takes over what an earlier one left running.
    pub async fn open(settings: Settings) -> Result<Self> {
        let root = settings.data_root.join("images");
        let images = blocking(move || Store::open(&root)).await?;
        let engine = Self::new(settings, images);
        engine.volumes_open()?;
        engine.read_containers()?;
        engine.networks_open().await?;
        engine.take_over().await?;
        // Its probe is a supervisor, which must not be there while an earlier engine's are looked for.
        engine.host_open();
        Ok(engine)
    }

    /// One that knows of nothing yet.
    pub(crate) fn new(settings: Settings, images: Store) -> Self {
        Engine(Arc::new(Inner {
            settings,
            images,
            events: Default::default(),
            containers: Default::default(),
            networks: Default::default(),
            host: Default::default(),
            execs: Default::default(),
            standby: Default::default(),
            watches: Default::default(),
        }))
    }

    fn read_containers(&self) -> Result<()> {
        let data_root = &self.0.settings.data_root;
        let root = data_root.join("containers");
        let what = || format!("list {}", root.display());
        std::fs::create_dir_all(&root).doing(what)?;
        for entry in std::fs::read_dir(&root).doing(what)? {
            let name = entry.doing(what)?.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.len() != 64 {
                remove_left(&root, name);
                continue;
            }
            match Container::read(&root.join(name)) {
                Ok(record) if record.id == name => self.add(record, data_root),
                Ok(record) => {
                    tracing::error!("the container in {name} says it is {}: left alone", record.id);
                }
                Err(error) => tracing::error!("a container is left alone: {error}"),
            }
        }
        Ok(())
    }

    fn add(&self, record: Record, data_root: &Path) {
        let (name, id) = (record.name.clone(), record.id.clone());
        match self.0.containers.reserve_name(&name, &id) {
            Ok(()) => self.0.containers.add(Container::new(record, data_root)),
            Err(error) => tracing::error!("container {id} is left alone: {error}"),
        }
    }

    /// Asks all supervisors at once what they are, then brings each container in order.
    async fn take_over(&self) -> Result<()> {
        let mut found = self.find_supervisors().await?;
        let finishing = self.0.containers.all().into_iter().map(|container| {
            let supervisor = found.remove(&container.id);
            let engine = self.clone();
            async move { engine.bring_in_order(&container, supervisor).await }
        });
        futures_util::future::join_all(finishing.collect::<Vec<_>>()).await;
        Ok(())
    }

    /// The supervisors that have a container, by its id; the others are forgotten, and end.
    async fn find_supervisors(&self) -> Result<HashMap<String, (String, Found)>> {
        let root = self.supervisors_root();
        std::fs::create_dir_all(&root).doing(|| format!("make {}", root.display()))?;
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&root).doing(|| format!("list {}", root.display()))? {
            let entry = entry.doing(|| format!("list {}", root.display()))?;
            names.extend(entry.file_name().into_string().ok());
        }
        let containers = self.0.containers.all().into_iter();
        let used: HashSet<_> =
            containers.filter_map(|container| container.record().state.supervisor).collect();
        let asked = names.into_iter().map(|name| async {
            let used = used.contains(&name);
            let found = self.ask_supervisor(&name, used).await;
            // The directory of one that had a container tells more when that is finished.
            if found.is_none() && !used {
                forget(&root.join(&name));
            }
            found.map(|(id, found)| (id, (name, found)))
        });
        let found = futures_util::future::join_all(asked).await;
        Ok(found.into_iter().flatten().collect())
    }

    /// The container of a supervisor, if it has one that is known. For one that a container is recorded to
    /// have, however slow it is, time is taken: its container would be ended for its silence.
    async fn ask_supervisor(&self, name: &str, used: bool) -> Option<(String, Found)> {
        let directory = self.supervisor_directory(name);
        let status = async { Client::connect(&directory).await?.status().await };
        let status =
            if used { status.await } else { tokio::time::timeout(STATUS, status).await.ok()? };
        let found = status.ok()?;
        let id = found.container.clone().filter(|id| self.0.containers.get(id).is_ok())?;
        Some((id, found))
    }

    async fn bring_in_order(
        &self,
        container: &Arc<Container>,
        supervisor: Option<(String, Found)>,
    ) {
        let record = container.record();
        let outcome = match (record.state.status, supervisor) {
            (Status::Removing | Status::Dead | Status::Removed, _) => {
                let _ = container.settle(|record| record.state.status = Status::Dead);
                self.remove_later(container);
                return;
            }
            (_, Some((name, found))) if found.exit.is_none() => {
                self.adopt(container, name, found).await
            }
            (status, Some((name, found))) => {
                let _ = container.settle(|record| record.state.supervisor = Some(name));
                if matches!(status, Status::Running | Status::Starting) {
                    self.finish(container, found.exit).await;
                } else {
                    // Its end is recorded; it only waits for clients to take the last output.
                    self.release(container).await;
                }
                Ok(())
            }
            (Status::Running | Status::Starting, None) => {
                self.finish(container, None).await;
                Ok(())
            }
            (_, None) => {
                self.release(container).await;
                Ok(())
            }
        };
        if let Err(error) = outcome {
            tracing::error!("container {} is not taken over: {error}", container.id);
        }
        self.revive(container);
    }

    /// Takes a running container over.
    async fn adopt(&self, container: &Arc<Container>, name: String, found: Found) -> Result<()> {
        let directory = self.supervisor_directory(&name);
        let events = Client::connect(&directory).await?.subscribe().await?;
        // Frozen for an image that was being made of it: nobody else would let it go on.
        let forgotten = found.paused && !container.look(|record| record.state.paused);
        container.settle(|record| {
            let state = &mut record.state;
            if state.status != Status::Running {
                state.started = found.started_at;
            }
            state.status = Status::Running;
            state.supervisor = Some(name.clone());
            state.pid = found.pid;
            state.paused = found.paused;
        })?;
        {
            let mut run = container.run();
            run.supervisor = Some(directory);
            run.rootfs = Some(self.rootfs_adopted(container));
        }
        let restored = self.ports_restore(&container.record()).await;
        tracing::info!("container {} runs on", container.id);
        // Whatever else fails, its end must be seen.
        self.watch(container, events, name);
        restored?;
        if forgotten {
            self.thaw(container).await?;
        }
        Ok(())
    }

    /// Finishes a container that ended while no daemon was there.
    async fn finish(&self, container: &Arc<Container>, exit: Option<Exit>) {
        let record = container.record();
        let never = record.state.status == Status::Starting && record.state.started == 0;
        let exit = match exit.or_else(|| recorded(container)) {
            Some(exit) => exit,
            None => {
                let supervisor = record.state.supervisor.clone().unwrap_or_default();
                self.abandoned(container, &supervisor).await
            }
        };
        // The mount of the run is still there.
        let rootfs = self.rootfs_adopted(container);
        container.run().rootfs = Some(rootfs);
        self.exited(container, exit).await;
        if never && container.look(|record| record.state.status == Status::Exited) {
            // Its start was cut off before there was a process: it is as it was created.
            let _ = container.settle(|record| record.state.status = Status::Created);
        }
    }

    /// Starts what its restart policy wants after a restart of the daemon.
    fn revive(&self, container: &Arc<Container>) {
        let record = container.record();
        let policy = record.host_config.restart_policy.as_ref().and_then(|policy| policy.name);
        let wanted = match (record.state.status, policy) {
            // Its delay was under way.
            (Status::Restarting, _) => true,
            (Status::Exited, Some(Policy::ALWAYS)) => record.state.started > 0,
            (Status::Exited, Some(Policy::UNLESS_STOPPED)) => {
                record.state.started > 0 && !record.state.stopped_by_user
            }
            _ => false,
        };
        if !wanted {
            return;
        }
        if record.state.status == Status::Exited {
            let _ = container.settle(|record| record.state.status = Status::Restarting);
        }
        self.restart_later(container, Duration::ZERO);
    }
}

/// Removes what a crash left of a container in the making or being removed.
fn remove_left(root: &Path, name: &str) {
    let left = name.starts_with("new-") || name.starts_with("removed-");
    if left && let Err(error) = crate::remove::remove_files(root, name) {
        tracing::warn!("{error}");
    }
}
