//! A container is started: its root file system, networks and supervisor are made at the same time, then
//! the supervisor is told what to start. What a failure leaves is taken back before it is told.

use std::path::PathBuf;
use std::sync::Arc;

use caisson_bundle::Bundle;
use caisson_protocol::supervisor::{Log, Start};
use caisson_protocol::task::{FailureKind, Stdio, TerminalSize};

use crate::error::{Error, Kind, Result};
use crate::network::{Connected, Ports};
use crate::record::{Record, RuntimeType, Status};
use crate::supervisor::{Client, Events, StartFailure, Supervisor};
use crate::{Container, Engine, blocking};

/// What a container's start failed with, and the exit code that Docker gives it.
pub(crate) struct Failed {
    error: Error,
    code: i32,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed { error, code: 128 }
    }
}

impl From<StartFailure> for Failed {
    fn from(failure: StartFailure) -> Self {
        let refused = match failure {
            StartFailure::Other(error) => return error.into(),
            StartFailure::Refused(failure) => failure,
        };
        let code = match refused.kind {
            FailureKind::NotFound => 127,
            FailureKind::NotExecutable => 126,
            _ => 128,
        };
        let error = Error::from(refused);
        let doing = "failed to create task for container: failed to start container process";
        Failed { error: error.doing(doing), code }
    }
}

impl Engine {
    /// Starts a container that does not run.
    pub async fn start(&self, name: &str) -> Result<()> {
        let container = self.0.containers.get(name)?;
        let _busy = container.busy.lock().await;
        let state = container.record().state;
        match state.status {
            Status::Running if state.paused => {
                return Err(Error::conflict(
                    "cannot start a paused container, try unpause instead",
                ));
            }
            Status::Running => {
                return Err(Error::new(
                    Kind::NotModified,
                    format!("container {name} is already started"),
                ));
            }
            Status::Removing | Status::Removed | Status::Dead => {
                return Err(Error::conflict(
                    "container is marked for removal and cannot be started",
                ));
            }
            Status::Created | Status::Starting | Status::Restarting | Status::Exited => {}
        }
        // A start by hand begins to count anew.
        container.note(|record| record.state.restart_count = 0);
        let started = self.start_now(&container).await;
        if started.is_err() && container.look(|record| record.host_config.auto_remove == Some(true))
        {
            self.remove_later(&container);
        }
        started
    }

