//! What is at a path of a container: its stat, and its archive.

use std::ffi::{CString, OsStr};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use caisson_beneath::open_in_root;
use rustix::fs::{AtFlags, FileType, OFlags, Stat};
use rustix::io::Errno;

use super::pack::Packer;
use super::view::View;
use crate::error::{Doing, Error, Result};

/// What Docker tells of a path before its archive.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PathStat {
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// As Go's `os.FileMode` has it.
    pub mode: u32,
    /// RFC 3339.
    pub mtime: String,
    /// Of a symbolic link: where it leads in the container.
    pub link_target: String,
}

/// A path that was found, its last link not followed.
struct Found {
    parent: OwnedFd,
    /// Empty for the root itself.
    name: CString,
    status: Stat,
}

pub(super) fn missing(path: &str, name: &str) -> Error {
    Error::not_found(format!("Could not find the file {path} in container {name}"))
}

/// A path's components, and whether it must be a directory (`/` or `/.` at its end).
pub(super) fn parts(path: &str) -> (PathBuf, bool) {
    let directory = path.ends_with('/') || path.ends_with("/.") || path == ".";
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    (clean, directory)
}

fn find(view: &View, container: &str, path: &str) -> Result<Found> {
    let (clean, directory) = parts(path);
    let fail = |error: Errno| match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => missing(path, container),
        error => Error::internal(format!("look at {path}: {}", std::io::Error::from(error))),
    };
    let Some(name) = clean.file_name().filter(|_| !directory) else {
        // The directory itself, through links.
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let parent = open_in_root(&view.root, &clean, flags).map_err(fail)?;
        let status = rustix::fs::fstat(&parent).map_err(fail)?;
        return Ok(Found { parent, name: CString::default(), status });
    };
    let above = clean.parent().unwrap_or(Path::new(""));
    let parent = open_in_root(&view.root, above, OFlags::PATH | OFlags::DIRECTORY).map_err(fail)?;
    let name = CString::new(name.as_bytes()).map_err(|_| missing(path, container))?;
    let status = rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
    Ok(Found { parent, name, status })
}

pub(super) fn stat(view: &View, container: &str, path: &str) -> Result<PathStat> {
    let found = find(view, container, path)?;
    let status = &found.status;
    let mut link_target = String::new();
    if FileType::from_raw_mode(status.st_mode) == FileType::Symlink {
        let (clean, _) = parts(path);
        let resolved = open_in_root(&view.root, &clean, OFlags::PATH).ok();
        let resolved = resolved.and_then(|target| view.place(&target));
        let raw = || {
            let target = rustix::fs::readlinkat(&found.parent, &found.name, Vec::new());
            let target = target.unwrap_or_default();
            let base = Path::new("/").join(clean.parent().unwrap_or(Path::new("")));
            let joined = base.join(OsStr::from_bytes(target.to_bytes()));
            Path::new("/").join(parts(&joined.to_string_lossy()).0)
        };
        link_target = resolved.unwrap_or_else(raw).display().to_string();
    }
    let nanoseconds = status.st_mtime * 1_000_000_000 + status.st_mtime_nsec as i64;
    let name = parts(path).0;
    let name = name.file_name().map_or("/".into(), |name| name.to_string_lossy().into_owned());
    // Go's `filepath.Base` of what was asked.
    let name = if path.ends_with("/.") { ".".into() } else { name };
    Ok(PathStat {
        name,
        size: status.st_size,
        mode: go_mode(status.st_mode),
        mtime: caisson_api::time::rfc3339(nanoseconds),
        link_target,
    })
}

/// Go's bits for what a file is; the permissions are Unix's.
fn go_mode(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        FileType::BlockDevice => 1 << 26,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        _ => 0,
    };
    let bit = |unix: u32, go: u32| if mode & unix != 0 { go } else { 0 };
    kind | mode & 0o777 | bit(0o4000, 1 << 23) | bit(0o2000, 1 << 22) | bit(0o1000, 1 << 20)
}

/// Writes what is at a path; its entries begin with the path's last name.
pub(super) fn get(view: &View, container: &str, path: &str, output: impl Write) -> Result<()> {
    let found = find(view, container, path)?;
    let mut packer = Packer::new(output, false, Vec::new());
    if found.name.is_empty() {
        // As Docker's clients expect it: they put another name in the place of this one.
        let base = match parts(path).0.file_name() {
            _ if path.ends_with("/.") || path == "." => PathBuf::from("."),
            Some(name) => PathBuf::from(name),
            None => PathBuf::from("/"),
        };
        let what = || format!("open {path}");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let again = rustix::fs::openat(&found.parent, ".", flags, rustix::fs::Mode::empty());
        packer.entry(&again.doing(what)?, c".", &base, 0)?;
    } else {
        let base = PathBuf::from(OsStr::from_bytes(found.name.to_bytes()));
        packer.entry(&found.parent, &found.name, &base, 0)?;
    }
    packer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(0o100644), 0o644);
        assert_eq!(go_mode(0o040755), 1 << 31 | 0o755);
        assert_eq!(go_mode(0o120777), 1 << 27 | 0o777);
        assert_eq!(go_mode(0o041777), 1 << 31 | 1 << 20 | 0o777);
        assert_eq!(go_mode(0o104755), 1 << 23 | 0o755);
        assert_eq!(go_mode(0o020600), 1 << 26 | 1 << 21 | 0o600);
    }

    #[test]
    fn paths_are_cleaned() {
        assert_eq!(parts("/a/../b/."), ("b".into(), true));
        assert_eq!(parts("/../../x"), ("x".into(), false));
        assert_eq!(parts("/"), ("".into(), true));
    }
}
