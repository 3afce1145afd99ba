//! The process sandbox: a container on this kernel, by namespaces and cgroups.
//!
//! Used by the supervisor on the host, and by the agent inside a nano guest.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use caisson_bundle::{Bundle, oci};
use caisson_launch::cgroup::Cgroup;
use caisson_launch::plan::{Plan, What};
use caisson_launch::{Launcher, ps};
use caisson_protocol::agent::Interface;
use caisson_protocol::task::{
    Event, Exit, Failure, FailureKind, InterfaceStats, ProcessId, ProcessInfo, Stats, Stdio,
    TerminalSize,
};
use rustix::event::epoll;
use rustix::process::{Signal, WaitId, WaitIdOptions};

use crate::failure::{failure, internal, now};
use crate::{Sandbox, Started};

mod stdio;

/// A running process of the container.
struct Process {
    pid: i32,
    pidfd: OwnedFd,
    terminal: Option<OwnedFd>,
}

/// A container on this kernel.
pub struct ProcessSandbox {
    launcher: Launcher,
    epoll: OwnedFd,
    processes: HashMap<ProcessId, Process>,
    cgroup: Option<Cgroup>,
    seccomp: Option<Box<oci::LinuxSeccomp>>,
    /// Namespaces that an exec joins, as `CLONE_NEW*` bits.
    namespaces: i32,
    oom_kills: u64,
}

impl ProcessSandbox {
    /// `init_program` is the absolute path of `caisson-init`.
    pub fn new(init_program: PathBuf) -> Result<Self, Failure> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(internal)?;
        Ok(ProcessSandbox {
            launcher: Launcher::new(init_program),
            epoll,
            processes: HashMap::new(),
            cgroup: None,
            seccomp: None,
            namespaces: 0,
            oom_kills: 0,
        })
    }

    fn launch(&mut self, id: ProcessId, what: What, stdio: &Stdio) -> Result<Started, Failure> {
        let (theirs, mut streams) = stdio::make(stdio)?;
        let cgroups = self.cgroup.as_ref().map(Cgroup::procs_files).unwrap_or_default();
        let plan = Plan { what, cgroups, terminal: stdio.terminal };
        let fds = [theirs[0].as_fd(), theirs[1].as_fd(), theirs[2].as_fd()];
        let init = self.processes.get(&ProcessId::Init).map(|process| process.pidfd.as_fd());
        let launched = self.launcher.launch(&plan, fds, init)?;
        if let Some(master) = &launched.terminal {
            stdio::set_nonblocking(master)?;
            streams.stdout = Some(master.try_clone().map_err(internal)?);
            if stdio.stdin {
                streams.stdin = Some(master.try_clone().map_err(internal)?);
            }
        }
        epoll::add(
            &self.epoll,
            &launched.pidfd,
            epoll::EventData::new_u64(launched.pidfd.as_raw_fd() as u64),
            epoll::EventFlags::IN,
        )
        .map_err(internal)?;
        let process =
            Process { pid: launched.pid, pidfd: launched.pidfd, terminal: launched.terminal };
        self.processes.insert(id, process);
        Ok(Started { pid: launched.pid, streams })
    }

    fn process(&self, id: &ProcessId) -> Result<&Process, Failure> {
        self.processes.get(id).ok_or_else(|| failure(FailureKind::State, "process is not running"))
    }

    fn cgroup(&self) -> Result<&Cgroup, Failure> {
        let missing = || failure(FailureKind::State, "container is not running");
        self.cgroup.as_ref().ok_or_else(missing)
    }

    /// Collects one ended process.
    fn collect(&mut self, raw: i32) -> Option<Event> {
        let ended = |process: &Process| process.pidfd.as_raw_fd() == raw;
        let id = self.processes.iter().find(|(_, process)| ended(process))?.0.clone();
        let process = self.processes.get(&id)?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = match rustix::process::waitid(WaitId::PidFd(process.pidfd.as_fd()), options) {
            Ok(Some(status)) => status,
            _ => return None,
        };
        let code = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => code,
            (None, Some(signal)) => 128 + signal,
            (None, None) => 255,
        };
        self.processes.remove(&id);
        let kills = self.cgroup.as_ref().map_or(0, Cgroup::oom_kills);
        let oom_killed = id == ProcessId::Init && kills > 0;
        Some(Event::Exited { process: id, exit: Exit { code, oom_killed, at: now() } })
    }
}

impl Sandbox for ProcessSandbox {
    fn start(
        &mut self,
        bundle: &Bundle,
        stdio: &Stdio,
        _: &[Interface],
    ) -> Result<Started, Failure> {
        if self.cgroup.is_some() {
            return Err(failure(FailureKind::State, "container is already started"));
        }
        let linux = bundle.spec.linux().as_ref();
        let path = linux.and_then(|linux| linux.cgroups_path().as_ref());
        let path =
            path.map_or_else(|| format!("/caisson/{}", bundle.id), |p| p.display().to_string());
        let cgroup = Cgroup::create(&path).map_err(caisson_launch::Error::into_failure)?;
        let limits = linux.and_then(|linux| linux.resources().as_ref());
        let applied = limits.map_or(Ok(()), |limits| cgroup.apply(limits));
        self.cgroup = Some(cgroup);
        self.seccomp = linux.and_then(|linux| linux.seccomp().clone()).map(Box::new);
        self.namespaces = joinable(linux);
        let started = applied.map_err(caisson_launch::Error::into_failure).and_then(|()| {
            self.launch(ProcessId::Init, What::Container(Box::new(bundle.clone())), stdio)
        });
        if started.is_err()
            && let Some(cgroup) = self.cgroup.take()
        {
            // The start's own failure is the one to report; an empty cgroup left behind is not lost.
            let _ = cgroup.remove();
        }
        started
    }

