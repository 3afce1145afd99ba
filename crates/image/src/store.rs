//! The store: configurations by digest, unpacked layers by the digest of their tar, and names.
//!
//! | below the root | what |
//! | --- | --- |
//! | `configs/HEX` | an image's configuration, whose SHA-256 is its id |
//! | `configs/HEX.parent` | the id of the image that it was committed from |
//! | `configs/HEX.held` | the configuration of an image that was removed while a container has it |
//! | `layers/HEX/diff` | an unpacked layer; `stream` beside it gives its tar back |
//! | `names.json` | name with tag to image id |
//! | `new-*` | a layer in the making or in removal; gone at the next start |
//!
//! A layer stays as long as a configuration names it, or somebody who will write such a one has pinned it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

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
    /// Bytes of the files of each layer, in the same order.
    pub layer_sizes: Vec<u64>,
    /// The id of the image that it was committed from.
    pub parent: Option<String>,
    /// When it last got a name, or was made: nanoseconds since 1970-01-01 UTC.
    pub tagged: i64,
}

/// The store of one daemon.
#[derive(Clone)]
pub struct Store {
    pub(crate) root: Arc<PathBuf>,
    /// Held while images come and go: names, and the files of `configs`.
    names: Arc<Mutex<Names>>,
    /// Layers that no configuration names yet, each with how many wait for one.
    pins: Arc<Mutex<HashMap<String, usize>>>,
}

/// Name with tag to image id.
pub(crate) type Names = BTreeMap<String, String>;

/// Layers that stay until this is dropped.
pub(crate) struct Pins<'a> {
    store: &'a Store,
    layers: Vec<String>,
}

impl Drop for Pins<'_> {
    fn drop(&mut self) {
        let mut pins = self.store.lock_pins();
        for layer in &self.layers {
            if let Some(count) = pins.get_mut(layer) {
                *count -= 1;
                if *count == 0 {
                    pins.remove(layer);
                }
            }
        }
    }
}

