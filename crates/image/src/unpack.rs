//! A layer's tar stream becomes a directory in overlay form: whiteouts are character devices 0:0, an
//! opaque directory has `trusted.overlay.opaque`.
//!
//! The stream is hostile. Every name is resolved below the directory's own descriptor; nothing outside it
//! is written, whatever links the stream makes first.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use caisson_beneath::open_in_root;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use tar::{Entry, EntryType};

use crate::error::{Doing, Error, Result};
use crate::stream::Recorder;

/// Most entries of one layer.
const MAX_ENTRIES: usize = 2_000_000;
/// Most directories in each other that are removed; each holds a descriptor open.
const DEPTH: usize = 512;
/// Extended attributes that a layer may set, by prefix.
const XATTRS: [&str; 2] = ["security.capability", "user."];
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Unpacks `reader` into the empty directory `directory`; returns the bytes of its files.
///
/// # Errors
/// [`Error::Invalid`] names the entry that is refused; what was unpacked before it is the caller's to
/// remove.
pub fn unpack_layer<R: Read>(directory: &Path, reader: &mut Recorder<R>) -> Result<u64> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let root = rustix::fs::open(directory, flags, Mode::empty())
        .doing(|| format!("open {}", directory.display()))?;
    let recorder = reader.control();
    let mut archive = tar::Archive::new(reader);
    let mut layer = Layer { root, parents: HashMap::new(), times: Vec::new(), size: 0 };
    let what = || "read the layer".to_string();
    for (number, entry) in archive.entries().doing(what)?.enumerate() {
        let mut entry = entry.doing(what)?;
        if number >= MAX_ENTRIES {
            return Err(Error::Invalid(format!("a layer has more than {MAX_ENTRIES} entries")));
        }
        let name = PathBuf::from(OsString::from_vec(entry.path_bytes().into_owned()));
        let path = inside(&name)?;
        if entry.header().entry_type() == EntryType::Regular && entry.size() > 0 {
            recorder.payload(&path, entry.size());
        }
        layer.entry(&path, &mut entry).map_err(|error| refused(&name, error))?;
    }
    layer.finish()
}

/// The entry's name relative to the layer's root.
fn inside(name: &Path) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::ParentDir => {
                return Err(Error::Invalid(format!("the layer's entry {name:?} has `..`")));
            }
            _ => {}
        }
    }
    Ok(path)
}

fn refused(name: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            Error::Invalid(format!("the layer's entry {name:?}: {error}"))
        }
        _ => Error::Io { what: format!("unpack the layer's entry {name:?}"), source: error },
    }
}

struct Layer {
    root: OwnedFd,
    parents: HashMap<PathBuf, OwnedFd>,
    /// Directories' times, set when nothing changes in them any more.
    times: Vec<(PathBuf, i64)>,
    size: u64,
}

