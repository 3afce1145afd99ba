//! An archive becomes files of a container.
//!
//! Both are hostile. A parent directory is opened below the container's root, links included; the last name
//! is never followed. What was made is then changed by its descriptor alone: its name may be another file's
//! by then.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use caisson_beneath::open_in_root;
use caisson_image::unpack::{device, remove_tree};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use tar::{Entry, EntryType};

use super::PutOptions;
use super::archive::{missing, parts};
use super::view::View;
use crate::error::{Doing, Error, Kind, Result};

/// Most entries of one archive.
const MAX_ENTRIES: usize = 2_000_000;
/// Most bytes read after an archive's end, so that a client can finish sending.
const MAX_REST: u64 = 1 << 20;

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
    input: &mut dyn Read,
    options: &PutOptions,
    user: &str,
) -> Result<()> {
    let (clean, _) = parts(path);
    let found = match open_in_root(&view.root, &clean, OFlags::PATH) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(missing(path, container)),
        other => other.doing(|| format!("open {path}"))?,
    };
    let status = rustix::fs::fstat(&found).doing(|| format!("look at {path}"))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
        return Err(Error::invalid("extraction point is not a directory"));
    }
    view.writable(&found)?;
    let base = view.place(&found).ok_or_else(|| missing(path, container))?;
    let owner = match user {
        "" => None,
        user => options.copy_uid_gid.then(|| owner(view, user)).transpose()?,
    };
    let base = base.strip_prefix("/").unwrap_or(&base).to_path_buf();
    let mut target = Target { view, base, options, owner, times: Vec::new() };
    let what = || "read the archive";
    let mut archive = tar::Archive::new(caisson_image::decompressed(input)?);
    let entries = archive.entries().doing(what).map_err(bad_archive)?;
    for (number, entry) in entries.enumerate() {
        let mut entry = entry.doing(what).map_err(bad_archive)?;
        if number >= MAX_ENTRIES {
            return Err(Error::invalid(format!("the archive has more than {MAX_ENTRIES} entries")));
        }
        target.entry(&mut entry)?;
    }
    target.finish();
    // What follows the end is no part of the archive: it is read and forgotten.
    let _ = io::copy(&mut archive.into_inner().take(MAX_REST), &mut io::sink());
    Ok(())
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
        self.make_room(&parent, path, name, kind == EntryType::Directory)?;
        let mode = Mode::from_raw_mode(0o600);
        let made = match kind {
            EntryType::Directory => {
                match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
                    Err(error) if error != Errno::EXIST => return Err(error.into()),
                    _ => self.times.push((path.to_path_buf(), mtime(entry))),
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                open_made(&parent, name, flags, FileType::Directory)?
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW;
                let file = rustix::fs::openat(&parent, name, flags | OFlags::CLOEXEC, mode)?;
                let mut file = std::fs::File::from(file);
                io::copy(entry, &mut file)?;
                file.into()
            }
            EntryType::Symlink => {
                let link = entry.link_name_bytes().ok_or_else(no_target)?;
                rustix::fs::symlinkat(OsStr::from_bytes(&link), &parent, name)?;
                open_made(&parent, name, OFlags::PATH, FileType::Symlink)?
            }
            EntryType::Link => return self.hard_link(entry, &parent, name),
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let (kind, device) = device(entry)?;
                rustix::fs::mknodat(&parent, name, kind, mode, device)?;
                open_made(&parent, name, OFlags::PATH, kind)?
            }
            other => return Err(invalid(format!("entries of type {other:?} are not supported"))),
        };
        self.attributes(&made, entry)
    }

    /// Opens a directory of the archive in the container, making what is missing.
    fn parent(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let whole = self.base.join(path);
        match open_in_root(&self.view.root, &whole, flags) {
            Err(Errno::NOENT) if !path.as_os_str().is_empty() => {}
            other => return Ok(other?),
        }
        let above = self.parent(path.parent().unwrap_or(Path::new("")))?;
        let name = path.file_name().unwrap_or_default();
        match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755)) {
            Err(error) if error != Errno::EXIST => return Err(error.into()),
            _ => {}
        }
        Ok(open_in_root(&self.view.root, &whole, flags)?)
    }

    /// Takes away what is in the way.
    fn make_room(
        &self,
        parent: &OwnedFd,
        path: &Path,
        name: &OsStr,
        directory: bool,
    ) -> io::Result<()> {
        let status = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        let is = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
        let base = Path::new("/").join(&self.base);
        let conflict = |is: &str, with: &str| {
            let words = format!("cannot overwrite {is} {:?} with {with} {base:?}", base.join(path));
            Err(io::Error::new(io::ErrorKind::AlreadyExists, words))
        };
        match (is, directory) {
            (true, true) => Ok(()),
            (true, false) if self.options.no_overwrite_dir_non_dir => {
                conflict("directory", "non-directory")
            }
            (false, true) if self.options.no_overwrite_dir_non_dir => {
                conflict("non-directory", "directory")
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
        let target =
            inside(Path::new(OsStr::from_bytes(&link))).map_err(|error| invalid(error.message))?;
        let of = target.file_name().ok_or_else(no_target)?;
        let above = self.base.join(target.parent().unwrap_or(Path::new("")));
        let lost = |error: Errno| match error {
            Errno::NOENT | Errno::NOTDIR | Errno::PERM => {
                invalid(format!("it is a hard link to {target:?}, which is no file there"))
            }
            error => error.into(),
        };
        let from = open_in_root(&self.view.root, &above, OFlags::PATH | OFlags::DIRECTORY);
        let from = from.map_err(lost)?;
        rustix::fs::linkat(&from, of, parent, name, AtFlags::empty()).map_err(lost)
    }

    /// Owner, mode, extended attributes, time: in this order, for each undoes part of the next.
    fn attributes<R: Read>(&self, made: &OwnedFd, entry: &mut Entry<R>) -> io::Result<()> {
        let header = entry.header();
        let number = |value: io::Result<u64>| {
            let value = value?;
            u32::try_from(value).map_err(|_| invalid(format!("its owner {value} is too large")))
        };
        let (uid, gid) = match self.owner {
            Some(owner) => owner,
            None => (number(header.uid())?, number(header.gid())?),
        };
        let (kind, mode) = (header.entry_type(), header.mode()?);
        let itself = AtFlags::EMPTY_PATH;
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(made, "", uid, gid, itself)?;
        if kind != EntryType::Symlink {
            use std::os::fd::AsRawFd;
            let own = format!("/proc/thread-self/fd/{}", made.as_raw_fd());
            rustix::fs::chmod(&own, Mode::from_raw_mode(mode & 0o7777))?;
            set_xattrs(&own, entry)?;
        }
        Ok(rustix::fs::utimensat(made, "", &times(mtime(entry)), itself)?)
    }

    fn finish(self) {
        for (path, seconds) in self.times.iter().rev() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            // The files are there: a time that cannot be set is no reason to fail.
            if let Ok(directory) = open_in_root(&self.view.root, self.base.join(path), flags) {
                let _ = rustix::fs::futimens(&directory, &times(*seconds));
            }
        }
    }
}

