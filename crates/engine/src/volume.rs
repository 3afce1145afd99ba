//! Named volumes, all of them local: `volumes/NAME` below the data root.
//!
//! | below `volumes` | what |
//! | --- | --- |
//! | `NAME/_data` | the files |
//! | `NAME/volume.json` | labels, options and when it was made |
//! | `.new-*`, `.old-*` | one in the making, one being removed; gone at the next start |
//!
//! A volume appears and disappears by a rename, so that nobody sees half of one.

mod fill;
mod local;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use caisson_api::filters::Filters;
use caisson_api::time::rfc3339_seconds;
use serde::{Deserialize, Serialize};

use crate::containers::write;
use crate::error::Doing;
use crate::record::MountKind;
use crate::size::directory_size;
use crate::{Engine, Error, Kind, Result, blocking, wire};

pub(crate) use fill::fill_volume;

/// Marks volumes that were made without a name.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// What is recorded of a volume.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Recorded {
    labels: HashMap<String, String>,
    options: HashMap<String, String>,
    /// Nanoseconds since 1970-01-01 UTC.
    created: i64,
    anonymous: bool,
}

impl Engine {
    fn volumes_root(&self) -> PathBuf {
        self.0.settings.data_root.join("volumes")
    }

    /// The directory of a volume's files.
    pub(crate) fn volume_data(&self, name: &str) -> PathBuf {
        self.volumes_root().join(name).join("_data")
    }

    /// Makes the place of volumes, and removes what a crash left of one.
    pub(crate) fn volumes_open(&self) -> Result<()> {
        let root = self.volumes_root();
        std::fs::create_dir_all(&root).doing(|| format!("make {}", root.display()))?;
        for name in names(&root)?.iter().filter(|name| name.starts_with('.')) {
            remove_directory(&root, name)?;
        }
        Ok(())
    }

    /// The directory of a volume's files, which is made if need be, for a container about to use it.
    pub(crate) fn volume_ensure(
        &self,
        name: &str,
        anonymous: bool,
        labels: &HashMap<String, String>,
    ) -> Result<PathBuf> {
        let labels = labels.clone();
        let recorded =
            self.volume_make(name, Recorded { labels, anonymous, ..Default::default() })?;
        let data = self.volume_data(name);
        local::mount(&recorded.options, &data)?;
        Ok(data)
    }

    /// Makes a volume unless it is there; how it is recorded.
    fn volume_make(&self, name: &str, mut fresh: Recorded) -> Result<Recorded> {
        check_name(name).map_err(|error| error.doing(format!("create {name}")))?;
        if let Some(known) = self.volume_recorded(name)? {
            return Ok(known);
        }
        fresh.created = crate::now();
        if fresh.anonymous {
            fresh.labels.insert(ANONYMOUS.into(), String::new());
        }
        let root = self.volumes_root();
        std::fs::create_dir_all(&root).doing(|| format!("make {}", root.display()))?;
        let place = tempfile::Builder::new().prefix(".new-").tempdir_in(&root);
        let place = place.doing(|| format!("make the volume {name}"))?;
        let what = || format!("make the volume {name}");
        std::fs::create_dir(place.path().join("_data")).doing(what)?;
        for path in [place.path(), &place.path().join("_data")] {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .doing(what)?;
        }
        write(&place.path().join("volume.json"), &fresh)?;
        match std::fs::rename(place.path(), root.join(name)) {
            Ok(()) => {
                let _ = place.keep();
                self.tell_volume("create", name);
                Ok(fresh)
            }
            // Somebody else was quicker.
            Err(error) => match self.volume_recorded(name)? {
                Some(known) => Ok(known),
                None => Err(error).doing(what),
            },
        }
    }

