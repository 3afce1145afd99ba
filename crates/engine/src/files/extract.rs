//! An archive becomes files of a container.
//!
//! Both are hostile. A parent directory is opened below the container's root, links included; the last name
//! is never followed.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use caisson_image::unpack::{open_in, remove_tree};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use tar::{Entry, EntryType};

use super::PutOptions;
use super::archive::{missing, parts};
use super::view::View;
use crate::error::{Doing, Error, Kind, Result};

/// Most entries of one archive.
const MAX_ENTRIES: usize = 2_000_000;

struct Target<'a> {
    view: &'a View,
    /// The directory, as a path below the root without links.
    base: PathBuf,
    options: &'a PutOptions,
    /// Who owns everything, when that is not the archive's to say.
    owner: Option<(u32, u32)>,
    /// Directories' times, set last.
    times: Vec<(PathBuf, i64)>,
}

pub(super) fn put(
    view: &View,
    container: &str,
    path: &str,
    input: impl Read,
    options: &PutOptions,
    user: &str,
) -> Result<()> {
    let (clean, _) = parts(path);
    let found = match open_in(&view.root, &clean, OFlags::PATH) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(missing(path, container)),
        other => other.doing(|| format!("open {path}"))?,
    };
    let status = rustix::fs::fstat(&found).doing(|| format!("look at {path}"))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
        return Err(Error::invalid("extraction point is not a directory"));
    }
    let base = view.place(&found).ok_or_else(|| missing(path, container))?;
    let owner = if options.copy_uid_gid { Some(owner(view, user)?) } else { None };
    let base = base.strip_prefix("/").unwrap_or(&base).to_path_buf();
    let mut target = Target { view, base, options, owner, times: Vec::new() };
    let what = || "read the archive";
    let mut archive = tar::Archive::new(input);
    let entries = archive.entries().doing(what).map_err(bad_archive)?;
    for (number, entry) in entries.enumerate() {
        let mut entry = entry.doing(what).map_err(bad_archive)?;
        if number >= MAX_ENTRIES {
            return Err(Error::invalid(format!("the archive has more than {MAX_ENTRIES} entries")));
        }
        target.entry(&mut entry)?;
    }
    target.finish()
}

fn bad_archive(error: Error) -> Error {
    Error { kind: Kind::Invalid, ..error }
}

fn owner(view: &View, user: &str) -> Result<(u32, u32)> {
    let identity = caisson_launch::user::resolve(&view.root, user)
        .map_err(|error| Error::from(error.into_failure()))?;
    Ok((identity.uid, identity.gid))
}