impl Layer {
    fn entry<R: Read>(&mut self, path: &Path, entry: &mut Entry<R>) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let Some(name) = path.file_name() else {
            return self.attributes(Path::new(""), entry);
        };
        let parent_path = path.parent().unwrap_or(Path::new("")).to_path_buf();
        self.make_parent(&parent_path)?;
        let parent = &self.parents[&parent_path];
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            return whiteout(parent, name.as_bytes(), OsStr::from_bytes(hidden));
        }
        if matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse) {
            let file = new_file(parent, name)?;
            self.size += copy_sparse(entry, &file)?;
            return file_attributes(file.into(), entry);
        }
        make_room(parent, name, kind == EntryType::Directory)?;
        let mode = Mode::from_raw_mode(0o600);
        match kind {
            EntryType::Directory => match rustix::fs::mkdirat(parent, name, mode) {
                Err(error) if error != Errno::EXIST => return Err(error.into()),
                _ => {}
            },
            EntryType::Symlink => rustix::fs::symlinkat(&*link(entry)?, parent, name)?,
            EntryType::Link => {
                let target = link(entry)?;
                let target = inside(&target).map_err(|error| invalid(error.to_string()))?;
                return hard_link(&self.root, &target, parent, name);
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let (file_type, device) = device(entry)?;
                rustix::fs::mknodat(parent, name, file_type, mode, device)?;
            }
            other => return Err(invalid(format!("its type {other:?} is not known"))),
        }
        if kind == EntryType::Directory {
            // It may have been another thing, or a link, when it was last opened by this name.
            self.parents.retain(|known, _| !known.starts_with(path));
        }
        self.attributes(path, entry)
    }

    /// Makes the directories that lead to an entry and were not in the stream.
    fn make_parent(&mut self, path: &Path) -> io::Result<()> {
        if self.parents.contains_key(path) {
            return Ok(());
        }
        if self.parents.len() > 1000 {
            self.parents.clear();
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY;
        let opened = match open_in_root(&self.root, path, flags) {
            Err(Errno::NOENT) => {
                let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
                    return Err(Errno::NOENT.into());
                };
                self.make_parent(above)?;
                let above = &self.parents[above];
                rustix::fs::mkdirat(above, name, Mode::from_raw_mode(0o755))?;
                open_in_root(&self.root, path, flags)?
            }
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(invalid(format!("{path:?} above it is not a directory")));
            }
            other => other?,
        };
        self.parents.insert(path.to_path_buf(), opened);
        Ok(())
    }

    /// Owner, mode, extended attributes, times: in this order, for each undoes part of the next.
    fn attributes<R: Read>(&mut self, path: &Path, entry: &mut Entry<R>) -> io::Result<()> {
        let (owner, group, mode, seconds) = wanted(entry)?;
        let (parent, name) = match path.file_name() {
            Some(name) => (&self.parents[path.parent().unwrap_or(Path::new(""))], name),
            None => (&self.root, OsStr::new(".")),
        };
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(parent, name, Some(owner), Some(group), flags)?;
        if entry.header().entry_type() == EntryType::Symlink {
            return Ok(rustix::fs::utimensat(parent, name, &times(seconds), flags)?);
        }
        rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
        if entry.header().entry_type() == EntryType::Directory {
            self.times.push((path.to_path_buf(), seconds));
        } else {
            rustix::fs::utimensat(parent, name, &times(seconds), flags)?;
        }
        if entry.pax_extensions()?.is_none() {
            return Ok(());
        }
        let file = rustix::fs::openat(
            parent,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        set_xattrs(&file, entry)
    }

    fn finish(self) -> Result<u64> {
        for (path, seconds) in self.times.iter().rev() {
            if let Ok(directory) = open_in_root(&self.root, path, OFlags::PATH | OFlags::DIRECTORY)
            {
                let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
                let what = || format!("set the time of {path:?}");
                rustix::fs::utimensat(CWD, link, &times(*seconds), AtFlags::empty()).doing(what)?;
            }
        }
        Ok(self.size)
    }
}

/// Makes a file, in the place of what has its name.
fn new_file(parent: &OwnedFd, name: &OsStr) -> io::Result<std::fs::File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW;
    let make =
        || rustix::fs::openat(parent, name, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
    let made = match make() {
        Err(Errno::EXIST) => {
            make_room(parent, name, false)?;
            make()
        }
        other => other,
    };
    Ok(made?.into())
}

/// Owner, group, mode and time of an entry.
fn wanted<R: Read>(entry: &Entry<R>) -> io::Result<(Uid, Gid, Mode, i64)> {
    let number = |value: u64| {
        u32::try_from(value).map_err(|_| invalid(format!("its owner {value} is too large")))
    };
    let header = entry.header();
    let (uid, gid) = (number(header.uid()?)?, number(header.gid()?)?);
    let mode = Mode::from_raw_mode(header.mode()? & 0o7777);
    Ok((Uid::from_raw(uid), Gid::from_raw(gid), mode, header.mtime()? as i64))
}

/// The same as [`Layer::attributes`], of an open file.
fn file_attributes<R: Read>(file: OwnedFd, entry: &mut Entry<R>) -> io::Result<()> {
    let (owner, group, mode, seconds) = wanted(entry)?;
    rustix::fs::fchown(&file, Some(owner), Some(group))?;
    rustix::fs::fchmod(&file, mode)?;
    set_xattrs(&file, entry)?;
    Ok(rustix::fs::futimens(&file, &times(seconds))?)
}

/// The kind of node that an entry is, and its device's numbers.
pub fn device<R: Read>(entry: &Entry<R>) -> io::Result<(FileType, u64)> {
    let header = entry.header();
    let kind = match header.entry_type() {
        EntryType::Char => FileType::CharacterDevice,
        EntryType::Block => FileType::BlockDevice,
        // Its fields for a device may hold anything.
        _ => return Ok((FileType::Fifo, 0)),
    };
    let (major, minor) = (header.device_major()?, header.device_minor()?);
    Ok((kind, rustix::fs::makedev(major.unwrap_or_default(), minor.unwrap_or_default())))
}

