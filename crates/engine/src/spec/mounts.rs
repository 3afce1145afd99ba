//! What is mounted into a container, as the spec has it, and what must be there before.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use caisson_beneath::{open_beneath, open_in_root};
use caisson_bundle::oci;
use caisson_launch::SUBPATH;
use rustix::fs::{Mode, OFlags};

use crate::create::clean;
use crate::error::{Doing, Error, Result};
use crate::record::{MountKind, MountRecord};
use crate::volume::fill_volume;
use crate::wire::HostConfig;
use crate::{Container, Engine, Record, wire};

impl Engine {
    /// The mounts of every container, its files of names, and its own.
    pub(super) fn spec_mounts(
        &self,
        container: &Container,
        record: &Record,
        base: Vec<oci::Mount>,
    ) -> Result<Vec<oci::Mount>> {
        let mut mounts = base;
        adjust(&mut mounts, &record.host_config);
        // A mount of the container's own takes the place of one that every container has, and of those in it.
        let own = |path: &Path| record.mounts.iter().any(|mount| mount.destination == path);
        let dev = own(Path::new("/dev"));
        mounts.retain(|mount| {
            !(own(mount.destination()) || dev && mount.destination().starts_with("/dev"))
        });
        let read_only = record.host_config.readonly_rootfs == Some(true);
        let mut given = Vec::new();
        for name in ["resolv.conf", "hostname", "hosts"] {
            let destination = Path::new("/etc").join(name);
            let source = container.places.file(name);
            if !own(&destination) && source.exists() {
                let access = if read_only { "ro" } else { "rw" };
                given.push(mount(&destination, "bind", &source, &["rbind", access, "rprivate"]));
            }
        }
        for one in &record.mounts {
            given.push(self.spec_mount(&record.host_config, one)?);
        }
        // A directory before what is mounted in it.
        given.sort_by_key(|mount| mount.destination().components().count());
        mounts.extend(given);
        Ok(mounts)
    }

    fn spec_mount(&self, host: &HostConfig, record: &MountRecord) -> Result<oci::Mount> {
        let destination = &record.destination;
        let options = record.options(given(host, destination));
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        Ok(match &record.kind {
            MountKind::Bind { source, .. } => {
                propagates(source, &record.propagation)?;
                mount(destination, "bind", source, &options)
            }
            MountKind::Volume { name, subpath, .. } => {
                let data = self.volume_data(name);
                if let Some(subpath) = subpath {
                    inside(&data, subpath)?;
                }
                mount(destination, "bind", &data, &options)
            }
            MountKind::Tmpfs { .. } => mount(destination, "tmpfs", Path::new("tmpfs"), &options),
        })
    }

    /// Makes what the mounts need: volumes, with the image's files when they are empty, and the host's
    /// directories. `rootfs` is mounted.
    pub(crate) fn mounts_prepare(&self, record: &Record, rootfs: &Path) -> Result<()> {
        for mount in &record.mounts {
            match &mount.kind {
                MountKind::Bind { source, .. } => {
                    let given = given(&record.host_config, &mount.destination);
                    source_prepare(source, given)?;
                }
                MountKind::Volume { name, copy, subpath, anonymous } => {
                    let data = self.volume_ensure(name, *anonymous, &Default::default())?;
                    if *copy && subpath.is_none() {
                        fill(rootfs, &mount.destination, &data)?;
                    }
                }
                MountKind::Tmpfs { .. } => {}
            }
        }
        Ok(())
    }
}

/// The entry of `Mounts` that a mount comes from, if it comes from one.
fn given<'a>(host: &'a HostConfig, destination: &Path) -> Option<&'a wire::Mount> {
    let mut all = host.mounts.iter().flatten();
    all.find(|mount| mount.target.as_deref().is_some_and(|text| clean(text) == destination))
}

/// As Docker: what is not there becomes a directory, but for a mount that does not ask for it.
fn source_prepare(source: &Path, given: Option<&wire::Mount>) -> Result<()> {
    let wanted = given.is_none_or(|mount| {
        mount.bind_options.as_ref().is_some_and(|options| options.create_mountpoint == Some(true))
    });
    let what = || format!("error while creating mount source path '{}'", source.display());
    match std::fs::symlink_metadata(source) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !wanted => {
            Err(Error::invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                source.display()
            )))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(source).doing(what)
        }
        Err(error) => Err(error).doing(what),
    }
}

