//! Where a bind mount comes from.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::OpenTreeFlags;

use super::clone_flags;

/// Option of a bind mount, followed by a relative path: only this part of the source is mounted. It is found
/// without leaving the source, so that nobody who can write to the source leads the mount elsewhere, not even
/// between a check and the mount.
pub const SUBPATH: &str = "io.caisson.subpath=";

/// A detached copy of the mount tree at `source`, or at `subpath` below it.
///
/// # Errors
/// `EXDEV` when the subpath leads out of the source.
pub fn source_tree(source: &Path, subpath: Option<&Path>, recursive: bool) -> io::Result<OwnedFd> {
    let flags = clone_flags(recursive);
    let Some(subpath) = subpath else {
        return Ok(rustix::mount::open_tree(CWD, source, flags)?);
    };
    let path = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open(source, path | OFlags::DIRECTORY, Mode::empty())?;
    let part = caisson_beneath::open_beneath(&root, subpath, path)?;
    Ok(rustix::mount::open_tree(&part, "", flags | OpenTreeFlags::AT_EMPTY_PATH)?)
}
