//! `--mount`, `--volume` and `--tmpfs`.

use std::collections::HashMap;
use std::path::Path;

use caisson_api::wire::{
    Mount, MountBindOptions, MountBindOptionsPropagationEnum as Propagation, MountImageOptions,
    MountTmpfsOptions, MountTypeEnum, MountVolumeOptions, MountVolumeOptionsDriverConfig,
};
use caisson_api::words::parse_size;

use super::environment::pair;
use crate::failure::{Failure, Result};

/// What `--volume` says: binds, and paths of anonymous volumes.
#[derive(Debug, Default, PartialEq)]
pub struct Volumes {
    pub binds: Vec<String>,
    pub anonymous: Vec<String>,
}

impl Volumes {
    pub fn parse(given: &[String]) -> Result<Self> {
        let mut volumes = Volumes::default();
        for text in given {
            match text.split_once(':') {
                None => volumes.anonymous.push(text.clone()),
                Some(("", _)) => return Err(wrong(text, "empty section between colons")),
                Some((source, rest)) => {
                    volumes.binds.push(format!("{}:{rest}", absolute(source)?));
                }
            }
        }
        Ok(volumes)
    }
}

fn wrong(text: &str, why: &str) -> Failure {
    Failure::words(format!("invalid spec: {text}: {why}"))
}

/// `./x` and `../x` from where the user is; names of volumes stay.
fn absolute(source: &str) -> Result<String> {
    if !source.starts_with('.') {
        return Ok(source.to_string());
    }
    let here = std::env::current_dir().map_err(Failure::io("find the current directory"))?;
    let path = here.join(source);
    let mut parts: Vec<&std::ffi::OsStr> = Vec::new();
    for part in Path::new(&path).components() {
        match part {
            std::path::Component::Normal(name) => parts.push(name),
            std::path::Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    let parts: Vec<_> = parts.iter().map(|part| part.to_string_lossy()).collect();
    Ok(format!("/{}", parts.join("/")))
}

/// `--tmpfs PATH[:OPTIONS]`.
pub fn tmpfs(given: &[String]) -> HashMap<String, String> {
    let split = |text: &String| {
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        (path.to_string(), options.to_string())
    };
    given.iter().map(split).collect()
}

/// `--mount type=…,source=…,target=…`.
pub fn mount(text: &str) -> Result<Mount> {
    let mut mount = Mount { typ: Some(MountTypeEnum::VOLUME), ..Mount::default() };
    for field in fields(text) {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        set(&mut mount, &key.to_ascii_lowercase(), value, &field)?;
    }
    check(&mount, text)?;
    Ok(mount)
}

/// Splits at commas; a field may be in double quotes.
fn fields(text: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    for character in text.chars() {
        match (character, quoted) {
            ('"', _) => quoted = !quoted,
            (',', false) => fields.push(String::new()),
            _ => fields.last_mut().into_iter().for_each(|field| field.push(character)),
        }
    }
    fields
}

fn set(mount: &mut Mount, key: &str, value: Option<&str>, field: &str) -> Result<()> {
    let needed = || {
        value.ok_or_else(|| {
            Failure::words(format!("invalid field '{field}' must be a key=value pair"))
        })
    };
    match key {
        "readonly" | "ro" => mount.read_only = Some(boolean(key, value)?),
        "bind-nonrecursive" => bind(mount).non_recursive = Some(boolean(key, value)?),
        "bind-create-mountpoint" => bind(mount).create_mountpoint = Some(boolean(key, value)?),
        "volume-nocopy" => volume(mount).no_copy = Some(boolean(key, value)?),
        "type" => mount.typ = Some(kind(needed()?)?),
        "source" | "src" => mount.source = Some(absolute(needed()?)?),
        "target" | "dst" | "destination" => mount.target = Some(needed()?.to_string()),
        "consistency" => mount.consistency = Some(needed()?.to_ascii_lowercase()),
        "bind-propagation" => bind(mount).propagation = Some(propagation(needed()?)?),
        "bind-recursive" => recursive(bind(mount), needed()?)?,
        "volume-subpath" => volume(mount).subpath = Some(needed()?.to_string()),
        "volume-label" => {
            let (key, value) = pair(needed()?);
            volume(mount).labels.get_or_insert_default().insert(key, value);
        }
        "volume-driver" => driver(mount).name = Some(needed()?.to_string()),
        "volume-opt" => {
            let (key, value) = pair(needed()?);
            driver(mount).options.get_or_insert_default().insert(key, value);
        }
        "image-subpath" => {
            let options = mount.image_options.get_or_insert_with(MountImageOptions::default);
            options.subpath = Some(needed()?.to_string());
        }
        "tmpfs-size" => {
            let value = needed()?;
            let size = parse_size(value)
                .map_err(|error| Failure::words(format!("invalid value for {key}: {error}")))?;
            temporary(mount).size_bytes = Some(size);
        }
        "tmpfs-mode" => {
            let value = needed()?;
            let mode = i64::from_str_radix(value, 8)
                .map_err(|_| Failure::words(format!("invalid value for {key}: {value}")))?;
            temporary(mount).mode = Some(mode);
        }
        _ => {
            return Err(Failure::words(match value {
                Some(_) => format!("unexpected key '{key}' in '{field}'"),
                None => format!("invalid field '{field}' must be a key=value pair"),
            }));
        }
    }
    Ok(())
}

fn bind(mount: &mut Mount) -> &mut MountBindOptions {
    mount.bind_options.get_or_insert_with(MountBindOptions::default)
}

fn volume(mount: &mut Mount) -> &mut MountVolumeOptions {
    mount.volume_options.get_or_insert_with(MountVolumeOptions::default)
}

fn driver(mount: &mut Mount) -> &mut MountVolumeOptionsDriverConfig {
    volume(mount).driver_config.get_or_insert_with(MountVolumeOptionsDriverConfig::default)
}

fn temporary(mount: &mut Mount) -> &mut MountTmpfsOptions {
    mount.tmpfs_options.get_or_insert_with(MountTmpfsOptions::default)
}

fn boolean(key: &str, value: Option<&str>) -> Result<bool> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(value) => Err(Failure::words(format!("invalid value for {key}: {value}"))),
    }
}

