//! Published ports: what comes to the sockets that reserve them on this host goes to the container.
//!
//! The daemon's nftables map carries what comes from outside straight to the container; this serves
//! loopback clients, clients in containers and hosts without nftables. Owns the reserving sockets until
//! the container's first process has ended, and every connection made through them. Part of the one
//! poll loop: nothing here waits, and nothing is allocated before somebody connects.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use caisson_protocol::supervisor::Published;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, sockopt,
};

/// Most tcp connections at a time, if the limit of open files allows; more wait to be accepted.
const MAX_LINKS: usize = 512;
/// Most udp clients at a time; the one that was quiet the longest gives way to a new one.
const MAX_FLOWS: usize = 512;
/// Descriptors left to the rest of the supervisor.
const OTHER_FILES: usize = 128;
/// How long a udp client is remembered after its last datagram either way.
const FLOW_IDLE: Duration = Duration::from_secs(90);
/// When to look again after the system had no descriptor or memory for a connection.
const RETRY: Duration = Duration::from_secs(1);
/// When a silent tcp peer is asked whether it is still there: a vanished one must not hold its place.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Bytes moved at a time, and so the most that is kept for a reader that is slow.
const CHUNK: usize = 16 << 10;
/// The largest datagram.
const DATAGRAM: usize = 64 << 10;
/// Most connections or datagrams taken from one socket before others have their turn.
const BURST: usize = 32;

/// What the loop waits for. Numbers are good until [`Forward::sweep`].
#[derive(Debug, Clone, Copy)]
pub enum Source {
    Port(usize),
    Link(usize),
    Flow(usize),
}

/// The published ports of one container.
#[derive(Default)]
pub struct Forward {
    ports: Vec<Port>,
    links: Vec<Link>,
    flows: Vec<Flow>,
    max_links: usize,
    /// Nothing is accepted before this.
    retry: Option<Instant>,
}

struct Port {
    socket: OwnedFd,
    stream: bool,
    target: SocketAddr,
}

impl Forward {
    /// Begins to serve. The sockets come in the order of `published`.
    pub fn new(sockets: Vec<OwnedFd>, published: &[Published]) -> Result<Self, String> {
        let mut ports = Vec::with_capacity(sockets.len());
        for (socket, Published { protocol, target }) in sockets.into_iter().zip(published) {
            let stream = match protocol.as_str() {
                "tcp" => true,
                "udp" => false,
                other => return Err(format!("published port to {target}: no protocol {other:?}")),
            };
            rustix::io::ioctl_fionbio(&socket, true)
                .map_err(|error| format!("published port to {target}: {error}"))?;
            ports.push(Port { socket, stream, target: *target });
        }
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let files = files.map_or(usize::MAX, |files| files as usize);
        let max_links = (files.saturating_sub(OTHER_FILES) / 2).clamp(1, MAX_LINKS);
        Ok(Forward { ports, max_links, ..Forward::default() })
    }

    /// The descriptors to wait on. One that nothing is wanted of is left out: poll would report its
    /// hang-up over and over.
    pub fn waiting(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags, Source)> {
        let ports = self.ports.iter().enumerate().filter(|(_, port)| {
            self.retry.is_none() && (!port.stream || self.links.len() < self.max_links)
        });
        let ports =
            ports.map(|(index, port)| (port.socket.as_fd(), PollFlags::IN, Source::Port(index)));
        let links = self.links.iter().enumerate().flat_map(|(index, link)| {
            link.waiting().map(move |(fd, flags)| (fd, flags, Source::Link(index)))
        });
        let flows = self
            .flows
            .iter()
            .enumerate()
            .map(|(index, flow)| (flow.socket.as_fd(), PollFlags::IN, Source::Flow(index)));
        ports.chain(links).chain(flows)
    }

    /// When [`Forward::sweep`] has something to do though nothing became ready.
    pub fn deadline(&self) -> Option<Instant> {
        let idle = self.flows.iter().map(|flow| flow.used + FLOW_IDLE);
        idle.chain(self.retry).min()
    }

