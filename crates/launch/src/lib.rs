//! Launch: a bundle becomes a running process.
//!
//! The same code runs in the supervisor on the host and in the agent of a nano guest. A container is
//! never cloned from the caller: [`Launcher`] execs the small single-threaded `caisson-init`, hands it a
//! [`plan::Plan`], and `init` clones the container's first process as the *caller's* child. Failures come
//! back over the same socket with the whole chain of causes.
//!
//! Owns: namespaces, mounts, devices, privileges, seccomp, cgroups of one container. Never: streams after
//! the start, exits, logs, names.

pub mod cgroup;
mod error;
pub mod init;
mod launcher;
mod mounts;
pub mod plan;
pub mod privileges;
pub mod ps;
pub mod seccomp;
mod sys;
pub mod user;

use std::io;
use std::os::fd::BorrowedFd;

pub use error::Error;
pub use launcher::{Launched, Launcher};
pub use mounts::{SUBPATH, source_tree};

/// Makes the mount (or detached tree) behind `tree` read-only.
pub fn make_read_only(tree: BorrowedFd<'_>, recursive: bool) -> io::Result<()> {
    sys::mount_setattr(tree, libc::MOUNT_ATTR_RDONLY, 0, recursive)
}

/// Moves the calling thread, which must not share its file system state, to a mount namespace.
pub fn enter_mount_namespace(namespace: BorrowedFd<'_>) -> io::Result<()> {
    sys::setns(namespace, libc::CLONE_NEWNS)
}