fn kind(text: &str) -> Result<MountTypeEnum> {
    match text.to_ascii_lowercase().as_str() {
        "bind" => Ok(MountTypeEnum::BIND),
        "volume" => Ok(MountTypeEnum::VOLUME),
        "tmpfs" => Ok(MountTypeEnum::TMPFS),
        "image" => Ok(MountTypeEnum::IMAGE),
        _ => {
            Err(Failure::words(format!("mount type unknown: {text:?}: use bind, volume or tmpfs")))
        }
    }
}

fn propagation(text: &str) -> Result<Propagation> {
    match text {
        "private" => Ok(Propagation::PRIVATE),
        "rprivate" => Ok(Propagation::RPRIVATE),
        "shared" => Ok(Propagation::SHARED),
        "rshared" => Ok(Propagation::RSHARED),
        "slave" => Ok(Propagation::SLAVE),
        "rslave" => Ok(Propagation::RSLAVE),
        _ => Err(Failure::words(format!("invalid value for bind-propagation: {text}"))),
    }
}

fn recursive(options: &mut MountBindOptions, text: &str) -> Result<()> {
    match text {
        "enabled" => {}
        "disabled" => options.non_recursive = Some(true),
        "writable" => options.read_only_non_recursive = Some(true),
        "readonly" => options.read_only_force_recursive = Some(true),
        _ => {
            return Err(Failure::words(format!(
                "invalid value for bind-recursive: {text} (must be enabled, disabled, writable or readonly)"
            )));
        }
    }
    Ok(())
}

fn check(mount: &Mount, text: &str) -> Result<()> {
    if mount.target.as_deref().unwrap_or_default().is_empty() {
        return Err(Failure::words(format!("target is required: --mount {text}")));
    }
    let mixed = [
        ("volume-*", mount.volume_options.is_some(), MountTypeEnum::VOLUME),
        ("bind-*", mount.bind_options.is_some(), MountTypeEnum::BIND),
        ("tmpfs-*", mount.tmpfs_options.is_some(), MountTypeEnum::TMPFS),
        ("image-*", mount.image_options.is_some(), MountTypeEnum::IMAGE),
    ];
    for (options, given, typ) in mixed {
        if given && mount.typ != Some(typ) {
            let kind = mount.typ.map(|typ| typ.to_string()).unwrap_or_default();
            return Err(Failure::words(format!(
                "cannot mix '{options}' options with mount type '{kind}'"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_every_type() {
        let bound = mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave").unwrap();
        assert_eq!(bound.typ, Some(MountTypeEnum::BIND));
        assert_eq!((bound.source.as_deref(), bound.target.as_deref()), (Some("/a"), Some("/b")));
        assert_eq!(bound.read_only, Some(true));
        assert_eq!(bound.bind_options.unwrap().propagation, Some(Propagation::RSLAVE));

        let named =
            mount("source=v,target=/b,volume-nocopy=true,volume-opt=type=nfs,\"volume-opt=o=a,b\"");
        let options = named.unwrap().volume_options.unwrap();
        assert_eq!(options.no_copy, Some(true));
        let driver = options.driver_config.unwrap().options.unwrap();
        assert_eq!((driver["type"].as_str(), driver["o"].as_str()), ("nfs", "a,b"));

        let memory = mount("type=tmpfs,destination=/t,tmpfs-size=64m,tmpfs-mode=1770").unwrap();
        let options = memory.tmpfs_options.unwrap();
        assert_eq!((options.size_bytes, options.mode), (Some(64 << 20), Some(0o1770)));
    }

    #[test]
    fn wrong_mounts_are_named() {
        let cases = [
            ("type=bind,src=/a", "target is required: --mount type=bind,src=/a"),
            ("type=nfs,target=/a", "mount type unknown: \"nfs\": use bind, volume or tmpfs"),
            ("target=/a,colour=red", "unexpected key 'colour' in 'colour=red'"),
            ("target", "invalid field 'target' must be a key=value pair"),
            ("target=/a,readonly=x", "invalid value for readonly: x"),
            (
                "type=bind,source=/a,target=/b,volume-nocopy",
                "cannot mix 'volume-*' options with mount type 'bind'",
            ),
        ];
        for (text, words) in cases {
            assert_eq!(mount(text).unwrap_err().sentence(), words);
        }
    }

    #[test]
    fn volumes_are_binds_or_anonymous() {
        let given = ["/data", "v:/x:ro", "/a:/b", "./rel/../c:/d"].map(String::from);
        let volumes = Volumes::parse(&given).unwrap();
        let here = std::env::current_dir().unwrap();
        let relative = format!("{}/c:/d", here.display());
        assert_eq!(volumes.anonymous, ["/data"]);
        assert_eq!(volumes.binds, ["v:/x:ro", "/a:/b", relative.as_str()]);
        assert!(Volumes::parse(&[":/x".into()]).is_err());
    }

    #[test]
    fn memory_file_systems_have_options() {
        let given = ["/a".to_string(), "/b:size=1m,mode=700".to_string()];
        let all = tmpfs(&given);
        assert_eq!((all["/a"].as_str(), all["/b"].as_str()), ("", "size=1m,mode=700"));
    }
}
