//! The guest as a machine: its file systems, its port to the host, its orphans, its end.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use caisson_protocol::agent::PORT;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags, inotify};
use rustix::mount::MountFlags;

/// The init program in the initramfs.
pub const INIT: &str = "/caisson-init";
/// How long the port's device may take to appear.
const LIMIT: Duration = Duration::from_secs(10);

/// Mounts what every Linux system has.
pub fn furnish() -> Result<()> {
    leave_the_absolute_root()?;
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mounts = [
        ("proc", "/proc", plain, c""),
        ("sysfs", "/sys", plain, c""),
        ("devtmpfs", "/dev", MountFlags::NOSUID, c"mode=755"),
        ("devpts", "/dev/pts", MountFlags::NOSUID, c"ptmxmode=666,mode=620,gid=5"),
        ("tmpfs", "/run", MountFlags::NOSUID | MountFlags::NODEV, c"mode=755"),
        ("cgroup2", "/sys/fs/cgroup", plain, c"nsdelegate"),
    ];
    for (kind, target, flags, data) in mounts {
        fs::create_dir_all(target).with_context(|| format!("make {target}"))?;
        rustix::mount::mount(kind, target, kind, flags, data)
            .with_context(|| format!("mount {target}"))?;
    }
    Ok(())
}

/// Binds the initramfs over itself: the kernel's first mount has no parent, and nothing below it could
/// ever pivot to another root, as every container must.
fn leave_the_absolute_root() -> Result<()> {
    rustix::mount::mount_bind("/", "/run").context("bind the root")?;
    rustix::process::chdir("/run").context("enter the new root")?;
    rustix::mount::mount_move(".", "/").context("move the new root")?;
    rustix::process::chroot(".").context("take the new root")?;
    rustix::process::chdir("/").context("enter /")
}

/// Opens the host's port, waiting for its device when it is late.
pub fn open_port() -> Result<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).context("watch /dev")?;
    inotify::add_watch(&watch, "/dev", inotify::WatchFlags::CREATE).context("watch /dev")?;
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(name) = find_port() {
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
            return rustix::fs::open(format!("/dev/{name}"), flags, Mode::empty())
                .with_context(|| format!("open /dev/{name}"));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        anyhow::ensure!(!left.is_zero(), "no port named {PORT} appeared in {LIMIT:?}");
        let left = rustix::time::Timespec::try_from(left).ok();
        rustix::event::poll(&mut [PollFd::new(&watch, PollFlags::IN)], left.as_ref())
            .context("wait for the port")?;
        let mut space = [MaybeUninit::uninit(); 4096];
        inotify::Reader::new(&watch, &mut space).next().context("read the watch")?;
    }
}

fn find_port() -> Option<String> {
    for entry in fs::read_dir("/sys/class/virtio-ports").ok()?.flatten() {
        let name = entry.file_name().into_string().ok()?;
        let label = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if label.trim() == PORT && Path::new("/dev").join(&name).exists() {
            return Some(name);
        }
    }
    None
}

/// A descriptor that is readable when a child has ended.
pub fn orphans() -> Result<OwnedFd> {
    // SAFETY: the set is initialised before it is used, and signalfd returns a fresh descriptor.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        let fd = libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        anyhow::ensure!(fd >= 0, "watch for orphans: {}", std::io::Error::last_os_error());
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Empties the signal descriptor. Processes outside the container's pid namespace have this process as
/// their launcher and are collected by the sandbox; a pid namespace's own orphans never come here.
pub fn reap(orphans: &OwnedFd) {
    let mut space = [0; 1024];
    while rustix::io::read(orphans, &mut space).is_ok() {}
}

/// Ends the machine.
pub fn power_off() -> ! {
    rustix::fs::sync();
    // A microVM has no power button: a restart ends it (QEMU runs with -no-reboot).
    let _ = rustix::system::reboot(rustix::system::RebootCommand::Restart);
    loop {
        rustix::thread::sched_yield();
    }
}
