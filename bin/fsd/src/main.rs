//! `caisson-fsd`: serves one microVM's share by virtio-fs (vhost-user).
//!
//! Owns a mount namespace whose root is the share and nothing else; the supervisor attaches the
//! container's root file system and bind mounts there. Faces a hostile guest: it keeps only the
//! capabilities that file ownership needs, and ends with its one client.

use std::fs::File;
use std::os::fd::FromRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use vhost::vhost_user::Listener;
use vhost_user_backend::VhostUserDaemon;
use virtiofsd::passthrough::{CachePolicy, Config, PassthroughFs};
use virtiofsd::vhost_user::VhostUserFsBackendBuilder;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

/// How long the guest may trust what it knows of a file that the host may change.
const CACHE: Duration = Duration::from_secs(1);

/// CAP_CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID, SETUID, MKNOD, SETFCAP.
const CAPABILITIES: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 27 | 1 << 31;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let Some(share) = arguments.next() else {
        anyhow::bail!("usage: caisson-fsd DIRECTORY (started by caisson-supervisor)");
    };
    // Its one client is the machine monitor, its life the supervisor's.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let descriptors = File::open("/proc/self/fd").context("open /proc/self/fd")?;
    let mounts = File::open("/proc/self/mountinfo").context("open /proc/self/mountinfo")?;
    enter(Path::new(&share))?;
    caisson_launch::privileges::keep_only(CAPABILITIES)
        .map_err(|error| anyhow::anyhow!(error.into_failure().message))?;
    serve(descriptors, mounts)
}

/// Makes the share the root of a mount namespace of its own.
fn enter(share: &Path) -> Result<()> {
    // SAFETY: this program has one thread yet.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }
        .context("make a mount namespace")?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("make mounts private")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("share", share, "tmpfs", flags, c"mode=755,size=1m")
        .context("mount the share")?;
    rustix::process::chdir(share).context("enter the share")?;
    rustix::process::pivot_root(".", ".").context("make the share the root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).context("leave the host's root")?;
    rustix::process::chdir("/").context("enter /")
}

fn serve(descriptors: File, mounts: File) -> Result<()> {
    let config = Config {
        entry_timeout: CACHE,
        attr_timeout: CACHE,
        cache_policy: CachePolicy::Auto,
        root_dir: "/".into(),
        xattr: true,
        announce_submounts: true,
        readdirplus: true,
        proc_sfd_rawfd: Some(descriptors),
        proc_mountinfo_rawfd: Some(mounts),
        ..Config::default()
    };
    let files = PassthroughFs::new(config).context("prepare the file system")?;
    let backend = VhostUserFsBackendBuilder::default()
        .set_thread_pool_size(0)
        .build(files)
        .map_err(|error| anyhow::anyhow!("prepare the device: {error}"))?;
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let mut daemon = VhostUserDaemon::new("caisson-fsd".into(), Arc::new(backend), memory)
        .map_err(|error| anyhow::anyhow!("prepare the device: {error:?}"))?;
    // SAFETY: the supervisor passes a listening socket as descriptor 0 and nothing else here uses it.
    let mut listener = unsafe { Listener::from_raw_fd(0) };
    daemon.start(&mut listener).map_err(|error| anyhow::anyhow!("serve: {error:?}"))?;
    // The client's end is this program's.
    let _ = daemon.wait();
    Ok(())
}
