//! How much the files of a directory hold.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Result;

/// Bytes of all files below a directory, directories themselves not counted and hard links once, as Docker
/// counts. A container may be changing it meanwhile: what goes away is not counted, and no link is followed.
pub(crate) fn directory_size(root: &Path) -> u64 {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let Ok(root) = rustix::fs::open(root, flags, Mode::empty()) else { return 0 };
    let mut total = 0;
    let mut linked = HashSet::new();
    let mut pending = vec![PathBuf::from(".")];
    while let Some(directory) = pending.pop() {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let Ok(handle) = rustix::fs::openat2(&root, &directory, flags, Mode::empty(), resolve)
        else {
            continue;
        };
        let Ok(entries) = Dir::read_from(&handle) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let status: Result<_> = rustix::fs::statat(&handle, name, AtFlags::SYMLINK_NOFOLLOW);
            let Ok(status) = status else { continue };
            if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
                pending.push(directory.join(OsStr::from_bytes(name.to_bytes())));
            } else if status.st_nlink < 2 || linked.insert((status.st_dev, status.st_ino)) {
                total += u64::try_from(status.st_size).unwrap_or_default();
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_once_and_links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::write(at("a/b/file"), [0; 100]).unwrap();
        std::fs::hard_link(at("a/b/file"), at("a/other")).unwrap();
        std::os::unix::fs::symlink("/etc", at("a/link")).unwrap();
        assert_eq!(directory_size(root.path()), 100 + 4);
        assert_eq!(directory_size(&at("missing")), 0);
    }
}