impl MountRecord {
    /// The options of the spec's mount.
    fn options(&self, given: Option<&wire::Mount>) -> Vec<String> {
        let given = given.and_then(|mount| mount.bind_options.as_ref());
        let shallow = given.is_some_and(|options| options.read_only_non_recursive == Some(true));
        let access = match self.read_only {
            true if shallow => "ro",
            // The mounts below too.
            true => "rro",
            false => "rw",
        };
        let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        match &self.kind {
            MountKind::Bind { recursive, .. } => {
                let kind = if *recursive { "rbind" } else { "bind" };
                let propagation = match self.propagation.as_str() {
                    "" => "rprivate",
                    given => given,
                };
                words(&[kind, access, propagation])
            }
            MountKind::Volume { subpath, .. } => {
                let mut all = words(&["rbind", access, "rprivate"]);
                all.extend(subpath.iter().map(|path| format!("{SUBPATH}{}", path.display())));
                all
            }
            MountKind::Tmpfs { options } => {
                let mut all = words(&["nosuid", "nodev", "noexec"]);
                all.extend(options.iter().cloned());
                all.extend(self.read_only.then(|| "ro".to_string()));
                all
            }
        }
    }
}

/// Refuses a propagation that the source's own mount does not have.
fn propagates(source: &Path, propagation: &str) -> Result<()> {
    let wanted: &[&str] = match propagation {
        "shared" | "rshared" => &["shared:"],
        "slave" | "rslave" => &["shared:", "master:"],
        _ => return Ok(()),
    };
    let what = || format!("look for the mount of {}", source.display());
    let real = std::fs::canonicalize(source).doing(what)?;
    let text = std::fs::read_to_string("/proc/self/mountinfo").doing(what)?;
    let Some((place, tags)) = mount_of(&text, &real) else { return Ok(()) };
    if tags.iter().any(|tag| wanted.iter().any(|wanted| tag.starts_with(wanted))) {
        return Ok(());
    }
    let kind = if wanted.len() == 1 { "a shared" } else { "a shared or slave" };
    Err(Error::invalid(format!(
        "path {} is mounted on {} but it is not {kind} mount",
        source.display(),
        place.display()
    )))
}

/// The mount that holds a path, with its optional fields (proc(5), mountinfo).
fn mount_of<'a>(mountinfo: &'a str, path: &Path) -> Option<(PathBuf, Vec<&'a str>)> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (left, _) = line.split_once(" - ")?;
        let fields: Vec<&str> = left.split(' ').collect();
        Some((PathBuf::from(unescaped(fields.get(4)?)), fields.get(6..)?.to_vec()))
    });
    // Of two mounts at one place the later one is seen.
    let holding = mounts.enumerate().filter(|(_, (place, _))| path.starts_with(place));
    holding
        .max_by_key(|(index, (place, _))| (place.components().count(), *index))
        .map(|(_, found)| found)
}

/// Spaces and the like are octal there.
fn unescaped(text: &str) -> String {
    let mut pieces = text.split('\\');
    let mut plain = pieces.next().unwrap_or_default().to_string();
    for piece in pieces {
        match piece.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(char::from(byte));
                plain.push_str(&piece[3..]);
            }
            None => plain.push_str(piece),
        }
    }
    plain
}

