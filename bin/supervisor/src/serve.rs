//! The supervisor's one loop: clients, streams and the sandbox's events, each waited on by descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use caisson_protocol::supervisor::{Attach, Config, Exec, Reply, Request};
use caisson_protocol::supervisor::{Start, Status, Streams as Wanted};
use caisson_protocol::task::{self, Event, Exit, Failure, FailureKind, ProcessId, Reply as Answer};
use caisson_sandbox::Sandbox;
use rustix::event::{PollFd, PollFlags};

use crate::connection::{Connection, MAX_OUTPUT, Mode};
use crate::log::Log;
use crate::streams::{Hub, MAX_STDIN};

/// How long clients get to take what is left after the container's end.
const FAREWELL: Duration = Duration::from_secs(5);

pub struct Server {
    config: Config,
    listener: UnixListener,
    sandbox: Box<dyn Sandbox>,
    connections: Vec<Connection>,
    hubs: Vec<Hub>,
    container: Option<Running>,
    execs: Vec<(String, Option<Exit>)>,
    /// Set once all is done: leave when every client has its bytes, or then.
    leaving: Option<Instant>,
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
    /// Sockets that reserve published ports.
    _reserved: Vec<OwnedFd>,
}

/// What became ready.
enum Ready {
    Listener,
    Sandbox,
    Client(usize),
    Stream(usize, u8),
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
            self.connections.retain(|connection| !connection.dead);
            met |= !self.connections.is_empty();
            let abandoned = self.config.standby
                && met
                && self.container.is_none()
                && self.connections.is_empty();
            let done = self.leaving.is_some_and(|deadline| {
                Instant::now() >= deadline || self.connections.iter().all(|c| c.output.is_empty())
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
            let reads = match &connection.mode {
                Mode::Attached { process, .. } => {
                    self.hub(process).is_none_or(|hub| hub.stdin.len() < MAX_STDIN)
                }
                _ => true,
            };
            flags.set(PollFlags::IN, reads && !connection.half_closed);
            flags.set(PollFlags::OUT, !connection.output.is_empty());
            fds.push((connection.socket.as_fd(), flags, Ready::Client(index)));
        }
        for (index, hub) in self.hubs.iter().enumerate() {
            let room = self.attached(&hub.process).all(|c| c.output.len() < MAX_OUTPUT);
            for (fd, stream) in hub.waiting(room) {
                let flags = if stream == 0 { PollFlags::OUT } else { PollFlags::IN };
                fds.push((fd.as_fd(), flags, Ready::Stream(index, stream)));
            }
        }
        let deadlines = self.hubs.iter().filter(|hub| !hub.told).filter_map(|hub| hub.deadline);
        let deadline = deadlines.chain(self.leaving).min();
        let timeout = deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
            .and_then(|left| rustix::time::Timespec::try_from(left).ok());
        let mut poll: Vec<_> = fds.iter().map(|(fd, flags, _)| PollFd::new(fd, *flags)).collect();
        match rustix::event::poll(&mut poll, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for clients and streams"),
        }
        let ready: Vec<bool> = poll.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(poll);
        Ok(fds.into_iter().zip(ready).filter(|(_, ready)| *ready).map(|(fd, _)| fd.2).collect())
    }

    fn handle(&mut self, ready: Ready) {
        match ready {
            Ready::Listener => self.accept(),
            Ready::Sandbox => {
                while let Some(event) = self.sandbox.next_event() {
                    self.event(event);
                }
            }
            Ready::Client(index) => self.client(index),
            Ready::Stream(index, 0) => self.hubs[index].write_stdin(),
            Ready::Stream(index, stream) => self.output(index, stream),
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
        if let Mode::Attached { process, streams } = &self.connections[index].mode {
            let (process, streams) = (process.clone(), *streams);
            return self.stdin(index, &process, streams);
        }
        self.connections[index].read_requests();
        while let Some(request) = self.connections[index].next_request() {
            self.request(index, request);
            if matches!(self.connections[index].mode, Mode::Attached { .. }) {
                return;
            }
        }
        if self.connections[index].half_closed {
            self.connections[index].dead = true;
        }
    }

    fn stdin(&mut self, index: usize, process: &ProcessId, streams: Wanted) {
        // A client may attach before the start: its stdin waits in the socket.
        let Some(at) = self.hubs.iter().position(|hub| hub.process == *process) else {
            return self.note_hang_up(index);
        };
        let mut buffer = [0; 16 << 10];
        let count = self.connections[index].read_stdin(&mut buffer);
        let hub = &mut self.hubs[at];
        if streams.stdin && hub.streams.stdin.is_some() {
            hub.stdin.extend(&buffer[..count]);
            if self.connections[index].half_closed && hub.stdin_once {
                hub.stdin_ending = true;
            }
            hub.write_stdin();
        }
    }

    /// Before the start nothing is read, but a client that is gone altogether must go.
    fn note_hang_up(&mut self, index: usize) {
        let mut byte = [0];
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        let socket = &self.connections[index].socket;
        if let Ok((0, _)) = rustix::net::recv(socket, &mut byte, flags) {
            self.connections[index].half_closed = true;
        }
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
            Event::OutOfMemory => self.tell(&Event::OutOfMemory),
            Event::Exited { process, exit } => {
                match self.hubs.iter_mut().find(|hub| hub.process == process) {
                    Some(hub) => hub.ended(exit),
                    None => self.tell(&Event::Exited { process, exit }),
                }
            }
        }
    }

