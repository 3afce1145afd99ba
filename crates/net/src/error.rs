//! What can go wrong, each naming the interface, namespace, address or port that was asked for.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("network interface {name}: {action}")]
    Interface { name: String, action: &'static str, source: io::Error },
    #[error("network interface name {0:?} is not 1 to 15 bytes without '/' or spaces")]
    Name(String),
    #[error("network namespace {}: {action}", path.display())]
    Namespace { path: PathBuf, action: &'static str, source: io::Error },
    #[error("{}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("netlink: {action}")]
    Netlink { action: &'static str, source: io::Error },
    #[error("nftables table {table}: {action}: {message}")]
    Firewall { table: String, action: &'static str, message: String },
    #[error("run nft (Debian package nftables) for table {table}")]
    Nft { table: String, source: io::Error },
    #[error("Bind for {address} failed: port is already allocated")]
    PortTaken { address: String },
    #[error("Bind for {address} failed")]
    Bind { address: String, source: io::Error },
    #[error("address {address} is not one of {subnet}/{prefix} that a container can have")]
    NotInSubnet { address: Ipv4Addr, subnet: Ipv4Addr, prefix: u8 },
    #[error("address {0} is already in use")]
    AddressTaken(Ipv4Addr),
    #[error(
        "no free subnet: every one of 172.17-31.0.0/16 and 192.168.0.0/20 on overlaps a network or a route of this host"
    )]
    NoSubnet,
}

impl Error {
    pub(crate) fn interface(name: &str, action: &'static str, source: io::Error) -> Self {
        Error::Interface { name: name.into(), action, source }
    }

    pub(crate) fn namespace(
        path: &Path,
        action: &'static str,
        source: impl Into<io::Error>,
    ) -> Self {
        Error::Namespace { path: path.into(), action, source: source.into() }
    }

    pub(crate) fn file(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Error::File { path: path.into(), source }
    }
}
