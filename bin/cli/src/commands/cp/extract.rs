//! A tar archive into a local directory.
//!
//! What a container holds is not trusted: every path is resolved by the kernel beneath the directory, so that
//! neither `..` nor a link that the archive brought leads out of it. Devices are left out, and so are set-id
//! bits, unless owners are kept.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use caisson_beneath::open_beneath;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, chownat, fchmod,
    linkat, mkdirat, mknodat, open, openat2, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

use crate::failure::{Failure, Result};
use crate::output;

/// A directory's mode and time, which are set when all that is in it has been written.
struct Pending {
    path: PathBuf,
    mode: u32,
    time: i64,
    owner: (u32, u32),
}

/// Unpacks into `directory`. The archive's root gets the name `name`; without one, its contents go into the
/// directory.
pub fn extract(
    from: &mut dyn Read,
    directory: &str,
    name: Option<&str>,
    keep_owners: bool,
) -> Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let failed = |error: Errno| Failure::io(format!("open {directory}"))(error.into());
    let top = open(directory, flags, Mode::empty()).map_err(failed)?;
    let mut unpack = Unpack { top, root: None, name, keep_owners, pending: Vec::new() };
    let mut archive = Archive::new(from);
    let broken = || Failure::io("read the archive");
    for entry in archive.entries().map_err(broken())? {
        unpack.entry(&mut entry.map_err(broken())?)?;
    }
    unpack.finish()
}

struct Unpack<'a> {
    top: OwnedFd,
    /// The path of the first entry, which all others are beneath.
    root: Option<PathBuf>,
    name: Option<&'a str>,
    keep_owners: bool,
    pending: Vec<Pending>,
}

