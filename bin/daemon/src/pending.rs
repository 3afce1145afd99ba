//! What the engine does not do yet: each method answers that it is not there. A method is deleted here when
//! the engine has it; the wrapper lets the engine's own be called in its place.

use std::io::{Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use caisson_api::filters::Filters;
use caisson_engine::{Error, Events, Kind, Result, RuntimeType, Settings, wire};
use futures_util::stream::BoxStream;
use tokio::net::UnixStream;

pub type LogStream = BoxStream<'static, Result<Bytes>>;

/// The engine.
#[derive(Clone, Default)]
pub struct Engine(Arc<Events>);

fn missing<T>() -> Result<T> {
    Err(Error::new(Kind::Unsupported, "this is not supported yet"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitCondition {
    NotRunning,
    NextExit,
    Removed,
}

pub struct Wait;

impl Wait {
    pub async fn result(self) -> wire::ContainerWaitResponse {
        wire::ContainerWaitResponse::default()
    }
}

#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    pub stream: bool,
    pub logs: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

pub struct Attached {
    pub tty: bool,
    pub logs: Option<LogStream>,
    pub stream: Option<Pending>,
}

pub struct Pending;

impl Pending {
    pub async fn connect(self) -> Result<Option<UnixStream>> {
        Ok(None)
    }
}

#[derive(Debug, Clone, Default)]
pub struct RemoveOptions {
    pub force: bool,
    pub volumes: bool,
}

#[derive(Debug, Clone, Default)]
pub struct ExecStart {
    pub detach: bool,
    pub tty: bool,
    pub rows_columns: Option<(u16, u16)>,
}

#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    pub all: bool,
    pub limit: Option<usize>,
    pub size: bool,
    pub filters: Filters,
}

#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    pub follow: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub since: Option<i64>,
    pub until: Option<i64>,
    pub timestamps: bool,
    pub tail: Option<usize>,
    pub details: bool,
}

#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    pub name: Option<String>,
    pub comment: String,
    pub author: String,
    pub changes: Vec<String>,
    pub pause: bool,
}

#[derive(Debug, Clone, Default)]
pub struct PutOptions {
    pub no_overwrite_dir_non_dir: bool,
    pub copy_uid_gid: bool,
}

#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct PathStat {
    pub name: String,
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct LoadMessage {
    pub stream: String,
}

/// Stubs: the contract's methods.
macro_rules! stubs {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        impl Engine {
            $(pub async fn $name(&self, $($argument: $type),*) -> Result<$result> {
                $(let _ = $argument;)*
                missing()
            })*
        }
    };
}

stubs! {
    create(name: Option<String>, body: wire::ContainerCreateBody) -> wire::ContainerCreateResponse;
    start(name: &str) -> ();
    stop(name: &str, timeout: Option<i64>, signal: Option<&str>) -> ();
    restart(name: &str, timeout: Option<i64>, signal: Option<&str>) -> ();
    kill(name: &str, signal: Option<&str>) -> ();
    pause(name: &str) -> ();
    unpause(name: &str) -> ();
    rename(name: &str, new: &str) -> ();
    remove(name: &str, options: RemoveOptions) -> ();
    wait(name: &str, condition: WaitCondition) -> Wait;
    attach(name: &str, options: AttachOptions) -> Attached;
    resize(name: &str, rows: u16, columns: u16) -> ();
    exec_create(name: &str, config: wire::ExecConfig) -> String;
    exec_start(id: &str, start: ExecStart) -> Option<UnixStream>;
    exec_inspect(id: &str) -> wire::ExecInspectResponse;
    exec_resize(id: &str, rows: u16, columns: u16) -> ();
    exec_tty(id: &str) -> bool;
    update(name: &str, body: wire::ContainerUpdateBody) -> Vec<String>;
    set_type(name: &str, to: RuntimeType, restart: bool) -> ();
    top(name: &str, ps_args: Option<&str>) -> wire::ContainerTopResponse;
    stats(name: &str, previous: Option<&wire::ContainerStatsResponse>) -> wire::ContainerStatsResponse;
    networks(filters: &Filters) -> Vec<wire::Network>;
    network(name: &str) -> wire::Network;
    network_create(request: wire::NetworkCreateRequest) -> wire::NetworkCreateResponse;
    network_remove(name: &str) -> ();
    network_connect(name: &str, request: wire::NetworkConnectRequest) -> ();
    network_disconnect(name: &str, request: wire::NetworkDisconnectRequest) -> ();
    networks_prune(filters: &Filters) -> wire::NetworkPruneResponse;
    image_list(all: bool, filters: &Filters) -> Vec<wire::ImageSummary>;
    image_inspect(name: &str) -> wire::ImageInspect;
    image_history(name: &str) -> Vec<wire::HistoryResponseItem>;
    image_tag(name: &str, new: &str) -> ();
    image_remove(name: &str, force: bool, no_prune: bool) -> Vec<wire::ImageDeleteResponseItem>;
    images_prune(filters: &Filters) -> wire::ImagePruneResponse;
    image_load(input: impl Read + Send + 'static, progress: impl FnMut(LoadMessage) + Send + 'static) -> ();
    image_save(names: Vec<String>, output: impl Write + Send + 'static) -> ();
    image_import(input: impl Read + Send + 'static, name: Option<String>, changes: Vec<String>, message: &str) -> String;
    commit(container: &str, options: CommitOptions, config: Option<wire::ContainerConfig>) -> String;
    changes(name: &str) -> Vec<wire::FilesystemChange>;
    export(name: &str, output: impl Write + Send + 'static) -> ();
    archive_stat(name: &str, path: &str) -> PathStat;
    archive_get(name: &str, path: &str, output: impl Write + Send + 'static) -> ();
    archive_put(name: &str, path: &str, input: impl Read + Send + 'static, options: PutOptions) -> ();
    list(options: ListOptions) -> Vec<wire::ContainerSummary>;
    inspect(name: &str, size: bool) -> wire::ContainerInspectResponse;
    logs(name: &str, options: LogOptions) -> LogStream;
    volumes(filters: &Filters) -> wire::VolumeListResponse;
    volume(name: &str) -> wire::Volume;
    volume_create(options: wire::VolumeCreateOptions) -> wire::Volume;
    volume_remove(name: &str, force: bool) -> ();
    volumes_prune(filters: &Filters) -> wire::VolumePruneResponse;
    info() -> wire::SystemInfo;
    version() -> wire::SystemVersion;
    disk_usage() -> wire::SystemDataUsageResponse;
    containers_prune(filters: &Filters) -> wire::ContainerPruneResponse;
}

impl Engine {
    pub async fn open(settings: Settings) -> Result<Self> {
        let _ = settings;
        Ok(Engine::default())
    }

    pub fn events(&self) -> &Events {
        &self.0
    }
}