    fn exec(
        &mut self,
        id: &str,
        process: &oci::Process,
        stdio: &Stdio,
    ) -> Result<Started, Failure> {
        self.process(&ProcessId::Init)?;
        let what = What::Process {
            process: Box::new(process.clone()),
            seccomp: self.seccomp.clone(),
            namespaces: self.namespaces,
        };
        self.launch(ProcessId::Exec(id.into()), what, stdio)
    }

    fn signal(&mut self, process: &ProcessId, signal: i32, all: bool) -> Result<(), Failure> {
        if all {
            for pid in self.cgroup()?.pids() {
                // SAFETY: numbers only. A process may end between the list and the signal.
                unsafe { libc::kill(pid, signal) };
            }
            return Ok(());
        }
        let process = self.process(process)?;
        let text = || failure(FailureKind::Invalid, format!("invalid signal: {signal}"));
        // SAFETY: any number from 1 to 64 is a signal of the kernel, real-time ones included.
        let signal = unsafe {
            if !(1..=64).contains(&signal) {
                return Err(text());
            }
            Signal::from_raw_unchecked(signal)
        };
        match rustix::process::pidfd_send_signal(&process.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(internal(error)),
        }
    }

    fn resize(&mut self, process: &ProcessId, size: TerminalSize) -> Result<(), Failure> {
        let Some(terminal) = &self.process(process)?.terminal else {
            return Err(failure(FailureKind::State, "the process has no terminal"));
        };
        let size = rustix::termios::Winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(terminal, size).map_err(internal)
    }

    fn pause(&mut self) -> Result<(), Failure> {
        self.cgroup()?.freeze(true).map_err(caisson_launch::Error::into_failure)
    }

    fn resume(&mut self) -> Result<(), Failure> {
        self.cgroup()?.freeze(false).map_err(caisson_launch::Error::into_failure)
    }

    fn update(&mut self, resources: &oci::LinuxResources) -> Result<(), Failure> {
        self.cgroup()?.apply(resources).map_err(caisson_launch::Error::into_failure)
    }

    fn stats(&mut self) -> Result<Stats, Failure> {
        let pid = self.process(&ProcessId::Init)?.pid;
        let mut stats = self.cgroup()?.stats();
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
        stats.interfaces = interfaces(&text);
        Ok(stats)
    }

    fn processes(&mut self) -> Result<Vec<ProcessInfo>, Failure> {
        Ok(ps::list(&self.cgroup()?.pids()))
    }

    fn events(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    fn next_event(&mut self) -> Option<Event> {
        let kills = self.cgroup.as_ref().map_or(0, Cgroup::oom_kills);
        let zero = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut space = [std::mem::MaybeUninit::uninit(); 16];
        let (ready, _) = epoll::wait(&self.epoll, &mut space, Some(&zero)).ok()?;
        let ready: Vec<i32> = ready.iter().map(|event| event.data.u64() as i32).collect();
        if kills > self.oom_kills {
            self.oom_kills = kills;
            return Some(Event::OutOfMemory);
        }
        // An exec that ended is told before the container's own end.
        let mut ready: Vec<i32> = ready;
        let init = self.processes.get(&ProcessId::Init).map(|init| init.pidfd.as_raw_fd());
        ready.sort_by_key(|raw| Some(*raw) == init);
        ready.into_iter().find_map(|raw| self.collect(raw))
    }

    fn destroy(&mut self) -> Result<(), Failure> {
        let Some(cgroup) = self.cgroup.take() else { return Ok(()) };
        for pid in cgroup.pids() {
            // SAFETY: numbers only; these are what outlived process 1 outside its pid namespace.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        for process in self.processes.values() {
            let _ = rustix::process::waitid(
                WaitId::PidFd(process.pidfd.as_fd()),
                WaitIdOptions::EXITED,
            );
        }
        self.processes.clear();
        cgroup.remove().map_err(caisson_launch::Error::into_failure)
    }
}

/// The namespaces that an exec joins: those the container has apart from its host.
fn joinable(linux: Option<&oci::Linux>) -> i32 {
    use oci::LinuxNamespaceType as T;
    let listed = linux.and_then(|linux| linux.namespaces().as_ref());
    listed.into_iter().flatten().fold(0, |bits, namespace| {
        bits | match namespace.typ() {
            T::Mount => libc::CLONE_NEWNS,
            T::Cgroup => libc::CLONE_NEWCGROUP,
            T::Uts => libc::CLONE_NEWUTS,
            T::Ipc => libc::CLONE_NEWIPC,
            T::Pid => libc::CLONE_NEWPID,
            T::Network => libc::CLONE_NEWNET,
            T::User | T::Time => 0,
        }
    })
}

/// The counters of /proc/PID/net/dev.
fn interfaces(text: &str) -> Vec<InterfaceStats> {
    let parse = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> =
            counters.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        let four = |at: usize| counters.get(at..at + 4)?.try_into().ok();
        let name = name.trim().to_string();
        Some(InterfaceStats { name, received: four(0)?, sent: four(8)? })
    };
    text.lines().filter_map(parse).filter(|interface| interface.name != "lo").collect()
}
