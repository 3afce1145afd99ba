//! The store: configurations by digest, unpacked layers by the digest of their tar, and names.
//!
//! | below the root | what |
//! | --- | --- |
//! | `configs/HEX` | an image's configuration, whose SHA-256 is its id |
//! | `layers/HEX/diff` | an unpacked layer; `stream` beside it gives its tar back |
//! | `names.json` | name with tag to image id |
//! | `new-*` | a layer in the making; removed at the next start |

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Doing, Error, Result};
use crate::reference::parse_reference;

/// An image.
#[derive(Debug, Clone)]
pub struct Image {
    /// `sha256:` and the hexadecimal digest of its configuration.
    pub id: String,
    /// Its configuration as it came: Docker's image specification 1.2.
    pub config: Value,
    /// Names with tags, in order.
    pub names: Vec<String>,
    /// Bytes of all its layers' files.
    pub size: u64,
    /// Digests of its layers' tars, `sha256:HEX`, bottom first.
    pub layers: Vec<String>,
}

/// What removing an image did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// This name is gone.
    Untagged(String),
    /// This image or layer is gone.
    Deleted(String),
}

/// The store of one daemon.
#[derive(Clone)]
pub struct Store {
    pub(crate) root: Arc<PathBuf>,
    names: Arc<Mutex<BTreeMap<String, String>>>,
    /// Read by who adds layers, written by who removes unreferenced ones.
    pub(crate) adding: Arc<RwLock<()>>,
}

impl Store {
    /// Opens the store at `root`, made if need be, and removes what a crash left.
    pub fn open(root: &Path) -> Result<Store> {
        for directory in ["configs", "layers"] {
            let path = root.join(directory);
            std::fs::create_dir_all(&path).doing(|| format!("make {}", path.display()))?;
        }
        let path = root.join("names.json");
        let names = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(std::io::Error::from),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        };
        let names = Arc::new(Mutex::new(names.doing(|| format!("read {}", path.display()))?));
        let store = Store { root: Arc::new(root.to_path_buf()), names, adding: Arc::default() };
        for entry in std::fs::read_dir(root).doing(|| format!("list {}", root.display()))? {
            let entry = entry.doing(|| format!("list {}", root.display()))?;
            if entry.file_name().as_encoded_bytes().starts_with(b"new-") {
                let path = entry.path();
                std::fs::remove_dir_all(&path).doing(|| format!("remove {}", path.display()))?;
            }
        }
        store.sweep()?;
        Ok(store)
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.names.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Every image, in the order of ids.
    pub fn list(&self) -> Vec<Image> {
        let Ok(entries) = std::fs::read_dir(self.root.join("configs")) else { return Vec::new() };
        let ids = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let ids: BTreeSet<String> = ids.filter(|name| name.len() == 64).collect();
        ids.iter().filter_map(|hex| self.read(hex).ok()).collect()
    }

