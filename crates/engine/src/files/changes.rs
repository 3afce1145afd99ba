//! What differs between a container and its image: its writable layer says it.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};

use super::pack::{is_opaque, is_whiteout, names};
use crate::error::{Doing, Result};
use crate::{Container, Engine, Record, wire};

/// Where every container has something mounted: the places are made by the start and are no change.
const PLACES: [&str; 6] = ["dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf"];

impl Engine {
    pub(super) fn changes_now(&self, container: &Container) -> Result<Vec<wire::FilesystemChange>> {
        let record = container.record();
        let image = self.0.images.get(&record.image)?;
        let mut lower = Vec::new();
        for path in self.0.images.layer_paths(&image) {
            lower.push(open(&path)?);
        }
        let upper = open(&container.places.upper())?;
        let skipped = skipped(&container.places.upper(), &record);
        let mut changes = Vec::new();
        walk(&upper, Path::new(""), &lower, &skipped, &mut changes)?;
        Ok(changes)
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).doing(|| format!("open {}", path.display()))
}

/// Places of mounts that a start made in the writable layer: empty files and directories.
pub(super) fn skipped(upper: &Path, record: &Record) -> Vec<PathBuf> {
    let own = record.mounts.iter().map(|mount| mount.destination.clone());
    let own = own.filter_map(|path| path.strip_prefix("/").map(Path::to_path_buf).ok());
    let all = PLACES.iter().map(PathBuf::from).chain(own);
    let Ok(root) = open(upper) else { return Vec::new() };
    all.filter(|path| {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let found = rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve);
        let Ok(found) = found else { return false };
        let Ok(status) = rustix::fs::fstat(&found) else { return false };
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => status.st_size == 0,
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::openat(&found, ".", flags, Mode::empty())
                    .is_ok_and(|directory| names(&directory).is_ok_and(|names| names.is_empty()))
            }
            _ => false,
        }
    })
    .collect()
}

fn walk(
    directory: &OwnedFd,
    path: &Path,
    lower: &[OwnedFd],
    skipped: &[PathBuf],
    changes: &mut Vec<wire::FilesystemChange>,
) -> Result<()> {
    let what = || format!("read /{}", path.display());
    for name in names(directory).doing(what)? {
        let child = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        let status = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW).doing(what)?;
        if skipped.contains(&child) {
            continue;
        }
        let kind = if is_whiteout(&status) {
            wire::ChangeType::_2
        } else if exists(lower, &child) {
            wire::ChangeType::_0
        } else {
            wire::ChangeType::_1
        };
        changes.push(wire::FilesystemChange { path: format!("/{}", child.display()), kind });
        if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let opened = rustix::fs::openat(directory, &name, flags, Mode::empty()).doing(what)?;
            walk(&opened, &child, lower, skipped, changes)?;
        }
    }
    Ok(())
}

/// Whether the image has this path: the topmost layer that says something decides.
fn exists(lower: &[OwnedFd], path: &Path) -> bool {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for layer in lower {
        let found = rustix::fs::openat2(layer, path, flags, Mode::empty(), resolve);
        if let Ok(found) = found {
            return rustix::fs::fstat(&found).is_ok_and(|status| !is_whiteout(&status));
        }
        for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            let Ok(found) = rustix::fs::openat2(layer, above, flags, Mode::empty(), resolve) else {
                continue;
            };
            let Ok(status) = rustix::fs::fstat(&found) else { continue };
            if FileType::from_raw_mode(status.st_mode) != FileType::Directory || hides(&found) {
                return false;
            }
        }
    }
    false
}

fn hides(directory: &OwnedFd) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(directory, ".", flags, Mode::empty()).is_ok_and(|d| is_opaque(&d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_by_the_writable_layer() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        for directory in ["low/etc", "low/gone", "top/etc/x", "up/etc", "up/new"] {
            std::fs::create_dir_all(at(directory)).unwrap();
        }
        for file in ["low/etc/a", "low/etc/b", "up/etc/a", "up/new/file", "up/etc/hosts"] {
            std::fs::write(at(file), "").unwrap();
        }
        for file in ["top/gone", "up/etc/b"] {
            rustix::fs::mknodat(
                rustix::fs::CWD,
                at(file),
                FileType::CharacterDevice,
                Mode::empty(),
                0,
            )
            .unwrap();
        }
        std::fs::create_dir_all(at("up/gone")).unwrap();
        let lower = [open(&at("top")).unwrap(), open(&at("low")).unwrap()];
        let record = crate::list::tests::record('a', "web", 100);
        let skipped = skipped(&at("up"), &record);
        let mut changes = Vec::new();
        walk(&open(&at("up")).unwrap(), Path::new(""), &lower, &skipped, &mut changes).unwrap();
        let told: Vec<_> =
            changes.iter().map(|change| (change.path.as_str(), change.kind.clone())).collect();
        use wire::ChangeType as C;
        assert_eq!(
            told,
            [
                ("/etc", C::_0),
                ("/etc/a", C::_0),
                ("/etc/b", C::_2),
                ("/gone", C::_1),
                ("/new", C::_1),
                ("/new/file", C::_1),
            ]
        );
    }
}
