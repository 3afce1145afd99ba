//! What is mounted into a container, as the spec has it, and what must be there before.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use caisson_bundle::oci;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::error::{Doing, Error, Result};
use crate::record::{MountKind, MountRecord};
use crate::volume::fill_volume;
use crate::wire::HostConfig;
use crate::{Container, Engine, Record};

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
        // A mount of the container's own takes the place of one that every container has.
        let own = |path: &Path| record.mounts.iter().any(|mount| mount.destination == path);
        mounts.retain(|mount| !own(mount.destination()));
        for name in ["resolv.conf", "hostname", "hosts"] {
            let destination = Path::new("/etc").join(name);
            let source = container.places.file(name);
            if !own(&destination) && source.exists() {
                mounts.push(mount(&destination, "bind", &source, &["rbind", "rprivate"]));
            }
        }
        let mut given: Vec<&MountRecord> = record.mounts.iter().collect();
        // A directory before what is mounted in it.
        given.sort_by_key(|mount| mount.destination.components().count());
        for one in given {
            mounts.push(self.spec_mount(one)?);
        }
        Ok(mounts)
    }

    fn spec_mount(&self, record: &MountRecord) -> Result<oci::Mount> {
        let destination = &record.destination;
        let access = if record.read_only { "ro" } else { "rw" };
        Ok(match &record.kind {
            MountKind::Bind { source, recursive } => {
                let kind = if *recursive { "rbind" } else { "bind" };
                mount(destination, "bind", source, &[kind, access, &record.propagation])
            }
            MountKind::Volume { name, subpath, .. } => {
                let data = self.volume_data(name);
                let source = match subpath {
                    Some(subpath) => inside(&data, subpath)?,
                    None => data,
                };
                mount(destination, "bind", &source, &["rbind", access])
            }
            MountKind::Tmpfs { options } => {
                let mut all = vec!["nosuid", "nodev", "noexec"];
                all.extend(options.iter().map(String::as_str));
                all.extend(record.read_only.then_some("ro"));
                mount(destination, "tmpfs", Path::new("tmpfs"), &all)
            }
        })
    }

    /// Makes what the mounts need: volumes, with the image's files when they are empty, and the host's
    /// directories. `rootfs` is mounted.
    pub(crate) fn mounts_prepare(&self, record: &Record, rootfs: &Path) -> Result<()> {
        for mount in &record.mounts {
            match &mount.kind {
                MountKind::Bind { source, .. } => {
                    // As Docker: what is not there becomes a directory.
                    if std::fs::symlink_metadata(source).is_err() {
                        std::fs::create_dir_all(source).doing(|| {
                            format!("error while creating mount source path '{}'", source.display())
                        })?;
                    }
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

/// Copies what the image has at a volume's place, found without leaving the image.
fn fill(rootfs: &Path, destination: &Path, data: &Path) -> Result<()> {
    let what = || format!("look at {} in the image", destination.display());
    let root =
        rustix::fs::open(rootfs, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .doing(what)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let found =
        rustix::fs::openat2(&root, destination, flags, Mode::empty(), ResolveFlags::IN_ROOT);
    match found {
        Ok(directory) => {
            fill_volume(Path::new(&format!("/proc/self/fd/{}", directory.as_raw_fd())), data)
        }
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(()),
        Err(error) => Err(error).doing(what),
    }
}

/// The real path of a volume's part: no link in the volume leads out of it.
fn inside(data: &Path, subpath: &Path) -> Result<PathBuf> {
    let missing = |error: rustix::io::Errno| {
        Error::invalid(format!(
            "cannot access path {} of the volume: {}",
            subpath.display(),
            std::io::Error::from(error)
        ))
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open(data, flags | OFlags::DIRECTORY, Mode::empty()).map_err(missing)?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(&root, subpath, flags, Mode::empty(), resolve).map_err(missing)?;
    Ok(data.join(subpath))
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
    if host.ipc_mode.as_deref() == Some("host") {
        mounts.retain(|mount| mount.destination() != Path::new("/dev/shm"));
        mounts.push(mount(Path::new("/dev/shm"), "bind", Path::new("/dev/shm"), &["rbind"]));
        mounts.retain(|mount| mount.destination() != Path::new("/dev/mqueue"));
        mounts.push(mount(Path::new("/dev/mqueue"), "bind", Path::new("/dev/mqueue"), &["rbind"]));
    }
    if host.ipc_mode.as_deref() == Some("none") {
        mounts.retain(|mount| mount.destination() != Path::new("/dev/shm"));
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
        assert_eq!(inside(data.path(), Path::new("a/b")).unwrap(), data.path().join("a/b"));
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
}