    /// Heeds what became ready; what has been ended since is passed over.
    pub fn ready(&mut self, source: Source) {
        match source {
            Source::Port(index) => match self.ports.get(index) {
                Some(port) if port.stream => self.accept(index),
                Some(_) => self.datagrams(index),
                None => {}
            },
            Source::Link(index) => {
                if let Some(link) = self.links.get_mut(index) {
                    link.advance();
                }
            }
            Source::Flow(index) => self.answers(index),
        }
    }

    /// Forgets what has ended.
    pub fn sweep(&mut self) {
        let now = Instant::now();
        self.retry = self.retry.filter(|retry| now < *retry);
        self.links.retain(|link| !link.done());
        self.flows.retain(|flow| now < flow.used + FLOW_IDLE);
        // Memory of a busy hour is not kept for the quiet ones.
        if self.links.is_empty() {
            self.links = Vec::new();
        }
        if self.flows.is_empty() {
            self.flows = Vec::new();
        }
    }

    /// The container has ended: frees the ports, and lets clients have what it had sent them.
    pub fn end(&mut self) {
        for link in &mut self.links {
            link.farewell();
        }
        *self = Forward::default();
    }

    fn accept(&mut self, index: usize) {
        for _ in 0..BURST {
            if self.links.len() >= self.max_links {
                return;
            }
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let port = &self.ports[index];
            let client = match rustix::net::accept_with(&port.socket, flags) {
                Ok(client) => client,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.retry = Some(Instant::now() + RETRY);
                    return;
                }
                // A client that has gone before it was accepted is not the end of the queue.
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(_) => return,
            };
            // A target that refuses at once: the client is let go.
            if let Ok(link) = Link::open(client, port.target) {
                self.links.push(link);
            }
        }
    }

    fn datagrams(&mut self, index: usize) {
        let mut buffer = vec![0; DATAGRAM];
        for _ in 0..BURST {
            let socket = &self.ports[index].socket;
            let received =
                rustix::net::recvfrom(socket, buffer.as_mut_slice(), RecvFlags::DONTWAIT);
            let (count, client) = match received {
                Ok((count, _, Some(client))) => (count, client),
                // An answer that a client refused shows as an error of the next receive.
                Ok(_) | Err(Errno::INTR | Errno::CONNREFUSED) => continue,
                Err(_) => return,
            };
            let Ok(client) = SocketAddr::try_from(client) else { continue };
            if let Some(flow) = self.flow(index, client) {
                flow.used = Instant::now();
                // A datagram that cannot be sent is lost, as datagrams are.
                let _ = rustix::net::send(&flow.socket, &buffer[..count], SendFlags::DONTWAIT);
            }
        }
    }

    /// The flow of a client, made if it is new.
    fn flow(&mut self, port: usize, client: SocketAddr) -> Option<&mut Flow> {
        let known = |flow: &Flow| flow.port == port && flow.client == client;
        if let Some(at) = self.flows.iter().position(known) {
            return self.flows.get_mut(at);
        }
        let socket = connect(self.ports[port].target, SocketType::DGRAM).ok()?;
        let flow = Flow { socket, client, port, used: Instant::now() };
        if self.flows.len() < MAX_FLOWS {
            self.flows.push(flow);
            return self.flows.last_mut();
        }
        let oldest = self.flows.iter_mut().min_by_key(|flow| flow.used)?;
        *oldest = flow;
        Some(oldest)
    }

    fn answers(&mut self, index: usize) {
        let Some(flow) = self.flows.get_mut(index) else { return };
        let mut buffer = vec![0; DATAGRAM];
        for _ in 0..BURST {
            let received =
                rustix::net::recv(&flow.socket, buffer.as_mut_slice(), RecvFlags::DONTWAIT);
            match received {
                Ok((count, _)) => {
                    flow.used = Instant::now();
                    let to = &self.ports[flow.port].socket;
                    let answer = &buffer[..count];
                    let _ = rustix::net::sendto(to, answer, SendFlags::DONTWAIT, &flow.client);
                }
                // The container does not listen (yet): reading the error clears it.
                Err(Errno::INTR | Errno::CONNREFUSED) => {}
                Err(_) => return,
            }
        }
    }
}

/// One udp client's way into the container.
struct Flow {
    /// Connected to the target.
    socket: OwnedFd,
    client: SocketAddr,
    port: usize,
    used: Instant,
}