    fn volume_recorded(&self, name: &str) -> Result<Option<Recorded>> {
        if check_name(name).is_err() {
            return Ok(None);
        }
        let path = self.volumes_root().join(name).join("volume.json");
        match std::fs::read(&path) {
            Ok(text) => {
                let recorded = serde_json::from_slice(&text).map_err(std::io::Error::from);
                recorded.doing(|| format!("read {}", path.display())).map(Some)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(|| format!("read {}", path.display())),
        }
    }

    fn tell_volume(&self, action: &str, name: &str) {
        let attributes = HashMap::from([("driver".to_string(), "local".to_string())]);
        self.0.events.tell(wire::EventMessageTypeEnum::VOLUME, action, name, attributes);
    }

    /// The volumes that filters leave.
    pub async fn volumes(&self, filters: &Filters) -> Result<wire::VolumeListResponse> {
        let (engine, filters) = (self.clone(), filters.clone());
        let volumes = blocking(move || engine.volumes_now(&filters)).await?;
        Ok(wire::VolumeListResponse { volumes: Some(volumes), warnings: None })
    }

    pub(crate) fn volumes_now(&self, filters: &Filters) -> Result<Vec<wire::Volume>> {
        filters.check(&["dangling", "driver", "label", "name"])?;
        let dangling = if filters.contains("dangling") {
            Some(filters.flag("dangling", false)?)
        } else {
            None
        };
        let users = self.volume_users();
        let mut volumes = Vec::new();
        for (name, recorded) in self.volumes_recorded()? {
            if filters.matches("name", &name)
                && filters.exact("driver", "local")
                && filters.labels(&recorded.labels)
                && dangling.is_none_or(|dangling| dangling != users.contains_key(&name))
            {
                volumes.push(self.volume_shown(name, recorded));
            }
        }
        Ok(volumes)
    }

    fn volumes_recorded(&self) -> Result<Vec<(String, Recorded)>> {
        let root = self.volumes_root();
        let names = if root.exists() { names(&root)? } else { Vec::new() };
        let volumes = names.into_iter().map(|name| {
            let recorded = self.volume_recorded(&name)?;
            Ok(recorded.map(|recorded| (name, recorded)))
        });
        volumes.filter_map(Result::transpose).collect()
    }

    fn volume_shown(&self, name: String, recorded: Recorded) -> wire::Volume {
        wire::Volume {
            driver: "local".into(),
            mountpoint: self.volume_data(&name).display().to_string(),
            created_at: Some(rfc3339_seconds(recorded.created)),
            status: None,
            labels: recorded.labels,
            scope: Some(wire::VolumeScopeEnum::LOCAL),
            cluster_volume: None,
            options: recorded.options,
            usage_data: None,
            name,
        }
    }

    /// Ids of the containers that have a volume, by its name.
    fn volume_users(&self) -> BTreeMap<String, Vec<String>> {
        let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for container in self.0.containers.all() {
            container.look(|record| {
                for mount in &record.mounts {
                    if let MountKind::Volume { name, .. } = &mount.kind {
                        let ids = users.entry(name.clone()).or_default();
                        if !ids.contains(&record.id) {
                            ids.push(record.id.clone());
                        }
                    }
                }
            });
        }
        users
    }

    /// One volume.
    pub async fn volume(&self, name: &str) -> Result<wire::Volume> {
        let (engine, name) = (self.clone(), name.to_string());
        blocking(move || match engine.volume_recorded(&name)? {
            Some(recorded) => Ok(engine.volume_shown(name, recorded)),
            None => Err(missing(&name)),
        })
        .await
    }

    /// Makes a volume; one that is there already is as good.
    pub async fn volume_create(&self, options: wire::VolumeCreateOptions) -> Result<wire::Volume> {
        let engine = self.clone();
        blocking(move || {
            let anonymous = options.name.as_deref().unwrap_or_default().is_empty();
            let name = if anonymous { random_name()? } else { options.name.unwrap_or_default() };
            let create = |error: Error| error.doing(format!("create {name}"));
            if let Some(driver) = options.driver.filter(|d| !d.is_empty() && d != "local") {
                return Err(create(Error::not_found(format!(
                    "error looking up volume plugin {driver}: plugin {driver:?} not found"
                ))));
            }
            let given = options.driver_opts.unwrap_or_default();
            local::check(&given).map_err(create)?;
            let labels = options.labels.unwrap_or_default();
            let fresh = Recorded { labels, options: given, anonymous, created: 0 };
            let recorded = engine.volume_make(&name, fresh)?;
            Ok(engine.volume_shown(name, recorded))
        })
        .await
    }

    /// Removes a volume that no container has; `force`: one that is not there is no error.
    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        let (engine, name) = (self.clone(), name.to_string());
        blocking(move || match engine.volume_recorded(&name)? {
            None if force => Ok(()),
            None => Err(missing(&name)),
            Some(_) => engine.volume_remove_now(&name),
        })
        .await
    }

