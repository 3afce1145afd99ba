//! One process's streams: what is read from it, and what waits to be written to it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use caisson_protocol::task::{Exit, ProcessId};
use caisson_sandbox::Streams;

/// Most bytes of stdin kept for a process that does not read.
pub const MAX_STDIN: usize = 256 << 10;
/// Most bytes that a pipe keeps (fs.pipe-max-size as the kernel ships it).
pub const MAX_PIPE: usize = 1 << 20;
/// How long outputs may stay open after their process has ended (something else holds them).
pub const DRAIN: Duration = Duration::from_secs(2);

/// The streams of one process.
pub struct Hub {
    pub process: ProcessId,
    pub terminal: bool,
    /// stdin ends for good with the first client that ends it.
    pub stdin_once: bool,
    pub streams: Streams,
    pub stdin: VecDeque<u8>,
    pub stdin_ending: bool,
    pub exit: Option<Exit>,
    /// When draining is given up; set with `exit`.
    pub deadline: Option<Instant>,
    /// The exit has been told and clients may be closed.
    pub told: bool,
}

impl Hub {
    pub fn new(process: ProcessId, terminal: bool, stdin_once: bool, streams: Streams) -> Self {
        Hub {
            process,
            terminal,
            stdin_once,
            streams,
            stdin: VecDeque::new(),
            stdin_ending: false,
            exit: None,
            deadline: None,
            told: false,
        }
    }

    pub fn ended(&mut self, exit: Exit) {
        self.exit = Some(exit);
        self.deadline = Some(Instant::now() + DRAIN);
        self.streams.stdin = None;
        self.stdin.clear();
    }

    /// The process has ended and its outputs are read to their end, or were given up.
    pub fn finished(&self) -> bool {
        let drained = self.streams.stdout.is_none() && self.streams.stderr.is_none();
        let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        self.exit.is_some() && (drained || late)
    }

    /// Reads what there is of stream 1 or 2; an end closes it.
    pub fn read(&mut self, stream: u8, buffer: &mut [u8]) -> usize {
        let slot = if stream == 1 { &mut self.streams.stdout } else { &mut self.streams.stderr };
        let Some(fd) = slot else { return 0 };
        match rustix::io::read(fd.as_fd(), &mut *buffer) {
            Ok(0) => *slot = None,
            Ok(count) => return count,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // A terminal whose last process has gone reports EIO.
            Err(_) => *slot = None,
        }
        0
    }

    /// Writes waiting stdin; closes it once all is written and the client has ended it.
    pub fn write_stdin(&mut self) {
        while let (Some(fd), false) = (&self.streams.stdin, self.stdin.is_empty()) {
            match rustix::io::write(fd, self.stdin.as_slices().0) {
                Ok(count) => drop(self.stdin.drain(..count)),
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => {
                    self.streams.stdin = None;
                    self.stdin.clear();
                }
            }
        }
        if self.stdin_ending && self.stdin.is_empty() && !self.terminal {
            self.streams.stdin = None;
        }
    }

    /// The descriptors to wait on: (fd, stream number; 0 for stdin).
    pub fn waiting(&self, room: bool) -> impl Iterator<Item = (&OwnedFd, u8)> {
        let outputs = [(&self.streams.stdout, 1), (&self.streams.stderr, 2)];
        let outputs = outputs.into_iter().filter(move |_| room);
        let stdin = (!self.stdin.is_empty()).then_some((&self.streams.stdin, 0));
        outputs.chain(stdin).filter_map(|(fd, stream)| Some((fd.as_ref()?, stream)))
    }
}
