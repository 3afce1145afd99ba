//! Supervisors: started, spoken to, ended.
//!
//! Each has a directory `s/ID` below the exec root, with its socket. The path of that may be longer than a
//! socket's address can be, so it is always reached through a descriptor of the directory.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use caisson_protocol::frame;
use caisson_protocol::supervisor::{
    Accelerator, Config, Microvm, Reply, Request, Sandbox, Start, Status,
};
use caisson_protocol::task::{self, Event};
use rustix::fs::{Mode, OFlags};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::error::{Doing, Error, Result};
use crate::{Container, Engine, Kind};

/// How long a supervisor may take for what it does on its own.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a microVM may take to boot, with others booting beside it.
const READY: Duration = Duration::from_secs(180);
/// First of the user ids that machine monitors run as.
const MONITOR_UID: u32 = 231_072;

/// The size of a microVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub memory_mib: u32,
    pub vcpus: u32,
}

/// A supervisor that was started and that no container has yet. It ends when this is dropped.
pub(crate) struct Supervisor {
    /// The name of its directory, 12 hexadecimal digits.
    pub id: String,
    pub directory: PathBuf,
    /// hyperv: its tap.
    pub tap: Option<String>,
    pub client: Client,
}

/// A connection for requests.
pub(crate) struct Client(UnixStream);

impl Client {
    /// Connects to the supervisor of a directory.
    pub async fn connect(directory: &Path) -> Result<Self> {
        let what = || format!("reach the supervisor in {}", directory.display());
        let handle = open_directory(directory)?;
        let path = format!("/proc/self/fd/{}/supervisor.sock", handle.as_raw_fd());
        Ok(Client(UnixStream::connect(path).await.doing(what)?))
    }

    /// Sends a request and reads the answer.
    pub async fn ask(&mut self, request: &Request) -> Result<Reply> {
        self.ask_within(request, ANSWER).await
    }

    async fn ask_within(&mut self, request: &Request, limit: Duration) -> Result<Reply> {
        let bytes = encode(request)?;
        let exchange = async {
            self.0.write_all(&bytes).await.doing(|| "write to the supervisor")?;
            receive(&mut self.0).await?.ok_or_else(gone)
        };
        within(limit, exchange).await
    }

    /// The same; what failed is an error.
    pub async fn task(&mut self, request: &Request) -> Result<task::Reply> {
        task_of(self.ask(request).await?)
    }

    /// Waits until a container can be started.
    pub async fn ready(&mut self) -> Result<()> {
        task_of(self.ask_within(&Request::Ready, READY).await?).map(drop)
    }

    /// Starts the container; the sockets of its published ports go along.
    pub async fn start(
        &mut self,
        start: Start,
        sockets: &[OwnedFd],
    ) -> std::result::Result<i32, StartFailure> {
        let request = encode(&Request::Start(Box::new(start)))?;
        let exchange = async {
            self.send(&request, sockets).await?;
            receive(&mut self.0).await?.ok_or_else(gone)
        };
        match within(ANSWER, exchange).await? {
            Reply::Task(task::Reply::Started { pid }) => Ok(pid),
            Reply::Task(task::Reply::Failed(failure)) => Err(StartFailure::Refused(failure)),
            other => Err(unexpected(&other).into()),
        }
    }

    /// Writes bytes, descriptors with the first of them.
    async fn send(&mut self, mut bytes: &[u8], sockets: &[OwnedFd]) -> Result<()> {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
        let fds: Vec<_> = sockets.iter().map(std::os::fd::AsFd::as_fd).collect();
        while !bytes.is_empty() && !fds.is_empty() {
            self.0.writable().await.doing(|| "write to the supervisor")?;
            let sent = self.0.try_io(tokio::io::Interest::WRITABLE, || {
                let mut space = vec![
                    std::mem::MaybeUninit::uninit();
                    rustix::cmsg_space!(ScmRights(fds.len()))
                ];
                let mut control = SendAncillaryBuffer::new(&mut space);
                control.push(SendAncillaryMessage::ScmRights(&fds));
                let parts = [std::io::IoSlice::new(bytes)];
                Ok(sendmsg(&self.0, &parts, &mut control, SendFlags::NOSIGNAL)?)
            });
            match sent {
                Ok(count) => {
                    bytes = &bytes[count..];
                    break;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).doing(|| "hand ports to the supervisor"),
            }
        }
        self.0.write_all(bytes).await.doing(|| "write to the supervisor")
    }

    /// Makes this connection one of events.
    pub async fn subscribe(mut self) -> Result<Events> {
        self.task(&Request::Subscribe).await?;
        Ok(Events(self.0))
    }

    /// Makes this connection the streams of a process.
    pub async fn streams(mut self, request: &Request) -> Result<UnixStream> {
        self.task(request).await?;
        Ok(self.0)
    }

