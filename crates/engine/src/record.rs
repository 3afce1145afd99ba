//! A container as it is recorded: `containers/ID/config.json` below the data root.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use caisson_api::wire;
use serde::{Deserialize, Serialize};

/// Where a container's processes live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeType {
    /// On this host's kernel.
    Process,
    /// Alone in a microVM.
    Hyperv,
}

impl RuntimeType {
    pub fn name(self) -> &'static str {
        match self {
            RuntimeType::Process => "process",
            RuntimeType::Hyperv => "hyperv",
        }
    }

    /// As `inspect` shows it: never the default, which may be another one by then.
    pub(crate) fn isolation(self) -> wire::HostConfigIsolationEnum {
        match self {
            RuntimeType::Process => wire::HostConfigIsolationEnum::PROCESS,
            RuntimeType::Hyperv => wire::HostConfigIsolationEnum::HYPERV,
        }
    }
}

impl std::fmt::Display for RuntimeType {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for RuntimeType {
    type Err = crate::Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        match text {
            "process" => Ok(RuntimeType::Process),
            "hyperv" => Ok(RuntimeType::Hyperv),
            _ => Err(crate::Error::invalid(format!(
                "invalid runtime type {text:?}: it is process or hyperv"
            ))),
        }
    }
}

/// What a container is and how it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Without a slash.
    pub name: String,
    /// Nanoseconds since 1970-01-01 UTC, as all times here.
    pub created: i64,
    /// `sha256:HEX`.
    pub image: String,
    pub runtime_type: RuntimeType,
    pub config: wire::ContainerConfig,
    pub host_config: wire::HostConfig,
    /// The program and its arguments, entrypoint and command joined.
    pub args: Vec<String>,
    pub mounts: Vec<MountRecord>,
    /// Endpoints by network name; the addresses stay a container's until it is removed.
    pub networks: Vec<EndpointRecord>,
    pub state: State,
}

/// A mount of a container, besides what every container has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MountRecord {
    pub destination: PathBuf,
    pub kind: MountKind,
    pub read_only: bool,
    /// `private`, `rprivate`, `shared`, … or empty.
    pub propagation: String,
    /// The mode as given, such as `z` or `ro`.
    pub mode: String,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    Bind {
        source: PathBuf,
        recursive: bool,
    },
    /// A volume by name; `copy` fills an empty one from the image; `subpath` is inside it.
    Volume {
        name: String,
        copy: bool,
        subpath: Option<PathBuf>,
        anonymous: bool,
    },
    Tmpfs {
        options: Vec<String>,
    },
}

/// What a container has in a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// The network's id.
    pub network: String,
    pub network_name: String,
    pub endpoint_id: String,
    pub address: Option<Ipv4Addr>,
    pub mac: [u8; 6],
    pub aliases: Vec<String>,
    /// What the client asked for, echoed by `inspect`.
    pub settings: wire::EndpointSettings,
}

/// How a container is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    pub status: Status,
    pub paused: bool,
    pub pid: i32,
    pub exit_code: i32,
    pub oom_killed: bool,
    pub error: String,
    /// 0: never.
    pub started: i64,
    pub finished: i64,
    pub restart_count: i64,
    /// How often it has ended, starts that failed included.
    pub exits: u64,
    /// The exit code of the last of those: `exit_code` is 0 again while it runs.
    pub last_exit: i32,
    /// The `exits` that have been told as events: who stopped it goes on only then.
    #[serde(skip)]
    pub told_exits: u64,
    /// Stopped by a user: `unless-stopped` leaves it alone.
    pub stopped_by_user: bool,
    /// The directory name of its supervisor below the exec root, while it has one.
    pub supervisor: Option<String>,
    /// Published ports as bound: container port, such as `80/tcp`, with host address and port.
    pub ports: Vec<BoundPort>,
    /// Ports that its next start takes where it may choose: those of the run that a change of type ended.
    pub kept_ports: Vec<BoundPort>,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoundPort {
    /// Such as `80/tcp`.
    pub container: String,
    /// As given; empty is every address.
    pub host_ip: String,
    pub host_port: u16,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    #[default]
    Created,
    /// A start is under way, or was when the daemon died.
    Starting,
    Running,
    /// Ended, and to be started again by its restart policy.
    Restarting,
    Removing,
    Exited,
    Dead,
    /// Gone: only those who hold it still see this, in memory.
    Removed,
}

impl Record {
    pub fn running(&self) -> bool {
        self.state.status == Status::Running
    }

    /// The first twelve digits of the id.
    pub fn short(&self) -> &str {
        &self.id[..12]
    }

    /// Whether this is a terminal's container.
    pub fn tty(&self) -> bool {
        self.config.tty == Some(true)
    }

    /// How it is seen from outside: while it starts it is what it was.
    pub fn outward(&self) -> Status {
        match self.state.status {
            Status::Starting if self.state.finished != 0 => Status::Exited,
            Status::Starting => Status::Created,
            status => status,
        }
    }

    /// The word that Docker uses for its state.
    pub fn status_word(&self) -> &'static str {
        match self.outward() {
            Status::Created | Status::Starting => "created",
            Status::Running if self.state.paused => "paused",
            Status::Running => "running",
            Status::Restarting => "restarting",
            Status::Removing | Status::Removed => "removing",
            Status::Exited => "exited",
            Status::Dead => "dead",
        }
    }
}

/// Where a container's own files are.
#[derive(Debug, Clone)]
pub struct Places {
    pub directory: PathBuf,
}

impl Places {
    pub fn new(data_root: &Path, id: &str) -> Self {
        Places { directory: data_root.join("containers").join(id) }
    }

    pub fn record(&self) -> PathBuf {
        self.directory.join("config.json")
    }

    /// How it is, written with every change of that.
    pub fn state(&self) -> PathBuf {
        self.directory.join("state.json")
    }

    pub fn log(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}-json.log"))
    }

    pub fn exit(&self) -> PathBuf {
        self.directory.join("exit.json")
    }

    /// The writable layer.
    pub fn upper(&self) -> PathBuf {
        self.directory.join("upper")
    }

    pub fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// Where the root file system is mounted while the container runs.
    pub fn rootfs(&self) -> PathBuf {
        self.directory.join("rootfs")
    }

    /// `hosts`, `hostname` or `resolv.conf`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}
