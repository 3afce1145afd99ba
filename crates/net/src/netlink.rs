//! A synchronous netlink client for links, addresses and routes: changes in, acknowledgements out.
//!
//! A socket acts in the network namespace it was opened in, wherever its user is. Knows messages, not
//! what they are for.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

/// How long the kernel may take over one batch: it holds one lock for all interfaces of the machine, and
/// the end of a hundred namespaces can keep it for seconds.
const LIMIT: Duration = Duration::from_secs(20);

/// One change, and the flags that say whether it creates.
pub struct Change(RouteNetlinkMessage, u16);

impl Change {
    /// Makes a link, or changes the one of that name and kind.
    pub fn ensure_link(link: LinkMessage) -> Self {
        Change(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE)
    }

    /// Makes a link; one of that name is an error.
    pub fn new_link(link: LinkMessage) -> Self {
        Change(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Changes the link that the message's index, or else its name, says.
    pub fn set_link(link: LinkMessage) -> Self {
        Change(RouteNetlinkMessage::SetLink(link), 0)
    }

    pub fn delete_link(name: &str) -> Self {
        Change(RouteNetlinkMessage::DelLink(named(name)), 0)
    }

    /// Gives an interface an IPv4 address; the route to its subnet comes with it.
    pub fn address(index: u32, (address, prefix): (Ipv4Addr, u8)) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        let broadcast = Ipv4Addr::from(u32::from(address) | !mask);
        let mut message = address_message(index, (address, prefix));
        message.attributes.push(AddressAttribute::Broadcast(broadcast));
        Change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    pub fn delete_address(index: u32, address: (Ipv4Addr, u8)) -> Self {
        Change(RouteNetlinkMessage::DelAddress(address_message(index, address)), 0)
    }

    /// Through the given interface, or the one that the gateway is reached by.
    pub fn default_route(index: Option<u32>, gateway: Ipv4Addr) -> Self {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: AddressFamily::Inet,
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Boot,
            scope: RouteScope::Universe,
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        message.attributes = vec![RouteAttribute::Gateway(IpAddr::V4(gateway).into())];
        message.attributes.extend(index.map(RouteAttribute::Oif));
        Change(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
    }
}

fn address_message(index: u32, (address, prefix): (Ipv4Addr, u8)) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = index;
    let local = AddressAttribute::Local(IpAddr::V4(address));
    message.attributes = vec![local, AddressAttribute::Address(IpAddr::V4(address))];
    message
}

/// The link of a name.
pub fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.into()));
    link
}

/// The link of an index.
pub fn indexed(index: u32) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link
}

/// Adds "up" to a link message.
pub fn up(mut link: LinkMessage) -> LinkMessage {
    link.header.flags |= LinkFlags::Up;
    link.header.change_mask |= LinkFlags::Up;
    link
}

/// Adds "down" to a link message.
pub fn down(mut link: LinkMessage) -> LinkMessage {
    link.header.flags.remove(LinkFlags::Up);
    link.header.change_mask |= LinkFlags::Up;
    link
}

pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// For links, addresses and routes.
    pub fn open() -> io::Result<Self> {
        // NETLINK_ROUTE is protocol 0, the default.
        Self::of(None)
    }

    /// For nfnetlink.
    pub fn netfilter() -> io::Result<Self> {
        Self::of(Some(rustix::net::netlink::NETFILTER))
    }

    fn of(protocol: Option<Protocol>) -> io::Result<Self> {
        let family = rustix::net::AddressFamily::NETLINK;
        let fd = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(LIMIT))?;
        rustix::net::connect(&fd, &SocketAddrNetlink::new(0, 0))?;
        Ok(Socket { fd, sequence: 0 })
    }

    /// Asks for all changes in one message and waits until each is done. The kernel goes on after a
    /// failed one; the first failure is returned with its place.
    pub fn apply(&mut self, changes: Vec<Change>) -> Result<(), (usize, io::Error)> {
        let first = self.sequence + 1;
        let count = changes.len();
        let mut bytes = Vec::new();
        for Change(message, flags) in changes {
            self.append(&mut bytes, message, flags | NLM_F_ACK);
        }
        self.send(&bytes).map_err(|error| (0, error))?;
        let mut failure = None;
        let mut buffer = vec![0; 16 << 10];
        let mut answered = 0;
        while answered < count {
            let received = self.receive(&mut buffer).map_err(|error| (answered, error))?;
            for message in messages(&buffer[..received]) {
                let message = message.map_err(|error| (answered, error))?;
                let NetlinkPayload::Error(answer) = message.payload else { continue };
                // A late answer to something given up earlier is not an answer to this.
                if message.header.sequence_number < first {
                    continue;
                }
                answered += 1;
                if answer.code.is_some() && failure.is_none() {
                    let place = (message.header.sequence_number - first) as usize;
                    failure = Some((place, answer.to_io()));
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// The IPv4 addresses of an interface.
    pub fn addresses(&mut self, index: u32) -> io::Result<Vec<(Ipv4Addr, u8)>> {
        let mut question = AddressMessage::default();
        question.header.family = AddressFamily::Inet;
        let mut bytes = Vec::new();
        self.append(&mut bytes, RouteNetlinkMessage::GetAddress(question), NLM_F_DUMP);
        self.send(&bytes)?;
        let mut found = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let received = self.receive(&mut buffer)?;
            for message in messages(&buffer[..received]) {
                let message = message?;
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(address))
                        if address.header.index == index =>
                    {
                        found.extend(local(&address));
                    }
                    _ => {}
                }
            }
        }
    }

    fn append(&mut self, bytes: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16) {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = flags | NLM_F_REQUEST;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let start = bytes.len();
        // Messages begin at multiples of 4 (NLMSG_ALIGN).
        bytes.resize((start + message.buffer_len()).next_multiple_of(4), 0);
        message.serialize(&mut bytes[start..]);
    }

    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        rustix::net::send(self.fd.as_fd(), bytes, SendFlags::empty())?;
        Ok(())
    }

    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::net::recv(self.fd.as_fd(), &mut *buffer, RecvFlags::empty()) {
                Ok((received, _)) => return Ok(received),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    let message = format!("the kernel gave no answer within {LIMIT:?}");
                    return Err(io::Error::new(io::ErrorKind::TimedOut, message));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn local(address: &AddressMessage) -> Option<(Ipv4Addr, u8)> {
    address.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(local)) => Some((*local, address.header.prefix_len)),
        _ => None,
    })
}

/// The messages in one datagram.
fn messages(
    mut bytes: &[u8],
) -> impl Iterator<Item = io::Result<NetlinkMessage<RouteNetlinkMessage>>> {
    std::iter::from_fn(move || {
        if bytes.len() < 16 {
            return None;
        }
        let length = u32::from_ne_bytes(bytes[..4].try_into().ok()?) as usize;
        let message = NetlinkMessage::deserialize(bytes).map_err(io::Error::other);
        bytes = bytes.get(length.max(16).next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}
