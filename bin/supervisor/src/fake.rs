//! A sandbox for the tests: plain child processes with pipes, no privilege needed.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio as Stream};

use caisson_bundle::{Bundle, oci};
use caisson_protocol::task::{
    Event, Exit, Failure, FailureKind, ProcessId, ProcessInfo, Stats, Stdio, TerminalSize,
};
use caisson_sandbox::{Sandbox, Started, Streams};
use rustix::event::epoll;
use rustix::process::{PidfdFlags, pidfd_open};

/// Runs the bundle's arguments on this host as they are.
pub struct Fake {
    epoll: OwnedFd,
    children: HashMap<ProcessId, (Child, OwnedFd)>,
}

impl Fake {
    pub fn new() -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        Fake { epoll, children: HashMap::new() }
    }

    fn run(
        &mut self,
        id: ProcessId,
        process: &oci::Process,
        stdio: &Stdio,
    ) -> Result<Started, Failure> {
        let args = process.args().clone().unwrap_or_default();
        let stdin = if stdio.stdin { Stream::piped() } else { Stream::null() };
        let mut child = Command::new(&args[0])
            .args(&args[1..])
            .stdin(stdin)
            .stdout(Stream::piped())
            .stderr(Stream::piped())
            .spawn()
            .map_err(|error| Failure {
                kind: FailureKind::NotFound,
                message: format!("{}: {error}", args[0]),
            })?;
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let data = epoll::EventData::new_u64(0);
        epoll::add(&self.epoll, &pidfd, data, epoll::EventFlags::IN).unwrap();
        let streams = Streams {
            stdin: child.stdin.take().map(|fd| nonblocking(fd.into())),
            stdout: child.stdout.take().map(|fd| nonblocking(fd.into())),
            stderr: child.stderr.take().map(|fd| nonblocking(fd.into())),
        };
        self.children.insert(id, (child, pidfd));
        Ok(Started { pid: pid.as_raw_nonzero().get(), streams })
    }
}

fn nonblocking(fd: OwnedFd) -> OwnedFd {
    let flags = rustix::fs::fcntl_getfl(&fd).unwrap();
    rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    fd
}

impl Sandbox for Fake {
    fn start(
        &mut self,
        bundle: &Bundle,
        stdio: &Stdio,
        _: &[caisson_protocol::agent::Interface],
    ) -> Result<Started, Failure> {
        let process = bundle.spec.process().clone().unwrap();
        self.run(ProcessId::Init, &process, stdio)
    }

    fn exec(
        &mut self,
        id: &str,
        process: &oci::Process,
        stdio: &Stdio,
    ) -> Result<Started, Failure> {
        self.run(ProcessId::Exec(id.into()), process, stdio)
    }

    fn signal(&mut self, process: &ProcessId, signal: i32, _all: bool) -> Result<(), Failure> {
        let missing = || Failure { kind: FailureKind::State, message: "not running".into() };
        let (child, _) = self.children.get(process).ok_or_else(missing)?;
        // SAFETY: numbers only, and the child has not been waited for.
        unsafe { libc::kill(child.id() as i32, signal) };
        Ok(())
    }

    fn resize(&mut self, _: &ProcessId, _: TerminalSize) -> Result<(), Failure> {
        Ok(())
    }

    fn pause(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn update(&mut self, _: &oci::LinuxResources) -> Result<(), Failure> {
        Ok(())
    }

    fn stats(&mut self) -> Result<Stats, Failure> {
        Ok(Stats::default())
    }

    fn processes(&mut self) -> Result<Vec<ProcessInfo>, Failure> {
        Ok(Vec::new())
    }

    fn events(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    fn next_event(&mut self) -> Option<Event> {
        let ended = |child: &mut Child| child.try_wait().ok().flatten();
        let (id, status) = self
            .children
            .iter_mut()
            .find_map(|(id, (child, _))| Some((id.clone(), ended(child)?)))?;
        let (_, pidfd) = self.children.remove(&id)?;
        debug_assert!(pidfd.as_raw_fd() >= 0);
        let code = status.code().unwrap_or(137);
        Some(Event::Exited { process: id, exit: Exit { code, oom_killed: false, at: 1 } })
    }

    fn destroy(&mut self) -> Result<(), Failure> {
        for (child, _) in self.children.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.children.clear();
        Ok(())
    }
}
