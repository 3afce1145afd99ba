//! The microVM sandbox: a container alone behind a machine monitor.
//!
//! Owns the monitor, the share's server and the link to the agent. It translates a bundle's host paths
//! into the guest's and forwards the rest; what the container *is* comes from the same launch code,
//! which the agent runs inside.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use caisson_bundle::{Bundle, oci};
use caisson_protocol::agent::{Interface, Prepare, Request};
use caisson_protocol::supervisor::{Accelerator, Microvm};
use caisson_protocol::task::{
    self, Event, Failure, FailureKind, ProcessId, ProcessInfo, Reply, Stats, Stdio, TerminalSize,
};
use rustix::event::{PollFlags, epoll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::failure::{failure, internal, now};
use crate::{Sandbox, Started, Streams};
use link::{Link, unexpected};

mod fsd;
mod link;
mod qemu;
mod ticks;
mod translate;

/// How long a guest may take to boot: hardware, emulation.
const BOOT: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];
/// How long the agent may take to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// A container in a microVM.
pub struct MicrovmSandbox {
    monitor: qemu::Monitor,
    share: fsd::Share,
    link: Link,
    epoll: OwnedFd,
    registered: HashMap<RawFd, PollFlags>,
    /// The guest broke the protocol: nothing it says counts any more.
    broken: bool,
    /// The machine monitor has ended.
    over: bool,
}

impl MicrovmSandbox {
    /// Boots a nano guest; returns once its agent has said hello.
    pub fn boot(shape: &Microvm, directory: &Path) -> Result<Self, Failure> {
        let limit = BOOT[usize::from(shape.accelerator == Accelerator::Emulation)];
        Self::boot_within(shape, directory, limit)
    }

    /// The same, with a time limit of the caller's.
    pub fn boot_within(
        shape: &Microvm,
        directory: &Path,
        limit: Duration,
    ) -> Result<Self, Failure> {
        let clock = ticks::Reading::take();
        let (wire, theirs) = socket_pair()?;
        let flags = rustix::fs::OFlags::NONBLOCK;
        rustix::fs::fcntl_setfl(&wire, flags).map_err(internal)?;
        let link = Link::new(wire)?;
        let (share, device) = fsd::Share::serve(&shape.fsd_program, directory)?;
        let monitor = qemu::Monitor::start(shape, theirs, device, clock)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(internal)?;
        for fd in [monitor.ended(), monitor.console(), link.signal()] {
            let data = epoll::EventData::new_u64(fd.as_raw_fd() as u64);
            epoll::add(&epoll, fd, data, epoll::EventFlags::IN).map_err(internal)?;
        }
        let mut sandbox = MicrovmSandbox {
            monitor,
            share,
            link,
            epoll,
            registered: HashMap::new(),
            broken: false,
            over: false,
        };
        let deadline = Instant::now() + limit;
        while sandbox.link.kernel().is_none() {
            sandbox.wait(deadline, "the guest did not boot")?;
        }
        Ok(sandbox)
    }

    /// The guest's kernel release.
    pub fn kernel(&self) -> &str {
        self.link.kernel().unwrap_or_default()
    }

    /// Waits for anything to happen, and handles it.
    fn wait(&mut self, deadline: Instant, what: &str) -> Result<(), Failure> {
        if self.over {
            let text = format!("{what}: the machine monitor ended: {}", self.monitor.last_words());
            return Err(failure(FailureKind::Internal, text));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let text = format!("{what} in time: {}", self.monitor.last_words());
            return Err(failure(FailureKind::Internal, text));
        }
        self.register();
        let left = rustix::time::Timespec::try_from(left).ok();
        let mut space = [std::mem::MaybeUninit::uninit(); 16];
        match epoll::wait(&self.epoll, &mut space, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(internal(error)),
        }
        self.pump();
        Ok(())
    }

