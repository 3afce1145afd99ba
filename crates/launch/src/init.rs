//! The init program: from a fresh exec to the container's own program, as a list of named steps.
//!
//! One thread, no descriptors but the control socket. It joins what must be joined, clones the process
//! and leaves; the clone furnishes its world, gives up what it may not keep, and execs.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use caisson_beneath::open_in_root;
use caisson_bundle::{Bundle, oci};
use caisson_protocol::task::{FailureKind, TerminalSize};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::error::{Context, Error};
use crate::mounts::Root;
use crate::plan::{Plan, REAPER, Report, USER, What};
use crate::sys::{self, Cloned};
use crate::{privileges, seccomp, user};

mod exec;
mod reaper;

/// Runs the init program; descriptor 0 is the control socket. Returns its exit status.
pub fn main() -> i32 {
    // Descriptors that leaked in must not reach the container (CVE-2024-21626).
    if sys::close_range(3, false).is_err() {
        return 1;
    }
    let Ok(duplicate) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 10) else {
        return 1;
    };
    let control = Control { socket: duplicate };
    match run(&control) {
        Ok(()) => 0,
        Err(error) => {
            control.report(&Report::Failed(error.into_failure()), None);
            1
        }
    }
}

struct Control {
    socket: OwnedFd,
}

impl Control {
    /// A launcher that is gone cannot be told; there is nobody else to tell.
    fn report(&self, report: &Report, fd: Option<&OwnedFd>) {
        let bytes = serde_json::to_vec(report).unwrap_or_default();
        let fds: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
        let _ = sys::send(self.socket.as_fd(), &bytes, &fds);
    }
}

fn run(control: &Control) -> Result<(), Error> {
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).context("hide the init program")?;
    let (_, mut fds) = sys::receive(control.socket.as_fd()).context("receive the plan")?;
    if fds.len() < 4 {
        return Err(Error::new(FailureKind::Internal, "the plan came without its descriptors"));
    }
    let target = if fds.len() > 4 { fds.pop() } else { None };
    let stdio: Vec<OwnedFd> = fds.drain(1..).collect();
    let plan = read_plan(fds.remove(0))?;
    for file in &plan.cgroups {
        std::fs::write(file, "0").context(format!("join {}", file.display()))?;
    }
    match plan.what {
        What::Container(bundle) => {
            let flags = namespaces(&bundle.spec)?;
            fork(control, flags, || container(control, &bundle, plan.terminal, stdio))
        }
        What::Process { process, seccomp, namespaces } => {
            let Some(target) = target else {
                return Err(Error::new(FailureKind::Internal, "no container to join"));
            };
            sys::setns(target.as_fd(), namespaces).context("join the container's namespaces")?;
            drop(target);
            fork(control, 0, || {
                let terminal = plan.terminal;
                additional(control, &process, seccomp.as_deref(), terminal, stdio)
            })
        }
    }
}

fn read_plan(file: OwnedFd) -> Result<Plan, Error> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::from(file);
    let length = file.metadata().context("read the plan")?.len();
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0).context("read the plan")?;
    serde_json::from_slice(&bytes).map_err(io::Error::from).context("understand the plan")
}

/// Joins the namespaces that the spec names by path; returns the ones to be made.
fn namespaces(spec: &oci::Spec) -> Result<u64, Error> {
    use oci::LinuxNamespaceType as T;
    let mut flags = 0;
    let listed = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    for namespace in listed.into_iter().flatten() {
        let kind = match namespace.typ() {
            T::Mount => libc::CLONE_NEWNS,
            T::Cgroup => libc::CLONE_NEWCGROUP,
            T::Uts => libc::CLONE_NEWUTS,
            T::Ipc => libc::CLONE_NEWIPC,
            T::Pid => libc::CLONE_NEWPID,
            T::Network => libc::CLONE_NEWNET,
            T::User => {
                let text = "user namespaces are not supported by this version";
                return Err(Error::new(FailureKind::Invalid, text));
            }
            T::Time => continue,
        };
        match namespace.path() {
            None => flags |= kind as u64,
            Some(path) => {
                let what = || format!("join namespace {}", path.display());
                let file = std::fs::File::open(path).context(what())?;
                sys::setns(file.as_fd(), kind).context(what())?;
            }
        }
    }
    if flags & libc::CLONE_NEWNS as u64 == 0 {
        let text = "a container needs a mount namespace of its own";
        return Err(Error::new(FailureKind::Invalid, text));
    }
    Ok(flags)
}

fn fork(
    control: &Control,
    flags: u64,
    child: impl FnOnce() -> Result<Infallible, Error>,
) -> Result<(), Error> {
    match sys::clone_child(flags).context("clone the process")? {
        Cloned::Parent(pid, pidfd) => {
            control.report(&Report::Pid(pid), Some(&pidfd));
            Ok(())
        }
        Cloned::Child => match child() {
            Err(error) => Err(error),
            Ok(never) => match never {},
        },
    }
}

