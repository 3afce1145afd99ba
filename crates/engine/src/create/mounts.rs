//! What is mounted into a container: binds, volumes and tmpfs, in all the forms that clients give them.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use super::tmpfs;
use crate::Engine;
use crate::error::{Error, Result};
use crate::record::{MountKind, MountRecord, Record};
use crate::volume::random_name;
use crate::wire::{self, HostConfig};

impl Engine {
    /// The mounts of a new container: given ones first, then those of other containers, then the volumes that
    /// the configuration asks for where nothing else is.
    pub(super) fn mounts_of(
        &self,
        config: &wire::ContainerConfig,
        host: &HostConfig,
    ) -> Result<Vec<MountRecord>> {
        let mut mounts: Vec<MountRecord> = Vec::new();
        let mut add = |mount: MountRecord| {
            if mounts.iter().any(|other| other.destination == mount.destination) {
                return Err(Error::invalid(format!(
                    "Duplicate mount point: {}",
                    mount.destination.display()
                )));
            }
            mounts.push(mount);
            Ok(())
        };
        for text in host.binds.iter().flatten() {
            add(bind(text)?)?;
        }
        for mount in host.mounts.iter().flatten() {
            add(structured(mount)?)?;
        }
        for (target, options) in host.tmpfs.iter().flatten() {
            let options = options.split(',').filter(|option| !option.is_empty());
            let options: Vec<String> = options.map(String::from).collect();
            tmpfs::check(&options)?;
            add(plain(destination(target)?, MountKind::Tmpfs { options }))?;
        }
        for text in host.volumes_from.iter().flatten() {
            for mount in self.mounts_from(text)? {
                if !mounts.iter().any(|other| other.destination == mount.destination) {
                    mounts.push(mount);
                }
            }
        }
        for target in config.volumes.iter().flatten().map(|(target, _)| target) {
            let target = destination(target)?;
            if !mounts.iter().any(|other| other.destination == target) {
                mounts.push(plain(target, anonymous()?));
            }
        }
        Ok(mounts)
    }

    /// The volumes and binds of another container: `NAME`, `NAME:ro` or `NAME:rw`.
    fn mounts_from(&self, text: &str) -> Result<Vec<MountRecord>> {
        let (name, mode) = text.split_once(':').unwrap_or((text, "rw"));
        if name.is_empty() {
            return Err(Error::invalid(format!("malformed volumesFrom specification: '{text}'")));
        }
        let words: Vec<&str> = mode.split(',').collect();
        if !words.iter().all(|word| matches!(*word, "rw" | "ro" | "z" | "Z" | "nocopy")) {
            return Err(Error::invalid(format!("invalid mode: {mode}")));
        }
        let read_only = words.contains(&"ro");
        let mounts = self.another(name)?.mounts;
        Ok(mounts.into_iter().filter_map(|mount| inherited(mount, read_only)).collect())
    }
}

/// A mount as another container gets it; its files are there already.
fn inherited(mount: MountRecord, read_only: bool) -> Option<MountRecord> {
    let kind = match mount.kind {
        MountKind::Tmpfs { .. } => return None,
        MountKind::Volume { name, subpath, anonymous, .. } => {
            MountKind::Volume { name, copy: false, subpath, anonymous }
        }
        bind => bind,
    };
    Some(MountRecord { kind, read_only: mount.read_only || read_only, ..mount })
}

/// Labels that a mount gives the volume it makes.
pub(super) fn volume_labels(record: &Record, mount: &MountRecord) -> HashMap<String, String> {
    let given = record.host_config.mounts.iter().flatten().find(|given| {
        given.target.as_deref().is_some_and(|target| clean(target) == mount.destination)
    });
    given.and_then(|given| given.volume_options.as_ref()?.labels.clone()).unwrap_or_default()
}

fn plain(destination: PathBuf, kind: MountKind) -> MountRecord {
    MountRecord {
        destination,
        kind,
        read_only: false,
        propagation: String::new(),
        mode: String::new(),
    }
}

fn anonymous() -> Result<MountKind> {
    Ok(MountKind::Volume { name: random_name()?, copy: true, subpath: None, anonymous: true })
}

/// What may be mounted in /proc: no runtime allows more.
const IN_PROC: [&str; 9] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
];

