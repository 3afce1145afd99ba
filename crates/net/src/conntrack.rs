//! Forgetting udp conversations that led into a container that has ended.
//!
//! The kernel looks at the map of published ports for the first datagram of a conversation only. A
//! client that goes on sending from the same port (a log shipper, a resolver) would for ever be led to
//! an address where nobody is, even after the port has been published again for another container.
//!
//! Speaks ctnetlink (linux/netfilter/nfnetlink_conntrack.h). Owns no conversation but those whose
//! answering side is one of the given targets.

use std::io;
use std::net::Ipv4Addr;

use crate::netlink::Socket;

const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// nlmsghdr and nfgenmsg.
const HEADERS: usize = 20;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const IPV4_SOURCE: u16 = 1;
const PROTOCOL_NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const KIND_MASK: u16 = 0x3fff;
const UDP: u8 = 17;

/// Forgets every udp conversation that one of these targets answers; how many there were.
pub fn forget_udp(targets: &[(Ipv4Addr, u16)]) -> io::Result<usize> {
    let mut socket = Socket::netfilter()?;
    let found = matching(&mut socket, targets)?;
    for attributes in &found {
        socket.send(&message(DELETE, REQUEST | ACK, attributes))?;
        let mut buffer = vec![0; 4 << 10];
        let count = socket.receive(&mut buffer)?;
        match error_of(&buffer[..count]) {
            // It has ended by itself meanwhile.
            0 | libc::ENOENT => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
    Ok(found.len())
}

/// What names each conversation to the kernel.
fn matching(socket: &mut Socket, targets: &[(Ipv4Addr, u16)]) -> io::Result<Vec<Vec<u8>>> {
    socket.send(&message(GET, REQUEST | DUMP, &[]))?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = socket.receive(&mut buffer)?;
        let mut bytes = &buffer[..count];
        while let Some((kind, whole, rest)) = split_message(bytes) {
            bytes = rest;
            match kind {
                DONE => return Ok(found),
                ERROR => return Err(io::Error::from_raw_os_error(error_of(whole))),
                _ => {
                    let entry = whole.get(HEADERS..).unwrap_or_default();
                    found.extend(is_for(entry, targets).then(|| name_of(entry)));
                }
            }
        }
    }
}

/// Whether one of the targets answers in this entry.
fn is_for(entry: &[u8], targets: &[(Ipv4Addr, u16)]) -> bool {
    let answer = || {
        let tuple = find(entry, TUPLE_REPLY)?;
        let protocol = find(tuple, TUPLE_PROTOCOL)?;
        let source: [u8; 4] = find(find(tuple, TUPLE_IP)?, IPV4_SOURCE)?.try_into().ok()?;
        let port = find(protocol, SOURCE_PORT)?.try_into().ok()?;
        let udp = find(protocol, PROTOCOL_NUMBER)? == [UDP];
        udp.then_some((Ipv4Addr::from(source), u16::from_be_bytes(port)))
    };
    answer().is_some_and(|answer| targets.contains(&answer))
}

/// The attributes by which the kernel finds an entry again: this one and none that took its place.
fn name_of(entry: &[u8]) -> Vec<u8> {
    let kept = |kind: u16| matches!(kind & KIND_MASK, TUPLE_ORIGINAL | ID);
    let mut name = Vec::new();
    for (kind, value) in attributes(entry).filter(|(kind, _)| kept(*kind)) {
        name.extend((value.len() as u16 + 4).to_ne_bytes());
        name.extend(kind.to_ne_bytes());
        name.extend(value);
        name.resize(name.len().next_multiple_of(4), 0);
    }
    name
}

fn message(kind: u16, flags: u16, attributes: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADERS + attributes.len());
    bytes.extend(((HEADERS + attributes.len()) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence number and port: one question at a time on a socket of its own.
    bytes.extend([0; 8]);
    bytes.extend([libc::AF_INET as u8, 0, 0, 0]);
    bytes.extend(attributes);
    bytes
}

/// The first message's type, the message, and what follows.
fn split_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let whole = bytes.get(..length.max(16))?;
    Some((kind, whole, bytes.get(whole.len().next_multiple_of(4)..).unwrap_or_default()))
}

/// The positive error number of an acknowledgement; 0 for success.
fn error_of(message: &[u8]) -> i32 {
    let code = message.get(16..20).and_then(|code| code.try_into().ok());
    code.map_or(libc::EBADMSG, |code| -i32::from_ne_bytes(code))
}

fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| kind & KIND_MASK == wanted).map(|(_, value)| value)
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}
