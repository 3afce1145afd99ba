//! Taking in archives in one pass: what `docker save` writes, OCI image layouts, and bare root file
//! systems; plain, gzip or zstd.

use std::collections::HashMap;
use std::io::{BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::{Doing, Error, Result};
use crate::reference::parse_reference;
use crate::store::{Image, Pins, Store, diff_ids};
use crate::stream::{Recorder, replay};
use crate::unpack::unpack_layer;

/// Largest document (manifest, configuration) in an archive, bytes.
const MAX_DOCUMENT: u64 = 8 << 20;
/// Most documents of one archive, bytes in all.
const MAX_DOCUMENTS: usize = 64 << 20;
/// The name that OCI archives give an image.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: String,
    /// The names it got.
    pub names: Vec<String>,
    /// Which of them another image had, with its id.
    pub taken: Vec<(String, String)>,
}

/// The digest of a layer without any entry.
const EMPTY: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// The input's fault, when it is not the system's: the archive ends early, its compression is damaged.
fn blame(error: Error) -> Error {
    use std::io::ErrorKind as E;
    match error {
        Error::Io { what, source }
            if source.raw_os_error().is_none()
                && matches!(
                    source.kind(),
                    E::InvalidData | E::InvalidInput | E::UnexpectedEof | E::Other
                ) =>
        {
            Error::Invalid(format!("{what}: {source}"))
        }
        other => other,
    }
}

/// What an archive was found to contain, by entry name.
#[derive(Default)]
struct Contents {
    documents: HashMap<String, Vec<u8>>,
    bytes: usize,
    /// Digest of the uncompressed tar.
    layers: HashMap<String, String>,
    links: HashMap<String, String>,
}

