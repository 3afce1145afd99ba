//! Writes what `docker save` writes: `manifest.json`, a configuration, one layer.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::recipe::Recipe;
use crate::cache::{digest, hexadecimal};

const BUSYBOX: &str = "/bin/busybox";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DIRECTORIES: [(&str, u32); 12] = [
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/www", 0o755),
];
const FILES: [(&str, &str); 3] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/nsswitch.conf", "hosts: files dns\n"),
];

/// The layer of Debian's static busybox: the program, its links, and the few files that programs expect.
pub fn busybox_layer(layer: &Path) -> Result<()> {
    let output = Command::new(BUSYBOX).arg("--list").output().context("run /bin/busybox")?;
    ensure!(output.status.success(), "{BUSYBOX} --list ended with {}", output.status);
    let applets = String::from_utf8(output.stdout).context("the list of busybox's applets")?;
    let mut archive = tar::Builder::new(BufWriter::new(File::create(layer)?));
    for (name, mode) in DIRECTORIES {
        let mut header = header(tar::EntryType::Directory, mode, 0);
        archive.append_data(&mut header, format!("{name}/"), std::io::empty())?;
    }
    let program = fs::read(BUSYBOX).with_context(|| format!("read {BUSYBOX}"))?;
    file(&mut archive, "bin/busybox", 0o755, &program)?;
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        archive.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    for (name, text) in FILES {
        file(&mut archive, name, 0o644, text.as_bytes())?;
    }
    archive.into_inner()?.flush()?;
    Ok(())
}

/// Writes the image of one layer to `path`.
pub fn write(recipe: &Recipe, layer: &Path, path: &Path) -> Result<()> {
    let layer_digest = file_digest(layer)?;
    let config = config(recipe, &layer_digest).to_string();
    let config_name = format!("{}.json", digest(config.as_bytes()));
    let layer_name = format!("{layer_digest}/layer.tar");
    let manifest = json!([{
        "Config": config_name,
        "RepoTags": recipe.tags,
        "Layers": [layer_name],
    }]);
    let output = File::create(path).with_context(|| format!("create {}", path.display()))?;
    let mut archive = tar::Builder::new(BufWriter::with_capacity(1 << 20, output));
    let content = File::open(layer)?;
    let mut header = header(tar::EntryType::Regular, 0o644, content.metadata()?.len());
    let content = BufReader::with_capacity(1 << 20, content);
    archive.append_data(&mut header, &layer_name, content)?;
    file(&mut archive, &config_name, 0o644, config.as_bytes())?;
    file(&mut archive, "manifest.json", 0o644, manifest.to_string().as_bytes())?;
    let output = archive.into_inner()?.into_inner().context("write the archive's end")?;
    output.sync_all().with_context(|| format!("sync {}", path.display()))
}

fn config(recipe: &Recipe, layer_digest: &str) -> Value {
    let ports = recipe.ports.iter().map(|port| (port.to_string(), json!({})));
    let ports: serde_json::Map<String, Value> = ports.collect();
    let mut config = json!({ "Env": [PATH], "Cmd": recipe.cmd });
    if !ports.is_empty() {
        config["ExposedPorts"] = ports.into();
    }
    if let Some(signal) = recipe.stop_signal {
        config["StopSignal"] = signal.into();
    }
    let created = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    json!({
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
        "history": [{ "created": created, "created_by": "cargo xtask images" }],
    })
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn file(
    archive: &mut tar::Builder<impl Write>,
    name: &str,
    mode: u32,
    content: &[u8],
) -> Result<()> {
    let mut header = header(tar::EntryType::Regular, mode, content.len() as u64);
    archive.append_data(&mut header, name, content).with_context(|| format!("write {name}"))
}

fn file_digest(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).with_context(|| format!("read {}", path.display()))? {
            0 => return Ok(hexadecimal(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::recipe::RECIPES;
    use super::*;

    #[test]
    fn an_archive_names_its_layer_by_its_content() {
        let place = tempfile::tempdir().unwrap();
        let (layer, path) = (place.path().join("layer"), place.path().join("image.tar"));
        fs::write(&layer, b"not really a layer").unwrap();
        write(&RECIPES[1], &layer, &path).unwrap();
        let mut archive = tar::Archive::new(File::open(&path).unwrap());
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        });
        let entries: std::collections::HashMap<_, _> = entries.collect();
        let manifest: Value = serde_json::from_slice(&entries["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"], json!(["nginx:latest"]));
        let layer = manifest[0]["Layers"][0].as_str().unwrap();
        assert_eq!(entries[layer], b"not really a layer");
        let config = &entries[manifest[0]["Config"].as_str().unwrap()];
        let config: Value = serde_json::from_slice(config).unwrap();
        let diff_id = format!("sha256:{}", digest(b"not really a layer"));
        assert_eq!(config["rootfs"]["diff_ids"], json!([diff_id]));
        assert_eq!(config["config"]["ExposedPorts"], json!({ "80/tcp": {} }));
        assert_eq!(config["config"]["StopSignal"], "SIGQUIT");
    }
}
