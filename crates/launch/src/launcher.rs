//! The caller's side: execs `init`, sends it the plan, waits for the answer.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use caisson_protocol::task::{Failure, FailureKind};
use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::error::{Context, Error};
use crate::plan::{Plan, Report};
use crate::sys;

/// How long a start may take before it is given up: mounts on slow storage are what it waits for.
const LIMIT: Duration = Duration::from_secs(60);

/// Starts processes by way of the init program.
#[derive(Debug, Clone)]
pub struct Launcher {
    program: PathBuf,
}

/// A process that reached its own program.
#[derive(Debug)]
pub struct Launched {
    /// Its pid in this pid namespace; it is a child of this process.
    pub pid: i32,
    /// A descriptor to wait on.
    pub pidfd: OwnedFd,
    /// The terminal's master, when one was asked for.
    pub terminal: Option<OwnedFd>,
    /// Limits that this host could not give.
    pub warnings: Vec<String>,
}

impl Launcher {
    /// `program` is the absolute path of `caisson-init`.
    pub fn new(program: PathBuf) -> Self {
        Launcher { program }
    }

    /// The init program's path.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Starts what `plan` says. `stdio` are the process's own ends (ignored for a terminal);
    /// `target` is the pidfd that an exec joins.
    pub fn launch(
        &self,
        plan: &Plan,
        stdio: [BorrowedFd<'_>; 3],
        target: Option<BorrowedFd<'_>>,
    ) -> Result<Launched, Failure> {
        self.run(plan, stdio, target).map_err(Error::into_failure).and_then(|result| result)
    }

    fn run(
        &self,
        plan: &Plan,
        stdio: [BorrowedFd<'_>; 3],
        target: Option<BorrowedFd<'_>>,
    ) -> Result<Result<Launched, Failure>, Error> {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .context("make the socket to the init program")?;
        // A sealed copy, so that nothing in the container can reach the host's file (CVE-2019-5736).
        let image = sealed_copy(&self.program)?;
        let mut child = Command::new(format!("/proc/self/fd/{}", image.as_raw_fd()))
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .context(format!("start {}", self.program.display()))?;
        drop(image);
        let told = tell(&ours, plan, stdio, target);
        let heard = told.and_then(|()| hear(&ours));
        drop(ours);
        // The init program itself ends once its child exists; after a failure it must not linger.
        if heard.is_err() {
            child.kill().context("stop the init program")?;
        }
        child.wait().context("wait for the init program")?;
        heard
    }
}

fn sealed_copy(program: &Path) -> Result<OwnedFd, Error> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let what = || format!("copy {}", program.display());
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = rustix::fs::memfd_create("caisson-init", flags).context(what())?;
    let mut copy = std::fs::File::from(copy);
    let mut file = std::fs::File::open(program).context(what())?;
    io::copy(&mut file, &mut copy).context(what())?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&copy, seals).context(what())?;
    // Executing needs that nobody has it open for writing: go on with a read-only descriptor.
    let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
    Ok(std::fs::File::open(path).context(what())?.into())
}

fn tell(
    socket: &OwnedFd,
    plan: &Plan,
    stdio: [BorrowedFd<'_>; 3],
    target: Option<BorrowedFd<'_>>,
) -> Result<(), Error> {
    let memory = rustix::fs::memfd_create("plan", rustix::fs::MemfdFlags::CLOEXEC)
        .context("make a memory file")?;
    let json = serde_json::to_vec(plan).map_err(io::Error::from).context("encode the plan")?;
    let mut file = std::fs::File::from(memory);
    file.write_all(&json).context("write the plan")?;
    let mut fds = vec![file.as_fd(), stdio[0], stdio[1], stdio[2]];
    fds.extend(target);
    sys::send(socket.as_fd(), b"plan", &fds).context("send the plan")
}

fn hear(socket: &OwnedFd) -> Result<Result<Launched, Failure>, Error> {
    let deadline = Instant::now() + LIMIT;
    let (mut process, mut terminal, mut warnings) = (None, None, Vec::new());
    let mut failed = None;
    loop {
        wait_readable(socket, deadline)?;
        let (bytes, mut fds) = match sys::receive(socket.as_fd()) {
            // The peer died with unread data; what it reported before still counts.
            Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => Default::default(),
            other => other.context("hear from the init program")?,
        };
        if bytes.is_empty() {
            if let Some(failure) = failed {
                if let Some((_, pidfd)) = &process {
                    reap(OwnedFd::as_fd(pidfd))?;
                }
                return Ok(Err(failure));
            }
            let Some((pid, pidfd)) = process else {
                let text = "the init program ended without a word";
                return Err(Error::new(FailureKind::Internal, text));
            };
            return Ok(Ok(Launched { pid, pidfd, terminal, warnings }));
        }
        let report = serde_json::from_slice(&bytes)
            .map_err(io::Error::from)
            .context("read the init program's report")?;
        match (report, fds.pop()) {
            (Report::Pid(pid), Some(fd)) => process = Some((pid, fd)),
            (Report::Terminal, Some(fd)) => terminal = Some(fd),
            (Report::Warning(text), _) => warnings.push(text),
            (Report::Failed(failure), _) => failed = Some(failure),
            _ => {
                let text = "the init program sent a report without its descriptor";
                return Err(Error::new(FailureKind::Internal, text));
            }
        }
    }
}

fn wait_readable(socket: &OwnedFd, deadline: Instant) -> Result<(), Error> {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = rustix::time::Timespec::try_from(left).ok();
    let mut poll = [PollFd::new(socket, PollFlags::IN)];
    let ready = rustix::io::retry_on_intr(|| rustix::event::poll(&mut poll, timeout.as_ref()))
        .context("wait for the init program")?;
    if ready == 0 {
        let text = format!("the start did not finish within {} seconds", LIMIT.as_secs());
        return Err(Error::new(FailureKind::Internal, text));
    }
    Ok(())
}

/// Ends a process that failed on its way and collects it.
fn reap(pidfd: BorrowedFd<'_>) -> Result<(), Error> {
    // It may have ended by itself already.
    let _ = rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
    rustix::process::waitid(
        rustix::process::WaitId::PidFd(pidfd),
        rustix::process::WaitIdOptions::EXITED,
    )
    .context("collect the failed process")?;
    Ok(())
}