impl Store {
    /// Loads every image of an archive. `progress` is told of each layer.
    ///
    /// # Errors
    /// [`Error::Invalid`] says what about the archive is wrong; layers that came before it stay, unnamed,
    /// until the next clean-up.
    pub fn load(
        &self,
        input: &mut dyn Read,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Vec<Loaded>> {
        self.load_all(input, progress).map_err(blame)
    }

    fn load_all(
        &self,
        input: &mut dyn Read,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Vec<Loaded>> {
        let mut pins = self.pins();
        let what = || "read the archive".to_string();
        let mut contents = Contents::default();
        let mut archive = tar::Archive::new(decompressed(input)?);
        for entry in archive.entries().doing(what)? {
            let mut entry = entry.doing(what)?;
            let name = entry_name(&entry.path_bytes());
            if let Some(target) = entry.link_name_bytes() {
                contents.links.insert(name.clone(), link_target(&name, &entry_name(&target)));
            } else if entry.header().entry_type().is_file() {
                let size = entry.size();
                self.take_in(name, size, &mut entry, &mut contents, &mut pins, progress)?;
            }
        }
        let images = contents.images()?;
        if images.is_empty() {
            return Err(Error::Invalid(
                "the archive holds no image: it has neither a manifest.json nor an index.json with one"
                    .to_string(),
            ));
        }
        images.into_iter().map(|found| self.accept(&contents, found)).collect()
    }

    fn take_in(
        &self,
        name: String,
        size: u64,
        entry: &mut dyn Read,
        contents: &mut Contents,
        pins: &mut Pins,
        progress: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let what = || format!("read {name} of the archive");
        let promised = name.strip_prefix("blobs/sha256/");
        let hash = promised.map(|_| Sha256::new());
        let mut entry = BufReader::with_capacity(128 << 10, Hashed { inner: entry, hash });
        let start = std::io::BufRead::fill_buf(&mut entry).doing(what)?;
        let mut known = None;
        if looks_like_layer(start) {
            progress(&name);
            let plain = !start.starts_with(GZIP) && !start.starts_with(ZSTD);
            if plain {
                // The digest of the layer is that of the entry.
                entry.get_mut().hash = None;
            }
            let digest = self.unpack(&mut entry, pins)?;
            known = plain.then(|| digest.trim_start_matches("sha256:").to_string());
            contents.layers.insert(name.clone(), digest);
        } else if size <= MAX_DOCUMENT && contents.bytes + size as usize <= MAX_DOCUMENTS {
            let mut text = Vec::new();
            entry.read_to_end(&mut text).doing(what)?;
            contents.bytes += text.len();
            contents.documents.insert(name.clone(), text);
        }
        std::io::copy(&mut entry, &mut std::io::sink()).doing(what)?;
        let hash = entry.into_inner().hash.map(|hash| format!("{:x}", hash.finalize()));
        match (promised, known.or(hash)) {
            (Some(hex), Some(found)) if hex != found => Err(Error::Invalid(format!(
                "the archive is damaged: {name} has the digest sha256:{found}"
            ))),
            _ => Ok(()),
        }
    }

    /// Unpacks a layer, whatever its compression; the digest of its tar.
    fn unpack(&self, input: &mut dyn Read, pins: &mut Pins) -> Result<String> {
        let what = || "unpack a layer".to_string();
        let fresh = tempfile::Builder::new().prefix("new-").tempdir_in(&*self.root).doing(what)?;
        let diff = fresh.path().join("diff");
        std::fs::create_dir(&diff).doing(what)?;
        std::fs::set_permissions(&diff, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .doing(what)?;
        let record = std::fs::File::create(fresh.path().join("stream")).doing(what)?;
        let mut recorder = Recorder::new(decompressed(input)?, record).doing(what)?;
        let size = unpack_layer(&diff, &mut recorder)?;
        let hex = recorder.finish().doing(what)?;
        std::fs::write(fresh.path().join("size"), size.to_string()).doing(what)?;
        let directory = std::fs::File::open(fresh.path()).doing(what)?;
        let digest = format!("sha256:{hex}");
        if !self.layer(&digest).join("size").exists() {
            rustix::fs::syncfs(directory.as_fd()).doing(what)?;
        }
        pins.place(fresh, &digest)?;
        Ok(digest)
    }

    fn accept(&self, contents: &Contents, found: Found) -> Result<Loaded> {
        let text = contents.document(&found.config)?;
        let config = parse(text, &found.config)?;
        let declared = diff_ids(&config)?;
        let layers = found.layers.iter().map(|name| contents.layer(name));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        if declared != layers {
            return Err(Error::Invalid(format!(
                "the layers of {} are not those that its configuration names",
                found.config
            )));
        }
        let names = found.names.iter().map(|name| parse_reference(name));
        let names = names.collect::<Result<Vec<_>>>()?;
        let before = self.names().clone();
        let id = self.add(text, &names, None)?;
        let taken = names.iter().filter_map(|name| {
            let other = before.get(name).filter(|other| **other != id)?;
            Some((name.clone(), other.clone()))
        });
        Ok(Loaded { taken: taken.collect(), id, names })
    }

    /// Makes an image of one root file system tar; its id.
    pub fn import(
        &self,
        input: &mut dyn Read,
        name: Option<&str>,
        config: Value,
        message: &str,
    ) -> Result<String> {
        let names = name.map(parse_reference).transpose()?;
        let mut pins = self.pins();
        let layer = self.unpack(input, &mut pins).map_err(blame)?;
        let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Nanos, true);
        let config = json!({
            "architecture": "amd64", "os": "linux", "created": now, "config": config,
            "rootfs": { "type": "layers", "diff_ids": [layer] },
            "history": [{ "created": now, "comment": message }],
        });
        let text = serde_json::to_vec(&config).map_err(std::io::Error::from);
        let text = text.doing(|| "write the configuration".to_string())?;
        self.add(&text, &Vec::from_iter(names), None)
    }

    /// Makes an image of another one and one more layer; its id. `config` is its whole configuration, to
    /// which the layer, the time and `entry` of the history are added.
    pub fn commit(
        &self,
        layer: &mut dyn Read,
        parent: &Image,
        mut config: Value,
        mut entry: Value,
        name: Option<&str>,
    ) -> Result<String> {
        let names = name.map(parse_reference).transpose()?;
        let mut pins = self.pins();
        let digest = self.unpack(layer, &mut pins)?;
        let mut layers = parent.layers.clone();
        // Nothing changed: another configuration of the same files.
        if digest == EMPTY {
            entry["empty_layer"] = json!(true);
        } else {
            layers.push(digest);
        }
        let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Nanos, true);
        entry["created"] = json!(now);
        config["created"] = json!(now);
        config["rootfs"] = json!({ "type": "layers", "diff_ids": layers });
        let mut history = config.get("history").and_then(Value::as_array).cloned();
        history.get_or_insert_default().push(entry);
        config["history"] = json!(history);
        let text = serde_json::to_vec(&config).map_err(std::io::Error::from);
        let text = text.doing(|| "write the configuration".to_string())?;
        self.add(&text, &Vec::from_iter(names), Some(&parent.id))
    }

    /// Writes images as an archive that [`Store::load`] and Docker take.
    pub fn save(&self, names: &[String], output: &mut dyn Write) -> Result<()> {
        let what = || "write the archive".to_string();
        let mut archive = tar::Builder::new(output);
        let mut written = std::collections::BTreeSet::new();
        let mut manifest: Vec<(Image, Vec<String>)> = Vec::new();
        for name in names.iter().flat_map(|name| self.all_of(name)) {
            let image = self.get(&name)?;
            let tags = parse_reference(&name).ok().filter(|name| image.names.contains(name));
            match manifest.iter_mut().find(|(known, _)| known.id == image.id) {
                Some((_, known)) => known.extend(tags.filter(|tag| !known.contains(tag))),
                None => manifest.push((image, Vec::from_iter(tags))),
            }
        }
        for (image, _) in &manifest {
            for layer in &image.layers {
                if written.insert(layer.clone()) {
                    self.save_layer(layer, &mut archive)?;
                }
            }
            let path = self.root.join("configs").join(&image.id[7..]);
            let text = std::fs::read(&path).doing(|| format!("read {}", path.display()))?;
            append(&mut archive, &blob(&image.id), &text).doing(what)?;
        }
        let manifest: Vec<Value> = manifest
            .iter()
            .map(|(image, tags)| {
                let layers: Vec<_> = image.layers.iter().map(|layer| blob(layer)).collect();
                json!({ "Config": blob(&image.id), "RepoTags": tags, "Layers": layers })
            })
            .collect();
        let text = serde_json::to_vec(&manifest).map_err(std::io::Error::from).doing(what)?;
        append(&mut archive, "manifest.json", &text).doing(what)?;
        archive.finish().doing(what)
    }

    /// A repository without a tag means all its tags.
    fn all_of(&self, name: &str) -> Vec<String> {
        let latest = parse_reference(name).unwrap_or_default();
        let repository = latest.strip_suffix("latest").filter(|_| !name.ends_with(":latest"));
        let Some(repository) = repository else { return vec![name.to_string()] };
        let names = self.names();
        let all = names.keys().filter(|known| {
            known.strip_prefix(repository).is_some_and(|tag| !tag.contains([':', '/']))
        });
        let all: Vec<_> = all.cloned().collect();
        if all.is_empty() { vec![name.to_string()] } else { all }
    }

    fn save_layer(&self, layer: &str, archive: &mut tar::Builder<&mut dyn Write>) -> Result<()> {
        let what = || format!("write the layer {layer}");
        let place = self.layer(layer);
        let open = || std::fs::File::open(place.join("stream"));
        let root: OwnedFd = std::fs::File::open(place.join("diff")).doing(what)?.into();
        // A tar names an entry's size before its content.
        let mut counted = Counted(0);
        let digest = replay(open().doing(what)?, &root, &mut counted).doing(what)?;
        if format!("sha256:{digest}") != layer {
            return Err(Error::Invalid(format!(
                "the layer {layer} cannot be given back: its files are not what they were"
            )));
        }
        let mut header = header(counted.0);
        archive_header(&mut header, &blob(layer)).doing(what)?;
        let output = archive.get_mut();
        output.write_all(header.as_bytes()).doing(what)?;
        replay(open().doing(what)?, &root, *output).doing(what)?;
        let padding = counted.0.next_multiple_of(512) - counted.0;
        output.write_all(&[0; 512][..padding as usize]).doing(what)
    }
}

fn blob(digest: &str) -> String {
    format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"))
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn archive_header(header: &mut tar::Header, name: &str) -> std::io::Result<()> {
    header.set_path(name)?;
    header.set_cksum();
    Ok(())
}

fn append(
    archive: &mut tar::Builder<&mut dyn Write>,
    name: &str,
    text: &[u8],
) -> std::io::Result<()> {
    archive.append_data(&mut header(text.len() as u64), name, text)
}

struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Where an image's parts are in the archive.
struct Found {
    config: String,
    layers: Vec<String>,
    names: Vec<String>,
}

impl Contents {
    fn resolve<'a>(&'a self, name: &'a str) -> &'a str {
        let mut name = name;
        // A chain of links is short, or a trap.
        for _ in 0..4 {
            match self.links.get(name) {
                Some(target) => name = target,
                None => break,
            }
        }
        name
    }

    fn document(&self, name: &str) -> Result<&[u8]> {
        let text = self.documents.get(self.resolve(name)).map(Vec::as_slice);
        text.ok_or_else(|| Error::Invalid(format!("the archive lacks {name}")))
    }

    fn layer(&self, name: &str) -> Result<String> {
        let layer = self.layers.get(self.resolve(name)).cloned();
        layer.ok_or_else(|| Error::Invalid(format!("the archive lacks the layer {name}")))
    }

    fn images(&self) -> Result<Vec<Found>> {
        let strings = |value: Option<&Value>| -> Vec<String> {
            let items = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            items.iter().filter_map(Value::as_str).map(String::from).collect()
        };
        if let Some(text) = self.documents.get("manifest.json") {
            let manifest = parse(text, "manifest.json")?;
            let images = manifest.as_array().map(Vec::as_slice).unwrap_or_default();
            return Ok(images
                .iter()
                .map(|image| Found {
                    config: entry_name(
                        image.get("Config").and_then(Value::as_str).unwrap_or("").as_bytes(),
                    ),
                    layers: strings(image.get("Layers")),
                    names: strings(image.get("RepoTags")),
                })
                .collect());
        }
        let Some(text) = self.documents.get("index.json") else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        self.index(&parse(text, "index.json")?, &[], 0, &mut found)?;
        Ok(found)
    }

    fn index(
        &self,
        index: &Value,
        above: &[String],
        depth: u32,
        found: &mut Vec<Found>,
    ) -> Result<()> {
        let manifests = index.get("manifests").and_then(Value::as_array);
        for descriptor in manifests.map(Vec::as_slice).unwrap_or_default() {
            let platform = |key: &str| descriptor.pointer(key).and_then(Value::as_str);
            let foreign = platform("/platform/architecture").is_some_and(|name| name != "amd64");
            if foreign || platform("/platform/os").is_some_and(|name| name != "linux") {
                continue;
            }
            let named = descriptor.get("annotations").and_then(|all| {
                let name = NAMES.iter().find_map(|key| all.get(*key)).and_then(Value::as_str)?;
                Some(vec![name.to_string()])
            });
            let names = named.unwrap_or_else(|| above.to_vec());
            let digest = descriptor.get("digest").and_then(Value::as_str).unwrap_or_default();
            let document = parse(self.document(&blob(digest))?, digest)?;
            if document.get("manifests").is_some() {
                if depth < 3 {
                    self.index(&document, &names, depth + 1, found)?;
                }
                continue;
            }
            let part = |value: &Value| value.get("digest").and_then(Value::as_str).map(blob);
            let layers = document.get("layers").and_then(Value::as_array);
            let layers = layers.map(Vec::as_slice).unwrap_or_default();
            found.push(Found {
                config: document.get("config").and_then(part).unwrap_or_default(),
                layers: layers.iter().filter_map(part).collect(),
                names,
            });
        }
        Ok(())
    }
}

fn parse(text: &[u8], name: &str) -> Result<Value> {
    serde_json::from_slice(text)
        .map_err(|error| Error::Invalid(format!("{name} of the archive is not JSON: {error}")))
}

fn entry_name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_start_matches("./").trim_end_matches('/').to_string()
}

/// Where a link within the archive leads, textually.
fn link_target(name: &str, target: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    if !target.starts_with("../") {
        // Hard links, and links of the same directory, name the entry from the root.
        return target.to_string();
    }
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

fn looks_like_layer(start: &[u8]) -> bool {
    let block = start.get(..512);
    start.starts_with(GZIP)
        || start.starts_with(ZSTD)
        || block.is_some_and(|block| &block[257..262] == b"ustar")
        || block.is_some_and(|block| block.iter().all(|byte| *byte == 0))
}

/// What `input` holds once its compression, if any, is undone.
pub fn decompressed<'a>(input: &'a mut dyn Read) -> Result<Box<dyn Read + 'a>> {
    let what = || "read the archive".to_string();
    let mut input = BufReader::with_capacity(256 << 10, input);
    let start = std::io::BufRead::fill_buf(&mut input).doing(what)?;
    if start.starts_with(GZIP) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(input)));
    }
    if start.starts_with(ZSTD) {
        return Ok(Box::new(zstd::Decoder::with_buffer(input).doing(what)?));
    }
    Ok(Box::new(input))
}

/// Hashes what is read, if somebody wants to know.
struct Hashed<'a> {
    inner: &'a mut dyn Read,
    hash: Option<Sha256>,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..count]);
        }
        Ok(count)
    }
}