impl Target<'_> {
    fn entry<R: Read>(&mut self, entry: &mut Entry<R>) -> Result<()> {
        let name = PathBuf::from(OsStr::from_bytes(&entry.path_bytes()));
        let path = inside(&name)?;
        self.make(&path, entry).map_err(|error| refused(&name, error))
    }

    fn make<R: Read>(&mut self, path: &Path, entry: &mut Entry<R>) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        // The directory itself stays what it is.
        let Some(name) = path.file_name() else { return Ok(()) };
        let parent = self.parent(path.parent().unwrap_or(Path::new("")))?;
        self.make_room(&parent, name, kind == EntryType::Directory)?;
        let mode = Mode::from_raw_mode(0o600);
        match kind {
            EntryType::Directory => match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
                Err(error) if error != Errno::EXIST => return Err(error.into()),
                _ => self.times.push((path.to_path_buf(), mtime(entry))),
            },
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW;
                let file = rustix::fs::openat(&parent, name, flags | OFlags::CLOEXEC, mode)?;
                io::copy(entry, &mut std::fs::File::from(file))?;
            }
            EntryType::Symlink => {
                let link = entry.link_name_bytes().ok_or_else(no_target)?;
                rustix::fs::symlinkat(OsStr::from_bytes(&link), &parent, name)?;
            }
            EntryType::Link => return self.hard_link(entry, &parent, name),
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let header = entry.header();
                let number =
                    |field: io::Result<Option<u32>>| Ok::<_, io::Error>(field?.unwrap_or(0));
                let (major, minor) =
                    (number(header.device_major())?, number(header.device_minor())?);
                let kind = match kind {
                    EntryType::Char => FileType::CharacterDevice,
                    EntryType::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let device = rustix::fs::makedev(major, minor);
                rustix::fs::mknodat(&parent, name, kind, mode, device)?;
            }
            other => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("entries of type {other:?} are not supported"),
                ));
            }
        }
        self.attributes(&parent, name, entry)
    }

    /// Opens a directory of the archive in the container, making what is missing.
    fn parent(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let whole = self.base.join(path);
        match open_in(&self.view.root, &whole, flags) {
            Err(Errno::NOENT) if !path.as_os_str().is_empty() => {}
            other => return Ok(other?),
        }
        let above = self.parent(path.parent().unwrap_or(Path::new("")))?;
        let name = path.file_name().unwrap_or_default();
        match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755)) {
            Err(error) if error != Errno::EXIST => return Err(error.into()),
            _ => {}
        }
        Ok(open_in(&self.view.root, &whole, flags)?)
    }

    /// Takes away what is in the way.
    fn make_room(&self, parent: &OwnedFd, name: &OsStr, directory: bool) -> io::Result<()> {
        let status = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        let is = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
        let shown = name.to_string_lossy();
        let conflict = |what: String| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        match (is, directory) {
            (true, true) => Ok(()),
            (true, false) if self.options.no_overwrite_dir_non_dir => {
                conflict(format!("cannot overwrite directory \"{shown}\" with non-directory"))
            }
            (false, true) if self.options.no_overwrite_dir_non_dir => {
                conflict(format!("cannot overwrite non-directory \"{shown}\" with directory"))
            }
            (true, false) => remove_tree(parent, name),
            (false, _) => Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?),
        }
    }

    fn hard_link<R: Read>(
        &self,
        entry: &Entry<R>,
        parent: &OwnedFd,
        name: &OsStr,
    ) -> io::Result<()> {
        let link = entry.link_name_bytes().ok_or_else(no_target)?;
        let target = inside(Path::new(OsStr::from_bytes(&link)))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.message))?;
        let of = target.file_name().ok_or_else(no_target)?;
        let above = self.base.join(target.parent().unwrap_or(Path::new("")));
        let from = open_in(&self.view.root, &above, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(rustix::fs::linkat(&from, of, parent, name, AtFlags::empty())?)
    }

    fn attributes<R: Read>(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        entry: &mut Entry<R>,
    ) -> io::Result<()> {
        let header = entry.header();
        let number = |value: io::Result<u64>| value.map(|value| value as u32);
        let (uid, gid) = match self.owner {
            Some(owner) => owner,
            None => (number(header.uid())?, number(header.gid())?),
        };
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), nofollow)?;
        let kind = header.entry_type();
        if kind != EntryType::Symlink {
            let mode = Mode::from_raw_mode(header.mode()? & 0o7777);
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            // What was just made, by its descriptor: its name may be another file's by now.
            use std::os::fd::AsRawFd;
            let own = format!("/proc/thread-self/fd/{}", file.as_raw_fd());
            rustix::fs::chmod(&own, mode)?;
            set_xattrs(&own, entry)?;
        }
        let times = times(mtime(entry));
        Ok(rustix::fs::utimensat(parent, name, &times, nofollow)?)
    }

    fn finish(self) -> Result<()> {
        for (path, seconds) in self.times.iter().rev() {
            let parent = self.parent(path.parent().unwrap_or(Path::new("")));
            if let (Ok(parent), Some(name)) = (parent, path.file_name()) {
                // The files are there: a time that cannot be set is no reason to fail.
                let _ = rustix::fs::utimensat(
                    &parent,
                    name,
                    &times(*seconds),
                    AtFlags::SYMLINK_NOFOLLOW,
                );
            }
        }
        Ok(())
    }
}

fn set_xattrs<R: Read>(path: &str, entry: &mut Entry<R>) -> io::Result<()> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(()) };
    for extension in extensions {
        let extension = extension?;
        let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
        let name = OsStr::from_bytes(name);
        if name == "security.capability" || name.as_bytes().starts_with(b"user.") {
            match rustix::fs::setxattr(path, name, extension.value_bytes(), XattrFlags::empty()) {
                // A file system without them.
                Err(Errno::NOTSUP) => {}
                other => other?,
            }
        }
    }
    Ok(())
}

fn mtime<R: Read>(entry: &Entry<R>) -> i64 {
    entry.header().mtime().map_or(0, |time| i64::try_from(time).unwrap_or_default())
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn no_target() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is a link to nothing")
}

/// An entry's name below the directory.
fn inside(name: &Path) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::ParentDir => {
                return Err(Error::invalid(format!("the archive's entry {name:?} has `..`")));
            }
            _ => {}
        }
    }
    Ok(path)
}

fn refused(name: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Kind::Invalid,
        io::ErrorKind::ReadOnlyFilesystem => {
            return Error::new(
                Kind::Forbidden,
                "container rootfs or mounted volume is marked read-only",
            );
        }
        _ => Kind::Internal,
    };
    Error::new(kind, format!("extract {}: {error}", name.display()))
}
