//! The seam between the runtime types: where a container's processes live.
//!
//! A [`Sandbox`] takes a bundle and runs it. There are two: [`process`] on this kernel, and `microvm`
//! behind a machine monitor. Everything above (the supervisor's streams, logs, attach and exit record,
//! and the whole engine) is written once and does not ask which one it has. The agent of the nano guest
//! uses the same `process` sandbox inside the guest.
//!
//! Owns: processes, their streams' ends, their exits. Never: logs, names, images, API.

mod failure;
pub mod microvm;
pub mod mux;
pub mod probe;
pub mod process;

use std::os::fd::{BorrowedFd, OwnedFd};

use caisson_bundle::{Bundle, oci};
use caisson_protocol::agent::Interface;
use caisson_protocol::task::{Event, Failure, ProcessId, ProcessInfo, Stats, Stdio, TerminalSize};

/// The caller's ends of a process's streams. With a terminal, `stdin` and `stdout` are the same
/// terminal and `stderr` is `None`. All are non-blocking.
#[derive(Debug, Default)]
pub struct Streams {
    /// Write end of stdin.
    pub stdin: Option<OwnedFd>,
    /// Read end of stdout, or of the terminal.
    pub stdout: Option<OwnedFd>,
    /// Read end of stderr.
    pub stderr: Option<OwnedFd>,
}

/// A process that was started.
#[derive(Debug)]
pub struct Started {
    /// Its pid as [`caisson_protocol::task::Reply::Started`] says.
    pub pid: i32,
    /// The caller's ends of its streams.
    pub streams: Streams,
}

/// A place that runs one container.
///
/// Order of calls: [`Sandbox::start`] once, first; then any of the others until the init process's
/// [`Event::Exited`]; then [`Sandbox::destroy`]. None of them blocks on the container's own code; each
/// has a bound of its own and names what it waited for when it is passed.
pub trait Sandbox {
    /// Starts the container's first process. `interfaces` are set up by a sandbox that has a network of
    /// its own; elsewhere the network namespace is in the spec and there are none.
    fn start(
        &mut self,
        bundle: &Bundle,
        stdio: &Stdio,
        interfaces: &[Interface],
    ) -> Result<Started, Failure>;
    /// Adds a process to the running container.
    fn exec(&mut self, id: &str, process: &oci::Process, stdio: &Stdio)
    -> Result<Started, Failure>;
    /// Sends a signal to one process or to all.
    fn signal(&mut self, process: &ProcessId, signal: i32, all: bool) -> Result<(), Failure>;
    /// Sets a terminal's size.
    fn resize(&mut self, process: &ProcessId, size: TerminalSize) -> Result<(), Failure>;
    /// Freezes every process.
    fn pause(&mut self) -> Result<(), Failure>;
    /// Undoes [`Sandbox::pause`].
    fn resume(&mut self) -> Result<(), Failure>;
    /// Applies new limits.
    fn update(&mut self, resources: &oci::LinuxResources) -> Result<(), Failure>;
    /// Reads the counters.
    fn stats(&mut self) -> Result<Stats, Failure>;
    /// Lists the processes.
    fn processes(&mut self) -> Result<Vec<ProcessInfo>, Failure>;
    /// Readable when [`Sandbox::next_event`] may have something.
    fn events(&self) -> BorrowedFd<'_>;
    /// The next event, or `None` when there is none now. Never blocks.
    fn next_event(&mut self) -> Option<Event>;
    /// Kills what is left and releases cgroups, mounts and the machine.
    fn destroy(&mut self) -> Result<(), Failure>;
}