    /// Moves bytes, takes in messages, notices the monitor's end.
    fn pump(&mut self) {
        self.monitor.read_console();
        if !self.broken
            && let Err(error) = self.link.service()
        {
            self.broken = true;
            eprintln!("the guest broke the protocol and is ended: {error}");
            self.monitor.kill();
        }
        if !self.over && self.monitor.has_ended() {
            self.over = true;
            if self.link.lost() {
                eprintln!("the machine monitor ended: {}", self.monitor.last_words());
            }
        }
        self.register();
    }

    /// Keeps the epoll set equal to what the mux waits for.
    fn register(&mut self) {
        let wanted: HashMap<RawFd, PollFlags> = self
            .link
            .interests()
            .into_iter()
            .filter(|(_, flags)| !flags.is_empty())
            .map(|(fd, flags)| (fd.as_raw_fd(), flags))
            .collect();
        for raw in self.registered.keys().filter(|raw| !wanted.contains_key(raw)) {
            // SAFETY: only the number is used; a descriptor that is closed already has left the set.
            let fd = unsafe { BorrowedFd::borrow_raw(*raw) };
            let _ = epoll::delete(&self.epoll, fd);
        }
        for (raw, flags) in &wanted {
            // SAFETY: the mux owns the descriptor, and is not touched while this loop runs.
            let fd = unsafe { BorrowedFd::borrow_raw(*raw) };
            let mut events = epoll::EventFlags::empty();
            events.set(epoll::EventFlags::IN, flags.contains(PollFlags::IN));
            events.set(epoll::EventFlags::OUT, flags.contains(PollFlags::OUT));
            let data = epoll::EventData::new_u64(*raw as u64);
            // A number that was closed and reused since needs adding, any other changing.
            if epoll::modify(&self.epoll, fd, data, events).is_err() {
                let _ = epoll::add(&self.epoll, fd, data, events);
            }
        }
        self.registered = wanted;
    }

    fn request(&mut self, request: Request) -> Result<Reply, Failure> {
        self.link.send(request).map_err(protocol)?;
        self.pump();
        let deadline = Instant::now() + ANSWER;
        loop {
            match self.link.reply() {
                Some(Reply::Failed(failure)) => return Err(failure),
                Some(reply) => return Ok(reply),
                None => self.wait(deadline, "the agent did not answer")?,
            }
        }
    }

