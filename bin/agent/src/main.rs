//! `caisson-agent`: process 1 of the nano guest.
//!
//! Serves the supervisor's requests with the same process sandbox that the host uses, and moves streams.
//! It never asks the host for anything, has no shell and no login, and ends only with its machine.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context, Result};
use caisson_protocol::agent::{FromAgent, Request, ToAgent, VERSION};
use caisson_protocol::task::{self, Event, Failure, FailureKind, Reply, Stdio};
use caisson_sandbox::mux::Mux;
use caisson_sandbox::process::ProcessSandbox;
use caisson_sandbox::{Sandbox, Started};
use rustix::event::{PollFd, PollFlags};

mod machine;
mod prepare;

fn main() {
    let served = machine::furnish().and_then(|()| Agent::new()?.serve());
    if let Err(error) = served {
        // The console is read by the supervisor and shown as the machine's last words.
        println!("agent: {error:#}");
    }
    machine::power_off();
}

struct Agent {
    mux: Mux,
    sandbox: ProcessSandbox,
    prepared: bool,
}

impl Agent {
    fn new() -> Result<Self> {
        let mux = Mux::new(machine::open_port()?);
        let sandbox = ProcessSandbox::new(PathBuf::from(machine::INIT))
            .map_err(|failure| anyhow::anyhow!(failure.message))?;
        Ok(Agent { mux, sandbox, prepared: false })
    }

    fn serve(mut self) -> Result<()> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        self.mux.send(&FromAgent::Hello { version: VERSION, kernel: release })?;
        let orphans = machine::orphans()?;
        loop {
            self.mux.service()?;
            while let Some(message) = self.mux.next_message() {
                let ToAgent { sequence, request } =
                    serde_json::from_slice(&message).context("a request does not parse")?;
                let reply = self.request(request).unwrap_or_else(Reply::Failed);
                self.mux.send(&FromAgent::Reply { sequence, reply })?;
            }
            while let Some(event) = self.sandbox.next_event() {
                self.event(event)?;
            }
            if self.mux.is_closed() {
                return Ok(());
            }
            self.wait(&orphans)?;
        }
    }

    /// Sleeps until a stream, a process or the host has something.
    fn wait(&self, orphans: &OwnedFd) -> Result<()> {
        let mut poll: Vec<PollFd> = self
            .mux
            .interests()
            .into_iter()
            .map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags))
            .collect();
        poll.push(PollFd::from_borrowed_fd(self.sandbox.events(), PollFlags::IN));
        poll.push(PollFd::new(orphans, PollFlags::IN));
        match rustix::event::poll(&mut poll, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("wait"),
        }
        let orphaned = poll.last().is_some_and(|fd| !fd.revents().is_empty());
        drop(poll);
        if orphaned {
            machine::reap(orphans);
        }
        Ok(())
    }

    fn event(&mut self, event: Event) -> Result<()> {
        Ok(self.mux.send(&FromAgent::Event(event))?)
    }

    fn request(&mut self, request: Request) -> Result<Reply, Failure> {
        match request {
            Request::Prepare(prepare) if !self.prepared => {
                prepare::prepare(&prepare).map_err(|error| Failure {
                    kind: FailureKind::Internal,
                    message: format!("prepare the guest: {error:#}"),
                })?;
                self.prepared = true;
                Ok(Reply::Done)
            }
            Request::Prepare(_) => Err(state("the guest is prepared already")),
            _ if !self.prepared => Err(state("the guest is not prepared")),
            Request::Start { bundle, stdio, channels } => {
                let started = self.sandbox.start(&bundle, &stdio, &[])?;
                Ok(self.connect(started, &stdio, channels))
            }
            Request::Exec { id, process, stdio, channels } => {
                let started = self.sandbox.exec(&id, &process, &stdio)?;
                Ok(self.connect(started, &stdio, channels))
            }
            Request::Task(request) => self.task(request),
        }
    }

    fn connect(&mut self, started: Started, stdio: &Stdio, channels: [u32; 3]) -> Reply {
        let streams = started.streams;
        if let Some(fd) = streams.stdin {
            self.mux.add_sink(channels[0], fd);
        }
        let outputs = [(channels[1], streams.stdout, true), {
            (channels[2], streams.stderr, stdio.terminal.is_none())
        }];
        for (channel, fd, open) in outputs {
            match fd {
                Some(fd) => self.mux.add_source(channel, fd),
                None if open => self.mux.end(channel),
                None => {}
            }
        }
        Reply::Started { pid: started.pid }
    }

    fn task(&mut self, request: task::Request) -> Result<Reply, Failure> {
        use task::Request as R;
        let sandbox = &mut self.sandbox;
        match request {
            R::Signal { process, signal, all } => sandbox.signal(&process, signal, all)?,
            R::Resize { process, size } => sandbox.resize(&process, size)?,
            R::Pause => sandbox.pause()?,
            R::Resume => sandbox.resume()?,
            R::Update(resources) => sandbox.update(&resources)?,
            R::Stats => return Ok(Reply::Stats(Box::new(sandbox.stats()?))),
            R::Processes => return Ok(Reply::Processes(sandbox.processes()?)),
        }
        Ok(Reply::Done)
    }
}

fn state(message: &str) -> Failure {
    Failure { kind: FailureKind::State, message: message.into() }
}
