//! What the daemon says to a supervisor, over the unix socket `supervisor.sock` in its directory.
//!
//! A connection carries one [`Request`] as a control frame and gets [`Reply`] frames. After that:
//!
//! - [`Request::Subscribe`]: the supervisor goes on sending [`task::Event`] frames, starting with the
//!   exits that no subscriber has been told of.
//! - [`Request::Attach`], and [`Request::Exec`] with `attach`: the connection turns into the process's
//!   streams. Towards the daemon: raw bytes for a terminal, else Docker's multiplexed stream (8-byte
//!   headers). Towards the supervisor: raw stdin; shutting down that direction is stdin's end. The
//!   supervisor closes the connection when the outputs have ended and, for an exec, after the exit has
//!   been recorded.
//! - all others: more requests may follow on the same connection.
//!
//! An attach may come before [`Request::Start`]: it then misses nothing.

use std::path::PathBuf;

use caisson_bundle::Bundle;
use oci_spec::runtime as oci;
use serde::{Deserialize, Serialize};

use crate::task::{self, ProcessId, Stdio};

/// How a supervisor is told what it is: `config.json` in its directory, read once at its start.
///
/// The daemon makes the directory (0700), binds and listens on `supervisor.sock` in it, and passes the
/// listening socket as stdin (file descriptor 0); stderr is `supervisor.log`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// The supervisor's own id: the name of its directory.
    pub id: String,
    /// Its directory, absolute.
    pub directory: PathBuf,
    /// Absolute path of `caisson-init`.
    pub init_program: PathBuf,
    /// Where the container will live.
    pub sandbox: Sandbox,
    /// Exits when the last connection closes and no container was started (a standby belongs to its
    /// daemon; a started container outlives it).
    pub standby: bool,
}

/// Where a container's processes live.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sandbox {
    /// On this host's kernel.
    Process,
    /// In a microVM.
    Microvm(Box<Microvm>),
}

/// The shape of a microVM and the programs that make it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Microvm {
    /// Absolute path of the guest kernel (bzImage).
    pub kernel: PathBuf,
    /// Absolute path of the guest's initramfs.
    pub initramfs: PathBuf,
    /// Absolute path of `qemu-system-x86_64`.
    pub qemu: PathBuf,
    /// Absolute path of `caisson-fsd`.
    pub fsd_program: PathBuf,
    /// KVM, or software emulation.
    pub accelerator: Accelerator,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// Number of virtual CPUs.
    pub vcpus: u32,
    /// Name of the tap interface to make on the host (15 bytes at most), or none.
    pub tap: Option<String>,
    /// Unprivileged user and group id that the machine monitor runs as.
    pub uid: u32,
    /// A directory for templates shared by the supervisors of one daemon, or none to boot afresh.
    pub template_directory: Option<PathBuf>,
    /// cgroup path below the daemon's parent, for the machine monitor, such as `caisson/vm-ID`.
    pub cgroup: String,
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// Hardware virtualisation through /dev/kvm.
    Kvm,
    /// QEMU's software emulation: not a security boundary.
    Emulation,
}

/// A request of the daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Reply: [`Reply::Status`].
    Status,
    /// Answered once the sandbox can take a start (a microVM has booted). Reply: `Done` or `Failed`.
    Ready,
    /// Starts the container. Reply: `Started` or `Failed`.
    Start(Box<Start>),
    /// Adds a process. Reply: `Started` or `Failed`.
    Exec(Box<Exec>),
    /// Connects to a process's streams. Reply: `Done` or `Failed`.
    Attach(Attach),
    /// Anything about running processes.
    Task(task::Request),
    /// Reply: `Done`, then events.
    Subscribe,
    /// Kills what runs, releases everything and exits. Reply: `Done`.
    Shutdown,
}

/// Starting the container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Start {
    /// What to start, with host paths.
    pub bundle: Bundle,
    /// The first process's streams.
    pub stdio: Stdio,
    /// Whether stdin ends for good when the first attached client's stdin ends.
    pub stdin_once: bool,
    /// Where output is kept.
    pub log: Log,
    /// Where the exit is recorded as [`task::Exit`] in JSON (write, rename) before it is reported.
    pub exit_file: PathBuf,
    /// hyperv: how the guest's interfaces are set up. Empty: loopback only. Ignored for process,
    /// whose network namespace is in the spec.
    pub interfaces: Vec<crate::agent::Interface>,
    /// Listening sockets that reserve published ports are passed with this request by SCM_RIGHTS, this
    /// many; the supervisor holds them until the container ends and forwards what they accept.
    pub published: Vec<Published>,
}

/// A published port whose listening socket comes with [`Start`], in the same order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Published {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Where the container listens: address and port.
    pub target: std::net::SocketAddr,
}

/// Where a container's output is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Log {
    /// Nowhere.
    None,
    /// Docker's json-file format: a JSON object a line with `log`, `stream`, `time`.
    JsonFile {
        /// The current file; rotated ones are `PATH.1`, `PATH.2`, …
        path: PathBuf,
        /// Rotate at this many bytes; 0 never.
        max_size: u64,
        /// Keep this many files, the current one included; at least 1.
        max_files: u32,
    },
}

/// Adding a process to the running container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exec {
    /// The exec's id.
    pub id: String,
    /// What to run.
    pub process: oci::Process,
    /// Its streams.
    pub stdio: Stdio,
    /// Turn this connection into the process's streams; else its output is dropped.
    pub attach: Option<Streams>,
}

/// Connecting to a process's streams.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attach {
    /// Which process.
    pub process: ProcessId,
    /// Which streams.
    pub streams: Streams,
}

/// Which streams a connection carries.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Streams {
    /// The connection's bytes become stdin.
    pub stdin: bool,
    /// Send stdout.
    pub stdout: bool,
    /// Send stderr.
    pub stderr: bool,
}

/// A supervisor's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// What [`task::Reply`] says.
    Task(task::Reply),
    /// The state of the supervisor.
    Status(Status),
}

/// The state of a supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The container it was given, once started.
    pub container: Option<String>,
    /// The pid that `inspect` shows: the container's first process, or the machine monitor.
    pub pid: i32,
    /// The supervisor's own pid.
    pub supervisor_pid: i32,
    /// Set once the first process has ended.
    pub exit: Option<task::Exit>,
    /// Frozen by `pause`.
    pub paused: bool,
    /// Execs and how they ended, `None` while they run.
    pub execs: Vec<(String, Option<task::Exit>)>,
    /// When the container was started, nanoseconds since 1970-01-01 UTC.
    pub started_at: i64,
}