fn set_xattrs<R: Read>(file: &OwnedFd, entry: &mut Entry<R>) -> io::Result<()> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(()) };
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    for extension in extensions {
        let extension = extension?;
        let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr."))
        else {
            continue;
        };
        if XATTRS.iter().any(|allowed| name.starts_with(allowed)) {
            let flags = rustix::fs::XattrFlags::empty();
            match rustix::fs::setxattr(&link, name, extension.value_bytes(), flags) {
                // A file system without user attributes, as Docker has it.
                Err(Errno::OPNOTSUPP | Errno::PERM) => {}
                other => other?,
            }
        }
    }
    Ok(())
}

fn whiteout(parent: &OwnedFd, name: &[u8], hidden: &OsStr) -> io::Result<()> {
    if name == OPAQUE {
        let flags = rustix::fs::XattrFlags::empty();
        return Ok(rustix::fs::fsetxattr(parent, "trusted.overlay.opaque", b"y", flags)?);
    }
    if hidden.as_bytes().starts_with(WHITEOUT) {
        return Ok(());
    }
    if hidden.is_empty() || hidden == "." || hidden == ".." {
        return Err(invalid("it is a whiteout of nothing".to_string()));
    }
    make_room(parent, hidden, false)?;
    let (kind, mode) = (FileType::CharacterDevice, Mode::empty());
    Ok(rustix::fs::mknodat(parent, hidden, kind, mode, rustix::fs::makedev(0, 0))?)
}

/// A later entry of the same name replaces an earlier one; a directory stays one.
fn make_room(parent: &OwnedFd, name: &OsStr, directory: bool) -> io::Result<()> {
    let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    match (FileType::from_raw_mode(stat.st_mode).is_dir(), directory) {
        (true, true) => Ok(()),
        (true, false) => remove_tree(parent, name),
        (false, _) => Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?),
    }
}

/// Removes a directory without following links.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] when it is more than [`DEPTH`] directories deep.
pub fn remove_tree(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    remove_below(parent, name, DEPTH)
}

fn remove_below(parent: &OwnedFd, name: &OsStr, depth: usize) -> io::Result<()> {
    let Some(depth) = depth.checked_sub(1) else {
        let words = format!("{name:?} is more than {DEPTH} directories deep");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
    };
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for item in rustix::fs::Dir::read_from(&directory)? {
        let item = item?;
        let name = OsStr::from_bytes(item.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => remove_below(&directory, name, depth)?,
            other => other?,
        }
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

fn hard_link(root: &OwnedFd, target: &Path, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let existing =
        open_in_root(root, target, OFlags::PATH | OFlags::NOFOLLOW).map_err(|error| {
            invalid(format!(
                "it is a hard link to {target:?}, which the layer does not have ({error})"
            ))
        })?;
    if FileType::from_raw_mode(rustix::fs::fstat(&existing)?.st_mode).is_dir() {
        return Err(invalid(format!("it is a hard link to the directory {target:?}")));
    }
    Ok(rustix::fs::linkat(&existing, "", parent, name, AtFlags::EMPTY_PATH)?)
}

fn link<R: Read>(entry: &Entry<R>) -> io::Result<PathBuf> {
    let name = entry.link_name_bytes().ok_or_else(|| invalid("it has no target".to_string()))?;
    Ok(PathBuf::from(OsString::from_vec(name.into_owned())))
}

/// Copies a file and leaves holes where it is zero: a gigabyte of zeros takes no space.
fn copy_sparse(from: &mut impl Read, mut file: &std::fs::File) -> io::Result<u64> {
    let mut buffer = vec![0; 128 << 10];
    let mut size = 0;
    // Whether the file ends in one.
    let mut hole = false;
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match from.read(&mut buffer[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        size += filled as u64;
        let last = filled < buffer.len();
        if filled >= 4096 && buffer[..filled].iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Current(filled as i64))?;
            hole = true;
        } else {
            file.write_all(&buffer[..filled])?;
            hole = hole && filled == 0;
        }
        if last {
            if hole {
                file.set_len(size)?;
            }
            return Ok(size);
        }
    }
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