    fn done(&mut self, request: Request) -> Result<(), Failure> {
        match self.request(request)? {
            Reply::Done => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// Local ends for a process's streams, and the channels that they travel on.
    fn streams(&mut self, stdio: &Stdio) -> Result<(Streams, [u32; 3]), Failure> {
        let channels = self.link.channels();
        let mut streams = Streams::default();
        let pair = || -> Result<(OwnedFd, OwnedFd), Failure> {
            let flags = rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK;
            rustix::pipe::pipe_with(flags).map_err(internal)
        };
        if stdio.stdin {
            let (read, write) = pair()?;
            self.link.mux().add_source(channels[0], read);
            streams.stdin = Some(write);
        }
        let (read, write) = pair()?;
        self.link.mux().add_sink(channels[1], write);
        streams.stdout = Some(read);
        if stdio.terminal.is_none() {
            let (read, write) = pair()?;
            self.link.mux().add_sink(channels[2], write);
            streams.stderr = Some(read);
        }
        Ok((streams, channels))
    }

    fn prepare(&mut self, interfaces: Vec<Interface>) -> Result<(), Failure> {
        let mut entropy = [0u8; 64];
        rustix::rand::getrandom(&mut entropy, rustix::rand::GetRandomFlags::empty())
            .map_err(internal)?;
        let entropy = entropy.iter().map(|byte| format!("{byte:02x}")).collect();
        let prepare = Prepare { entropy, time: now(), interfaces, mount_share: true };
        self.done(Request::Prepare(prepare))
    }
}

impl Sandbox for MicrovmSandbox {
    fn start(
        &mut self,
        bundle: &Bundle,
        stdio: &Stdio,
        interfaces: &[Interface],
    ) -> Result<Started, Failure> {
        let (bundle, attachments) = translate::bundle(bundle)?;
        for attachment in &attachments {
            self.share.attach(attachment)?;
        }
        self.prepare(interfaces.to_vec())?;
        let (streams, channels) = self.streams(stdio)?;
        let bundle = Box::new(bundle);
        let reply = self.request(Request::Start { bundle, stdio: stdio.clone(), channels });
        self.link.started(matches!(reply, Ok(Reply::Started { .. })));
        match reply? {
            Reply::Started { .. } => Ok(Started { pid: self.monitor.pid(), streams }),
            _ => Err(unexpected()),
        }
    }

    fn exec(
        &mut self,
        id: &str,
        process: &oci::Process,
        stdio: &Stdio,
    ) -> Result<Started, Failure> {
        let (streams, channels) = self.streams(stdio)?;
        let process = Box::new(process.clone());
        let request = Request::Exec { id: id.into(), process, stdio: stdio.clone(), channels };
        match self.request(request) {
            Ok(Reply::Started { pid }) => Ok(Started { pid, streams }),
            other => {
                self.link.refused(id);
                other.and(Err(unexpected()))
            }
        }
    }

    fn signal(&mut self, process: &ProcessId, signal: i32, all: bool) -> Result<(), Failure> {
        let process = process.clone();
        self.done(Request::Task(task::Request::Signal { process, signal, all }))
    }

    fn resize(&mut self, process: &ProcessId, size: TerminalSize) -> Result<(), Failure> {
        let process = process.clone();
        self.done(Request::Task(task::Request::Resize { process, size }))
    }

    fn pause(&mut self) -> Result<(), Failure> {
        self.done(Request::Task(task::Request::Pause))
    }

    fn resume(&mut self) -> Result<(), Failure> {
        self.done(Request::Task(task::Request::Resume))
    }

    fn update(&mut self, resources: &oci::LinuxResources) -> Result<(), Failure> {
        self.done(Request::Task(task::Request::Update(Box::new(resources.clone()))))
    }

    fn stats(&mut self) -> Result<Stats, Failure> {
        match self.request(Request::Task(task::Request::Stats))? {
            Reply::Stats(stats) => Ok(*stats),
            _ => Err(unexpected()),
        }
    }

    fn processes(&mut self) -> Result<Vec<ProcessInfo>, Failure> {
        match self.request(Request::Task(task::Request::Processes))? {
            Reply::Processes(processes) => Ok(processes),
            _ => Err(unexpected()),
        }
    }

    fn events(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    fn next_event(&mut self) -> Option<Event> {
        if let Some(event) = self.link.next_event() {
            return Some(event);
        }
        self.pump();
        self.link.next_event()
    }

    fn destroy(&mut self) -> Result<(), Failure> {
        self.monitor.kill();
        self.monitor.collect();
        self.share.end();
        Ok(())
    }
}

impl Drop for MicrovmSandbox {
    fn drop(&mut self) {
        self.monitor.kill();
        self.monitor.collect();
        self.share.end();
    }
}

fn socket_pair() -> Result<(OwnedFd, OwnedFd), Failure> {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(internal)
}

fn at(what: impl std::fmt::Display, error: impl Into<std::io::Error>) -> Failure {
    failure(FailureKind::Internal, format!("{what}: {}", error.into()))
}

fn protocol(error: caisson_protocol::frame::Error) -> Failure {
    failure(FailureKind::Internal, error.to_string())
}

/// What of the host is attached to the share, and where.
#[derive(Debug, Default, PartialEq)]
struct Attachment {
    source: PathBuf,
    /// The part of it, found without leaving it.
    subpath: Option<PathBuf>,
    /// In the share.
    target: String,
    /// With the mounts below it.
    recursive: bool,
    read_only: bool,
}
