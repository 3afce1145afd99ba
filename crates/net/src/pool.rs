//! Namespaces made ahead: each with its pair, the host's side already a port of the bridge and up, the
//! container's side up but without an address, so that a start only gives it what is its own.
//!
//! A spare is held by descriptors alone, bound to no path. However the daemon ends, the kernel closes
//! them and takes namespace and pair away: nothing is left to clean up.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netlink_packet_route::link::LinkAttribute;

use crate::bridge::index_of;
use crate::endpoint::{configure, delete, make_pair, open, replaced, silence_ipv6};
use crate::error::{Error, Result};
use crate::namespace::{bind, fresh, inside};
use crate::netlink::{Change, Socket, down, indexed, up};
use crate::{Endpoint, blocking, connect_namespace, create_namespace, mac_of};

/// The container's side's name in a spare.
const CONTAINER_NAME: &str = "eth0";

/// Spare namespaces on one bridge.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    bridge: String,
    mtu: u32,
    size: usize,
    ready: Mutex<VecDeque<Spare>>,
    filling: AtomicBool,
}

struct Spare {
    namespace: File,
    /// Acts inside the namespace.
    socket: Socket,
    /// Of the container's side, inside.
    index: u32,
    /// Of the host's side.
    host_index: u32,
    mtu: u32,
}

impl Pool {
    /// A pool of up to `size` spares on an existing bridge, empty until [`Pool::fill`].
    pub fn new(bridge: &str, mtu: u32, size: usize) -> Self {
        let ready = Mutex::new(VecDeque::new());
        let filling = AtomicBool::new(false);
        Pool(Arc::new(Shared { bridge: bridge.into(), mtu, size, ready, filling }))
    }

    /// How many are ready.
    pub fn ready(&self) -> usize {
        self.0.lock().len()
    }

    /// Makes what is missing.
    pub async fn fill(&self) -> Result<()> {
        let shared = self.0.clone();
        blocking(move || shared.fill()).await
    }

    /// A namespace at `path`, connected as the endpoint says: a spare if there is one, else made now.
    /// Does not refill: call [`Pool::refill`] when the start is over.
    pub async fn take(&self, path: &Path, endpoint: &Endpoint) -> Result<()> {
        let fits = endpoint.bridge == self.0.bridge && endpoint.container_name == CONTAINER_NAME;
        let spare = if fits { self.0.lock().pop_front() } else { None };
        if let Some(spare) = spare {
            let (path, endpoint) = (path.to_owned(), endpoint.clone());
            return blocking(move || spare.become_endpoint(&path, &endpoint)).await;
        }
        create_namespace(path).await?;
        let connected = connect_namespace(path, endpoint).await;
        if connected.is_err() {
            let path = path.to_owned();
            // The first failure is told.
            let _ = blocking(move || crate::delete_namespace(&path)).await;
        }
        connected
    }

    /// Fills the pool in the background; a failure shows at the next start, which makes its own.
    pub fn refill(&self) {
        let shared = self.0.clone();
        tokio::task::spawn_blocking(move || {
            let _ = shared.fill();
        });
    }

    /// Gives all spares up. The kernel takes them away in the background.
    pub fn drain(&self) {
        self.0.lock().clear();
    }

    /// Removes the namespaces that an earlier daemon bound in `directory`, whatever they are: for a
    /// directory whose containers are known to have ended. Spares are never bound there and need no
    /// cleaning.
    pub fn clean(directory: &Path) -> Result<()> {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::file(directory, error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| Error::file(directory, error))?;
            crate::delete_namespace(&entry.path())?;
        }
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Spare>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self) -> Result<()> {
        // One at a time: two that count the same gap would both fill it.
        if self.filling.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let result = (|| {
            while self.lock().len() < self.size {
                let spare = Spare::make(&self.bridge, self.mtu)?;
                self.lock().push_back(spare);
            }
            Ok(())
        })();
        self.filling.store(false, Ordering::Release);
        result
    }
}

impl Spare {
    fn make(bridge: &str, mtu: u32) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed) & 0xff_ffff;
        // Process ids and a count: two daemons never choose the same.
        let name = format!("cs{:07x}{number:06x}", std::process::id() & 0xfff_ffff);
        let fail = |error| Error::interface(&name, "make a spare namespace", error);
        let namespace = fresh().map_err(fail)?;
        let endpoint = Endpoint {
            bridge: bridge.into(),
            host_name: name.clone(),
            container_name: CONTAINER_NAME.into(),
            mac: mac_of(number.into()),
            address: (std::net::Ipv4Addr::UNSPECIFIED, 0),
            gateway: None,
            mtu,
        };
        make_pair(&namespace, &endpoint)?;
        let host_index = index_of(&name)?;
        let inside = inside(namespace.as_fd(), || {
            silence_ipv6(CONTAINER_NAME);
            let index = index_of(CONTAINER_NAME).map_err(std::io::Error::other)?;
            let mut socket = Socket::open()?;
            let link = Change::set_link(up(indexed(index)));
            socket.apply(vec![link]).map_err(|(_, error)| error)?;
            Ok((socket, index))
        });
        let (socket, index) = inside.map_err(fail)?;
        Ok(Spare { namespace, socket, index, host_index, mtu })
    }

    fn become_endpoint(self, path: &Path, endpoint: &Endpoint) -> Result<()> {
        bind(&self.namespace, path)?;
        let done = self.rename(&endpoint.host_name, endpoint.mtu).and_then(|()| {
            configure(self.socket, self.index, endpoint).map_err(|error| {
                Error::interface(&endpoint.host_name, "set up the container's side", error)
            })
        });
        if done.is_err() {
            // The first failure is told; with its namespace the pair goes too.
            let _ = delete(&endpoint.host_name);
            let _ = crate::delete_namespace(path);
        }
        done
    }

    fn rename(&self, name: &str, mtu: u32) -> Result<()> {
        crate::bridge::check_name(name)?;
        let fail = |(_, error)| Error::interface(name, "name the host's side", error);
        let mut link = indexed(self.host_index);
        link.attributes.push(LinkAttribute::IfName(name.into()));
        if mtu != self.mtu {
            link.attributes.push(LinkAttribute::Mtu(mtu));
        }
        let mut socket = open()?;
        let mut result = socket.apply(vec![Change::set_link(link.clone())]);
        if replaced(name, &result) {
            result = socket.apply(vec![Change::set_link(link.clone())]);
        }
        match result {
            // Before Linux 6.2 an interface that is up keeps its name.
            Err((_, error)) if error.raw_os_error() == Some(libc::EBUSY) => {
                let back = Change::set_link(up(indexed(self.host_index)));
                socket.apply(vec![Change::set_link(down(link)), back]).map_err(fail)
            }
            other => other.map_err(fail),
        }
    }
}
