//! A container is created: what the client gave and what the image says become one record.
//!
//! Everything that can be refused is refused here, before anything is made. The container's directory is made
//! under another name and renamed, so that a crash leaves none half made.

mod adapt;
mod checks;
mod config;
mod limits;
mod mounts;
mod name;
mod tmpfs;

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use crate::containers::write;
use crate::error::{Doing, Error, Result};
use crate::record::{MountKind, Places, Record, RuntimeType, State};
use crate::volume::random_name;
use crate::{Container, Engine, blocking, wire};
pub(crate) use checks::{container_port, policy_of};
pub(crate) use limits::check as resources_checked;
pub(crate) use mounts::clean;
pub(crate) use name::check_name;

impl Engine {
    /// Creates a container; its id, and what the user should know.
    pub async fn create(
        &self,
        name: Option<String>,
        body: wire::ContainerCreateBody,
    ) -> Result<wire::ContainerCreateResponse> {
        let engine = self.clone();
        let name = name.map(|name| name.trim_start_matches('/').to_string());
        blocking(move || engine.create_now(name.filter(|name| !name.is_empty()), body)).await
    }

    fn create_now(
        &self,
        name: Option<String>,
        mut body: wire::ContainerCreateBody,
    ) -> Result<wire::ContainerCreateResponse> {
        if let Some(name) = &name {
            check_name(name)?;
        }
        let given = body.image.clone().unwrap_or_default();
        if given.is_empty() {
            return Err(Error::invalid("No image is given: name one, such as busybox"));
        }
        let image = self.0.images.get(&given)?;
        checks::platform(&given, &image.config)?;
        let mut host_config = body.host_config.take().unwrap_or_default();
        let networking = body.networking_config.take();
        let id = random_name()?;
        adapt::complete(&mut host_config);
        checks::conflicts(&body, &host_config)?;
        let shared = self.shared_name(&mut host_config)?;
        let (mut config, args) = config::merged(body, &image.config, &id, &host_config)?;
        if shared.is_some() {
            config.hostname = shared;
        }
        let mut warnings = Vec::new();
        checks::all(&config, &mut host_config, &mut warnings)?;
        let runtime_type = match host_config.isolation {
            Some(wire::HostConfigIsolationEnum::PROCESS) => RuntimeType::Process,
            Some(wire::HostConfigIsolationEnum::HYPERV) => RuntimeType::Hyperv,
            _ => self.0.settings.default_type,
        };
        host_config.isolation = Some(runtime_type.isolation());
        let mounts = self.mounts_of(&config, &host_config)?;
        let networks = self.endpoints_new(&id, &host_config, networking.as_ref())?;
        let mut record = Record {
            id: id.clone(),
            name: String::new(),
            created: crate::now(),
            image: image.id,
            runtime_type,
            config,
            host_config,
            args,
            mounts,
            networks,
            state: State::default(),
        };
        self.can_become(&record, runtime_type)?;
        record.name = self.take_name(name, &id)?;
        let made = self.make(&record);
        let container = made.inspect_err(|_| self.0.containers.release_name(&record.name))?;
        self.0.containers.add(container);
        self.tell_container(&record, "create", &[]);
        Ok(wire::ContainerCreateResponse { id, warnings })
    }

    /// A container that a new one names. One that is not there is no 404: clients would take it for the image
    /// and pull that.
    fn another(&self, name: &str) -> Result<Record> {
        let found = self.0.containers.get(name).map(|other| other.record());
        found.map_err(|error| Error::invalid(error.message))
    }

    /// Puts the ids of other containers whose namespaces this one shares in place of their names; the host
    /// name, when that is the other's.
    fn shared_name(&self, host: &mut wire::HostConfig) -> Result<Option<String>> {
        let other = |mode: &Option<String>| {
            let name = mode.as_deref().and_then(|mode| mode.strip_prefix("container:"));
            let name = name.filter(|name| !name.is_empty());
            name.map(|name| self.another(name)).transpose()
        };
        if let Some(other) = other(&host.pid_mode)? {
            host.pid_mode = Some(format!("container:{}", other.id));
        }
        let Some(other) = other(&host.network_mode)? else { return Ok(None) };
        host.network_mode = Some(format!("container:{}", other.id));
        Ok(Some(other.config.hostname.unwrap_or_default()))
    }

    fn take_name(&self, name: Option<String>, id: &str) -> Result<String> {
        if let Some(name) = name {
            self.0.containers.reserve_name(&name, id)?;
            return Ok(name);
        }
        for attempt in 0..16 {
            let name = name::random(attempt)?;
            if self.0.containers.reserve_name(&name, id).is_ok() {
                return Ok(name);
            }
        }
        let name = id[..12].to_string();
        self.0.containers.reserve_name(&name, id)?;
        Ok(name)
    }

    /// Makes the container's directory and its volumes; takes back what it made when something fails.
    fn make(&self, record: &Record) -> Result<Arc<Container>> {
        let mut fresh = Vec::new();
        let made = self.make_volumes(record, &mut fresh).and_then(|()| self.make_directory(record));
        if made.is_err() {
            for name in fresh {
                if let Err(error) = self.volume_remove_now(&name) {
                    tracing::warn!("{error}");
                }
            }
        }
        made
    }

    /// Makes the volumes; `fresh` are those that nobody but this container can know.
    fn make_volumes(&self, record: &Record, fresh: &mut Vec<String>) -> Result<()> {
        for mount in &record.mounts {
            if let MountKind::Volume { name, anonymous, .. } = &mount.kind {
                let known = self.volume_data(name).exists();
                let labels = mounts::volume_labels(record, mount);
                self.volume_ensure(name, *anonymous, &labels)?;
                if *anonymous && !known {
                    fresh.push(name.clone());
                }
            }
        }
        Ok(())
    }

    fn make_directory(&self, record: &Record) -> Result<Arc<Container>> {
        let data_root = &self.0.settings.data_root;
        let root = data_root.join("containers");
        let fresh = root.join(format!("new-{}", record.id));
        let made = furnish(&fresh, record).and_then(|()| {
            std::fs::rename(&fresh, root.join(&record.id))
                .doing(|| format!("make {}", root.join(&record.id).display()))
        });
        if let Err(error) = made {
            // The first failure is told; what is left goes at the next start.
            let _ = std::fs::remove_dir_all(&fresh);
            return Err(error);
        }
        Ok(Container::new(record.clone(), data_root))
    }
}

fn furnish(directory: &Path, record: &Record) -> Result<()> {
    let what = || format!("make {}", directory.display());
    let places = Places { directory: directory.to_path_buf() };
    std::fs::DirBuilder::new().mode(0o710).recursive(true).create(directory).doing(what)?;
    for path in [places.upper(), places.work(), places.rootfs()] {
        std::fs::create_dir(&path).doing(what)?;
        // The upper directory's is the mode of the container's `/`.
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).doing(what)?;
    }
    write(&places.record(), record)
}
