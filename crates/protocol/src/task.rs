//! Requests about the processes of one container: what both hops share.

use oci_spec::runtime as oci;
use serde::{Deserialize, Serialize};

/// Which process of the container is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessId {
    /// The container's first process.
    Init,
    /// A process added by `exec`, by its exec id.
    Exec(String),
}

/// A terminal's size in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Height in rows.
    pub rows: u16,
    /// Width in columns.
    pub columns: u16,
}

/// How a process's standard streams are set up.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Stdio {
    /// A pseudo-terminal instead of three streams; stdout then carries both outputs.
    pub terminal: Option<TerminalSize>,
    /// Whether stdin is open; otherwise the process reads /dev/null.
    pub stdin: bool,
}

/// A request about one process or the container's whole group of processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Sends a signal; `all` means every process of the container. Reply: [`Reply::Done`].
    Signal {
        /// The process, ignored with `all`.
        process: ProcessId,
        /// Linux signal number, 1 to 64.
        signal: i32,
        /// Every process of the container.
        all: bool,
    },
    /// Sets the terminal's size. Reply: [`Reply::Done`].
    Resize {
        /// The process whose terminal is meant.
        process: ProcessId,
        /// The new size.
        size: TerminalSize,
    },
    /// Freezes every process. Reply: [`Reply::Done`].
    Pause,
    /// Undoes [`Request::Pause`]. Reply: [`Reply::Done`].
    Resume,
    /// Applies new limits to the running container. Reply: [`Reply::Done`].
    Update(Box<oci::LinuxResources>),
    /// Reads the counters of the container. Reply: [`Reply::Stats`].
    Stats,
    /// Lists the processes. Reply: [`Reply::Processes`].
    Processes,
}

/// The answer to a [`Request`], or to a start or exec on either hop.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The request was carried out.
    Done,
    /// The process runs; its pid in the outermost pid namespace of the sandbox (for hyperv on the
    /// supervisor's hop: the machine monitor's pid on the host).
    Started {
        /// Process id.
        pid: i32,
    },
    /// Counters as of now.
    Stats(Box<Stats>),
    /// The processes of the container, in pid order.
    Processes(Vec<ProcessInfo>),
    /// The request failed.
    Failed(Failure),
}

/// Why a request failed: enough for the engine to choose a status and an exit code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What class of failure it is.
    pub kind: FailureKind,
    /// The whole chain of causes, one sentence, for the user.
    pub message: String,
}

/// The classes of failure that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The program to run does not exist in the container (exit code 127).
    NotFound,
    /// The program exists and cannot be executed (exit code 126).
    NotExecutable,
    /// The request does not fit the state (no such process, not running, already paused).
    State,
    /// The request itself is wrong (unknown user, bad working directory, invalid limit).
    Invalid,
    /// The host or the guest lacks memory, space, or another resource.
    Resources,
    /// Anything else.
    Internal,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code 0 to 255; 128 + n when signal n ended it.
    pub code: i32,
    /// The container's memory limit was hit and a process of it was killed for that.
    pub oom_killed: bool,
    /// When, in nanoseconds since 1970-01-01 UTC, by the host's clock.
    pub at: i64,
}

/// What a sandbox reports unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A process ended.
    Exited {
        /// Which.
        process: ProcessId,
        /// How.
        exit: Exit,
    },
    /// The kernel killed a process of the container for memory; the container may live on.
    OutOfMemory,
}

/// Counters of a container, in the units of the Docker stats API.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Stats {
    /// CPU time used, nanoseconds.
    pub cpu_total: u64,
    /// CPU time used in user mode, nanoseconds.
    pub cpu_user: u64,
    /// CPU time used in kernel mode, nanoseconds.
    pub cpu_system: u64,
    /// Enforcement periods elapsed, times throttled, and throttled nanoseconds.
    pub throttling: (u64, u64, u64),
    /// Memory in use, bytes, page cache included.
    pub memory_usage: u64,
    /// Highest `memory_usage`, bytes, where the kernel records it.
    pub memory_max_usage: u64,
    /// Memory limit, bytes; `u64::MAX` when there is none.
    pub memory_limit: u64,
    /// `memory.stat` as the kernel names its fields.
    pub memory_stat: std::collections::BTreeMap<String, u64>,
    /// Times a process was killed for memory.
    pub oom_kills: u64,
    /// Processes and threads now.
    pub pids: u64,
    /// Their limit; 0 when there is none.
    pub pids_limit: u64,
    /// Bytes read from and written to block devices: (major, minor, read, write).
    pub block_io: Vec<(u64, u64, u64, u64)>,
    /// Per interface of the container.
    pub interfaces: Vec<InterfaceStats>,
}

/// Counters of one network interface of a container, as the container sees them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct InterfaceStats {
    /// The interface's name in the container.
    pub name: String,
    /// Received: bytes, packets, errors, dropped.
    pub received: [u64; 4],
    /// Sent: bytes, packets, errors, dropped.
    pub sent: [u64; 4],
}

/// One process of a container, raw enough that the engine can print any `ps` column.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Process id: on the host for process, in the guest for hyperv.
    pub pid: i32,
    /// Parent's process id.
    pub parent: i32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// User name when the sandbox knows one.
    pub user: String,
    /// One-letter state as in /proc/PID/stat.
    pub state: String,
    /// Controlling terminal, such as `pts/0`, or `?`.
    pub terminal: String,
    /// Start time, seconds since 1970-01-01 UTC.
    pub started: i64,
    /// CPU time used, milliseconds.
    pub cpu_ms: u64,
    /// Virtual size and resident set, KiB.
    pub memory: (u64, u64),
    /// Nice value.
    pub nice: i32,
    /// Short name, as in /proc/PID/comm.
    pub name: String,
    /// Arguments joined by spaces, or `[name]` when there are none.
    pub command: String,
}
