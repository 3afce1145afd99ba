//! A container's files as it sees them itself, with its volumes and binds, whether it runs or not.
//!
//! They are mounted in a mount namespace of a thread's own, which ends with the work: nothing of it is seen
//! outside, and nothing is left.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree,
};
use rustix::thread::UnshareFlags;

use crate::error::{Doing, Error, Result};
use crate::record::MountKind;
use crate::{Container, Engine};

/// The root of the files.
pub struct View {
    pub root: OwnedFd,
    /// The root's path here, for what descriptors are called.
    path: PathBuf,
}

impl View {
    /// Where a descriptor of this view is, as the container would say.
    pub fn place(&self, fd: &impl std::os::fd::AsRawFd) -> Option<PathBuf> {
        let link = std::fs::read_link(format!("/proc/thread-self/fd/{}", fd.as_raw_fd())).ok()?;
        let inside = link.strip_prefix(&self.path).ok()?;
        Some(Path::new("/").join(inside))
    }
}

/// A mount of the view: from, to, read-only.
type Mount = (PathBuf, PathBuf, bool);

impl Engine {
    /// Does some work on a container's files; `sealed`: its root file system is read-only.
    pub(super) fn in_view<T: Send + 'static>(
        &self,
        container: &Arc<Container>,
        sealed: bool,
        work: impl FnOnce(&View) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let rootfs = self.rootfs(container)?;
        let mut mounts = Vec::new();
        for mount in container.record().mounts {
            let source = match &mount.kind {
                MountKind::Bind { source, .. } => source.clone(),
                MountKind::Volume { name, subpath, .. } => {
                    self.volume_data(name).join(subpath.as_deref().unwrap_or(Path::new("")))
                }
                MountKind::Tmpfs { .. } => continue,
            };
            mounts.push((source, mount.destination, mount.read_only));
        }
        mounts.sort_by_key(|(_, destination, _)| destination.components().count());
        let path = rootfs.path().to_path_buf();
        let thread = std::thread::Builder::new().name("files".into());
        let worker = thread.spawn(move || {
            let root = mounted(&path, sealed, &mounts)?;
            work(&View { root, path })
        });
        let worker = worker.doing(|| "start a thread for a container's files")?;
        let result = worker.join();
        drop(rootfs);
        result.unwrap_or_else(|_| Err(Error::internal("the work on a container's files died")))
    }
}

fn mounted(rootfs: &Path, sealed: bool, mounts: &[Mount]) -> Result<OwnedFd> {
    let what = || "make a view of the container's files";
    // SAFETY: the thread is this function's caller's own, and no other thread shares its file system state.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }
        .doing(what)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).doing(what)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, rootfs, flags).doing(what)?;
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&tree, "", CWD, rootfs, empty).doing(what)?;
    let open = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(rootfs, open, Mode::empty()).doing(what)?;
    for (source, destination, read_only) in mounts {
        let flags = flags | OpenTreeFlags::AT_RECURSIVE;
        // One that is gone, or has no place, is not in the view.
        let Ok(tree) = open_tree(CWD, source.as_path(), flags) else { continue };
        let Ok(target) = place(&root, destination, &tree) else { continue };
        if *read_only {
            seal(&tree).doing(what)?;
        }
        let flags = empty | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        // A file has no place on a directory, nor the other way round.
        if move_mount(&tree, "", target.as_fd(), "", flags).is_err() {
            continue;
        }
    }
    if sealed {
        seal(&root).doing(what)?;
    }
    Ok(root)
}

/// Opens a mount's place, made if need be: a container that was never started has none yet.
fn place(root: &OwnedFd, path: &Path, tree: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    use caisson_image::unpack::open_in;
    let directory =
        FileType::from_raw_mode(rustix::fs::fstat(tree)?.st_mode) == FileType::Directory;
    let mut walked = PathBuf::new();
    for part in path.components().filter(|part| matches!(part, Component::Normal(_))) {
        let parent = open_in(root, &walked, OFlags::PATH | OFlags::DIRECTORY)?;
        walked.push(part);
        if !matches!(open_in(root, &walked, OFlags::PATH), Err(Errno::NOENT)) {
            continue;
        }
        let name = part.as_os_str();
        let made = if directory || walked != path.strip_prefix("/").unwrap_or(path) {
            rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))
        } else {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        };
        match made {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    open_in(root, &walked, OFlags::PATH)
}

/// Makes a mount read-only.
fn seal(tree: &OwnedFd) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a string that ends, and the structure and its size are what the call reads.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
