//! A container's files as it sees them itself, with its volumes and binds, whether it runs or not.
//!
//! They are mounted in a mount namespace of a thread's own, which ends with the work: nothing of it is seen
//! outside, and nothing is left. Memory file systems (`--tmpfs`) are the container's alone and not in it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use caisson_beneath::open_in_root;
use rustix::fs::{CWD, FileType, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree,
};
use rustix::thread::UnshareFlags;

use crate::error::{Doing, Error, Kind, Result};
use crate::record::MountKind;
use crate::{Container, Engine};

/// The files that the engine keeps for a container and mounts into its `/etc`.
const OWN: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// The root of the files.
pub struct View {
    pub root: OwnedFd,
    /// The root's path here, for what descriptors are called.
    path: PathBuf,
    /// Where something is mounted, as absolute paths.
    mounts: Vec<PathBuf>,
}

impl View {
    /// Where a descriptor of this view is, as the container would say.
    pub fn place(&self, fd: &impl std::os::fd::AsRawFd) -> Option<PathBuf> {
        let link = std::fs::read_link(format!("/proc/thread-self/fd/{}", fd.as_raw_fd())).ok()?;
        let inside = link.strip_prefix(&self.path).ok()?;
        Some(Path::new("/").join(inside))
    }

    /// Refuses a place that nothing may be written to, in Docker's words.
    pub fn writable(&self, fd: &OwnedFd) -> Result<()> {
        let what = || "look at the file system to write to";
        let sealed = rustix::fs::fstatvfs(fd).doing(what)?.f_flag;
        if !sealed.contains(StatVfsMountFlags::RDONLY) {
            return Ok(());
        }
        let place = self.place(fd).unwrap_or_default();
        let volume = self.mounts.iter().any(|mount| place.starts_with(mount));
        Err(Error::new(Kind::Forbidden, if volume { VOLUME_SEALED } else { ROOT_SEALED }))
    }
}

const VOLUME_SEALED: &str = "mounted volume is marked read-only";
const ROOT_SEALED: &str = "container rootfs is marked read-only";

/// Something to mount into a view.
#[derive(Debug)]
pub(super) struct Mount {
    pub source: PathBuf,
    /// A directory or file below `source`, links resolved as if that were the root.
    pub subpath: Option<PathBuf>,
    pub destination: PathBuf,
    pub read_only: bool,
    pub recursive: bool,
    /// Only if the place is there.
    pub optional: bool,
}

impl Engine {
    /// Does some work on a container's files; `sealed`: its root file system is read-only.
    pub(super) fn in_view<T: Send>(
        &self,
        container: &Arc<Container>,
        sealed: bool,
        work: impl FnOnce(&View) -> Result<T> + Send,
    ) -> Result<T> {
        let rootfs = self.rootfs(container)?;
        let result = with_view(rootfs.path(), sealed, &self.view_mounts(container), work);
        drop(rootfs);
        result
    }

    fn view_mounts(&self, container: &Container) -> Vec<Mount> {
        let mut mounts = Vec::new();
        for mount in container.record().mounts {
            let (source, subpath, recursive) = match mount.kind {
                MountKind::Bind { source, recursive } => (source, None, recursive),
                MountKind::Volume { name, subpath, .. } => {
                    (self.volume_data(&name), subpath, false)
                }
                MountKind::Tmpfs { .. } => continue,
            };
            let (destination, read_only) = (mount.destination, mount.read_only);
            let optional = false;
            mounts.push(Mount { source, subpath, destination, read_only, recursive, optional });
        }
        for name in OWN {
            let (source, destination) = (container.places.file(name), Path::new("/etc").join(name));
            if source.exists() && !mounts.iter().any(|mount| mount.destination == destination) {
                mounts.push(Mount {
                    source,
                    subpath: None,
                    destination,
                    read_only: false,
                    recursive: false,
                    optional: true,
                });
            }
        }
        mounts.sort_by_key(|mount| mount.destination.components().count());
        mounts
    }
}

/// Does some work on a root file system with mounts in it.
pub(super) fn with_view<T: Send>(
    rootfs: &Path,
    sealed: bool,
    mounts: &[Mount],
    work: impl FnOnce(&View) -> Result<T> + Send,
) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("files".into());
        let worker = thread.spawn_scoped(scope, || {
            let root = mounted(rootfs, sealed, mounts)?;
            let mounts = mounts.iter().map(|mount| mount.destination.clone()).collect();
            work(&View { root, path: rootfs.to_path_buf(), mounts })
        });
        let worker = worker.doing(|| "start a thread for a container's files")?;
        let died = |_| Err(Error::internal("the work on a container's files died"));
        worker.join().unwrap_or_else(died)
    })
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
    for mount in mounts {
        attach(&root, mount)?;
    }
    if sealed {
        seal(&root, false).doing(what)?;
    }
    Ok(root)
}

fn attach(root: &OwnedFd, mount: &Mount) -> Result<()> {
    let shown = mount.destination.display();
    let what = || format!("mount {} at {shown}", mount.source.display());
    let source = open(&mount.source).doing(what)?;
    let source = match &mount.subpath {
        Some(subpath) => open_in_root(&source, subpath, OFlags::PATH).doing(what)?,
        None => source,
    };
    let is = FileType::from_raw_mode(rustix::fs::fstat(&source).doing(what)?.st_mode);
    let target = match open_in_root(root, &mount.destination, OFlags::PATH) {
        Err(Errno::NOENT) if mount.optional => return Ok(()),
        // The container has not been started yet.
        Err(Errno::NOENT) => make_place(root, &mount.destination, is == FileType::Directory),
        other => other,
    };
    let target = target.doing(what)?;
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags |= OpenTreeFlags::AT_EMPTY_PATH;
    if mount.recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(&source, "", flags).doing(what)?;
    if mount.read_only {
        seal(&tree, mount.recursive).doing(what)?;
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&tree, "", target.as_fd(), "", flags).doing(what)
}

fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// Makes the place of a mount, as a start would.
fn make_place(root: &OwnedFd, path: &Path, directory: bool) -> rustix::io::Result<OwnedFd> {
    let parts: Vec<&OsStr> = path
        .iter()
        .filter(|part| !matches!(part.as_encoded_bytes(), b"/" | b"." | b".."))
        .collect();
    let mut above = PathBuf::new();
    for (index, name) in parts.iter().enumerate() {
        let parent = open_in_root(root, &above, OFlags::RDONLY | OFlags::DIRECTORY)?;
        above.push(name);
        if open_in_root(root, &above, OFlags::PATH).is_ok() {
            continue;
        }
        let made = if directory || index + 1 < parts.len() {
            rustix::fs::mkdirat(&parent, *name, Mode::from_raw_mode(0o755))
        } else {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(&parent, *name, flags, Mode::from_raw_mode(0o644)).map(drop)
        };
        match made {
            Err(Errno::EXIST) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
    open_in_root(root, &above, OFlags::PATH)
}

/// Makes a mount read-only.
fn seal(tree: &OwnedFd, recursive: bool) -> std::io::Result<()> {
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
            libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 },
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
