//! The two ends of a process's streams.

use std::os::fd::{AsFd, OwnedFd};

use caisson_protocol::task::{Failure, Stdio};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;

use crate::Streams;
use crate::failure::internal;

/// Makes the process's own three ends and ours. A terminal is made later, in the container; its process
/// starts with the null device.
pub fn make(stdio: &Stdio) -> Result<([OwnedFd; 3], Streams), Failure> {
    let null = || {
        rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(internal)
    };
    if stdio.terminal.is_some() {
        return Ok(([null()?, null()?, null()?], Streams::default()));
    }
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(internal);
    let (out_read, out_write) = pipe()?;
    let (err_read, err_write) = pipe()?;
    set_nonblocking(&out_read)?;
    set_nonblocking(&err_read)?;
    let mut streams = Streams { stdin: None, stdout: Some(out_read), stderr: Some(err_read) };
    let stdin = if stdio.stdin {
        let (read, write) = pipe()?;
        set_nonblocking(&write)?;
        streams.stdin = Some(write);
        read
    } else {
        null()?
    };
    Ok(([stdin, out_write, err_write], streams))
}

/// Makes reads and writes on our end return at once.
pub fn set_nonblocking(fd: impl AsFd) -> Result<(), Failure> {
    let flags = rustix::fs::fcntl_getfl(&fd).map_err(internal)?;
    rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK).map_err(internal)
}
