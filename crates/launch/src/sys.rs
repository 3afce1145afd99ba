//! The system calls that no crate wraps, thinly: unsafe entries with safe signatures.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// Turns a C return value into a result.
pub fn check(value: libc::c_long) -> io::Result<libc::c_long> {
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// Largest datagram on the control socket, bytes.
pub const DATAGRAM: usize = 64 << 10;

/// Sends one datagram with descriptors.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors in one datagram"));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one datagram with descriptors; empty bytes mean the other side is gone.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; DATAGRAM];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut slice = [IoSliceMut::new(&mut bytes)];
        rustix::net::recvmsg(socket, &mut slice, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    bytes.truncate(received.bytes);
    Ok((bytes, fds))
}

/// The child's answer of [`clone_child`].
pub enum Cloned {
    /// This is the new process.
    Child,
    /// This is the old one; the new one's pid and pidfd.
    Parent(i32, OwnedFd),
}

/// clone3(2) as a fork with `flags`; the new process becomes a child of this process's parent.
pub fn clone_child(flags: u64) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain data, all zero is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | (libc::CLONE_PARENT | libc::CLONE_PIDFD) as u64;
    args.pidfd = &raw mut pidfd as u64;
    // SAFETY: without a stack in the arguments clone3 copies the address space as fork does; this
    // program has one thread, so the copy is consistent.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>())
    })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: the kernel stored a fresh descriptor that nothing else owns.
    Ok(Cloned::Parent(pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Every signal does what it does by default, and none is blocked: whatever this program was started with,
/// or its language's runtime set, is not the program's that it becomes.
pub fn default_signals() -> io::Result<()> {
    const LAST: libc::c_int = 64;
    // The kernel's own structure and not the C library's, which hides two signals: all zero is the default
    // action, without flags and with an empty mask.
    let default = [0u64; 4];
    let size = size_of::<u64>();
    for signal in (1..=LAST).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        let old = std::ptr::null_mut::<u64>();
        // SAFETY: the structure is live and as large as the kernel's; no handler is installed.
        check(unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), old, size)
        })?;
    }
    let (none, old) = (0u64, std::ptr::null_mut::<u64>());
    // SAFETY: the set is live and of the size that is said.
    check(unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, old, size)
    })
    .map(drop)
}

/// setns(2) with a pidfd or a namespace descriptor.
pub fn setns(fd: BorrowedFd<'_>, kinds: i32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), kinds) }).map(drop)
}

/// mount_setattr(2) on the mount that `fd` refers to.
pub fn mount_setattr(fd: BorrowedFd<'_>, set: u64, clear: u64, recursive: bool) -> io::Result<()> {
    let attr = libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
    change_mount(fd, &attr, recursive)
}

/// Changes the propagation (`MS_PRIVATE` and so on) of the mount that `fd` refers to.
pub fn mount_propagation(fd: BorrowedFd<'_>, kind: u64, recursive: bool) -> io::Result<()> {
    let attr = libc::mount_attr { attr_set: 0, attr_clr: 0, propagation: kind, userns_fd: 0 };
    change_mount(fd, &attr, recursive)
}

fn change_mount(fd: BorrowedFd<'_>, attr: &libc::mount_attr, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a constant C string and the attribute structure outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// prctl(2) with up to two arguments.
pub fn prctl(option: i32, a: u64, b: u64) -> io::Result<i32> {
    // SAFETY: callers pass options whose arguments are numbers.
    check(unsafe { libc::prctl(option, a, b, 0, 0) }.into()).map(|value| value as i32)
}

/// Closes every descriptor from `first` on, or marks them to be closed at `execve`.
pub fn close_range(first: u32, on_exec: bool) -> io::Result<()> {
    let flags = if on_exec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: the caller holds no owned descriptor in the range that it will use again, or asks only
    // for the close-on-exec mark.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) }).map(drop)
}