/// One tcp connection through a published port.
struct Link {
    client: OwnedFd,
    target: OwnedFd,
    connecting: bool,
    /// From the client to the target.
    inward: Half,
    /// From the target to the client.
    outward: Half,
    broken: bool,
}

/// One direction: read only when nothing waits to be written.
#[derive(Default)]
struct Half {
    waiting: Vec<u8>,
    /// The sender has ended its direction.
    ended: bool,
    /// The receiver has been told.
    told: bool,
}

impl Half {
    fn reads(&self) -> bool {
        self.waiting.is_empty() && !self.ended
    }

    /// Moves a chunk; whether anything happened. Only what cannot be read is an error: a receiver that
    /// is gone ends this direction, and the other may still have something to say.
    fn advance(&mut self, from: &OwnedFd, to: &OwnedFd) -> Result<bool, Errno> {
        let mut moved = false;
        if self.reads() {
            let mut buffer = [0; CHUNK];
            match rustix::net::recv(from, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => self.ended = true,
                Ok((count, _)) => {
                    moved = true;
                    let written = self.write(to, &buffer[..count]);
                    self.waiting.extend_from_slice(&buffer[written..count]);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        } else if !self.waiting.is_empty() {
            let mut waiting = std::mem::take(&mut self.waiting);
            let written = self.write(to, &waiting);
            moved = written > 0;
            waiting.drain(..written);
            if !waiting.is_empty() {
                self.waiting = waiting;
            }
        }
        if self.ended && self.waiting.is_empty() && !self.told {
            let _ = rustix::net::shutdown(to, Shutdown::Write);
            self.told = true;
        }
        Ok(moved)
    }

    /// How much of it needs no further thought: all of it if the receiver is gone.
    fn write(&mut self, to: &OwnedFd, bytes: &[u8]) -> usize {
        match rustix::net::send(to, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => {
                self.ended = true;
                self.told = true;
                bytes.len()
            }
        }
    }
}

impl Link {
    fn open(client: OwnedFd, target: SocketAddr) -> Result<Self, Errno> {
        let target = connect(target, SocketType::STREAM)?;
        for socket in [&client, &target] {
            // Failing costs promptness, no more.
            let _ = sockopt::set_tcp_nodelay(socket, true);
            let _ = sockopt::set_socket_keepalive(socket, true);
            let _ = sockopt::set_tcp_keepidle(socket, KEEPALIVE);
        }
        let (inward, outward) = (Half::default(), Half::default());
        Ok(Link { client, target, connecting: true, inward, outward, broken: false })
    }

    fn waiting(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let flags = |reads: &Half, writes: &Half| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, reads.reads());
            flags.set(PollFlags::OUT, !writes.waiting.is_empty());
            flags
        };
        let (client, target) = if self.connecting {
            (PollFlags::empty(), PollFlags::OUT)
        } else {
            (flags(&self.inward, &self.outward), flags(&self.outward, &self.inward))
        };
        let both = [(self.client.as_fd(), client), (self.target.as_fd(), target)];
        both.into_iter().filter(|(_, flags)| !flags.is_empty())
    }

    fn advance(&mut self) {
        if self.connecting {
            match sockopt::socket_error(&self.target) {
                Ok(Ok(())) => self.connecting = false,
                _ => self.broken = true,
            }
        }
        if !self.broken {
            self.move_both();
        }
    }

    fn move_both(&mut self) -> bool {
        let inward = self.inward.advance(&self.client, &self.target);
        let outward = self.outward.advance(&self.target, &self.client);
        self.broken |= inward.is_err() || outward.is_err();
        inward.unwrap_or(false) | outward.unwrap_or(false)
    }

    /// Moves what is there and can be taken, within bounds: the container has ended.
    fn farewell(&mut self) {
        if self.connecting {
            return;
        }
        for _ in 0..BURST {
            if self.done() || !self.move_both() {
                break;
            }
        }
        let _ = rustix::net::shutdown(&self.client, Shutdown::Write);
    }

    fn done(&self) -> bool {
        self.broken || (self.inward.told && self.outward.told)
    }
}

/// A socket that is being connected to the target.
fn connect(target: SocketAddr, kind: SocketType) -> Result<OwnedFd, Errno> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    match rustix::net::connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}
