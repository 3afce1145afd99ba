//! A container driven from outside, through its supervisor's socket, for the tests and the demo.
//!
//! Makes what the engine makes (a directory, a bundle, a supervisor) and talks the same protocol.

pub mod engine;
pub mod image;

use std::io::Read;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio as Stream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use caisson_bundle::{Bundle, defaults, oci};
use caisson_protocol::agent::Interface;
use caisson_protocol::frame;
use caisson_protocol::supervisor::{
    Accelerator, Attach, Config, Exec, Log, Microvm, Reply, Request, Sandbox, Start, Status,
    Streams,
};
use caisson_protocol::task::{self, Event, Exit, ProcessId, Stdio};

/// How long a test waits for a supervisor's answer: an emulated guest boots within it.
const LIMIT: Duration = Duration::from_secs(90);
/// First of the unprivileged user ids that machine monitors run as.
const MONITOR_UID: u32 = 231_072;

/// Which runtime type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Process,
    Hyperv,
}

/// Where the built programs are: `CAISSON_PROGRAMS`, as `cargo xtask` sets it.
pub fn programs() -> Result<PathBuf> {
    std::env::var_os("CAISSON_PROGRAMS")
        .map(PathBuf::from)
        .context("CAISSON_PROGRAMS is not set: run `cargo xtask test`")
}

/// Makes a root file system of busybox in `directory`.
pub fn busybox(directory: &Path) -> Result<PathBuf> {
    let root = directory.join("rootfs");
    for name in ["bin", "etc", "tmp", "proc", "sys", "dev", "root", "data"] {
        std::fs::create_dir_all(root.join(name))?;
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox"))
        .context("copy /bin/busybox (Debian's busybox-static)")?;
    let applets = Command::new("/bin/busybox").arg("--list").output()?;
    for applet in String::from_utf8(applets.stdout)?.lines().filter(|name| *name != "busybox") {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
    }
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/data:/bin/sh\n",
    )?;
    std::fs::write(root.join("etc/group"), "root:x:0:\nweb:x:34:\nlog:x:4:web\n")?;
    std::os::unix::fs::chown(root.join("data"), Some(33), Some(34))?;
    Ok(root)
}

/// The same as an archive, made with `place` as scratch.
pub fn busybox_archive(place: &Path) -> Result<Vec<u8>> {
    let rootfs = busybox(place)?;
    let mut archive = tar::Builder::new(Vec::new());
    archive.follow_symlinks(false);
    archive.append_dir_all(".", &rootfs)?;
    Ok(archive.into_inner()?)
}

/// One container and its supervisor.
pub struct Container {
    directory: PathBuf,
    id: String,
    kind: Type,
    supervisor: Child,
    control: UnixStream,
    /// What will be started; change it before [`Container::start`].
    pub bundle: Bundle,
    /// Its streams, likewise.
    pub stdio: Stdio,
    /// hyperv: how the guest's interfaces are set up, likewise.
    pub interfaces: Vec<Interface>,
}