    /// Adds a process; a refusal is an answer here.
    pub async fn exec(&mut self, request: &Request) -> Result<task::Reply> {
        match self.ask(request).await? {
            Reply::Task(reply) => Ok(reply),
            other => Err(unexpected(&other)),
        }
    }

    /// The connection, when it has turned into a process's streams.
    pub fn into_stream(self) -> UnixStream {
        self.0
    }

    /// What it is.
    pub async fn status(&mut self) -> Result<Status> {
        match self.ask(&Request::Status).await? {
            Reply::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }
}

/// Why a start did not come about.
#[derive(Debug)]
pub(crate) enum StartFailure {
    /// The container's program, or what it asked for.
    Refused(task::Failure),
    /// Anything else.
    Other(Error),
}

impl From<Error> for StartFailure {
    fn from(error: Error) -> Self {
        StartFailure::Other(error)
    }
}

/// What a supervisor tells unasked.
pub(crate) struct Events(UnixStream);

impl Events {
    /// The next event; `None` when the supervisor is gone.
    pub async fn next(&mut self) -> Option<Event> {
        match receive(&mut self.0).await {
            Ok(event) => event,
            Err(error) => {
                tracing::debug!("events of a supervisor: {error}");
                None
            }
        }
    }
}

fn encode(request: &Request) -> Result<Vec<u8>> {
    frame::encode_message(request)
        .map_err(|error| Error::internal(format!("write a request for the supervisor: {error}")))
}

/// Reads one message and not a byte more; `None` at the end.
async fn receive<T: DeserializeOwned>(stream: &mut UnixStream) -> Result<Option<T>> {
    let what = || "read from the supervisor";
    let mut header = [0; frame::HEADER];
    match stream.read_exact(&mut header).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error).doing(what),
    }
    let wrong = |error: frame::Error| Error::internal(format!("the supervisor's answer: {error}"));
    let header = frame::Header::decode(header).map_err(wrong)?;
    let mut payload = vec![0; header.length];
    stream.read_exact(&mut payload).await.doing(what)?;
    serde_json::from_slice(&payload).map(Some).map_err(|error| wrong(error.into()))
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::internal(format!("the supervisor did not answer in {limit:?}"));
    tokio::time::timeout(limit, work).await.map_err(late)?
}

