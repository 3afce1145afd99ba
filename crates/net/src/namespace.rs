//! Network namespaces: made and entered by threads of their own, which end afterwards, so that no
//! worker of the runtime is ever left in another namespace.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::Mode;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::blocking;
use crate::error::{Error, Result};
use crate::netlink::{Change, Socket, named, up};

/// Makes a network namespace with its loopback up and binds it at `path`, which must not exist.
pub async fn create_namespace(path: &Path) -> Result<()> {
    let path = path.to_owned();
    blocking(move || {
        let namespace = fresh().map_err(|error| Error::namespace(&path, "make it", error))?;
        bind(&namespace, &path)
    })
    .await
}

/// Unmounts and removes `path`; that it does not exist is no error. The kernel ends the namespace, and
/// the interfaces in it, in the background once no process is left in it.
///
/// Waits for the kernel: for a blocking thread, not an async worker.
pub fn delete_namespace(path: &Path) -> Result<()> {
    match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // Not a mount point (after a reboot, say), or not there.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(Error::namespace(path, "unmount it", error)),
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::namespace(path, "remove it", error))
        }
        _ => Ok(()),
    }
}

/// A new namespace, loopback up, that lives as long as the file.
pub(crate) fn fresh() -> io::Result<File> {
    on_thread(|| {
        // SAFETY: this thread alone gets a new network namespace; it shares no state that would follow.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)? };
        let mut socket = Socket::open()?;
        let lo = Change::set_link(up(named("lo")));
        socket.apply(vec![lo]).map_err(|(_, error)| error)?;
        File::open("/proc/thread-self/ns/net")
    })
}

/// Keeps the namespace at `path`.
pub(crate) fn bind(namespace: &File, path: &Path) -> Result<()> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    let fail = |action| move |error| Error::namespace(path, action, error);
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(Mode::RUSR.as_raw_mode())
        .open(path)
        .map_err(fail("make its file"))?;
    let source = format!("/proc/thread-self/fd/{}", namespace.as_raw_fd());
    mount_bind(source, path).map_err(|error| {
        let _ = std::fs::remove_file(path);
        Error::namespace(path, "bind it", error)
    })
}

/// Runs `work` on a thread that has entered the namespace.
pub(crate) fn inside<T: Send>(
    namespace: BorrowedFd,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    on_thread(|| {
        let kind = Some(LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?;
        work()
    })
}

fn on_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("network".into())
            .stack_size(256 << 10)
            .spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