/// Copies what the image has at a volume's place, found without leaving the image.
fn fill(rootfs: &Path, destination: &Path, data: &Path) -> Result<()> {
    let what = || format!("look at {} in the image", destination.display());
    let root =
        rustix::fs::open(rootfs, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .doing(what)?;
    match open_in_root(&root, destination, OFlags::PATH | OFlags::DIRECTORY) {
        Ok(directory) => {
            fill_volume(Path::new(&format!("/proc/self/fd/{}", directory.as_raw_fd())), data)
        }
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(()),
        Err(error) => Err(error).doing(what),
    }
}

/// Refuses a part that a volume does not have, or that a link leads out of it; the mount itself looks again.
fn inside(data: &Path, subpath: &Path) -> Result<()> {
    let missing = |error: rustix::io::Errno| {
        Error::invalid(format!(
            "cannot access path {} of the volume: {}",
            subpath.display(),
            std::io::Error::from(error)
        ))
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open(data, flags | OFlags::DIRECTORY, Mode::empty()).map_err(missing)?;
    open_beneath(&root, subpath, flags).map_err(missing).map(drop)
}

fn mount(destination: &Path, kind: &str, source: &Path, options: &[&str]) -> oci::Mount {
    let options = options.iter().filter(|option| !option.is_empty());
    let mut mount = oci::Mount::default();
    mount
        .set_destination(destination.to_path_buf())
        .set_typ(Some(kind.into()))
        .set_source(Some(source.to_path_buf()))
        .set_options(Some(options.map(|option| option.to_string()).collect()));
    mount
}

/// Fits the mounts that every container has to what was asked for.
fn adjust(mounts: &mut Vec<oci::Mount>, host: &HostConfig) {
    let privileged = host.privileged == Some(true);
    for mount in mounts.iter_mut() {
        let mut options = mount.options().clone().unwrap_or_default();
        match mount.destination().to_str() {
            Some("/dev/shm") => {
                if let Some(size) = host.shm_size.filter(|size| *size > 0) {
                    options.retain(|option| !option.starts_with("size="));
                    options.push(format!("size={size}"));
                }
            }
            Some("/sys" | "/sys/fs/cgroup") if privileged => {
                options.retain(|option| option != "ro");
                options.push("rw".into());
            }
            _ => {}
        }
        mount.set_options(Some(options));
    }
    let mut replace = |path: &str, shared: bool| {
        mounts.retain(|mount| mount.destination() != Path::new(path));
        if shared {
            mounts.push(mount(Path::new(path), "bind", Path::new(path), &["rbind", "rprivate"]));
        }
    };
    match host.ipc_mode.as_deref() {
        Some("host") => {
            for path in ["/dev/shm", "/dev/mqueue"] {
                replace(path, Path::new(path).exists());
            }
        }
        Some("none") => replace("/dev/shm", false),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_volume_is_inside_it() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(data.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("/etc", data.path().join("out")).unwrap();
        std::os::unix::fs::symlink("a", data.path().join("within")).unwrap();
        for good in ["a/b", "within/b"] {
            inside(data.path(), Path::new(good)).unwrap();
        }
        for bad in ["out", "out/passwd", "missing", "a/../../x"] {
            assert!(inside(data.path(), Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn shared_memory_has_the_size_asked_for() {
        let spec = caisson_bundle::defaults::spec(&["true"]);
        let mut mounts = spec.mounts().clone().unwrap();
        adjust(&mut mounts, &HostConfig { shm_size: Some(4096), ..Default::default() });
        let shm = mounts.iter().find(|m| m.destination() == Path::new("/dev/shm")).unwrap();
        let options = shm.options().as_ref().unwrap();
        assert!(options.contains(&"size=4096".to_string()));
        assert_eq!(options.iter().filter(|option| option.starts_with("size=")).count(), 1);
    }
    fn record(kind: MountKind) -> MountRecord {
        MountRecord {
            destination: "/data".into(),
            kind,
            read_only: true,
            propagation: String::new(),
            mode: String::new(),
        }
    }

    #[test]
    fn options_follow_what_was_asked_for() {
        let mut bind = record(MountKind::Bind { source: "/src".into(), recursive: true });
        assert_eq!(bind.options(None), ["rbind", "rro", "rprivate"]);
        let mut asked = wire::Mount { target: Some("/data/".into()), ..Default::default() };
        asked.bind_options = Some(wire::MountBindOptions {
            read_only_non_recursive: Some(true),
            ..Default::default()
        });
        let host = HostConfig { mounts: Some(vec![asked]), ..Default::default() };
        bind.propagation = "rslave".into();
        assert_eq!(bind.options(given(&host, &bind.destination)), ["rbind", "ro", "rslave"]);
        let volume = record(MountKind::Volume {
            name: "v".into(),
            copy: true,
            subpath: Some("a/b".into()),
            anonymous: false,
        });
        let options = volume.options(None);
        assert_eq!(options, ["rbind", "rro", "rprivate", "io.caisson.subpath=a/b"]);
        let tmpfs = record(MountKind::Tmpfs { options: vec!["exec".into()] });
        assert_eq!(tmpfs.options(None), ["nosuid", "nodev", "noexec", "exec", "ro"]);
    }

    #[test]
    fn the_mount_of_a_path_is_found() {
        let text = "22 1 8:1 / / rw shared:1 - ext4 /dev/a rw\n\
                    30 22 8:2 / /srv rw - ext4 /dev/b rw\n\
                    31 22 8:3 / /my\\040data rw master:3 - ext4 /dev/c rw\n";
        let of = |path: &str| mount_of(text, Path::new(path)).unwrap();
        assert_eq!(of("/home/x"), ("/".into(), vec!["shared:1"]));
        assert_eq!(of("/srv/x"), ("/srv".into(), vec![]));
        assert_eq!(of("/srvx"), ("/".into(), vec!["shared:1"]));
        assert_eq!(of("/my data/x"), ("/my data".into(), vec!["master:3"]));
    }

    #[test]
    fn a_source_is_made_only_for_who_asks() {
        let place = tempfile::tempdir().unwrap();
        let missing = place.path().join("a/b");
        let mount = wire::Mount::default();
        let error = source_prepare(&missing, Some(&mount)).unwrap_err();
        assert!(error.message.contains("bind source path does not exist"), "{error}");
        source_prepare(&missing, None).unwrap();
        assert!(missing.is_dir());
        source_prepare(&missing, Some(&mount)).unwrap();
    }
}