/// The container's first process.
fn container(
    control: &Control,
    bundle: &Bundle,
    terminal: Option<TerminalSize>,
    stdio: Vec<OwnedFd>,
) -> Result<Infallible, Error> {
    let spec = &bundle.spec;
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| Error::new(FailureKind::Invalid, "the spec has no process"))?;
    let linux = spec.linux().clone().unwrap_or_default();
    start_session()?;
    rustix::process::umask(Mode::empty());
    host_names(spec)?;
    sysctls(&linux)?;
    out_of_memory_score(control, process);
    let mounts = spec.mounts().as_deref().unwrap_or(&[]);
    let mut root = Root::prepare(&bundle.rootfs, mounts)?;
    for mount in mounts {
        root.mount(mount)?;
    }
    // A directory of the host's keeps what it has.
    let is_bound = |mount: &oci::Mount| {
        mount.destination() == Path::new("/dev") && mount.typ().as_deref() == Some("bind")
    };
    if !mounts.iter().any(is_bound) {
        root.devices(linux.devices().as_deref().unwrap_or(&[]))?;
    }
    match terminal {
        Some(size) => {
            let slave = open_terminal(control, root.fd(), size)?;
            root.console(slave.as_fd())?;
            take_terminal(slave)?;
        }
        None => take_stdio(stdio)?,
    }
    root.read_only(linux.readonly_paths().as_deref().unwrap_or(&[]))?;
    root.mask(linux.masked_paths().as_deref().unwrap_or(&[]))?;
    let read_only = spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false);
    root.pivot(read_only)?;
    let annotation = |key| spec.annotations().as_ref().and_then(|a| a.get(key));
    let name = annotation(USER).map(String::as_str);
    let reaper = annotation(REAPER).is_some_and(|value| value == "true");
    finish(control, process, name, linux.seccomp().as_ref(), reaper)
}

/// One more process of a running container, whose namespaces have been joined.
fn additional(
    control: &Control,
    process: &oci::Process,
    profile: Option<&oci::LinuxSeccomp>,
    terminal: Option<TerminalSize>,
    stdio: Vec<OwnedFd>,
) -> Result<Infallible, Error> {
    start_session()?;
    rustix::process::chdir("/").context("enter /")?;
    match terminal {
        Some(size) => {
            let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .context("open /")?;
            take_terminal(open_terminal(control, root.as_fd(), size)?)?;
        }
        None => take_stdio(stdio)?,
    }
    out_of_memory_score(control, process);
    finish(control, process, process.user().username().as_deref(), profile, false)
}

/// Gives up what the process may not keep and becomes its program.
fn finish(
    control: &Control,
    process: &oci::Process,
    name: Option<&str>,
    profile: Option<&oci::LinuxSeccomp>,
    reaper: bool,
) -> Result<Infallible, Error> {
    let identity = identity(process, name)?;
    own_stdio(&identity);
    let limits = process.rlimits().as_deref().unwrap_or(&[]);
    for warning in privileges::limits(limits)? {
        control.report(&Report::Warning(warning), None);
    }
    let filter = profile.map(seccomp::compile);
    let umask = process.user().umask().unwrap_or(0o022);
    rustix::process::umask(Mode::from_raw_mode(umask));
    make_directory(process.cwd(), &identity);
    let mut target = exec::Target::new(process, &identity)?;
    sys::default_signals().context("reset the signals")?;
    if reaper {
        reaper::split(&control.socket)?;
    }
    privileges::drop_to(&identity, process, filter.as_deref())?;
    enter(process.cwd())?;
    sys::close_range(3, true).context("close descriptors")?;
    target.exec()
}

fn identity(process: &oci::Process, name: Option<&str>) -> Result<user::Identity, Error> {
    let root =
        rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context("open /")?;
    let named = process.user();
    let mut identity = match name {
        Some(name) => user::resolve(&root, name)?,
        None => {
            let text = format!("{}:{}", named.uid(), named.gid());
            user::resolve(&root, &text)?
        }
    };
    identity.groups.extend(named.additional_gids().iter().flatten());
    Ok(identity)
}

fn start_session() -> Result<(), Error> {
    rustix::process::setsid().context("start a session")?;
    // SAFETY: KEYCTL_JOIN_SESSION_KEYRING (1) without a name takes no memory. A kernel without key
    // rings has none to leak.
    unsafe { libc::syscall(libc::SYS_keyctl, 1, 0) };
    Ok(())
}

