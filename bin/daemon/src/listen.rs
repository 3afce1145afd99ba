//! Where clients come in: unix sockets, TCP on loopback, sockets that systemd opened.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::Mode;
use rustix::process::umask;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::connection::{self, Handler};
use crate::stream::Stream;

/// How long to wait at most for a connection to end when there are no descriptors left: something else
/// may have freed some.
const SHORTAGE: Duration = Duration::from_secs(1);

/// One place where clients come in.
#[derive(Debug)]
pub enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// A socket file of this daemon, removed with this value.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever removed it before did the same.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The listeners of this daemon, and the files that they made.
#[derive(Debug, Default)]
pub struct Listeners {
    pub open: Vec<Listener>,
    pub files: Vec<SocketFile>,
}

impl Listeners {
    /// Opens all addresses.
    pub fn open(hosts: &[String], group: Option<&str>, insecure_loopback: bool) -> Result<Self> {
        let mut listeners = Listeners::default();
        for host in hosts {
            listeners
                .add(host, group, insecure_loopback)
                .with_context(|| format!("listen on {host}"))?;
        }
        Ok(listeners)
    }

    fn add(&mut self, host: &str, group: Option<&str>, insecure_loopback: bool) -> Result<()> {
        if let Some(path) = host.strip_prefix("unix://") {
            let path = PathBuf::from(path);
            if !path.is_absolute() {
                bail!("the path {:?} is not absolute: write unix:///PATH", path);
            }
            self.open.push(Listener::Unix(unix(&path, group)?));
            self.files.push(SocketFile(path));
        } else if let Some(address) = host.strip_prefix("tcp://") {
            self.open.push(Listener::Tcp(tcp(address, insecure_loopback)?));
        } else if host == "fd://" || host == "fd://*" {
            self.open.extend(crate::systemd::listeners()?);
        } else {
            bail!("this is no address: write unix:///PATH, tcp://127.0.0.1:PORT or fd://");
        }
        Ok(())
    }
}

fn unix(path: &Path, group: Option<&str>) -> Result<UnixListener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("make the directory {}", directory.display()))?;
    }
    clear(path)?;
    // Nobody else may connect before it is known who may.
    let before = umask(Mode::from_raw_mode(0o177));
    let bound = std::os::unix::net::UnixListener::bind(path);
    umask(before);
    let listener = bound.with_context(|| format!("bind {}", path.display()))?;
    let owner =
        match group {
            Some(name) => Some(group_id(name).with_context(|| {
                format!("group {name:?} not found: make it, or leave --group out")
            })?),
            None => group_id("caisson"),
        };
    if let Some(id) = owner {
        std::os::unix::fs::chown(path, None, Some(id))
            .with_context(|| format!("give {} to its group", path.display()))?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
        .with_context(|| format!("set the mode of {}", path.display()))?;
    listener.set_nonblocking(true)?;
    Ok(UnixListener::from_std(listener)?)
}

/// Removes a socket that nobody serves.
fn clear(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("look at {}", path.display())),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            bail!(
                "{} is there and is not a socket: remove it, or choose another path",
                path.display()
            );
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
                .with_context(|| format!("remove the stale socket {}", path.display()))
        }
        _ => bail!(
            "{} is served by another program: stop it, or choose another path",
            path.display()
        ),
    }
}

/// A group by name or number.
fn group_id(name: &str) -> Option<u32> {
    if let Ok(id) = name.parse() {
        return Some(id);
    }
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

fn tcp(address: &str, insecure_loopback: bool) -> Result<TcpListener> {
    let Ok(address) = address.trim_end_matches('/').parse::<SocketAddr>() else {
        bail!("this is no IP address and port: write tcp://127.0.0.1:PORT");
    };
    if !address.ip().is_loopback() {
        bail!(
            "the API gives root on this host, and without TLS it is served on loopback addresses only: forward a unix socket by SSH instead"
        );
    }
    if !insecure_loopback {
        bail!(
            "every user of this host can reach it, and the API gives root: add --insecure-loopback if that is meant"
        );
    }
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener)?)
}

impl Listener {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

/// Serves one listener until `closing`.
pub async fn serve(listener: Listener, handler: Handler, closing: CancellationToken) {
    let ended = Arc::new(Notify::new());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.cancelled() => return,
        };
        match accepted {
            Ok(stream) => {
                let (handler, closing, ended) = (handler.clone(), closing.clone(), ended.clone());
                tokio::spawn(async move {
                    connection::serve(stream, handler, closing).await;
                    ended.notify_waiters();
                });
            }
            Err(error) if is_shortage(&error) => {
                tracing::warn!("accept a connection: {error}: waiting until another one ends");
                // Either way it is tried again.
                let _ = tokio::time::timeout(SHORTAGE, ended.notified()).await;
            }
            // The client was gone before it was served.
            Err(error) => tracing::debug!("accept a connection: {error}"),
        }
    }
}

/// Nothing but time or another connection's end helps.
fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

#[cfg(test)]
mod tests;
