//! One connection of the daemon: requests, then perhaps events or a process's streams.

use std::collections::VecDeque;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use caisson_protocol::frame::{self, HEADER, Header};
use caisson_protocol::supervisor::{Reply, Request, Streams};
use caisson_protocol::task::{self, ProcessId};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde::Serialize;

/// Output kept for a client before its process has to wait for it, bytes.
pub const MAX_OUTPUT: usize = 256 << 10;
/// Most descriptors in one message: published ports of one container.
const MAX_FDS: usize = 250;

/// What a connection is used for.
pub enum Mode {
    /// Requests and replies.
    Requests,
    /// Events after a subscription.
    Events,
    /// A process's streams.
    Attached { process: ProcessId, streams: Streams },
}

pub struct Connection {
    pub socket: UnixStream,
    pub mode: Mode,
    pub input: Vec<u8>,
    pub output: VecDeque<u8>,
    pub fds: Vec<OwnedFd>,
    /// The client has closed its writing side.
    pub half_closed: bool,
    /// Close once the output is written.
    pub closing: bool,
    pub dead: bool,
}

impl Drop for Connection {
    /// A socket that is closed over unread bytes tells its peer of a reset, in place of the end. Nothing can
    /// come any more once both directions are shut, so what has come can be dropped first.
    fn drop(&mut self) {
        // A client that is gone already has nothing to be told.
        let _ = self.socket.shutdown(Shutdown::Both);
        let mut buffer = [0; 16 << 10];
        while matches!((&self.socket).read(&mut buffer), Ok(1..)) {}
    }
}

impl Connection {
    pub fn new(socket: UnixStream) -> Self {
        Connection {
            socket,
            mode: Mode::Requests,
            input: Vec::new(),
            output: VecDeque::new(),
            fds: Vec::new(),
            half_closed: false,
            closing: false,
            dead: false,
        }
    }

    /// Reads requests; the descriptors that came along are kept for the request that wants them.
    pub fn read_requests(&mut self) {
        let mut bytes = [0; 16 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        match rustix::net::recvmsg(&self.socket, &mut slices, &mut control, flags) {
            Ok(received) => {
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(rights) = message {
                        self.fds.extend(rights);
                    }
                }
                self.half_closed |= received.bytes == 0;
                self.input.extend_from_slice(&bytes[..received.bytes]);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.dead = true,
        }
    }

    /// Takes the next whole request off the input. A malformed one ends this connection only.
    pub fn next_request(&mut self) -> Option<Request> {
        let header: [u8; HEADER] = self.input.get(..HEADER)?.try_into().ok()?;
        let parsed = Header::decode(header).and_then(|header| {
            if self.input.len() < HEADER + header.length {
                return Ok(None);
            }
            let payload: Vec<u8> =
                self.input.drain(..HEADER + header.length).skip(HEADER).collect();
            Ok(Some(serde_json::from_slice(&payload)?))
        });
        parsed.unwrap_or_else(|error| {
            eprintln!("a client sent what is not a request: {error}");
            self.dead = true;
            None
        })
    }

    /// Reads stdin from an attached client into `buffer`; 0 means nothing now or the end.
    pub fn read_stdin(&mut self, buffer: &mut [u8]) -> usize {
        if !self.input.is_empty() {
            let count = self.input.len().min(buffer.len());
            buffer[..count].copy_from_slice(&self.input[..count]);
            self.input.drain(..count);
            return count;
        }
        match (&self.socket).read(buffer) {
            Ok(0) => self.half_closed = true,
            Ok(count) => return count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.dead = true,
        }
        0
    }

    pub fn send<T: Serialize>(&mut self, message: &T) {
        match frame::encode_message(message) {
            Ok(bytes) => self.output.extend(bytes),
            Err(error) => {
                eprintln!("a reply cannot be sent: {error}");
                self.dead = true;
            }
        }
        self.flush();
    }

    pub fn reply(&mut self, reply: task::Reply) {
        self.send(&Reply::Task(reply));
    }

    /// Queues output of stream 1 or 2: raw for a terminal, else with Docker's 8-byte header.
    pub fn output(&mut self, stream: u8, terminal: bool, bytes: &[u8]) {
        if !terminal {
            self.output.extend([stream, 0, 0, 0]);
            self.output.extend((bytes.len() as u32).to_be_bytes());
        }
        self.output.extend(bytes);
        self.flush();
    }

    pub fn flush(&mut self) {
        while !self.output.is_empty() && !self.dead {
            match (&self.socket).write(self.output.as_slices().0) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => self.dead = true,
            }
        }
        if self.closing && self.output.is_empty() {
            self.dead = true;
        }
    }
}