impl Unpack<'_> {
    fn entry(&mut self, entry: &mut Entry<'_, &mut dyn Read>) -> Result<()> {
        let given = entry.path().map_err(Failure::io("read the archive"))?.into_owned();
        let path = self.renamed(&given)?;
        let what = || format!("write {}", path.display());
        let written = self.write(entry, &path);
        match written {
            Ok(()) => Ok(()),
            Err(Wrong::Said(failure)) => Err(failure),
            Err(Wrong::System(error)) => Err(Failure::io(what())(error)),
        }
    }

    /// Where an entry goes, relative to the directory.
    fn renamed(&mut self, given: &Path) -> Result<PathBuf> {
        let path = plain(given)?;
        let root = self.root.get_or_insert_with(|| path.clone());
        let rest = path.strip_prefix(&*root).map_err(|_| {
            Failure::words(format!(
                "the archive has {} beside {}: it is not a copy of one thing",
                given.display(),
                root.display()
            ))
        })?;
        Ok(match self.name {
            Some(name) => plain(Path::new(name))?.components().chain(rest.components()).collect(),
            None => rest.to_path_buf(),
        })
    }

    fn write(&mut self, entry: &mut Entry<'_, &mut dyn Read>, path: &Path) -> Result<(), Wrong> {
        let header = entry.header();
        let kind = header.entry_type();
        let mode = header.mode()? & 0o7777;
        let owner = (header.uid()? as u32, header.gid()? as u32);
        let time = header.mtime()?.min(i64::MAX as u64) as i64;
        let Some(name) = path.file_name() else {
            // The directory itself stays as it is.
            return Ok(());
        };
        let parent = self.parent(path)?;
        let at = parent.as_fd();
        match kind {
            EntryType::Directory => {
                directory(at, name)?;
                self.pending.push(Pending { path: path.into(), mode, time, owner });
                return Ok(());
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                replaceable(at, name)?;
                let mut file = create(at, name)?;
                io::copy(entry, &mut file)?;
                self.owner(at, name, owner)?;
                fchmod(&file, self.mode(mode))?;
            }
            EntryType::Symlink => {
                let target = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?;
                replaceable(at, name)?;
                symlinkat(&*target, at, name)?;
                self.owner(at, name, owner)?;
            }
            EntryType::Link => return self.hard_link(entry, at, name),
            EntryType::Fifo => {
                replaceable(at, name)?;
                mknodat(at, name, FileType::Fifo, self.mode(mode), 0)?;
                self.owner(at, name, owner)?;
            }
            EntryType::Char | EntryType::Block => {
                output::note(format!("left out the device {}", path.display()));
                return Ok(());
            }
            _ => return Ok(()),
        }
        Ok(set_time(at, name, time)?)
    }

    /// The directory that an entry is in, made if the archive did not bring it.
    fn parent(&self, path: &Path) -> Result<OwnedFd, Wrong> {
        let mut at = self.top.try_clone()?;
        let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
            return Ok(at);
        };
        match beneath(&self.top, parent) {
            Ok(found) => return Ok(found),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let mut so_far = PathBuf::new();
        for component in parent.components() {
            match mkdirat(&at, component.as_os_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            so_far.push(component);
            at = beneath(&self.top, &so_far)?;
        }
        Ok(at)
    }

    fn hard_link(
        &mut self,
        entry: &Entry<'_, &mut dyn Read>,
        at: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<(), Wrong> {
        let given = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?.into_owned();
        let target = self.renamed(&given).map_err(Wrong::Said)?;
        let file_name = target.file_name().ok_or(io::ErrorKind::InvalidData)?;
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        let from = match parent {
            Some(parent) => beneath(&self.top, parent)?,
            None => self.top.try_clone()?,
        };
        replaceable(at, name)?;
        Ok(linkat(&from, file_name, at, name, AtFlags::empty())?)
    }

    fn owner(&self, at: BorrowedFd<'_>, name: &OsStr, owner: (u32, u32)) -> Result<(), Errno> {
        if !self.keep_owners {
            return Ok(());
        }
        let (user, group) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        chownat(at, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// A set-id bit means something only with the owner that it came with.
    fn mode(&self, mode: u32) -> Mode {
        Mode::from_raw_mode(if self.keep_owners { mode } else { mode & 0o1777 })
    }

    /// Modes and times of directories, the innermost first.
    fn finish(mut self) -> Result<()> {
        for pending in std::mem::take(&mut self.pending).into_iter().rev() {
            let set = || -> Result<(), Wrong> {
                let name = pending.path.file_name().unwrap_or_default();
                let at = self.parent(&pending.path)?;
                self.owner(at.as_fd(), name, pending.owner)?;
                fchmod(open_directory(at.as_fd(), name)?, self.mode(pending.mode))?;
                Ok(set_time(at.as_fd(), name, pending.time)?)
            };
            set().map_err(|wrong| match wrong {
                Wrong::Said(failure) => failure,
                Wrong::System(error) => {
                    Failure::io(format!("write {}", pending.path.display()))(error)
                }
            })?;
        }
        Ok(())
    }
}

/// What stops an entry.
enum Wrong {
    System(io::Error),
    Said(Failure),
}

impl From<io::Error> for Wrong {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<io::ErrorKind> for Wrong {
    fn from(kind: io::ErrorKind) -> Self {
        Self::System(kind.into())
    }
}

impl From<Errno> for Wrong {
    fn from(error: Errno) -> Self {
        Self::System(error.into())
    }
}

/// A path without `.`, without a slash at its beginning, and never with `..`.
fn plain(path: &Path) -> Result<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::CurDir | Component::RootDir => {}
            _ => {
                let text = format!("the archive has the path {}: refused", path.display());
                return Err(Failure::words(text));
            }
        }
    }
    Ok(plain)
}

/// A directory beneath another one, whatever links there are on the way.
fn beneath(top: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    open_beneath(top, path, flags)
}

fn directory(at: BorrowedFd<'_>, name: &OsStr) -> Result<(), Wrong> {
    match mkdirat(at, name, Mode::from_raw_mode(0o700)) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => open_directory(at, name).map(drop).map_err(|_| {
            let text = format!("cannot overwrite non-directory {name:?} with a directory");
            Wrong::Said(Failure::words(text))
        }),
        Err(error) => Err(error.into()),
    }
}

/// A directory that is no link.
fn open_directory(at: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY | OFlags::NOFOLLOW;
    openat2(at, name, flags, Mode::empty(), ResolveFlags::BENEATH)
}

fn set_time(at: BorrowedFd<'_>, name: &OsStr, time: i64) -> Result<(), Errno> {
    let time = Timespec { tv_sec: time, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(at, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

/// Makes place for a file: what has its name goes, unless it is a directory.
fn replaceable(at: BorrowedFd<'_>, name: &OsStr) -> Result<(), Wrong> {
    match unlinkat(at, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {
            let text = format!("cannot overwrite directory {name:?} with a file");
            Err(Wrong::Said(Failure::words(text)))
        }
        Err(error) => Err(error.into()),
    }
}

fn create(at: BorrowedFd<'_>, name: &OsStr) -> Result<std::fs::File, Wrong> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(0o600);
    Ok(openat2(at, name, flags, mode, ResolveFlags::BENEATH)?.into())
}

#[cfg(test)]
mod tests;
