//! The containers that exist: by id and by name, each with its record behind a lock of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, watch};

use crate::attach::Waiting;
use crate::error::{Doing, Error, Result};
use crate::mount::Rootfs;
use crate::record::{Places, Record, Status};

/// One container. Whoever changes it holds [`Container::busy`]; whoever only looks takes
/// [`Container::record`], a copy of how it is now.
pub(crate) struct Container {
    pub id: String,
    pub places: Places,
    /// Held through a change of state: one at a time.
    pub busy: AsyncMutex<()>,
    record: watch::Sender<Record>,
    run: Mutex<Run>,
    /// How many use the mounted root file system.
    pub(crate) mounted: Mutex<usize>,
}

/// What a container has while it runs, or is about to.
#[derive(Default)]
pub(crate) struct Run {
    /// The directory of its supervisor, once that takes clients for the container's streams.
    pub supervisor: Option<PathBuf>,
    /// Kept mounted for it.
    pub rootfs: Option<Rootfs>,
    /// Clients that want the streams of the coming start.
    pub waiting: Vec<Waiting>,
    /// It is being stopped to be started again: its restart policy has no say.
    pub changing: bool,
    /// How long its restart policy waits the next time.
    pub delay: Duration,
}

impl Container {
    pub fn new(record: Record, data_root: &Path) -> Arc<Self> {
        Arc::new(Container {
            id: record.id.clone(),
            places: Places::new(data_root, &record.id),
            busy: AsyncMutex::new(()),
            record: watch::channel(record).0,
            run: Mutex::default(),
            mounted: Mutex::default(),
        })
    }

    /// What it has while it runs. Never held over an await or a system call that waits.
    pub fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is now.
    pub fn record(&self) -> Record {
        self.record.borrow().clone()
    }

    /// Looks at it without a copy.
    pub fn look<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&self.record.borrow())
    }

    /// Is told of every change from now on.
    pub fn watch(&self) -> watch::Receiver<Record> {
        self.record.subscribe()
    }

    /// Changes the record, on disk first.
    pub fn change(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        let mut record = self.record();
        change(&mut record);
        write(&self.places.record(), &record)?;
        self.settle_as(record)
    }

    /// Changes nothing but the state. Survives the daemon's end; after the host's, no state that says the
    /// container runs is true anyway, so the disk is not waited for.
    pub fn settle(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        let mut record = self.record();
        change(&mut record);
        self.settle_as(record)
    }

    fn settle_as(&self, record: Record) -> Result<()> {
        let written = write_unsynced(&self.places.state(), &record.state);
        self.record.send_replace(record);
        written
    }

    /// Reads a container from its directory.
    pub fn read(directory: &Path) -> Result<Record> {
        let path = directory.join("config.json");
        let what = || format!("read {}", path.display());
        let text = std::fs::read(&path).doing(what)?;
        let mut record: Record =
            serde_json::from_slice(&text).map_err(std::io::Error::from).doing(what)?;
        // The state that was settled last; one that a crash of the host cut short says nothing.
        if let Ok(text) = std::fs::read(directory.join("state.json"))
            && let Ok(state) = serde_json::from_slice(&text)
        {
            record.state = state;
        }
        record.state.told_exits = record.state.exits;
        Ok(record)
    }

    /// Waits until `done` is true of the record.
    pub async fn until(&self, done: impl FnMut(&Record) -> bool) -> Record {
        let mut watch = self.watch();
        // The sender lives as long as this container.
        let found = watch.wait_for(done).await.map(|record| record.clone());
        found.unwrap_or_else(|_| self.record())
    }

    /// Refuses what needs a running container.
    pub fn must_run(&self) -> Result<()> {
        match self.look(|record| record.state.status) {
            Status::Running => Ok(()),
            Status::Restarting => Err(Error::conflict(format!(
                "Container {} is restarting, wait until the container is running",
                self.id
            ))),
            _ => Err(Error::conflict(format!("container {} is not running", self.id))),
        }
    }

    /// Changes what need not survive: the file follows with the next [`Container::change`].
    pub fn note(&self, change: impl FnOnce(&mut Record)) {
        self.record.send_modify(change);
    }
}

/// Writes a record so that a reader, now or after a crash, sees all of it or what was there before.
pub(crate) fn write<T: serde::Serialize>(path: &Path, value: &T) -> Result<()> {
    use std::io::Write;
    let what = || format!("write {}", path.display());
    let text = serde_json::to_vec(value).map_err(std::io::Error::from).doing(what)?;
    let fresh = path.with_extension("new");
    let mut file = std::fs::File::create(&fresh).doing(what)?;
    file.write_all(&text).doing(what)?;
    file.sync_data().doing(what)?;
    std::fs::rename(&fresh, path).doing(what)
}

/// Writes a file so that a reader sees all of it or what was there before.
fn write_unsynced<T: serde::Serialize>(path: &Path, value: &T) -> Result<()> {
    let what = || format!("write {}", path.display());
    let text = serde_json::to_vec(value).map_err(std::io::Error::from).doing(what)?;
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text).doing(what)?;
    std::fs::rename(&fresh, path).doing(what)
}

/// All containers of an engine.
#[derive(Default)]
pub(crate) struct Containers(Mutex<Index>);

#[derive(Default)]
struct Index {
    by_id: BTreeMap<String, Arc<Container>>,
    /// Names, those of creations under way included.
    names: BTreeMap<String, String>,
}

impl Containers {
    fn lock(&self) -> MutexGuard<'_, Index> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a name for an id; it is free again with [`Containers::release_name`].
    pub fn reserve_name(&self, name: &str, id: &str) -> Result<()> {
        let mut index = self.lock();
        if let Some(owner) = index.names.get(name) {
            return Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or rename) that container to be able to reuse that name."
            )));
        }
        index.names.insert(name.into(), id.into());
        Ok(())
    }

    pub fn release_name(&self, name: &str) {
        self.lock().names.remove(name);
    }

    /// Adds a container whose name is reserved.
    pub fn add(&self, container: Arc<Container>) {
        self.lock().by_id.insert(container.id.clone(), container);
    }

    /// Forgets a container and its name.
    pub fn remove(&self, container: &Container) {
        let mut index = self.lock();
        index.by_id.remove(&container.id);
        index.names.retain(|_, id| *id != container.id);
    }

    /// The container of a name (with or without a slash), an id, or the unambiguous beginning of an id.
    pub fn get(&self, name: &str) -> Result<Arc<Container>> {
        let index = self.lock();
        let wanted = name.strip_prefix('/').unwrap_or(name);
        let missing = || Error::not_found(format!("No such container: {name}"));
        if wanted.is_empty() {
            return Err(missing());
        }
        if let Some(container) = index.by_id.get(wanted) {
            return Ok(container.clone());
        }
        if let Some(container) = index.names.get(wanted).and_then(|id| index.by_id.get(id)) {
            return Ok(container.clone());
        }
        let mut found =
            index.by_id.range(wanted.to_string()..).take_while(|(id, _)| id.starts_with(wanted));
        match (found.next(), found.next()) {
            (Some((_, container)), None) => Ok(container.clone()),
            (Some(_), Some(_)) => {
                Err(Error::invalid(format!("multiple IDs found with provided prefix: {wanted}")))
            }
            _ => Err(missing()),
        }
    }

    /// All of them, in the order of ids.
    pub fn all(&self) -> Vec<Arc<Container>> {
        self.lock().by_id.values().cloned().collect()
    }
}
