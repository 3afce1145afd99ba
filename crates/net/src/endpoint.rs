//! A container's interface in a network: a virtual Ethernet pair, or the tap of its microVM.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;

use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo};

use crate::blocking;
use crate::bridge::{check_name, index_of};
use crate::error::{Error, Result};
use crate::namespace::inside;
use crate::netlink::{Change, Socket, indexed, named, up};

/// What a container has in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The network's bridge.
    pub bridge: String,
    /// The host's side, at most 15 bytes.
    pub host_name: String,
    /// The container's side, such as `eth0`.
    pub container_name: String,
    pub mac: [u8; 6],
    /// The container's address and its subnet's prefix length.
    pub address: (Ipv4Addr, u8),
    /// Where everything else goes, if this is the interface for that.
    pub gateway: Option<Ipv4Addr>,
    pub mtu: u32,
}

/// Connects the namespace at `path` to the endpoint's bridge. After a failure nothing is left of it.
pub async fn connect_namespace(path: &Path, endpoint: &Endpoint) -> Result<()> {
    let (path, endpoint) = (path.to_owned(), endpoint.clone());
    blocking(move || {
        let namespace =
            File::open(&path).map_err(|error| Error::namespace(&path, "open it", error))?;
        connect(&namespace, &endpoint)
    })
    .await
}

/// Leads everything that the namespace's networks do not have to this gateway, which is in one of them.
pub async fn set_default_route(path: &Path, gateway: Ipv4Addr) -> Result<()> {
    let path = path.to_owned();
    blocking(move || {
        let fail = |action| move |error: io::Error| (action, error);
        let set = File::open(&path).map_err(fail("open it")).and_then(|namespace| {
            let set = inside(namespace.as_fd(), || {
                let change = Change::default_route(None, gateway);
                Socket::open()?.apply(vec![change]).map_err(|(_, error)| error)
            });
            set.map_err(fail("set the default route"))
        });
        set.map_err(|(action, error)| Error::namespace(&path, action, error))
    })
    .await
}

/// Deletes the host's side of an endpoint, and with it the container's; none of that name is no error.
///
/// Takes the kernel some 20 ms: not for the way of a start.
pub async fn disconnect(host_name: &str) -> Result<()> {
    let name = host_name.to_owned();
    blocking(move || delete(&name)).await
}

/// Makes an existing tap a port of the bridge, up.
pub async fn connect_tap(tap: &str, bridge: &str) -> Result<()> {
    let (tap, bridge) = (tap.to_owned(), bridge.to_owned());
    blocking(move || {
        let mut port = up(indexed(index_of(&tap)?));
        port.attributes.push(LinkAttribute::Controller(index_of(&bridge)?));
        open()?
            .apply(vec![Change::set_link(port)])
            .map_err(|(_, error)| Error::interface(&tap, "make it a port of its bridge", error))
    })
    .await
}

pub(crate) fn open() -> Result<Socket> {
    Socket::open().map_err(|source| Error::Netlink { action: "open a socket", source })
}

pub(crate) fn delete(name: &str) -> Result<()> {
    match open()?.apply(vec![Change::delete_link(name)]) {
        Err((_, error)) if error.raw_os_error() != Some(libc::ENODEV) => {
            Err(Error::interface(name, "delete it", error))
        }
        _ => Ok(()),
    }
}

fn connect(namespace: &File, endpoint: &Endpoint) -> Result<()> {
    let name = &endpoint.host_name;
    make_pair(namespace, endpoint)?;
    let configured = inside(namespace.as_fd(), || {
        // Networks here are IPv4: no address that nobody asked for.
        silence_ipv6(&endpoint.container_name);
        let socket = Socket::open()?;
        let index = index_of(&endpoint.container_name).map_err(io::Error::other)?;
        configure(socket, index, endpoint)
    });
    configured.map_err(|error| {
        // The first failure is told; a pair that cannot be deleted goes with the namespace.
        let _ = delete(name);
        Error::interface(name, "set up the container's side", error)
    })
}

/// Makes the pair in one message: the host's side a port of the bridge and up, the other in the
/// namespace.
pub(crate) fn make_pair(namespace: &File, endpoint: &Endpoint) -> Result<()> {
    use std::os::fd::AsRawFd;
    check_name(&endpoint.host_name)?;
    check_name(&endpoint.container_name)?;
    let mut peer = named(&endpoint.container_name);
    peer.attributes.push(LinkAttribute::Mtu(endpoint.mtu));
    peer.attributes.push(LinkAttribute::Address(endpoint.mac.to_vec()));
    peer.attributes.push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
    let mut host = up(named(&endpoint.host_name));
    host.attributes.push(LinkAttribute::Mtu(endpoint.mtu));
    host.attributes.push(LinkAttribute::Controller(index_of(&endpoint.bridge)?));
    host.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    let mut socket = open()?;
    let mut result = socket.apply(vec![Change::new_link(host.clone())]);
    if replaced(&endpoint.host_name, &result) {
        result = socket.apply(vec![Change::new_link(host)]);
    }
    result.map_err(|(_, error)| Error::interface(&endpoint.host_name, "make the pair", error))
}

/// Deletes an interface that is in the way of one of the same name; whether it did. Such a one is of
/// the same endpoint: its last namespace has ended and the kernel is still taking it away.
pub(crate) fn replaced(name: &str, result: &Result<(), (usize, io::Error)>) -> bool {
    let exists = matches!(result, Err((_, error)) if error.raw_os_error() == Some(libc::EEXIST));
    exists && index_of(name).is_ok() && delete(name).is_ok()
}

/// Sets the container's side up, over a socket of its namespace.
pub(crate) fn configure(mut socket: Socket, index: u32, endpoint: &Endpoint) -> io::Result<()> {
    let mut changes = vec![
        Change::set_link(container_side(index, endpoint)),
        Change::address(index, endpoint.address),
    ];
    changes.extend(endpoint.gateway.map(|gateway| Change::default_route(Some(index), gateway)));
    socket.apply(changes).map_err(|(place, error)| {
        let what = ["bring it up", "set its address", "set the default route"];
        io::Error::new(error.kind(), format!("{}: {error}", what[place]))
    })
}

fn container_side(index: u32, endpoint: &Endpoint) -> LinkMessage {
    let mut link = up(indexed(index));
    link.attributes.push(LinkAttribute::Address(endpoint.mac.to_vec()));
    link.attributes.push(LinkAttribute::Mtu(endpoint.mtu));
    link
}

/// In the thread's namespace. A kernel without IPv6 has nothing to switch off.
pub(crate) fn silence_ipv6(interface: &str) {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    let _ = std::fs::write(path, "1");
}