fn host_names(spec: &oci::Spec) -> Result<(), Error> {
    if let Some(name) = spec.hostname() {
        rustix::system::sethostname(name.as_bytes()).context(format!("set host name {name}"))?;
    }
    if let Some(name) = spec.domainname() {
        rustix::system::setdomainname(name.as_bytes())
            .context(format!("set domain name {name}"))?;
    }
    Ok(())
}

/// Sets kernel parameters on a /proc that is shown to be one (CVE-2025-52881).
fn sysctls(linux: &oci::Linux) -> Result<(), Error> {
    const PROC_MAGIC: i64 = 0x9fa0;
    for (key, value) in linux.sysctl().iter().flatten() {
        let what = || format!("set sysctl {key} to {value}");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::open("/proc", flags, Mode::empty()).context(what())?;
        let kind = rustix::fs::fstatfs(&proc).context(what())?.f_type;
        if kind as i64 != PROC_MAGIC {
            return Err(Error::new(FailureKind::Internal, "/proc is not procfs"));
        }
        let path = format!("sys/{}", key.replace('.', "/"));
        let limits = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(&proc, path, flags, Mode::empty(), limits).context(what())?;
        rustix::io::write(&file, value.as_bytes()).context(what())?;
    }
    Ok(())
}

fn out_of_memory_score(control: &Control, process: &oci::Process) {
    let Some(score) = process.oom_score_adj() else { return };
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        let text = format!("oom_score_adj {score} cannot be set on this host: {error}");
        control.report(&Report::Warning(text), None);
    }
}

/// Makes a pseudo-terminal in the container's own devpts and sends its master away.
fn open_terminal(control: &Control, root: impl AsFd, size: TerminalSize) -> Result<OwnedFd, Error> {
    let master = open_in_root(root, "/dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY)
        .context("open the container's /dev/pts/ptmx")?;
    rustix::pty::unlockpt(&master).context("unlock the terminal")?;
    let flags = rustix::pty::OpenptFlags::RDWR
        | rustix::pty::OpenptFlags::NOCTTY
        | rustix::pty::OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).context("open the terminal")?;
    if size.rows != 0 || size.columns != 0 {
        let size = rustix::termios::Winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&master, size).context("size the terminal")?;
    }
    control.report(&Report::Terminal, Some(&master));
    Ok(slave)
}

fn take_terminal(slave: OwnedFd) -> Result<(), Error> {
    rustix::process::ioctl_tiocsctty(&slave).context("take the terminal")?;
    let copy = || slave.try_clone().context("copy the terminal");
    take_stdio(vec![copy()?, copy()?, slave])
}

fn take_stdio(stdio: Vec<OwnedFd>) -> Result<(), Error> {
    for (number, fd) in stdio.iter().enumerate() {
        // SAFETY: 0, 1 and 2 belong to nobody in this program, and fd is open.
        sys::check(unsafe { libc::dup2(fd.as_raw_fd(), number as i32) }.into())
            .context("set up the standard streams")?;
    }
    Ok(())
}

/// Lets the user reopen its own streams by name (/dev/stdout).
fn own_stdio(identity: &user::Identity) {
    for number in 0..3 {
        // SAFETY: 0, 1 and 2 stay open for the life of the process; the wrapper is not dropped.
        let fd = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
        let Ok(stat) = rustix::fs::fstat(&*fd) else { continue };
        let shared = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_char_device()
            && !rustix::termios::isatty(&*fd);
        if !shared && stat.st_uid != identity.uid {
            let owner = rustix::fs::Uid::from_raw(identity.uid);
            // A stream that cannot change hands (a socket, a file on another's mount) still works.
            let _ = rustix::fs::fchown(&*fd, Some(owner), None);
        }
    }
}

/// Makes a missing working directory, as every engine does; entering it tells what went wrong.
fn make_directory(path: &Path, identity: &user::Identity) {
    if path.exists() || std::fs::create_dir_all(path).is_err() {
        return;
    }
    let _ = std::os::unix::fs::chown(path, Some(identity.uid), Some(identity.gid));
}

fn enter(path: &Path) -> Result<(), Error> {
    let what = format!("chdir to cwd ({:?}) set in config.json failed", path.display().to_string());
    rustix::process::chdir(path).context(&what)?;
    // A directory outside the root shows as "(unreachable)" (CVE-2024-21626).
    let real = rustix::process::getcwd(Vec::new()).context(&what)?;
    if real.to_bytes().first() != Some(&b'/') {
        return Err(Error::new(
            FailureKind::Invalid,
            format!("{what}: it is outside the container"),
        ));
    }
    Ok(())
}

fn c_string(text: &str) -> Result<CString, Error> {
    CString::new(text)
        .map_err(|_| Error::new(FailureKind::Invalid, format!("{text:?} contains a zero byte")))
}