    /// The image of a name, an id, or the unambiguous beginning of an id.
    pub fn get(&self, name: &str) -> Result<Image> {
        let missing = || {
            let shown = parse_reference(name).unwrap_or_else(|_| name.to_string());
            Error::NotFound(shown)
        };
        let known = parse_reference(name).ok().and_then(|name| self.names().get(&name).cloned());
        if let Some(id) = known {
            return self.read(id.trim_start_matches("sha256:"));
        }
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        if hex.is_empty() || hex.len() > 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            parse_reference(name)?;
            return Err(missing());
        }
        let entries = std::fs::read_dir(self.root.join("configs"));
        let entries = entries.doing(|| "list the images".to_string())?;
        let found: Vec<_> = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|known| known.starts_with(hex) && known.len() == 64)
            .collect();
        match found.as_slice() {
            [] => Err(missing()),
            [one] => self.read(one),
            _ => Err(Error::Conflict(format!("the image id {name} is ambiguous: give more of it"))),
        }
    }

    fn read(&self, hex: &str) -> Result<Image> {
        let path = self.root.join("configs").join(hex);
        let text = std::fs::read(&path).doing(|| format!("read {}", path.display()))?;
        let config: Value = serde_json::from_slice(&text)
            .map_err(std::io::Error::from)
            .doing(|| format!("parse {}", path.display()))?;
        let layers = diff_ids(&config)?;
        let id = format!("sha256:{hex}");
        let names = self.names();
        let names = names.iter().filter(|(_, to)| **to == id).map(|(name, _)| name.clone());
        let size = layers.iter().map(|layer| self.layer_size(layer)).sum();
        Ok(Image { config, names: names.collect(), size, layers, id })
    }

    /// Bytes of the files of a layer, by the digest of its tar.
    pub fn layer_size(&self, digest: &str) -> u64 {
        let text = std::fs::read_to_string(self.layer(digest).join("size"));
        text.ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn layer(&self, digest: &str) -> PathBuf {
        self.root.join("layers").join(digest.trim_start_matches("sha256:"))
    }

    /// The directories of an image's layers, topmost first.
    pub fn layer_paths(&self, image: &Image) -> Vec<PathBuf> {
        image.layers.iter().rev().map(|layer| self.layer(layer).join("diff")).collect()
    }

    /// Records an image whose layers are there; its id.
    pub(crate) fn add(&self, config: &[u8], names: &[String]) -> Result<String> {
        let hex = format!("{:x}", Sha256::digest(config));
        write(&self.root.join("configs").join(&hex), config)?;
        let id = format!("sha256:{hex}");
        let mut map = self.names();
        let mut changed = map.clone();
        changed.extend(names.iter().map(|name| (name.clone(), id.clone())));
        self.keep(&mut map, changed)?;
        Ok(id)
    }

    /// Makes the change of names last, then true.
    fn keep(
        &self,
        names: &mut BTreeMap<String, String>,
        changed: BTreeMap<String, String>,
    ) -> Result<()> {
        if *names != changed {
            let text = serde_json::to_vec_pretty(&changed).map_err(std::io::Error::from);
            write(&self.root.join("names.json"), &text.doing(|| "write the names".to_string())?)?;
            *names = changed;
        }
        Ok(())
    }

    /// Gives an image one more name; another image loses it.
    pub fn tag(&self, image: &str, name: &str) -> Result<()> {
        let id = self.get(image)?.id;
        let name = parse_reference(name)?;
        let mut names = self.names();
        let mut changed = names.clone();
        changed.insert(name, id);
        self.keep(&mut names, changed)
    }

    /// Removes a name, and the image with its last name. `in_use` says what uses an image, such as `running container ID`.
    pub fn remove(
        &self,
        name: &str,
        force: bool,
        in_use: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Vec<Removed>> {
        let _alone = self.adding.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let image = self.get(name)?;
        let reference = parse_reference(name).ok().filter(|name| image.names.contains(name));
        let short = &image.id[7..19];
        if let (None, true, false) = (&reference, image.names.len() > 1, force) {
            return Err(Error::Conflict(format!(
                "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
            )));
        }
        let last = reference.is_none() || image.names.len() == 1;
        if last && let Some(user) = in_use(&image.id) {
            return Err(Error::Conflict(format!(
                "conflict: unable to delete {short} (cannot be forced) - image is being used by {user}"
            )));
        }
        let gone = reference.map_or_else(|| image.names.clone(), |name| vec![name]);
        let mut names = self.names();
        let mut changed = names.clone();
        changed.retain(|name, _| !gone.contains(name));
        self.keep(&mut names, changed)?;
        drop(names);
        let mut removed: Vec<_> = gone.into_iter().map(Removed::Untagged).collect();
        if last {
            let path = self.root.join("configs").join(&image.id[7..]);
            std::fs::remove_file(&path).doing(|| format!("remove {}", path.display()))?;
            removed.push(Removed::Deleted(image.id));
            removed.extend(self.sweep()?.into_iter().map(Removed::Deleted));
        }
        Ok(removed)
    }

    /// Removes layers that no image has; their digests.
    fn sweep(&self) -> Result<Vec<String>> {
        let used: BTreeSet<String> =
            self.list().into_iter().flat_map(|image| image.layers).collect();
        let layers = self.root.join("layers");
        let mut gone = Vec::new();
        for entry in std::fs::read_dir(&layers).doing(|| format!("list {}", layers.display()))? {
            let entry = entry.doing(|| format!("list {}", layers.display()))?;
            let digest = format!("sha256:{}", entry.file_name().to_string_lossy());
            if !used.contains(&digest) {
                // Out of the way first: a half-removed layer must not look like a whole one.
                let doomed = self.root.join(format!("new-{}", &digest[7..]));
                let what = || format!("remove {}", entry.path().display());
                std::fs::rename(entry.path(), &doomed).doing(what)?;
                std::fs::remove_dir_all(&doomed).doing(what)?;
                gone.push(digest);
            }
        }
        Ok(gone)
    }
}

/// The layers that a configuration names.
pub(crate) fn diff_ids(config: &Value) -> Result<Vec<String>> {
    let ids = config.pointer("/rootfs/diff_ids").and_then(Value::as_array);
    let ids = ids.map(Vec::as_slice).unwrap_or_default();
    let digest = |id: &Value| {
        let hex = id.as_str()?.strip_prefix("sha256:")?;
        let whole = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        whole.then(|| format!("sha256:{hex}"))
    };
    let invalid = |id: &Value| Error::Invalid(format!("the image's layer digest {id} is not one"));
    ids.iter().map(|id| digest(id).ok_or_else(|| invalid(id))).collect()
}

/// Writes a file so that a reader, now or after a crash, sees all of it or what was there before.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<()> {
    let what = || format!("write {}", path.display());
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(directory).doing(what)?;
    file.write_all(content).doing(what)?;
    file.as_file().sync_all().doing(what)?;
    file.persist(path).map_err(|error| error.error).doing(what)?;
    std::fs::File::open(directory).and_then(|d| d.sync_all()).doing(what)
}