/// Checks where something is mounted, and takes detours out of the path.
fn destination(text: &str) -> Result<PathBuf> {
    let invalid = |why: &str| Error::invalid(format!("invalid mount path: '{text}' {why}"));
    if !text.starts_with('/') {
        return Err(invalid("mount path must be absolute"));
    }
    if text.contains('\0') {
        return Err(invalid("it has a zero byte"));
    }
    let path = clean(text);
    if path == Path::new("/") {
        return Err(Error::invalid("invalid specification: destination can't be '/'"));
    }
    if path.starts_with("/proc") && !IN_PROC.iter().any(|allowed| path == Path::new(allowed)) {
        return Err(invalid("nothing can be mounted on or in /proc"));
    }
    Ok(path)
}

/// An absolute path in a container without detours.
pub(crate) fn clean(text: &str) -> PathBuf {
    let mut path = PathBuf::from("/");
    for part in Path::new(text).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::ParentDir => {
                path.pop();
            }
            _ => {}
        }
    }
    path
}

/// `SOURCE:DESTINATION[:OPTIONS]` or `DESTINATION`, which is an anonymous volume.
fn bind(text: &str) -> Result<MountRecord> {
    let invalid = || Error::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => return Ok(plain(destination(target)?, anonymous()?)),
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err(invalid()),
    };
    if source.is_empty() || target.is_empty() {
        return Err(invalid());
    }
    let is_volume = !source.starts_with('/');
    if is_volume && source.starts_with(['.', '~']) {
        return Err(Error::invalid(format!(
            "\"{source}\" includes invalid characters for a local volume name: give a host directory as an absolute path"
        )));
    }
    let mut mount = plain(destination(target)?, MountKind::Tmpfs { options: Vec::new() });
    let (mut copy, mut recursive) = (true, true);
    refuse_contradictions(options)?;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => mount.read_only = true,
            "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" => {}
            "nocopy" if is_volume => copy = false,
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" if !is_volume => {
                mount.propagation = option.into();
            }
            "bind-nonrecursive" => recursive = false,
            _ => return Err(Error::invalid(format!("invalid mode: {options}"))),
        }
    }
    mount.mode = options.into();
    mount.kind = if is_volume {
        MountKind::Volume { name: source.into(), copy, subpath: None, anonymous: false }
    } else {
        if mount.propagation.is_empty() {
            mount.propagation = "rprivate".into();
        }
        MountKind::Bind { source: clean(source), recursive }
    };
    if is_volume && mount.mode.is_empty() {
        mount.mode = "z".into();
    }
    Ok(mount)
}

/// Refuses options of which there can be one of a kind.
fn refuse_contradictions(options: &str) -> Result<()> {
    const KINDS: [&[&str]; 4] = [
        &["ro", "rw"],
        &["z", "Z"],
        &["private", "rprivate", "shared", "rshared", "slave", "rslave"],
        &["cached", "delegated", "consistent"],
    ];
    for kind in KINDS {
        if options.split(',').filter(|option| kind.contains(option)).count() > 1 {
            return Err(Error::invalid(format!("invalid mode: {options}")));
        }
    }
    Ok(())
}