    /// Starts it; the caller holds [`Container::busy`] and knows that it does not run.
    pub(crate) async fn start_now(&self, container: &Arc<Container>) -> Result<()> {
        let before = container.look(|record| record.state.status);
        container.settle(|record| {
            // Between two runs that its restart policy wants, it stays restarting.
            if before != Status::Restarting {
                record.state.status = Status::Starting;
            }
            record.state.stopped_by_user = false;
            record.state.error.clear();
            record.state.ports.clear();
        })?;
        let failed = match self.bring_up(container).await {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        self.release(container).await;
        let status = if before == Status::Created { Status::Created } else { Status::Exited };
        let error = failed.error;
        container.run().waiting.clear();
        container.settle(|record| {
            record.state.status = status;
            record.state.exit_code = failed.code;
            record.state.last_exit = failed.code;
            record.state.exits += 1;
            record.state.finished = if before == Status::Created { 0 } else { crate::now() };
            record.state.error = error.message.clone();
            record.state.pid = 0;
            record.state.supervisor = None;
            record.state.ports.clear();
        })?;
        tracing::info!("container {} did not start: {error}", container.id);
        let code = failed.code.to_string();
        self.tell_container(&container.record(), "die", &[("exitCode", &code)]);
        container.note(|record| record.state.told_exits = record.state.exits);
        Err(error)
    }

    async fn bring_up(&self, container: &Arc<Container>) -> std::result::Result<(), Failed> {
        let record = container.record();
        let (mounted, connected, supervisor) = tokio::join!(
            self.mount_for_run(container),
            self.network_up(&record),
            self.supervisor_for(&record),
        );
        let supervisor = match supervisor {
            Ok(supervisor) => supervisor,
            Err(error) => {
                mounted?;
                connected?;
                return Err(error.into());
            }
        };
        // From here on `release` finds it.
        let (id, directory) = (supervisor.id.clone(), supervisor.directory.clone());
        container.note(|record| record.state.supervisor = Some(id));
        mounted?;
        let connected = connected?;
        if let (Some(bridge), Some(tap)) = (&connected.bridge, &supervisor.tap) {
            caisson_net::connect_tap(tap, bridge).await.map_err(Error::from)?;
        }
        // The addresses stay from the first start on: the disk is waited for only then.
        let endpoints = &connected.endpoints;
        let fresh = !endpoints.is_empty() && *endpoints != record.networks;
        if fresh {
            container.note(|record| record.networks = endpoints.clone());
        }
        let ports = self.ports_publish(&container.record()).await?;
        let bound = ports.bound.clone();
        container.settle(|record| record.state.ports = bound)?;
        let events = Client::connect(&directory).await?.subscribe().await?;
        let waiting = {
            let mut run = container.run();
            run.supervisor = Some(directory.clone());
            std::mem::take(&mut run.waiting)
        };
        self.attach_waiting(&directory, waiting).await;
        self.tell(container, supervisor, connected, fresh, ports, events).await
    }

    async fn mount_for_run(&self, container: &Arc<Container>) -> Result<()> {
        let (engine, container) = (self.clone(), container.clone());
        blocking(move || {
            let rootfs = engine.rootfs(&container)?;
            engine.mounts_prepare(&container.record(), rootfs.path())?;
            container.run().rootfs = Some(rootfs);
            Ok(())
        })
        .await
    }

    /// Tells the supervisor to start, and records what came of it; `fresh`: the addresses are not on the disk yet.
    async fn tell(
        &self,
        container: &Arc<Container>,
        mut supervisor: Supervisor,
        connected: Connected,
        fresh: bool,
        ports: Ports,
        events: Events,
    ) -> std::result::Result<(), Failed> {
        let (engine, subject) = (self.clone(), container.clone());
        let (published, sockets) = ports.sockets.into_iter().unzip();
        let start = blocking(move || {
            if fresh {
                subject.change(|_| {})?;
            }
            let record = subject.record();
            engine.network_files(&subject, &record)?;
            let exit_file = subject.places.exit();
            // The exit of an earlier run is in the state already.
            let _ = std::fs::remove_file(&exit_file);
            let spec = engine.spec(&subject, &record, connected.namespace.as_deref())?;
            let rootfs = subject.places.rootfs();
            Ok::<_, Error>(Start {
                bundle: Bundle { id: record.id.clone(), rootfs, spec },
                stdio: stdio(&record),
                stdin_once: record.config.stdin_once == Some(true),
                log: log(&record, subject.places.log(&record.id)),
                exit_file,
                interfaces: connected.interfaces,
                published,
            })
        })
        .await?;
        let sockets: Vec<std::os::fd::OwnedFd> = sockets;
        // Before: no end of this run can be earlier.
        let started = crate::now();
        let pid = supervisor.client.start(start, &sockets).await?;
        container.settle(|record| {
            let state = &mut record.state;
            state.status = Status::Running;
            state.pid = pid;
            state.started = started;
            // Not before: a start that fails leaves them to the next one.
            state.kept_ports.clear();
            state.exit_code = 0;
            state.oom_killed = false;
            state.paused = false;
        })?;
        self.tell_container(&container.record(), "start", &[]);
        self.watch(container, events, supervisor.id);
        if container.look(|record| record.runtime_type == RuntimeType::Hyperv) {
            self.standby_refill();
        }
        Ok(())
    }
}

fn stdio(record: &Record) -> Stdio {
    let size = record.host_config.console_size.as_deref();
    let (rows, columns) = match size {
        Some([rows, columns]) => (*rows, *columns),
        _ => (0, 0),
    };
    let cells = |count: usize| u16::try_from(count).unwrap_or_default();
    let size = TerminalSize { rows: cells(rows), columns: cells(columns) };
    let terminal = record.tty().then_some(size);
    Stdio { terminal, stdin: record.config.open_stdin == Some(true) }
}

/// Where the output goes. `create` has checked the options.
fn log(record: &Record, path: PathBuf) -> Log {
    let given = record.host_config.log_config.as_ref();
    if given.and_then(|given| given.typ.as_deref()) == Some("none") {
        return Log::None;
    }
    let option = |name: &str| given?.config.as_ref()?.get(name).cloned();
    let max_size = option("max-size").and_then(|text| caisson_api::words::parse_size(&text).ok());
    let max_files = option("max-file").and_then(|text| text.parse().ok()).unwrap_or(1);
    Log::JsonFile { path, max_size: max_size.unwrap_or(0).max(0) as u64, max_files }
}