impl Container {
    /// Starts a supervisor for a container of `kind` that will run `args` on `rootfs`.
    pub fn new(kind: Type, directory: &Path, rootfs: &Path, args: &[&str]) -> Result<Self> {
        let programs = programs()?;
        let id = unique_id()?;
        let directory = directory.join(&id[..12]);
        std::fs::create_dir_all(&directory)?;
        let config = Config {
            id: id.clone(),
            directory: directory.clone(),
            init_program: programs.join("caisson-init"),
            sandbox: match kind {
                Type::Process => Sandbox::Process,
                Type::Hyperv => Sandbox::Microvm(Box::new(shape(&programs, &id))),
            },
            standby: false,
        };
        let path = directory.join("config.json");
        std::fs::write(&path, serde_json::to_vec(&config)?)?;
        let listener = UnixListener::bind(directory.join("supervisor.sock"))?;
        let log = std::fs::File::create(directory.join("supervisor.log"))?;
        let supervisor = Command::new(programs.join("caisson-supervisor"))
            .arg("--config")
            .arg(&path)
            .stdin(Stream::from(OwnedFd::from(listener)))
            .stdout(Stream::null())
            .stderr(Stream::from(log))
            .spawn()
            .context("start caisson-supervisor")?;
        let control = connect(&directory)?;
        let mut spec = defaults::spec(args);
        seccomp(&mut spec);
        let bundle = Bundle { id: id.clone(), rootfs: rootfs.to_path_buf(), spec };
        Ok(Container {
            directory,
            id,
            kind,
            supervisor,
            control,
            bundle,
            stdio: Stdio::default(),
            interfaces: Vec::new(),
        })
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn kind(&self) -> Type {
        self.kind
    }

    /// Where its supervisor keeps its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Waits until the sandbox can take a start.
    pub fn ready(&mut self) -> Result<()> {
        match self.ask(&Request::Ready)? {
            task::Reply::Done => Ok(()),
            other => bail!("not ready: {other:?}"),
        }
    }

    /// Starts the container; the pid that `inspect` would show.
    pub fn start(&mut self) -> Result<i32> {
        let start = Start {
            bundle: self.bundle.clone(),
            stdio: self.stdio.clone(),
            stdin_once: true,
            log: Log::JsonFile { path: self.directory.join("log"), max_size: 0, max_files: 1 },
            exit_file: self.directory.join("exit.json"),
            interfaces: self.interfaces.clone(),
            published: Vec::new(),
        };
        match self.ask(&Request::Start(Box::new(start)))? {
            task::Reply::Started { pid } => Ok(pid),
            task::Reply::Failed(failure) => bail!("{:?}: {}", failure.kind, failure.message),
            other => bail!("unexpected answer {other:?}"),
        }
    }

    /// A request about the running container.
    pub fn task(&mut self, request: task::Request) -> Result<task::Reply> {
        self.ask(&Request::Task(request))
    }

    pub fn status(&mut self) -> Result<Status> {
        frame::write_message(&mut self.control, &Request::Status)?;
        match self.hear()? {
            Reply::Status(status) => Ok(status),
            other => bail!("unexpected answer {other:?}"),
        }
    }

    /// A connection that carries the first process's streams.
    pub fn attach(&self) -> Result<UnixStream> {
        let streams = Streams { stdin: true, stdout: true, stderr: true };
        let mut socket = connect(&self.directory)?;
        let request = Request::Attach(Attach { process: ProcessId::Init, streams });
        frame::write_message(&mut socket, &request)?;
        expect_done(&mut socket)?;
        Ok(socket)
    }

    /// Runs one more process to its end; its output and exit code.
    pub fn exec(&mut self, args: &[&str]) -> Result<(String, i32)> {
        self.exec_with(args, |_| {})
    }

    /// The same, with a changed process.
    pub fn exec_with(
        &mut self,
        args: &[&str],
        change: impl FnOnce(&mut oci::Process),
    ) -> Result<(String, i32)> {
        let mut process = self.bundle.spec.process().clone().context("a process")?;
        process.set_args(Some(args.iter().map(|arg| arg.to_string()).collect()));
        change(&mut process);
        let id = unique_id()?;
        let attach = Some(Streams { stdin: false, stdout: true, stderr: true });
        let exec = Exec { id: id.clone(), process, stdio: Stdio::default(), attach };
        let mut socket = connect(&self.directory)?;
        frame::write_message(&mut socket, &Request::Exec(Box::new(exec)))?;
        match frame::read_message(&mut socket)?.context("the supervisor hung up")? {
            Reply::Task(task::Reply::Started { .. }) => {}
            Reply::Task(task::Reply::Failed(failure)) => {
                bail!("{:?}: {}", failure.kind, failure.message)
            }
            other => bail!("unexpected answer {other:?}"),
        }
        let output = demultiplex(&mut socket)?;
        // The stream ends after the exit is recorded, so the code is final now.
        let execs = self.status()?.execs;
        let exit = execs.into_iter().find(|(known, _)| *known == id).and_then(|(_, exit)| exit);
        Ok((output, exit.context("the exec's exit is not recorded")?.code))
    }

    /// Runs to the end: everything it wrote, and its exit.
    pub fn run(&mut self) -> Result<(String, Exit)> {
        let mut streams = self.attach()?;
        streams.shutdown(Shutdown::Write)?;
        self.start()?;
        let output = if self.stdio.terminal.is_some() {
            read_all(&mut streams)?
        } else {
            demultiplex(&mut streams)?
        };
        Ok((output, self.wait()?))
    }

    /// Waits for the container's end, as the exit file records it.
    pub fn wait(&mut self) -> Result<Exit> {
        let deadline = Instant::now() + LIMIT;
        let mut events = connect(&self.directory).ok();
        if let Some(events) = &mut events
            && frame::write_message(events, &Request::Subscribe).is_ok()
            && expect_done(events).is_ok()
        {
            while let Ok(Some(event)) = frame::read_message::<Event>(events) {
                if matches!(event, Event::Exited { process: ProcessId::Init, .. }) {
                    break;
                }
                anyhow::ensure!(Instant::now() < deadline, "the container did not end");
            }
        }
        let path = self.directory.join("exit.json");
        let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Sends a signal to the first process.
    pub fn signal(&mut self, signal: i32) -> Result<()> {
        let process = ProcessId::Init;
        match self.task(task::Request::Signal { process, signal, all: false })? {
            task::Reply::Done => Ok(()),
            other => bail!("signal {signal}: {other:?}"),
        }
    }

    /// The json-file log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Stops what runs and waits for the supervisor's end.
    pub fn end(mut self) -> Result<()> {
        // The supervisor may have ended with its container already.
        let _ = frame::write_message(&mut self.control, &Request::Shutdown);
        let _ = self.hear();
        let _ = self.control.shutdown(Shutdown::Both);
        self.supervisor.wait().context("wait for the supervisor")?;
        Ok(())
    }

    fn ask(&mut self, request: &Request) -> Result<task::Reply> {
        frame::write_message(&mut self.control, request)?;
        match self.hear()? {
            Reply::Task(reply) => Ok(reply),
            other => bail!("unexpected answer {other:?}"),
        }
    }

    fn hear(&mut self) -> Result<Reply> {
        match frame::read_message(&mut self.control) {
            Ok(Some(reply)) => Ok(reply),
            other => {
                let path = self.directory.join("supervisor.log");
                let log = std::fs::read_to_string(path).unwrap_or_default();
                bail!("the supervisor hung up ({:?}): {log}", other.err())
            }
        }
    }
}

fn connect(directory: &Path) -> Result<UnixStream> {
    let path = directory.join("supervisor.sock");
    let socket = UnixStream::connect(&path).with_context(|| path.display().to_string())?;
    socket.set_read_timeout(Some(LIMIT))?;
    Ok(socket)
}

fn expect_done(socket: &mut UnixStream) -> Result<()> {
    match frame::read_message(socket)?.context("the supervisor hung up")? {
        Reply::Task(task::Reply::Done) => Ok(()),
        other => bail!("unexpected answer {other:?}"),
    }
}

fn shape(programs: &Path, id: &str) -> Microvm {
    let number = u32::from_str_radix(&id[..4], 16).unwrap_or(0);
    Microvm {
        kernel: programs.join("guest/kernel"),
        initramfs: programs.join("guest/initramfs"),
        qemu: "/usr/bin/qemu-system-x86_64".into(),
        fsd_program: programs.join("caisson-fsd"),
        accelerator: Accelerator::Emulation,
        memory_mib: 256,
        vcpus: 1,
        tap: Some(tap_name(id)),
        uid: MONITOR_UID + number,
        template_directory: None,
        cgroup: format!("caisson-test/vm-{}", &id[..12]),
    }
}

/// The tap interface of the hyperv container `id`.
pub fn tap_name(id: &str) -> String {
    format!("cst{}", &id[..12])
}

fn seccomp(spec: &mut oci::Spec) {
    let profile = caisson_launch::seccomp::default_profile(0);
    if let Some(linux) = spec.linux_mut() {
        linux.set_seccomp(Some(profile));
    }
}

fn unique_id() -> Result<String> {
    let mut bytes = [0u8; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Everything of Docker's multiplexed stream, both outputs together.
pub fn demultiplex(socket: &mut UnixStream) -> Result<String> {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).context("read the streams")?;
    let (mut rest, mut output) = (bytes.as_slice(), Vec::new());
    while let Some((header, tail)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        anyhow::ensure!(matches!(header[0], 1 | 2) && tail.len() >= length, "a broken stream");
        output.extend_from_slice(&tail[..length]);
        rest = &tail[length..];
    }
    Ok(String::from_utf8_lossy(&output).into_owned())
}

fn read_all(socket: &mut UnixStream) -> Result<String> {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).context("read the terminal")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
