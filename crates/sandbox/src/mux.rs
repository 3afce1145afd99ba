//! Messages and streams over one connection between a supervisor and its agent; both ends use it.
//!
//! Owns the buffers, the windows and the local ends of the streams. Never interprets a message. What
//! comes from the other side is bounded before it is kept: a peer that passes its window, or names a
//! channel that was not opened, is cut off.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use caisson_protocol::frame::{self, Error, HEADER, Header, INITIAL_WINDOW, Kind, MAX_DATA};
use rustix::event::PollFlags;
use rustix::io::Errno;
use serde::Serialize;

/// Streams stop being read while this much waits for the wire, bytes.
const MAX_WAITING: usize = 512 << 10;

/// A local stream on its way to the other side.
struct Source {
    fd: OwnedFd,
    window: usize,
}

/// A stream from the other side on its way to a local one.
struct Sink {
    /// `None` once the local reader is gone: what still comes is dropped.
    fd: Option<OwnedFd>,
    pending: VecDeque<u8>,
    ended: bool,
    /// Bytes that the other side may still send.
    granted: usize,
}

/// One connection.
pub struct Mux {
    wire: OwnedFd,
    input: Vec<u8>,
    output: VecDeque<u8>,
    sources: BTreeMap<u32, Source>,
    sinks: BTreeMap<u32, Sink>,
    messages: VecDeque<Vec<u8>>,
    closed: bool,
}

impl Mux {
    /// `wire` must be non-blocking.
    pub fn new(wire: OwnedFd) -> Self {
        Mux {
            wire,
            input: Vec::new(),
            output: VecDeque::new(),
            sources: BTreeMap::new(),
            sinks: BTreeMap::new(),
            messages: VecDeque::new(),
            closed: false,
        }
    }

    /// Sends what is read from `fd` (non-blocking) on `channel` until it ends.
    pub fn add_source(&mut self, channel: u32, fd: OwnedFd) {
        self.sources.insert(channel, Source { fd, window: INITIAL_WINDOW as usize });
    }

    /// Writes what comes on `channel` to `fd` (non-blocking) until it ends.
    pub fn add_sink(&mut self, channel: u32, fd: OwnedFd) {
        let granted = INITIAL_WINDOW as usize;
        let sink = Sink { fd: Some(fd), pending: VecDeque::new(), ended: false, granted };
        self.sinks.insert(channel, sink);
    }

    /// Ends a stream towards the other side that never had a local end.
    pub fn end(&mut self, channel: u32) {
        self.output.extend(Header { length: 0, channel, kind: Kind::Eof }.encode());
    }

    /// Queues a message.
    pub fn send<T: Serialize>(&mut self, message: &T) -> Result<(), Error> {
        self.output.extend(frame::encode_message(message)?);
        Ok(())
    }

    /// The next message that has come.
    pub fn next_message(&mut self) -> Option<Vec<u8>> {
        self.messages.pop_front()
    }

