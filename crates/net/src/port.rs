//! Published ports: what is asked for, and the socket that keeps a port on this host.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::error::{Error, Result};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// A port of this host that leads to a port of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    pub protocol: Protocol,
    /// Address (none: all) and port.
    pub host: (Option<IpAddr>, u16),
    pub container: (Ipv4Addr, u16),
}

/// Binds the port on this host (a tcp socket listens too) so that nobody else gets it; port 0 takes a
/// free one, which [`bound_port`] tells. Without an address the socket serves IPv4 and IPv6.
pub fn reserve(port: &Port) -> Result<OwnedFd> {
    let (address, number) = port.host;
    let shown = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let shown = SocketAddr::new(shown, number).to_string();
    let result = match address {
        Some(address) => bind(port.protocol, SocketAddr::new(address, number)),
        None => match bind(port.protocol, (Ipv6Addr::UNSPECIFIED, number).into()) {
            // A host without IPv6.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
                bind(port.protocol, (Ipv4Addr::UNSPECIFIED, number).into())
            }
            other => other,
        },
    };
    result.map_err(|error| match error {
        Errno::ADDRINUSE => Error::PortTaken { address: shown },
        error => Error::Bind { address: shown, source: error.into() },
    })
}

/// The port that a reserved socket has.
pub fn bound_port(socket: &OwnedFd) -> io::Result<u16> {
    let address = rustix::net::getsockname(socket)?;
    Ok(SocketAddr::try_from(address)?.port())
}

fn bind(protocol: Protocol, address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    if protocol == Protocol::Tcp {
        // Past connections do not hold the port. For udp this would let two sockets share it.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    if protocol == Protocol::Tcp {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(protocol: Protocol, address: Option<IpAddr>, number: u16) -> Port {
        Port { protocol, host: (address, number), container: (Ipv4Addr::LOCALHOST, 80) }
    }

    #[test]
    fn a_port_is_given_once_and_the_refusal_is_dockers() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for address in [None, Some(IpAddr::V4(Ipv4Addr::LOCALHOST))] {
                let held = reserve(&port(protocol, address, 0)).unwrap();
                let number = bound_port(&held).unwrap();
                assert_ne!(number, 0);
                let refused = reserve(&port(protocol, address, number)).unwrap_err();
                let shown = address.map_or("0.0.0.0".into(), |address| address.to_string());
                assert_eq!(
                    refused.to_string(),
                    format!("Bind for {shown}:{number} failed: port is already allocated")
                );
                drop(held);
                reserve(&port(protocol, address, number)).unwrap();
            }
        }
    }

    #[test]
    fn an_address_that_is_not_this_hosts_is_named() {
        let address = Some("192.0.2.1".parse().unwrap());
        let refused = reserve(&port(Protocol::Tcp, address, 0)).unwrap_err();
        assert_eq!(refused.to_string(), "Bind for 192.0.2.1:0 failed");
    }

    #[test]
    fn without_an_address_both_families_are_served() {
        let held = reserve(&port(Protocol::Tcp, None, 0)).unwrap();
        let number = bound_port(&held).unwrap();
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, number)).unwrap();
    }
}
