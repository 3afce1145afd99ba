//! What differs between a container and its image: its writable layer says it.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::pack::{DEPTH, is_opaque, is_whiteout, names};
use crate::error::{Doing, Error, Result};
use crate::{Container, Engine, Record, wire};

/// Where every container has something mounted: the places are made by the start and are no change.
const PLACES: [&str; 6] = ["dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf"];

impl Engine {
    pub(super) fn changes_now(&self, container: &Container) -> Result<Vec<wire::FilesystemChange>> {
        let record = container.record();
        let image = self.0.images.of_container(&record.image)?;
        let mut lower = Vec::new();
        for path in self.0.images.layer_paths(&image) {
            lower.push(open(&path)?);
        }
        let upper = open(&container.places.upper())?;
        let skipped = skipped(&container.places.upper(), &record);
        let mut changes = Vec::new();
        walk(&upper, Path::new(""), &lower, &skipped, &mut changes)?;
        changes.sort_by(|a, b| a.path.cmp(&b.path));
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

/// Adds what is in one directory of the writable layer.
fn walk(
    directory: &OwnedFd,
    path: &Path,
    lower: &[OwnedFd],
    skipped: &[PathBuf],
    changes: &mut Vec<wire::FilesystemChange>,
) -> Result<()> {
    use wire::ChangeType as C;
    if path.components().count() > DEPTH {
        let shown = path.display();
        return Err(Error::invalid(format!("/{shown} is more than {DEPTH} directories deep")));
    }
    let what = || format!("read /{}", path.display());
    let change =
        |path: &Path, kind| wire::FilesystemChange { path: format!("/{}", path.display()), kind };
    for name in names(directory).doing(what)? {
        let child = path.join(OsStr::from_bytes(name.to_bytes()));
        let status = match rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
            // The container runs.
            Err(Errno::NOENT) => continue,
            other => other.doing(what)?,
        };
        if skipped.contains(&child) {
            continue;
        }
        let before = exists(lower, &child);
        if is_whiteout(&status) {
            changes.push(change(&child, C::_2));
            continue;
        }
        let at = changes.len();
        changes.push(change(&child, if before.is_some() { C::_0 } else { C::_1 }));
        if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let opened = match rustix::fs::openat(directory, &name, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            other => other.doing(what)?,
        };
        walk(&opened, &child, lower, skipped, changes)?;
        let Some(before) = before else { continue };
        if is_opaque(&opened) {
            let own = names(&opened).doing(what)?;
            let gone = below(lower, &child).into_iter().filter(|name| !own.contains(name));
            let gone = gone.map(|name| child.join(OsStr::from_bytes(name.to_bytes())));
            changes.extend(gone.map(|path| change(&path, C::_2)));
        }
        // It is here for what is in it, and that is no change.
        let untouched = changes.len() == at + 1
            && (before.st_mode, before.st_uid, before.st_gid)
                == (status.st_mode, status.st_uid, status.st_gid)
            && (before.st_mtime == status.st_mtime
                || skipped.iter().any(|place| place.parent() == Some(&child)));
        if untouched {
            changes.truncate(at);
        }
    }
    Ok(())
}

/// The names that the image has in a directory.
fn below(lower: &[OwnedFd], path: &Path) -> BTreeSet<CString> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |layer| rustix::fs::openat2(layer, path, flags, Mode::empty(), resolve).ok();
    let all = lower.iter().filter_map(open).filter_map(|found| names(&found).ok()).flatten();
    let has =
        |name: &CString| exists(lower, &path.join(OsStr::from_bytes(name.to_bytes()))).is_some();
    all.filter(has).collect()
}

/// What the image has at this path: the topmost layer that says something decides.
fn exists(lower: &[OwnedFd], path: &Path) -> Option<Stat> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for layer in lower {
        let found = rustix::fs::openat2(layer, path, flags, Mode::empty(), resolve);
        if let Ok(found) = found {
            return rustix::fs::fstat(&found).ok().filter(|status| !is_whiteout(status));
        }
        for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            let Ok(found) = rustix::fs::openat2(layer, above, flags, Mode::empty(), resolve) else {
                continue;
            };
            let Ok(status) = rustix::fs::fstat(&found) else { continue };
            if FileType::from_raw_mode(status.st_mode) != FileType::Directory || hides(&found) {
                return None;
            }
        }
    }
    None
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
        for directory in [
            "low/etc",
            "low/gone",
            "low/old",
            "low/run",
            "top/etc/x",
            "up/etc",
            "up/new",
            "up/old",
            "up/run",
        ] {
            std::fs::create_dir_all(at(directory)).unwrap();
        }
        for file in [
            "low/etc/a",
            "low/etc/b",
            "low/old/a",
            "low/old/b",
            "up/etc/a",
            "up/new/file",
            "up/etc/hosts",
            "up/old/b",
            "up/run/place",
            "up/new-er",
        ] {
            std::fs::write(at(file), "").unwrap();
        }
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(at("up/old"), "trusted.overlay.opaque", b"y", flags).unwrap();
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
        let mut record = crate::list::tests::record('a', "web", 100);
        record.mounts = vec![crate::record::MountRecord {
            destination: "/run/place".into(),
            kind: crate::record::MountKind::Tmpfs { options: Vec::new() },
            read_only: false,
            propagation: String::new(),
            mode: String::new(),
        }];
        let skipped = skipped(&at("up"), &record);
        let mut changes = Vec::new();
        walk(&open(&at("up")).unwrap(), Path::new(""), &lower, &skipped, &mut changes).unwrap();
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        let told: Vec<_> =
            changes.iter().map(|change| (change.path.as_str(), change.kind)).collect();
        use wire::ChangeType as C;
        assert_eq!(
            told,
            [
                ("/etc", C::_0),
                ("/etc/a", C::_0),
                ("/etc/b", C::_2),
                ("/gone", C::_1),
                ("/new", C::_1),
                ("/new-er", C::_1),
                ("/new/file", C::_1),
                ("/old", C::_0),
                ("/old/a", C::_2),
                ("/old/b", C::_0),
            ]
        );
    }
}
