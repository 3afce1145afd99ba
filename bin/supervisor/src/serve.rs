//! The supervisor's one loop: clients, streams and the sandbox's events, each waited on by descriptor.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use caisson_protocol::supervisor::{Config, Start};
use caisson_protocol::task::{Event, Exit, ProcessId};
use caisson_sandbox::Sandbox;
use rustix::event::{PollFd, PollFlags};

use crate::connection::{Connection, MAX_OUTPUT, Mode};
use crate::forward::{Forward, Source};
use crate::log::Log;
use crate::streams::{Hub, MAX_PIPE, MAX_STDIN};

mod requests;

/// How long clients get to take what is left after the container's end.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long an attached client that is still there may take over its last output (a pager, say).
const LAST_OUTPUT: Duration = Duration::from_secs(600);
/// Most ended execs remembered: a health check adds one every few seconds for as long as the container
/// runs, and all of them travel in one status.
const MAX_ENDED_EXECS: usize = 256;

pub struct Server {
    config: Config,
    listener: UnixListener,
    sandbox: Box<dyn Sandbox>,
    connections: Vec<Connection>,
    hubs: Vec<Hub>,
    container: Option<Running>,
    execs: Vec<ExecRecord>,
    forward: Forward,
    /// Set once all is done: leave when every client has its bytes, or when their time is up.
    leaving: Option<Leaving>,
}

/// An exec and how it ended.
struct ExecRecord {
    id: String,
    exit: Option<Exit>,
    /// A subscriber has been told of the exit.
    told: bool,
}

/// Until when clients may take what is left for them.
#[derive(Clone, Copy)]
struct Leaving {
    /// Clients that wait for replies and events.
    replies: Instant,
    /// Clients that are attached to streams.
    streams: Instant,
}

impl Leaving {
    /// After the container's own end: a slow reader gets its output.
    fn after_exit() -> Self {
        Leaving { replies: Instant::now() + FAREWELL, streams: Instant::now() + LAST_OUTPUT }
    }

    /// When nobody waits for output: a failed start, or an order to end.
    fn now() -> Self {
        let until = Instant::now() + FAREWELL;
        Leaving { replies: until, streams: until }
    }

    fn until(self, connection: &Connection) -> Instant {
        match connection.mode {
            Mode::Attached { .. } => self.streams,
            Mode::Requests | Mode::Events => self.replies,
        }
    }
}

/// The container, once started.
struct Running {
    id: String,
    pid: i32,
    log: Log,
    start: Start,
    exit: Option<Exit>,
    paused: bool,
    started_at: i64,
}

/// What became ready.
enum Ready {
    Listener,
    Sandbox,
    /// A client, and whether it has closed both directions.
    Client(usize, bool),
    Stream(usize, u8),
    /// A published port, or what goes through one.
    Forward(Source),
}

impl Server {
    pub fn new(config: Config, listener: OwnedFd, sandbox: Box<dyn Sandbox>) -> Self {
        Server {
            config,
            listener: UnixListener::from(listener),
            sandbox,
            connections: Vec::new(),
            hubs: Vec::new(),
            container: None,
            execs: Vec::new(),
            forward: Forward::default(),
            leaving: None,
        }
    }

    /// Serves until the container has ended and its clients are done.
    pub fn run(mut self) -> Result<()> {
        self.listener.set_nonblocking(true).context("prepare the listener")?;
        let mut met = false;
        loop {
            for ready in self.wait()? {
                self.handle(ready);
            }
            self.finish();
            self.forward.sweep();
            self.connections.retain(|connection| !connection.dead);
            met |= !self.connections.is_empty();
            let abandoned = self.config.standby
                && met
                && self.container.is_none()
                && self.connections.is_empty();
            let now = Instant::now();
            let done = self.leaving.is_some_and(|leaving| {
                self.connections.iter().all(|c| c.output.is_empty() || now >= leaving.until(c))
            });
            if abandoned || done {
                return self.sandbox.destroy().map_err(|failure| anyhow::anyhow!(failure.message));
            }
        }
    }