    /// The other side is gone.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The descriptors to wait on, and for what.
    pub fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let mut wire = PollFlags::empty();
        wire.set(PollFlags::IN, !self.closed);
        wire.set(PollFlags::OUT, !self.output.is_empty());
        let mut fds = vec![(self.wire.as_fd(), wire)];
        if self.output.len() < MAX_WAITING {
            let open = self.sources.values().filter(|source| source.window > 0);
            fds.extend(open.map(|source| (source.fd.as_fd(), PollFlags::IN)));
        }
        let full = self.sinks.values().filter(|sink| !sink.pending.is_empty());
        fds.extend(full.filter_map(|sink| Some((sink.fd.as_ref()?.as_fd(), PollFlags::OUT))));
        fds
    }

    /// Moves all that can be moved now. Never blocks.
    pub fn service(&mut self) -> Result<(), Error> {
        self.read_wire()?;
        while self.take_frame()? {}
        self.write_sinks();
        self.read_sources();
        self.write_wire()
    }

    fn read_wire(&mut self) -> Result<(), Error> {
        let mut buffer = [0; 64 << 10];
        match rustix::io::read(&self.wire, &mut buffer) {
            Ok(0) => self.closed = true,
            Ok(count) => self.input.extend_from_slice(&buffer[..count]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => self.closed = true,
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
        Ok(())
    }

    /// Handles one whole frame of the input, when there is one.
    fn take_frame(&mut self) -> Result<bool, Error> {
        let Some(header) = self.input.get(..HEADER) else { return Ok(false) };
        let header = Header::decode(header.try_into().unwrap_or([0; HEADER]))?;
        if self.input.len() < HEADER + header.length {
            return Ok(false);
        }
        let payload: Vec<u8> = self.input.drain(..HEADER + header.length).skip(HEADER).collect();
        let Header { channel, kind, length } = header;
        let unknown = Error::Undefined { kind: kind as u8, channel };
        match kind {
            Kind::Message => self.messages.push_back(payload),
            Kind::Data => {
                let sink = self.sinks.get_mut(&channel).ok_or(unknown)?;
                sink.granted = sink.granted.checked_sub(length).ok_or(Error::TooLarge(length))?;
                sink.pending.extend(payload);
            }
            Kind::Eof => self.sinks.get_mut(&channel).ok_or(unknown)?.ended = true,
            Kind::Window => {
                // The source may have ended before the grant arrived.
                if let Some(source) = self.sources.get_mut(&channel) {
                    let more = u32::from_le_bytes(payload.try_into().unwrap_or_default());
                    source.window = (source.window + more as usize).min(INITIAL_WINDOW as usize);
                }
            }
        }
        Ok(true)
    }

    fn write_sinks(&mut self) {
        let mut done = Vec::new();
        for (&channel, sink) in &mut self.sinks {
            let written = sink.write();
            if written > 0 && !sink.ended {
                sink.granted += written;
                let header = Header { length: 4, channel, kind: Kind::Window };
                self.output.extend(header.encode());
                self.output.extend((written as u32).to_le_bytes());
            }
            if sink.ended && sink.pending.is_empty() {
                done.push(channel);
            }
        }
        // Dropping the local end is how its reader learns of the end.
        done.iter().for_each(|channel| drop(self.sinks.remove(channel)));
    }

    fn read_sources(&mut self) {
        let mut done = Vec::new();
        let mut buffer = vec![0; MAX_DATA];
        for (&channel, source) in &mut self.sources {
            while source.window > 0 && self.output.len() < MAX_WAITING {
                let limit = source.window.min(MAX_DATA);
                match rustix::io::read(&source.fd, &mut buffer[..limit]) {
                    Ok(count) if count > 0 => {
                        source.window -= count;
                        let header = Header { length: count, channel, kind: Kind::Data };
                        self.output.extend(header.encode());
                        self.output.extend(&buffer[..count]);
                    }
                    Err(Errno::AGAIN | Errno::INTR) => break,
                    // An end; a terminal whose last process has gone says EIO.
                    _ => {
                        done.push(channel);
                        break;
                    }
                }
            }
        }
        for channel in done {
            self.sources.remove(&channel);
            self.end(channel);
        }
    }

    fn write_wire(&mut self) -> Result<(), Error> {
        while !self.output.is_empty() {
            match rustix::io::write(&self.wire, self.output.as_slices().0) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    self.closed = true;
                    self.output.clear();
                }
                Err(error) => return Err(std::io::Error::from(error).into()),
            }
        }
        Ok(())
    }

    /// Raw numbers of the local ends, to tell which descriptors are still in use.
    pub fn descriptors(&self) -> Vec<RawFd> {
        self.interests().iter().map(|(fd, _)| fd.as_raw_fd()).collect()
    }
}