impl Pins<'_> {
    /// Puts the finished layer of `fresh` where it belongs, and pins it.
    pub fn place(&mut self, fresh: tempfile::TempDir, digest: &str) -> Result<()> {
        let place = self.store.layer(digest);
        let mut pins = self.store.lock_pins();
        // It may be there already, with the same content.
        if !place.join("size").exists() {
            std::fs::rename(fresh.path(), &place).doing(|| format!("make {}", place.display()))?;
            // It is not where the guard would remove it.
            drop(fresh.keep());
        }
        *pins.entry(digest.to_string()).or_default() += 1;
        self.layers.push(digest.to_string());
        Ok(())
    }
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
        let store = Store { root: Arc::new(root.to_path_buf()), names, pins: Arc::default() };
        for entry in std::fs::read_dir(root).doing(|| format!("list {}", root.display()))? {
            let entry = entry.doing(|| format!("list {}", root.display()))?;
            if entry.file_name().as_encoded_bytes().starts_with(b"new-") {
                let path = entry.path();
                std::fs::remove_dir_all(&path).doing(|| format!("remove {}", path.display()))?;
            }
        }
        // What it cannot remove takes space, and nothing else.
        let _ = store.sweep();
        Ok(store)
    }

    pub(crate) fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_pins(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the layers that are about to be added.
    pub(crate) fn pins(&self) -> Pins<'_> {
        Pins { store: self, layers: Vec::new() }
    }

    /// Every image, in the order of ids.
    pub fn list(&self) -> Vec<Image> {
        self.list_with(&self.names())
    }

    pub(crate) fn list_with(&self, names: &Names) -> Vec<Image> {
        let Ok(entries) = std::fs::read_dir(self.root.join("configs")) else { return Vec::new() };
        let ids = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let ids: BTreeSet<String> = ids.filter(|name| name.len() == 64).collect();
        ids.iter().filter_map(|hex| self.read(names, hex, hex).ok()).collect()
    }

    /// The image of a name, an id, or the unambiguous beginning of an id.
    pub fn get(&self, name: &str) -> Result<Image> {
        self.get_with(&self.names(), name)
    }

    pub(crate) fn get_with(&self, names: &Names, name: &str) -> Result<Image> {
        let missing = || {
            let shown = parse_reference(name).unwrap_or_else(|_| name.to_string());
            Error::NotFound(shown)
        };
        let known = parse_reference(name).ok().and_then(|name| names.get(&name));
        if let Some(hex) = known.map(|id| id.trim_start_matches("sha256:")) {
            return self.read(names, hex, hex);
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
            [one] => self.read(names, one, one),
            _ => Err(Error::Conflict(format!("the image id {name} is ambiguous: give more of it"))),
        }
    }

    /// The image that a container has, which may have been removed since.
    pub fn of_container(&self, id: &str) -> Result<Image> {
        let names = self.names();
        let hex = id.strip_prefix("sha256:").unwrap_or(id);
        let held = format!("{hex}.held");
        match self.get_with(&names, id) {
            Err(Error::NotFound(_)) if self.config(&held).exists() => self.read(&names, hex, &held),
            other => other,
        }
    }

    /// A file of `configs`.
    pub(crate) fn config(&self, name: &str) -> PathBuf {
        self.root.join("configs").join(name)
    }

    fn read(&self, names: &Names, hex: &str, file: &str) -> Result<Image> {
        let path = self.config(file);
        let text = std::fs::read(&path).doing(|| format!("read {}", path.display()))?;
        let config: Value = serde_json::from_slice(&text)
            .map_err(std::io::Error::from)
            .doing(|| format!("parse {}", path.display()))?;
        let layers = diff_ids(&config)?;
        let id = format!("sha256:{hex}");
        let names = names.iter().filter(|(_, to)| **to == id).map(|(name, _)| name.clone());
        let layer_sizes: Vec<u64> = layers.iter().map(|layer| self.layer_size(layer)).collect();
        let modified = std::fs::metadata(&path).and_then(|meta| meta.modified());
        let tagged = modified.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(Image {
            config,
            names: names.collect(),
            size: layer_sizes.iter().sum(),
            parent: std::fs::read_to_string(self.config(&format!("{hex}.parent"))).ok(),
            tagged: tagged.map_or(0, |time| time.as_nanos() as i64),
            layers,
            layer_sizes,
            id,
        })
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

    /// Records an image whose layers are pinned; its id.
    pub(crate) fn add(
        &self,
        config: &[u8],
        names: &[String],
        parent: Option<&str>,
    ) -> Result<String> {
        let hex = format!("{:x}", Sha256::digest(config));
        let id = format!("sha256:{hex}");
        let mut map = self.names();
        if let Some(parent) = parent.filter(|parent| **parent != *id) {
            write(&self.config(&format!("{hex}.parent")), parent.as_bytes())?;
        }
        write(&self.config(&hex), config)?;
        forget(&self.config(&format!("{hex}.held")))?;
        let mut changed = map.clone();
        changed.extend(names.iter().map(|name| (name.clone(), id.clone())));
        self.keep(&mut map, changed)?;
        Ok(id)
    }

    /// Makes the change of names last, then true.
    pub(crate) fn keep(&self, names: &mut Names, changed: Names) -> Result<()> {
        if *names != changed {
            let text = serde_json::to_vec_pretty(&changed).map_err(std::io::Error::from);
            write(&self.root.join("names.json"), &text.doing(|| "write the names".to_string())?)?;
            *names = changed;
        }
        Ok(())
    }

    /// Gives an image one more name; another image loses it.
    pub fn tag(&self, image: &str, name: &str) -> Result<()> {
        let mut names = self.names();
        let id = self.get_with(&names, image)?.id;
        let name = parse_reference(name)?;
        let mut changed = names.clone();
        let path = self.config(&id[7..]);
        let touched = std::fs::File::open(&path)
            .and_then(|file| file.set_modified(std::time::SystemTime::now()));
        touched.doing(|| format!("note the time in {}", path.display()))?;
        changed.insert(name, id);
        self.keep(&mut names, changed)
    }

    /// Removes layers that no image has and nobody has pinned; their digests and sizes.
    pub(crate) fn sweep(&self) -> Result<Vec<(String, u64)>> {
        let layers = self.root.join("layers");
        let what = || format!("list {}", layers.display());
        let mut gone = Vec::new();
        let mut doomed = Vec::new();
        {
            let pins = self.lock_pins();
            let used = self.used_layers()?;
            for entry in std::fs::read_dir(&layers).doing(what)? {
                let entry = entry.doing(what)?;
                let digest = format!("sha256:{}", entry.file_name().to_string_lossy());
                if used.contains(&digest) || pins.contains_key(&digest) {
                    continue;
                }
                // Out of the way first: a half-removed layer must not look like a whole one.
                let away = self.root.join(format!("new-{}", &digest[7..]));
                let what = || format!("remove {}", entry.path().display());
                let size = self.layer_size(&digest);
                std::fs::rename(entry.path(), &away).doing(what)?;
                doomed.push(away);
                gone.push((digest, size));
            }
        }
        for path in doomed {
            std::fs::remove_dir_all(&path).doing(|| format!("remove {}", path.display()))?;
        }
        Ok(gone)
    }

    /// The layers of all images, the held ones too. One whose configuration cannot be read stops a removal
    /// rather than lose its layers.
    fn used_layers(&self) -> Result<BTreeSet<String>> {
        let directory = self.root.join("configs");
        let what = || format!("list {}", directory.display());
        let mut used = BTreeSet::new();
        for entry in std::fs::read_dir(&directory).doing(what)? {
            let path = entry.doing(what)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.len() != 64 && !name.ends_with(".held") {
                continue;
            }
            let text = match std::fs::read(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.doing(|| format!("read {}", path.display()))?,
            };
            let config: Value = serde_json::from_slice(&text)
                .map_err(std::io::Error::from)
                .doing(|| format!("parse {}", path.display()))?;
            used.extend(diff_ids(&config)?);
        }
        Ok(used)
    }
}

/// Removes a file; that it is not there is no failure.
pub(crate) fn forget(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.doing(|| format!("remove {}", path.display())),
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