    fn tell(&mut self, event: &Event) {
        for connection in &mut self.connections {
            if matches!(connection.mode, Mode::Events) {
                connection.send(event);
            }
        }
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
                if let Some(entry) = self.execs.iter_mut().find(|(known, _)| known == id) {
                    entry.1 = Some(exit);
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
                self.leaving = Some(Instant::now() + FAREWELL);
            }
        }
        self.tell(&Event::Exited { process: process.clone(), exit });
        for connection in &mut self.connections {
            if matches!(&connection.mode, Mode::Attached { process: theirs, .. } if theirs == process)
            {
                connection.closing = true;
                connection.flush();
            }
        }
    }

    fn request(&mut self, index: usize, request: Request) {
        let answer = match request {
            Request::Status => {
                let status = self.status();
                return self.connections[index].send(&Reply::Status(status));
            }
            Request::Ready => Answer::Done,
            Request::Subscribe => {
                self.connections[index].reply(Answer::Done);
                self.connections[index].mode = Mode::Events;
                return;
            }
            Request::Start(start) => self.start(index, *start),
            Request::Exec(exec) => return self.exec(index, *exec),
            Request::Attach(attach) => return self.attach(index, attach),
            Request::Task(request) => self.task(request),
            Request::Shutdown => {
                let ended = self.sandbox.destroy();
                self.leaving = Some(Instant::now() + FAREWELL);
                ended.map_or_else(Answer::Failed, |()| Answer::Done)
            }
        };
        self.connections[index].reply(answer);
    }

    fn start(&mut self, index: usize, start: Start) -> Answer {
        if self.container.is_some() {
            return failed(FailureKind::State, "the container is already started");
        }
        // Clients that attached before must be there before the first byte.
        self.accept();
        let log = match Log::open(&start.log) {
            Ok(log) => log,
            Err(error) => {
                return failed(FailureKind::Resources, format!("open the log: {error}"));
            }
        };
        let started = match self.sandbox.start(&start.bundle, &start.stdio, &start.interfaces) {
            Ok(started) => started,
            Err(failure) => {
                self.leaving = Some(Instant::now() + FAREWELL);
                return Answer::Failed(failure);
            }
        };
        let terminal = start.stdio.terminal.is_some();
        self.hubs.push(Hub::new(ProcessId::Init, terminal, start.stdin_once, started.streams));
        self.container = Some(Running {
            id: start.bundle.id.clone(),
            pid: started.pid,
            log,
            exit: None,
            paused: false,
            started_at: chrono::Utc::now().timestamp_nanos_opt().unwrap_or(0),
            _reserved: std::mem::take(&mut self.connections[index].fds),
            start,
        });
        Answer::Started { pid: started.pid }
    }

    fn exec(&mut self, index: usize, exec: Exec) {
        let process = ProcessId::Exec(exec.id.clone());
        let started = match self.sandbox.exec(&exec.id, &exec.process, &exec.stdio) {
            Ok(started) => started,
            Err(failure) => return self.connections[index].reply(Answer::Failed(failure)),
        };
        let terminal = exec.stdio.terminal.is_some();
        self.hubs.push(Hub::new(process.clone(), terminal, true, started.streams));
        self.execs.push((exec.id, None));
        let connection = &mut self.connections[index];
        connection.reply(Answer::Started { pid: started.pid });
        if let Some(streams) = exec.attach {
            connection.mode = Mode::Attached { process, streams };
        }
    }

    fn attach(&mut self, index: usize, attach: Attach) {
        let known = self.container.is_none() || self.hub(&attach.process).is_some();
        let connection = &mut self.connections[index];
        if !known {
            let answer = failed(FailureKind::State, "the process is not running");
            return connection.reply(answer);
        }
        connection.reply(Answer::Done);
        connection.mode = Mode::Attached { process: attach.process, streams: attach.streams };
    }

    fn task(&mut self, request: task::Request) -> Answer {
        use task::Request as R;
        let Some(container) = &mut self.container else {
            return failed(FailureKind::State, "the container is not running");
        };
        let sandbox = &mut self.sandbox;
        let done = |result: Result<(), Failure>| result.map(|()| Answer::Done);
        let result = match request {
            R::Signal { process, signal, all } => done(sandbox.signal(&process, signal, all)),
            R::Resize { process, size } => done(sandbox.resize(&process, size)),
            R::Pause if container.paused => {
                return failed(FailureKind::State, "the container is already paused");
            }
            R::Pause => done(sandbox.pause().inspect(|()| container.paused = true)),
            R::Resume => done(sandbox.resume().inspect(|()| container.paused = false)),
            R::Update(resources) => done(sandbox.update(&resources)),
            R::Stats => sandbox.stats().map(|stats| Answer::Stats(Box::new(stats))),
            R::Processes => sandbox.processes().map(Answer::Processes),
        };
        result.unwrap_or_else(Answer::Failed)
    }

    fn status(&self) -> Status {
        let container = self.container.as_ref();
        Status {
            container: container.map(|container| container.id.clone()),
            pid: container.map_or(0, |container| container.pid),
            supervisor_pid: std::process::id() as i32,
            exit: container.and_then(|container| container.exit),
            paused: container.is_some_and(|container| container.paused),
            execs: self.execs.clone(),
            started_at: container.map_or(0, |container| container.started_at),
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

fn failed(kind: FailureKind, message: impl Into<String>) -> Answer {
    Answer::Failed(Failure { kind, message: message.into() })
}

/// Records the exit so that a reader sees all of it or nothing.
fn record(path: &Path, exit: &Exit) -> Result<()> {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, serde_json::to_vec(exit)?)
        .with_context(|| format!("write {}", fresh.display()))?;
    std::fs::rename(&fresh, path).with_context(|| format!("rename to {}", path.display()))
}