    fn wait(&self) -> Result<Vec<Ready>> {
        let mut fds: Vec<(BorrowedFd, PollFlags, Ready)> = vec![
            (self.listener.as_fd(), PollFlags::IN, Ready::Listener),
            (self.sandbox.events(), PollFlags::IN, Ready::Sandbox),
        ];
        for (index, connection) in self.connections.iter().enumerate() {
            let mut flags = PollFlags::empty();
            // Stdin that comes before the start waits in the socket; so do requests of a client that
            // does not take its replies.
            let reads = match &connection.mode {
                Mode::Attached { process, .. } => {
                    self.hub(process).is_some_and(|hub| hub.stdin.len() < MAX_STDIN)
                }
                Mode::Requests | Mode::Events => connection.output.len() < MAX_OUTPUT,
            };
            flags.set(PollFlags::IN, reads && !connection.half_closed);
            flags.set(PollFlags::OUT, !connection.output.is_empty());
            fds.push((connection.socket.as_fd(), flags, Ready::Client(index, false)));
        }
        for (index, hub) in self.hubs.iter().enumerate() {
            // What an ended process left in its pipe goes to the log however slow a client is.
            let most = MAX_OUTPUT + if hub.exit.is_some() { MAX_PIPE } else { 0 };
            let room = self.attached(&hub.process).all(|c| c.output.len() < most);
            for (fd, stream) in hub.waiting(room) {
                let flags = if stream == 0 { PollFlags::OUT } else { PollFlags::IN };
                fds.push((fd.as_fd(), flags, Ready::Stream(index, stream)));
            }
        }
        let forwarded = self.forward.waiting();
        fds.extend(forwarded.map(|(fd, flags, source)| (fd, flags, Ready::Forward(source))));
        let deadlines = self.hubs.iter().filter(|hub| !hub.told).filter_map(|hub| hub.deadline);
        let waits = self.connections.iter().filter(|connection| !connection.output.is_empty());
        let farewells = waits.filter_map(|connection| Some(self.leaving?.until(connection)));
        let deadline = deadlines.chain(farewells).chain(self.forward.deadline()).min();
        let timeout = deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
            .and_then(|left| rustix::time::Timespec::try_from(left).ok());
        let mut poll: Vec<_> = fds.iter().map(|(fd, flags, _)| PollFd::new(fd, *flags)).collect();
        match rustix::event::poll(&mut poll, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for clients and streams"),
        }
        let ready: Vec<PollFlags> = poll.iter().map(|fd| fd.revents()).collect();
        drop(poll);
        let ready = fds.into_iter().zip(ready).filter(|(_, flags)| !flags.is_empty());
        Ok(ready
            .map(|((_, _, what), flags)| match what {
                // Poll reports a hang-up whether asked or not: unheeded, the loop would spin.
                Ready::Client(index, _) => {
                    Ready::Client(index, flags.intersects(PollFlags::HUP | PollFlags::ERR))
                }
                other => other,
            })
            .collect())
    }

