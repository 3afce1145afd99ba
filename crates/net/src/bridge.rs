//! Bridges: one for each of the engine's networks.

use std::net::Ipv4Addr;

use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo};

use crate::error::{Error, Result};
use crate::netlink::{Change, Socket, indexed, named, up};
use crate::{blocking, mac_of};

/// A network's bridge on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// At most 15 bytes.
    pub name: String,
    /// The network's address and prefix length.
    pub subnet: (Ipv4Addr, u8),
    /// The bridge's own address in it.
    pub gateway: Ipv4Addr,
    /// Nothing is forwarded into or out of the network.
    pub internal: bool,
    pub mtu: u32,
}

/// Makes the bridge or sets an existing one right: its address, up, forwarding on.
pub async fn ensure_bridge(bridge: &Bridge) -> Result<()> {
    let bridge = bridge.clone();
    blocking(move || ensure(&bridge)).await
}

/// Removes the bridge; none of that name is no error.
pub async fn remove_bridge(name: &str) -> Result<()> {
    crate::disconnect(name).await
}

/// Writes something for people and programs to read on an interface, at most 255 bytes.
pub async fn set_alias(name: &str, alias: &str) -> Result<()> {
    let (name, alias) = (name.to_owned(), alias.to_owned());
    blocking(move || {
        let mut link = indexed(index_of(&name)?);
        link.attributes.push(LinkAttribute::IfAlias(alias));
        let set = crate::endpoint::open()?.apply(vec![Change::set_link(link)]);
        set.map_err(|(_, error)| Error::interface(&name, "set its alias", error))
    })
    .await
}

fn ensure(bridge: &Bridge) -> Result<()> {
    let name = &bridge.name;
    check_name(name)?;
    let fail = |action| move |(_, error)| Error::interface(name, action, error);
    let mut socket =
        Socket::open().map_err(|source| Error::Netlink { action: "open a socket", source })?;
    let mut link = up(named(name));
    // An address of its own: else the bridge takes the lowest of its ports' and changes it under way.
    link.attributes.push(LinkAttribute::Address(mac_of(bridge.gateway).to_vec()));
    link.attributes.push(LinkAttribute::Mtu(bridge.mtu));
    link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
    socket.apply(vec![Change::ensure_link(link)]).map_err(fail("make the bridge"))?;
    let index = index_of(name)?;
    let ours = (bridge.gateway, bridge.subnet.1);
    let present = socket
        .addresses(index)
        .map_err(|error| Error::interface(name, "list its addresses", error))?;
    // What an earlier network of this name left.
    let stale = present.into_iter().filter(|address| *address != ours);
    let mut changes: Vec<_> = stale.map(|address| Change::delete_address(index, address)).collect();
    changes.push(Change::address(index, ours));
    socket.apply(changes).map_err(fail("set its address"))?;
    // The state of a bridge that existed before: bridge messages do not carry it.
    socket.apply(vec![Change::set_link(up(indexed(index)))]).map_err(fail("bring it up"))?;
    switch_on("/proc/sys/net/ipv4/ip_forward")
}

fn switch_on(path: &str) -> Result<()> {
    let fail = |error| Error::file(path, error);
    if std::fs::read(path).map_err(fail)?.starts_with(b"1") {
        return Ok(());
    }
    std::fs::write(path, "1").map_err(fail)
}

/// Whether there is an interface of this name.
pub fn interface_exists(name: &str) -> bool {
    index_of(name).is_ok()
}

/// The index of an interface in this thread's namespace.
pub(crate) fn index_of(name: &str) -> Result<u32> {
    let found =
        rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::DGRAM, None)
            .and_then(|socket| rustix::net::netdevice::name_to_index(socket, name));
    found.map_err(|error| Error::interface(name, "find it", error.into()))
}

/// What the kernel takes as an interface's name (IFNAMSIZ, dev_valid_name).
pub(crate) fn check_name(name: &str) -> Result<()> {
    let bad = |byte: u8| matches!(byte, b'/' | b':') || !byte.is_ascii_graphic();
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.bytes().any(bad) {
        return Err(Error::Name(name.into()));
    }
    Ok(())
}