/// An entry of `Mounts`.
fn structured(mount: &wire::Mount) -> Result<MountRecord> {
    use wire::MountTypeEnum as Type;
    let given = |text: &Option<String>| text.clone().unwrap_or_default();
    let (source, target) = (given(&mount.source), given(&mount.target));
    let wrong = |why: &str| {
        Error::invalid(format!("invalid mount config for type \"{}\": {why}", word(mount.typ)))
    };
    if target.is_empty() {
        return Err(wrong("field Target must not be empty"));
    }
    use Type as T;
    for (given, only, field) in [
        (mount.bind_options.is_some(), T::BIND, "BindOptions"),
        (mount.volume_options.is_some(), T::VOLUME, "VolumeOptions"),
        (mount.tmpfs_options.is_some(), T::TMPFS, "TmpfsOptions"),
    ] {
        if given && mount.typ != Some(only) {
            return Err(wrong(&format!("field {field} must not be specified")));
        }
    }
    let mut record = plain(destination(&target)?, MountKind::Tmpfs { options: Vec::new() });
    record.read_only = mount.read_only == Some(true);
    record.kind = match mount.typ {
        Some(Type::BIND) => {
            if source.is_empty() {
                return Err(wrong("field Source must not be empty"));
            }
            if !source.starts_with('/') {
                return Err(wrong(&format!(
                    "invalid mount path: '{source}' mount path must be absolute"
                )));
            }
            let options = mount.bind_options.clone().unwrap_or_default();
            record.propagation = options.propagation.map(|p| p.to_string()).unwrap_or_default();
            if record.propagation.is_empty() {
                record.propagation = "rprivate".into();
            }
            let source = clean(&source);
            if options.create_mountpoint != Some(true) && !source.exists() {
                return Err(wrong(&format!(
                    "bind source path does not exist: {}",
                    source.display()
                )));
            }
            MountKind::Bind { source, recursive: options.non_recursive != Some(true) }
        }
        Some(Type::VOLUME) => {
            let options = mount.volume_options.clone().unwrap_or_default();
            let driver = options.driver_config.as_ref().and_then(|d| d.name.clone());
            if let Some(driver) = driver.filter(|d| !d.is_empty() && d != "local") {
                return Err(wrong(&format!("no volume driver named {driver}: take local")));
            }
            let of_driver = options.driver_config.and_then(|driver| driver.options);
            if of_driver.is_some_and(|options| !options.is_empty()) {
                return Err(wrong(
                    "driver options are not taken here: make the volume with them first (volume create -o)",
                ));
            }
            let anonymous = source.is_empty();
            let name = if anonymous { random_name()? } else { source };
            let subpath = options.subpath.filter(|path| !path.is_empty()).map(PathBuf::from);
            if subpath.as_ref().is_some_and(|path| !beneath(path)) {
                return Err(wrong("subpath must be a relative path within the volume"));
            }
            record.mode = "z".into();
            MountKind::Volume { name, copy: options.no_copy != Some(true), subpath, anonymous }
        }
        Some(Type::TMPFS) => {
            if !source.is_empty() {
                return Err(wrong("field Source must not be specified"));
            }
            let given = mount.tmpfs_options.clone().unwrap_or_default();
            let size = given.size_bytes.filter(|size| *size > 0).map(|size| format!("size={size}"));
            let mode = given.mode.filter(|mode| *mode > 0).map(|mode| format!("mode={mode:o}"));
            let more = given.options.into_iter().flatten().map(|option| option.join("="));
            let options: Vec<String> = size.into_iter().chain(mode).chain(more).collect();
            tmpfs::check(&options)?;
            MountKind::Tmpfs { options }
        }
        _ => {
            return Err(Error::invalid(format!(
                "mount type {:?} unknown: it is bind, volume or tmpfs",
                word(mount.typ)
            )));
        }
    };
    Ok(record)
}

fn word(kind: Option<wire::MountTypeEnum>) -> String {
    kind.map(|kind| kind.to_string()).unwrap_or_default()
}

fn beneath(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_are_read() {
        let mount = bind("/src/:/data/x/../y:ro,rshared").unwrap();
        assert_eq!(mount.destination, Path::new("/data/y"));
        assert!(mount.read_only && mount.propagation == "rshared");
        assert_eq!(mount.kind, MountKind::Bind { source: "/src".into(), recursive: true });
        let mount = bind("cache:/c:nocopy").unwrap();
        let MountKind::Volume { name, copy: false, anonymous: false, .. } = mount.kind else {
            panic!("{mount:?}")
        };
        assert_eq!(name, "cache");
        let MountKind::Volume { anonymous: true, .. } = bind("/c").unwrap().kind else { panic!() };
        for bad in [
            "/a:b",
            "/a:/",
            "/a:/b:fast",
            "a:b:c:d",
            ":/x",
            "./a:/b",
            "/a:/..",
            "/a:/b:ro,rw",
            "/a:/proc/sys",
            "v:/b:shared",
        ] {
            assert_eq!(bind(bad).unwrap_err().kind, crate::Kind::Invalid, "{bad}");
        }
    }

    #[test]
    fn structured_mounts_say_what_is_wrong() {
        let mount = |typ, source: &str, target: &str| wire::Mount {
            typ: Some(typ),
            source: Some(source.into()),
            target: Some(target.into()),
            ..Default::default()
        };
        use wire::MountTypeEnum as Type;
        let error = structured(&mount(Type::BIND, "/no/such/place", "/x")).unwrap_err();
        assert!(error.message.contains("bind source path does not exist: /no/such/place"));
        let mut sub = mount(Type::VOLUME, "v1", "/x");
        sub.volume_options =
            Some(wire::MountVolumeOptions { subpath: Some("../x".into()), ..Default::default() });
        assert!(structured(&sub).unwrap_err().message.contains("subpath"));
        let mut tmpfs = mount(Type::TMPFS, "", "/x");
        tmpfs.tmpfs_options = Some(wire::MountTmpfsOptions {
            size_bytes: Some(4096),
            mode: Some(0o700),
            options: None,
        });
        let MountKind::Tmpfs { options } = structured(&tmpfs).unwrap().kind else { panic!() };
        assert_eq!(options, ["size=4096", "mode=700"]);
        assert!(structured(&mount(Type::NPIPE, "a", "/x")).is_err());
    }
}