fn task_of(reply: Reply) -> Result<task::Reply> {
    match reply {
        Reply::Task(task::Reply::Failed(failure)) => Err(failure.into()),
        Reply::Task(reply) => Ok(reply),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::internal(format!("the supervisor answered out of turn: {reply:?}"))
}

fn gone() -> Error {
    Error::internal("the supervisor ended")
}

fn open_directory(directory: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(directory, flags, Mode::empty())
        .doing(|| format!("open {}", directory.display()))
}

impl Engine {
    /// Where supervisors have their directories.
    pub(crate) fn supervisors_root(&self) -> PathBuf {
        self.0.settings.exec_root.join("s")
    }

    /// The directory of a supervisor.
    pub(crate) fn supervisor_directory(&self, id: &str) -> PathBuf {
        self.supervisors_root().join(id)
    }

    /// Asks the supervisor of a running container; `Failed` is an error.
    pub(crate) async fn task(
        &self,
        container: &Container,
        request: task::Request,
    ) -> Result<task::Reply> {
        self.client(container).await?.task(&Request::Task(request)).await
    }

    /// A connection to the supervisor of a running container.
    pub(crate) async fn client(&self, container: &Container) -> Result<Client> {
        container.must_run()?;
        let directory = container.run().supervisor.clone();
        let missing = || Error::conflict(format!("container {} is not running", container.id));
        Client::connect(&directory.ok_or_else(missing)?).await
    }

    /// Starts a supervisor: of a process container, or with a microVM of this shape.
    pub(crate) async fn supervisor(&self, shape: Option<Shape>) -> Result<Supervisor> {
        let sandbox = match shape {
            None => None,
            Some(shape) => Some((shape, self.hyperv_ready().await?)),
        };
        self.supervisor_in(sandbox).await
    }

    /// The same, with what executes the guest's instructions.
    pub(crate) async fn supervisor_in(
        &self,
        sandbox: Option<(Shape, Accelerator)>,
    ) -> Result<Supervisor> {
        let engine = self.clone();
        let (id, directory, tap) = crate::blocking(move || engine.spawn(sandbox)).await?;
        let connected = Client::connect(&directory).await;
        let mut supervisor = match connected {
            Ok(client) => Supervisor { id, directory, tap, client },
            Err(error) => {
                forget(&directory);
                return Err(error);
            }
        };
        if let Err(error) = supervisor.client.ready().await {
            let last = last_words(&supervisor.directory);
            forget(&supervisor.directory);
            let doing = "prepare a place for the container";
            return Err(match last {
                Some(last) => Error::new(Kind::Internal, format!("{doing}: {last}")),
                None => error.doing(doing),
            });
        }
        Ok(supervisor)
    }

    fn spawn(
        &self,
        sandbox: Option<(Shape, Accelerator)>,
    ) -> Result<(String, PathBuf, Option<String>)> {
        let settings = &self.0.settings;
        let (id, directory) = self.fresh_directory()?;
        let sandbox = match sandbox {
            None => Sandbox::Process,
            Some((shape, accelerator)) => {
                Sandbox::Microvm(Box::new(self.microvm(&id, shape, accelerator)))
            }
        };
        let tap = match &sandbox {
            Sandbox::Microvm(microvm) => microvm.tap.clone(),
            Sandbox::Process => None,
        };
        let config = Config {
            id: id.clone(),
            directory: directory.clone(),
            init_program: settings.programs.join("caisson-init"),
            sandbox,
            standby: true,
        };
        let started = start_program(&settings.programs.join("caisson-supervisor"), &config);
        match started {
            Ok(()) => Ok((id, directory, tap)),
            Err(error) => {
                forget(&directory);
                Err(error)
            }
        }
    }

    /// A directory of its own; its first four digits, which choose the monitor's user id, too.
    fn fresh_directory(&self) -> Result<(String, PathBuf)> {
        let root = self.supervisors_root();
        std::fs::create_dir_all(&root).doing(|| format!("make {}", root.display()))?;
        loop {
            let id = crate::volume::random_name()?[..12].to_string();
            let what = || format!("list {}", root.display());
            let taken = std::fs::read_dir(&root)
                .doing(what)?
                .flatten()
                .any(|entry| entry.file_name().to_string_lossy().starts_with(&id[..4]));
            if taken {
                continue;
            }
            let directory = root.join(&id);
            use std::os::unix::fs::DirBuilderExt;
            let made = std::fs::DirBuilder::new().mode(0o700).create(&directory);
            made.doing(|| format!("make {}", directory.display()))?;
            return Ok((id, directory));
        }
    }

    fn microvm(&self, id: &str, shape: Shape, accelerator: Accelerator) -> Microvm {
        let settings = &self.0.settings;
        let number = u32::from_str_radix(&id[..4], 16).unwrap_or_default();
        let parent = settings.cgroup_parent.trim_matches('/');
        Microvm {
            kernel: settings.guest_dir.join("kernel"),
            initramfs: settings.guest_dir.join("initramfs"),
            qemu: caisson_sandbox::probe::QEMU.into(),
            fsd_program: settings.programs.join("caisson-fsd"),
            accelerator,
            memory_mib: shape.memory_mib,
            vcpus: shape.vcpus,
            tap: Some(format!("cst{id}")),
            uid: MONITOR_UID + number,
            template_directory: None,
            cgroup: format!("{parent}/vm-{id}"),
        }
    }
}

fn start_program(program: &Path, config: &Config) -> Result<()> {
    let path = config.directory.join("config.json");
    let what = || format!("write {}", path.display());
    let text = serde_json::to_vec(config).map_err(std::io::Error::from).doing(what)?;
    std::fs::write(&path, text).doing(what)?;
    let handle = open_directory(&config.directory)?;
    let socket = format!("/proc/self/fd/{}/supervisor.sock", handle.as_raw_fd());
    let listener = UnixListener::bind(socket).doing(|| "make the supervisor's socket")?;
    let log = std::fs::File::create(config.directory.join("supervisor.log"))
        .doing(|| "make the supervisor's log")?;
    let child = tokio::process::Command::new(program)
        .arg("--config")
        .arg(&path)
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        .spawn();
    let mut child = child.doing(|| format!("start {}", program.display()))?;
    // It outlives this daemon; while that lives, somebody must take note of its end.
    tokio::spawn(async move { child.wait().await });
    Ok(())
}

/// What a supervisor that gave up wrote last.
fn last_words(directory: &Path) -> Option<String> {
    let text = std::fs::read_to_string(directory.join("supervisor.log")).ok()?;
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim_start_matches("Error: ").to_string())
}

/// Removes a supervisor's directory. One that cannot be removed is removed at the next start.
pub(crate) fn forget(directory: &Path) {
    if let Err(error) = std::fs::remove_dir_all(directory)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!("remove {}: {error}", directory.display());
    }
}

/// The cgroup of the machine monitor of a supervisor, from what it was told.
pub(crate) fn monitor_cgroup(directory: &Path) -> Option<String> {
    let text = std::fs::read(directory.join("config.json")).ok()?;
    let config: Config = serde_json::from_slice(&text).ok()?;
    match config.sandbox {
        Sandbox::Process => None,
        Sandbox::Microvm(microvm) => Some(microvm.cgroup),
    }
}
