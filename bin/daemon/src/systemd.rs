//! What systemd asks of a service: to say when it is ready, and to take the sockets that it opened.

use std::os::fd::{FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use anyhow::{Context, Result, bail};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::AddressFamily;

use crate::listen::Listener;

/// The first descriptor that systemd passes: sd_listen_fds(3).
const FIRST: i32 = 3;

/// Tells the state, such as `READY=1`, to who started this: sd_notify(3).
pub fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let path = path.as_encoded_bytes();
    let told = (|| {
        let address = match path.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => {
                SocketAddr::from_pathname(std::ffi::OsStr::new(&*String::from_utf8_lossy(path)))?
            }
        };
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)
    })();
    if let Err(error) = told {
        tracing::warn!("tell {state} to the service manager: {error}");
    }
}

/// The listeners that were passed to this process.
pub fn listeners() -> Result<Vec<Listener>> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    if number("LISTEN_PID") != Some(std::process::id() as i32) {
        bail!("no sockets were passed to this process: start it by a systemd socket unit");
    }
    let count = number("LISTEN_FDS").unwrap_or(0);
    (FIRST..FIRST + count).map(listener).collect()
}

fn listener(fd: i32) -> Result<Listener> {
    // SAFETY: sd_listen_fds(3) gives this process these descriptors, and nothing else here takes them:
    // this is called once, at the start.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl_setfd(&fd, FdFlags::CLOEXEC).context("keep a passed socket from children")?;
    let address = rustix::net::getsockname(&fd).context("ask a passed socket for its address")?;
    Ok(if address.address_family() == AddressFamily::UNIX {
        let listener = std::os::unix::net::UnixListener::from(fd);
        listener.set_nonblocking(true)?;
        Listener::Unix(tokio::net::UnixListener::from_std(listener)?)
    } else {
        let listener = std::net::TcpListener::from(fd);
        listener.set_nonblocking(true)?;
        Listener::Tcp(tokio::net::TcpListener::from_std(listener)?)
    })
}
