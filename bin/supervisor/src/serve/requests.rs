//! What a client asks for, verb by verb.

use caisson_protocol::supervisor::{Attach, Exec, Reply, Request, Start, Status};
use caisson_protocol::task::{self, Event, Failure, FailureKind, ProcessId, Reply as Answer};

use super::{ExecRecord, Leaving, MAX_ENDED_EXECS, Running, Server};
use crate::connection::Mode;
use crate::forward::Forward;
use crate::log::Log;
use crate::streams::Hub;

impl Server {
    pub(super) fn request(&mut self, index: usize, request: Request) {
        let answer = match request {
            Request::Status => {
                let status = self.status();
                return self.connections[index].send(&Reply::Status(status));
            }
            Request::Ready => Answer::Done,
            Request::Subscribe => {
                return self.subscribe(index);
            }
            Request::Start(start) => self.start(index, *start),
            Request::Exec(exec) => return self.exec(index, *exec),
            Request::Attach(attach) => return self.attach(index, attach),
            Request::Task(request) => self.task(request),
            Request::Shutdown => {
                self.forward.end();
                let ended = self.sandbox.destroy();
                self.leaving = Some(Leaving::now());
                ended.map_or_else(Answer::Failed, |()| Answer::Done)
            }
        };
        self.connections[index].reply(answer);
    }

    /// Begins with the exits that came while nobody listened.
    fn subscribe(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.reply(Answer::Done);
        connection.mode = Mode::Events;
        for record in self.execs.iter_mut().filter(|record| !record.told) {
            if let Some(exit) = record.exit {
                connection
                    .send(&Event::Exited { process: ProcessId::Exec(record.id.clone()), exit });
                record.told = !connection.dead;
            }
        }
    }

    fn start(&mut self, index: usize, start: Start) -> Answer {
        if self.container.is_some() {
            return failed(FailureKind::State, "the container is already started");
        }
        match self.try_start(index, start) {
            Ok(pid) => Answer::Started { pid },
            Err(failure) => {
                // There is one start: who attached for it is let go.
                self.leaving = Some(Leaving::now());
                Answer::Failed(failure)
            }
        }
    }

    fn try_start(&mut self, index: usize, start: Start) -> Result<i32, Failure> {
        let failed = |kind, message| Failure { kind, message };
        let reserved = std::mem::take(&mut self.connections[index].fds);
        if reserved.len() != start.published.len() {
            let (came, named) = (reserved.len(), start.published.len());
            let text = format!("{named} published ports are named and {came} sockets came along");
            return Err(failed(FailureKind::Invalid, text));
        }
        let forward = Forward::new(reserved, &start.published)
            .map_err(|message| failed(FailureKind::Invalid, message))?;
        // Clients that attached before must be there before the first byte.
        self.accept();
        let log = Log::open(&start.log)
            .map_err(|error| failed(FailureKind::Resources, format!("open the log: {error}")))?;
        let started = self.sandbox.start(&start.bundle, &start.stdio, &start.interfaces)?;
        let terminal = start.stdio.terminal.is_some();
        self.hubs.push(Hub::new(ProcessId::Init, terminal, start.stdin_once, started.streams));
        self.container = Some(Running {
            id: start.bundle.id.clone(),
            pid: started.pid,
            log,
            exit: None,
            paused: false,
            started_at: chrono::Utc::now().timestamp_nanos_opt().unwrap_or(0),
            start,
        });
        self.forward = forward;
        // Stdin that came in one piece with an attach has no other cause to be looked at.
        for index in 0..self.connections.len() {
            self.stdin(index);
        }
        Ok(started.pid)
    }

    fn exec(&mut self, index: usize, exec: Exec) {
        if self.execs.iter().any(|record| record.id == exec.id) {
            let message = format!("exec {} exists already", exec.id);
            return self.connections[index].reply(failed(FailureKind::State, message));
        }
        let process = ProcessId::Exec(exec.id.clone());
        let started = match self.sandbox.exec(&exec.id, &exec.process, &exec.stdio) {
            Ok(started) => started,
            Err(failure) => return self.connections[index].reply(Answer::Failed(failure)),
        };
        let terminal = exec.stdio.terminal.is_some();
        self.hubs.push(Hub::new(process.clone(), terminal, true, started.streams));
        self.remember(exec.id);
        let connection = &mut self.connections[index];
        connection.reply(Answer::Started { pid: started.pid });
        if let Some(streams) = exec.attach {
            connection.mode = Mode::Attached { process, streams };
        }
    }

    /// Adds an exec's record, in place of the oldest ended one when there are many.
    fn remember(&mut self, id: String) {
        let ended = self.execs.iter().filter(|record| record.exit.is_some()).count();
        if ended >= MAX_ENDED_EXECS - 1
            && let Some(oldest) = self.execs.iter().position(|record| record.exit.is_some())
        {
            self.execs.remove(oldest);
        }
        self.execs.push(ExecRecord { id, exit: None, told: false });
    }

    fn attach(&mut self, index: usize, attach: Attach) {
        let early = self.container.is_none() && attach.process == ProcessId::Init;
        let known = early || self.hub(&attach.process).is_some();
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
            execs: self.execs.iter().map(|record| (record.id.clone(), record.exit)).collect(),
            started_at: container.map_or(0, |container| container.started_at),
        }
    }
}

fn failed(kind: FailureKind, message: impl Into<String>) -> Answer {
    Answer::Failed(Failure { kind, message: message.into() })
}