impl Sink {
    /// Writes what it can; returns the bytes taken off the queue.
    fn write(&mut self) -> usize {
        let mut taken = 0;
        while !self.pending.is_empty() {
            let Some(fd) = &self.fd else {
                taken += self.pending.len();
                self.pending.clear();
                break;
            };
            match rustix::io::write(fd, self.pending.as_slices().0) {
                Ok(count) => {
                    taken += count;
                    self.pending.drain(..count);
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => self.fd = None,
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    use std::io::{Read, Write};

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap()
    }

    #[test]
    fn a_megabyte_passes_in_order_and_ends() {
        let (left, right) = pair();
        let (mut a, mut b) = (Mux::new(left), Mux::new(right));
        let (source, mut writer) = pair_of_streams();
        let (sink, mut reader) = pair_of_streams();
        a.add_source(5, source);
        b.add_sink(5, sink);
        let sent: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
        let (mut at, mut got) = (0, Vec::new());
        let mut writer_open = true;
        for _ in 0..100_000 {
            if at < sent.len() {
                at += writer.write(&sent[at..]).unwrap_or(0);
            } else if writer_open {
                writer.shutdown(std::net::Shutdown::Write).unwrap();
                writer_open = false;
            }
            a.service().unwrap();
            b.service().unwrap();
            let mut buffer = [0; 8192];
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => got.extend_from_slice(&buffer[..count]),
                Err(_) => {}
            }
        }
        assert!(got == sent, "{} of {} bytes came through", got.len(), sent.len());
    }

    fn pair_of_streams() -> (OwnedFd, std::os::unix::net::UnixStream) {
        let (a, b) = pair();
        (a, b.into())
    }

    #[test]
    fn a_peer_past_its_window_or_on_an_unknown_channel_is_cut_off() {
        let (left, right) = pair();
        let mut mux = Mux::new(left);
        let mut wire = std::os::unix::net::UnixStream::from(right);
        wire.write_all(&Header { length: 1, channel: 9, kind: Kind::Data }.encode()).unwrap();
        wire.write_all(b"x").unwrap();
        assert!(matches!(mux.service(), Err(Error::Undefined { channel: 9, .. })));

        let (left, right) = pair();
        let mut mux = Mux::new(left);
        let mut wire = std::os::unix::net::UnixStream::from(right);
        let (sink, _held) = pair_of_streams();
        mux.add_sink(3, sink);
        mux.sinks.get_mut(&3).unwrap().granted = 2;
        wire.write_all(&Header { length: 3, channel: 3, kind: Kind::Data }.encode()).unwrap();
        wire.write_all(b"abc").unwrap();
        assert!(matches!(mux.service(), Err(Error::TooLarge(3))));
    }

    /// A hostile guest's bytes: well-formed frames, damaged in a few places, in pieces of any size.
    #[test]
    fn damaged_frames_never_panic_and_keep_memory_bounded() {
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = move |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        };
        for _ in 0..2_000 {
            let (left, right) = pair();
            let mut mux = Mux::new(left);
            let (sink, _held) = pair_of_streams();
            let (source, _fed) = pair_of_streams();
            mux.add_sink(2, sink);
            mux.add_source(3, source);
            let mut bytes = Vec::new();
            for _ in 0..random(6) + 1 {
                let kind = [Kind::Message, Kind::Data, Kind::Eof, Kind::Window][random(4)];
                let channel = if kind == Kind::Message { 0 } else { random(4) as u32 };
                let length = if kind == Kind::Window { 4 } else { random(40) };
                bytes.extend(Header { length, channel, kind }.encode());
                bytes.extend((0..length).map(|_| random(256) as u8));
            }
            for _ in 0..random(4) {
                let at = random(bytes.len());
                bytes[at] = random(256) as u8;
            }
            let mut wire = std::os::unix::net::UnixStream::from(right);
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (piece, tail) = rest.split_at(random(rest.len()) + 1);
                wire.write_all(piece).unwrap();
                rest = tail;
                if mux.service().is_err() {
                    break;
                }
            }
            assert!(mux.input.len() <= bytes.len() && mux.output.len() <= 64 * bytes.len());
        }
    }
}