    /// Removes a volume that is there and that no container has.
    pub(crate) fn volume_remove_now(&self, name: &str) -> Result<()> {
        if let Some(ids) = self.volume_users().get(name) {
            let ids = ids.join(", ");
            return Err(Error::conflict(format!("remove {name}: volume is in use - [{ids}]")));
        }
        let root = self.volumes_root();
        local::unmount(&self.volume_data(name))?;
        let old = format!(".old-{name}-{}", crate::now());
        std::fs::rename(root.join(name), root.join(&old))
            .doing(|| format!("remove the volume {name}"))?;
        self.tell_volume("destroy", name);
        remove_directory(&root, &old)
    }

    /// Removes the volumes that no container has: those without a name, or all with the filter `all`.
    pub async fn volumes_prune(&self, filters: &Filters) -> Result<wire::VolumePruneResponse> {
        let (engine, filters) = (self.clone(), filters.clone());
        blocking(move || engine.volumes_prune_now(&filters)).await
    }

    fn volumes_prune_now(&self, filters: &Filters) -> Result<wire::VolumePruneResponse> {
        filters.check(&["all", "label", "label!"])?;
        let all = filters.flag("all", false)?;
        let users = self.volume_users();
        let (mut removed, mut bytes) = (Vec::new(), 0);
        for (name, recorded) in self.volumes_recorded()? {
            let chosen = (all || recorded.labels.contains_key(ANONYMOUS))
                && filters.labels(&recorded.labels)
                && !users.contains_key(&name);
            if chosen {
                let size = directory_size(&self.volume_data(&name));
                match self.volume_remove_now(&name) {
                    Ok(()) => {
                        bytes += size;
                        removed.push(name);
                    }
                    // Taken into use meanwhile.
                    Err(error) if error.kind == Kind::Conflict => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let attributes = HashMap::from([("reclaimed".to_string(), bytes.to_string())]);
        self.0.events.tell(wire::EventMessageTypeEnum::VOLUME, "prune", "", attributes);
        Ok(wire::VolumePruneResponse {
            volumes_deleted: Some(removed),
            space_reclaimed: Some(bytes),
        })
    }

    /// All volumes, with how much they hold and how many containers have them.
    pub(crate) fn volumes_usage(&self) -> Result<Vec<wire::Volume>> {
        let users = self.volume_users();
        let volumes = self.volumes_now(&Filters::default())?.into_iter().map(|volume| {
            let size = directory_size(Path::new(&volume.mountpoint));
            let usage = wire::VolumeUsageData {
                size: i64::try_from(size).unwrap_or(i64::MAX),
                ref_count: users.get(&volume.name).map_or(0, Vec::len) as i64,
            };
            wire::Volume { usage_data: Some(usage), ..volume }
        });
        Ok(volumes.collect())
    }
}

fn missing(name: &str) -> Error {
    Error::not_found(format!("get {name}: no such volume"))
}

fn names(root: &Path) -> Result<Vec<String>> {
    let what = || format!("list {}", root.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root).doing(what)? {
        names.extend(entry.doing(what)?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

fn remove_directory(root: &Path, name: &str) -> Result<()> {
    let what = || format!("remove {}", root.join(name).display());
    let root = std::fs::File::open(root).doing(what)?;
    caisson_image::unpack::remove_tree(&root.into(), name.as_ref()).doing(what)
}

fn check_name(name: &str) -> Result<()> {
    if name.len() == 1 {
        return Err(Error::invalid(
            "volume name is too short, names should be at least two alphanumeric characters",
        ));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let good = name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.bytes().all(allowed)
        && name.len() <= 255;
    if good {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{name:?} includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use \
         absolute path"
    )))
}

/// 64 hexadecimal digits that nobody guesses.
pub(crate) fn random_name() -> Result<String> {
    let mut bytes = [0; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .doing(|| "ask the kernel for random bytes")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_in_dockers_words() {
        for good in ["v1", "a.b-c_d", &"a".repeat(64)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".x", "a/b", "a b", "..", "-a", "é1"] {
            let error = check_name(bad).unwrap_err();
            assert!(error.message.contains("includes invalid characters"), "{bad}");
            assert_eq!(error.kind, Kind::Invalid);
        }
        assert!(check_name("a").unwrap_err().message.starts_with("volume name is too short"));
        assert_eq!(random_name().unwrap().len(), 64);
    }
}
