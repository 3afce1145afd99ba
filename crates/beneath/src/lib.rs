//! Paths that come from an image, a container, an archive or a client: opened below a directory, and never
//! outside it, whatever links there are and whoever changes them meanwhile.
//!
//! Built on openat2(2). Owns nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

/// How often a path is tried again that the kernel gave up.
const TRIES: u32 = 256;

/// Opens `path` as who has `root` as `/` would see it: an absolute link and too many `..` lead to the root. An
/// empty path is the root.
pub fn open_in_root(root: impl AsFd, path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd> {
    open(root, path.as_ref(), flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Opens `path` below `root`.
///
/// # Errors
/// `EXDEV` when the path, or a link on its way, leads out of the root.
pub fn open_beneath(root: impl AsFd, path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd> {
    open(root, path.as_ref(), flags, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
}

/// A rename or mount anywhere on the host makes the kernel give a path with `..` up (EAGAIN): it is tried again.
fn open(root: impl AsFd, path: &Path, flags: OFlags, limits: ResolveFlags) -> Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = flags | OFlags::CLOEXEC;
    let mut result = Err(Errno::AGAIN);
    for _ in 0..TRIES {
        result = rustix::fs::openat2(root.as_fd(), path, flags, Mode::empty(), limits);
        if !matches!(result, Err(Errno::AGAIN)) {
            break;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn no_way_leads_out() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::create_dir_all(at("root/a/b")).unwrap();
        std::fs::write(at("outside"), "").unwrap();
        symlink("/a", at("root/absolute")).unwrap();
        symlink("../../../outside", at("root/a/up")).unwrap();
        let root = std::fs::File::open(at("root")).unwrap();
        let found = |path: &str| open_in_root(&root, path, OFlags::PATH).map(drop);
        for inside in ["", "/", "a/b", "/a/../..//a", "absolute/b", "../../../a"] {
            assert_eq!(found(inside), Ok(()), "{inside}");
        }
        assert_eq!(found("a/up"), Err(Errno::NOENT));
        let found = |path: &str| open_beneath(&root, path, OFlags::PATH).map(drop);
        assert_eq!(found("a/../a/b"), Ok(()));
        for out in ["..", "a/up", "absolute", "/a"] {
            assert_eq!(found(out), Err(Errno::XDEV), "{out}");
        }
    }

    #[test]
    fn renames_elsewhere_do_not_make_a_path_fail() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("a/b")).unwrap();
        let busy = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(place.path()).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let names = [busy.path().join("x"), busy.path().join("y")];
                std::fs::write(&names[0], "").unwrap();
                while !done.load(Ordering::Relaxed) {
                    std::fs::rename(&names[0], &names[1]).unwrap();
                    std::fs::rename(&names[1], &names[0]).unwrap();
                }
            });
            let path = "a/b/../b/../b/../b/../../../../a/b";
            let failed = (0..5000).find_map(|_| open_in_root(&root, path, OFlags::PATH).err());
            done.store(true, Ordering::Relaxed);
            assert_eq!(failed, None);
        });
    }
}
