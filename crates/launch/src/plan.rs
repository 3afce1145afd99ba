//! What `init` is told, and what it answers.

use std::path::PathBuf;

use caisson_bundle::{Bundle, oci};
use caisson_protocol::task::{Failure, TerminalSize};
use serde::{Deserialize, Serialize};

/// Spec annotation: Docker's user string, resolved against the container's own /etc/passwd at launch.
pub const USER: &str = "io.caisson.user";
/// Spec annotation: `true` puts a small reaper as process 1 in front of the program (`--init`).
pub const REAPER: &str = "io.caisson.init";

/// A process to be started by `init`. The file descriptors that belong to it travel beside it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// A new container, or one more process of a running one.
    pub what: What,
    /// Files (`cgroup.procs`) that `init` writes its pid to before anything else.
    pub cgroups: Vec<PathBuf>,
    /// A pseudo-terminal is made in the container and its master sent back.
    pub terminal: Option<TerminalSize>,
}

/// What is started.
#[derive(Debug, Serialize, Deserialize)]
pub enum What {
    /// The container's first process.
    Container(Box<Bundle>),
    /// One more process; a pidfd of the first one follows the streams.
    Process {
        /// What to run.
        process: Box<oci::Process>,
        /// The container's seccomp profile.
        seccomp: Option<Box<oci::LinuxSeccomp>>,
        /// Namespaces to join, as `CLONE_NEW*` bits.
        namespaces: i32,
    },
}

/// What `init` reports, one datagram each; the end of the socket means that `execve` succeeded.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// The process exists; a pidfd comes with it.
    Pid(i32),
    /// The terminal's master comes with it.
    Terminal,
    /// A limit that this host cannot give; the start goes on.
    Warning(String),
    /// The start failed.
    Failed(Failure),
}