    fn handle(&mut self, ready: Ready) {
        match ready {
            Ready::Listener => self.accept(),
            Ready::Sandbox => {
                while let Some(event) = self.sandbox.next_event() {
                    self.event(event);
                }
            }
            Ready::Client(index, gone) => {
                self.client(index);
                if gone {
                    self.hung_up(index);
                }
            }
            Ready::Stream(index, 0) => self.hubs[index].write_stdin(),
            Ready::Stream(index, stream) => self.output(index, stream),
            Ready::Forward(source) => self.forward.ready(source),
        }
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            let allowed = rustix::net::sockopt::socket_peercred(&socket)
                .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::getuid());
            if allowed && socket.set_nonblocking(true).is_ok() {
                self.connections.push(Connection::new(socket));
            }
        }
    }

    fn client(&mut self, index: usize) {
        self.connections[index].flush();
        if self.connections[index].dead {
            return;
        }
        if matches!(self.connections[index].mode, Mode::Attached { .. }) {
            return self.stdin(index);
        }
        self.connections[index].read_requests();
        self.requests(index);
    }

    /// Answers the requests that are there, as long as the client takes the answers.
    fn requests(&mut self, index: usize) {
        while self.connections[index].output.len() < MAX_OUTPUT {
            let Some(request) = self.connections[index].next_request() else { break };
            self.request(index, request);
            if matches!(self.connections[index].mode, Mode::Attached { .. }) {
                // What came in one piece with the request is stdin already.
                return self.stdin(index);
            }
        }
        let connection = &mut self.connections[index];
        connection.dead |= connection.half_closed && connection.output.is_empty();
    }

    /// Moves stdin from a client to its process. Before the start it waits in the socket.
    fn stdin(&mut self, index: usize) {
        let Mode::Attached { process, streams } = &self.connections[index].mode else { return };
        let streams = *streams;
        let Some(at) = self.hubs.iter().position(|hub| hub.process == *process) else { return };
        let hub = &mut self.hubs[at];
        let mut buffer = [0; 16 << 10];
        // Only what has been read along with the request is there without poll saying so.
        loop {
            let count = self.connections[index].read_stdin(&mut buffer);
            if streams.stdin && hub.streams.stdin.is_some() {
                hub.stdin.extend(&buffer[..count]);
                hub.stdin_ending |= self.connections[index].half_closed && hub.stdin_once;
                hub.write_stdin();
            }
            if self.connections[index].input.is_empty() {
                return;
            }
        }
    }

    /// A client that has closed both directions: what it sent counts, nothing can be sent to it.
    fn hung_up(&mut self, index: usize) {
        loop {
            let connection = &self.connections[index];
            // Before the start there is nobody to give stdin to.
            let waits = match &connection.mode {
                Mode::Attached { process, .. } => self.hub(process).is_none(),
                Mode::Requests | Mode::Events => false,
            };
            if waits || connection.half_closed || connection.dead {
                break;
            }
            self.client(index);
        }
        self.connections[index].dead = true;
    }

    fn output(&mut self, index: usize, stream: u8) {
        let mut buffer = [0; 32 << 10];
        let hub = &mut self.hubs[index];
        let count = hub.read(stream, &mut buffer);
        if count == 0 {
            return;
        }
        let (process, terminal) = (hub.process.clone(), hub.terminal);
        if process == ProcessId::Init
            && let Some(container) = &mut self.container
        {
            container.log.add(stream, &buffer[..count]);
        }
        for connection in &mut self.connections {
            if let Mode::Attached { process: theirs, streams } = &connection.mode
                && *theirs == process
                && if stream == 1 { streams.stdout } else { streams.stderr }
            {
                connection.output(stream, terminal, &buffer[..count]);
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::OutOfMemory => {
                self.tell(&Event::OutOfMemory);
            }
            Event::Exited { process, exit } => {
                if process == ProcessId::Init {
                    self.forward.end();
                }
                match self.hubs.iter_mut().find(|hub| hub.process == process) {
                    Some(hub) => hub.ended(exit),
                    None => {
                        self.tell(&Event::Exited { process, exit });
                    }
                }
            }
        }
    }

    /// Tells every subscriber; whether there was one.
    fn tell(&mut self, event: &Event) -> bool {
        let mut told = false;
        for connection in &mut self.connections {
            if matches!(connection.mode, Mode::Events) {
                connection.send(event);
                told |= !connection.dead;
            }
        }
        told
    }

    /// Ends what has ended: records and tells the exit, then lets the clients go.
    fn finish(&mut self) {
        for index in 0..self.hubs.len() {
            let hub = &self.hubs[index];
            if hub.told || !hub.finished() {
                continue;
            }
            let (process, exit) = (hub.process.clone(), hub.exit);
            self.hubs[index].told = true;
            if let Some(exit) = exit {
                self.ended(&process, exit);
            }
        }
        self.hubs.retain(|hub| !hub.told || hub.process == ProcessId::Init);
    }

    fn ended(&mut self, process: &ProcessId, exit: Exit) {
        match process {
            ProcessId::Exec(id) => {
                if let Some(record) = self.execs.iter_mut().find(|record| record.id == *id) {
                    record.exit = Some(exit);
                }
            }
            ProcessId::Init => {
                if let Some(container) = &mut self.container {
                    container.exit = Some(exit);
                    container.log.finish();
                    if let Err(error) = record(&container.start.exit_file, &exit) {
                        eprintln!("the exit {exit:?} is not recorded: {error:#}");
                    }
                }
                if let Err(failure) = self.sandbox.destroy() {
                    eprintln!("clean-up: {}", failure.message);
                }
                self.leaving = Some(Leaving::after_exit());
            }
        }
        let told = self.tell(&Event::Exited { process: process.clone(), exit });
        if let ProcessId::Exec(id) = process
            && let Some(record) = self.execs.iter_mut().find(|record| record.id == *id)
        {
            record.told = told;
        }
        for connection in &mut self.connections {
            if matches!(&connection.mode, Mode::Attached { process: theirs, .. } if theirs == process)
            {
                connection.closing = true;
                connection.flush();
            }
        }
    }

    fn hub(&self, process: &ProcessId) -> Option<&Hub> {
        self.hubs.iter().find(|hub| hub.process == *process)
    }

    fn attached(&self, process: &ProcessId) -> impl Iterator<Item = &Connection> {
        let process = process.clone();
        self.connections.iter().filter(move |connection| {
            matches!(&connection.mode, Mode::Attached { process: theirs, .. } if *theirs == process)
        })
    }
}

/// Records the exit so that a reader sees all of it or nothing.
fn record(path: &Path, exit: &Exit) -> Result<()> {
    let fresh = path.with_extension("new");
    let text = serde_json::to_vec(exit)?;
    let write = || {
        let mut file = std::fs::File::create(&fresh)?;
        file.write_all(&text)?;
        file.sync_all()
    };
    write().with_context(|| format!("write {}", fresh.display()))?;
    std::fs::rename(&fresh, path).with_context(|| format!("rename to {}", path.display()))
}
