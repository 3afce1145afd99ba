//! The root file system of a container: image layers below, a directory of its own above.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount as mnt;

use crate::error::{Doing, Result};

/// Mounts `lower` (topmost first) below `upper` at `target`; `work` is on `upper`'s file system.
pub fn mount(lower: &[PathBuf], upper: &Path, work: &Path, target: &Path) -> Result<()> {
    let what = || format!("mount the root file system at {}", target.display());
    let context = mnt::fsopen("overlay", mnt::FsOpenFlags::FSOPEN_CLOEXEC).doing(what)?;
    let fs = context.as_fd();
    for layer in lower {
        match mnt::fsconfig_set_string(fs, "lowerdir+", layer) {
            Err(Errno::INVAL) => return mount_in_one(lower, upper, work, target),
            other => other.doing(what)?,
        }
    }
    mnt::fsconfig_set_string(fs, "upperdir", upper).doing(what)?;
    mnt::fsconfig_set_string(fs, "workdir", work).doing(what)?;
    for option in ["redirect_dir", "metacopy", "index"] {
        // A kernel built without the feature has it off already.
        let _ = mnt::fsconfig_set_string(fs, option, "off");
    }
    mnt::fsconfig_create(fs).doing(what)?;
    let flags = mnt::FsMountFlags::FSMOUNT_CLOEXEC;
    let tree = mnt::fsmount(fs, flags, mnt::MountAttrFlags::empty()).doing(what)?;
    let flags = mnt::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    mnt::move_mount(&tree, "", CWD, target, flags).doing(what)
}

/// Before Linux 6.7 all lower directories are one string, of a page at most.
fn mount_in_one(lower: &[PathBuf], upper: &Path, work: &Path, target: &Path) -> Result<()> {
    let lower: Vec<_> = lower.iter().map(|path| path.display().to_string()).collect();
    let data = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.join(":"),
        upper.display(),
        work.display()
    );
    let data = std::ffi::CString::new(data).map_err(std::io::Error::from);
    let what = || format!("mount the root file system at {}", target.display());
    let data = data.doing(what)?;
    mnt::mount("overlay", target, "overlay", mnt::MountFlags::empty(), data.as_c_str()).doing(what)
}

/// Unmounts it; that it is not mounted is no failure.
pub fn unmount(target: &Path) -> Result<()> {
    match mnt::unmount(target, mnt::UnmountFlags::DETACH | mnt::UnmountFlags::NOFOLLOW) {
        Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        other => other.doing(|| format!("unmount {}", target.display())),
    }
}