/// Opens what was just made; that it is something else by now is a failure.
fn open_made(parent: &OwnedFd, name: &OsStr, flags: OFlags, kind: FileType) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&made)?.st_mode) != kind {
        return Err(io::Error::other("the container changed it meanwhile"));
    }
    Ok(made)
}

fn set_xattrs<R: Read>(path: &str, entry: &mut Entry<R>) -> io::Result<()> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(()) };
    for extension in extensions {
        let extension = extension?;
        let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
        let name = OsStr::from_bytes(name);
        if name == "security.capability" || name.as_bytes().starts_with(b"user.") {
            match rustix::fs::setxattr(path, name, extension.value_bytes(), XattrFlags::empty()) {
                // A file system without them, or a file that has none.
                Err(Errno::NOTSUP | Errno::PERM) => {}
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

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn no_target() -> io::Error {
    invalid("it is a link to nothing".into())
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
    use io::ErrorKind as E;
    let kind = match error.kind() {
        E::AlreadyExists if error.raw_os_error().is_none() => {
            return Error::invalid(error.to_string());
        }
        E::InvalidData | E::InvalidInput | E::UnexpectedEof | E::NotADirectory => Kind::Invalid,
        E::ReadOnlyFilesystem => {
            let words = format!("extract {}: its file system is read-only", name.display());
            return Error::new(Kind::Forbidden, words);
        }
        // What the archive's reader says has no number of the system's.
        _ if error.raw_os_error().is_none() => Kind::Invalid,
        _ => Kind::Internal,
    };
    Error::new(kind, format!("extract {}: {error}", name.display()))
}
