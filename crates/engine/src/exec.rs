//! More processes in a running container.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use caisson_protocol::supervisor::{Exec as Request, Request as Ask, Streams};
use caisson_protocol::task::{self, FailureKind, ProcessId, Stdio, TerminalSize};
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::supervisor::Client;
use crate::volume::random_name;
use crate::{Container, Engine, blocking, wire};

/// How long an exec's end may be on its way after its streams have closed.
const ON_ITS_WAY: Duration = Duration::from_secs(5);
/// Most ended execs that are remembered.
const MOST_ENDED: usize = 512;
/// The exit code of an exec whose container ended with it.
const KILLED: i32 = 137;

/// The execs that are known, by id.
#[derive(Default)]
pub(crate) struct Execs(Mutex<HashMap<String, Arc<Exec>>>);

struct Exec {
    id: String,
    container: String,
    config: wire::ExecConfig,
    created: i64,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Created,
    Starting,
    Running { pid: i32 },
    Ended { code: i32 },
}

#[derive(Debug, Clone, Default)]
pub struct ExecStart {
    /// Nobody wants its streams.
    pub detach: bool,
    pub tty: bool,
    /// The terminal's size.
    pub rows_columns: Option<(u16, u16)>,
}

impl Execs {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Exec>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: &str) -> Result<Arc<Exec>> {
        let missing = || Error::not_found(format!("No such exec instance: {id}"));
        self.lock().get(id).cloned().ok_or_else(missing)
    }

    /// Adds one, in place of the oldest ended one when there are many.
    fn add(&self, exec: Arc<Exec>) {
        let mut execs = self.lock();
        if execs.len() >= MOST_ENDED {
            let ended = execs.values().filter(|exec| exec.ended());
            if let Some(oldest) = ended.min_by_key(|exec| exec.created).map(|exec| exec.id.clone())
            {
                execs.remove(&oldest);
            }
        }
        execs.insert(exec.id.clone(), exec);
    }

    fn of(&self, container: &str) -> Vec<Arc<Exec>> {
        self.lock().values().filter(|exec| exec.container == container).cloned().collect()
    }
}

impl Exec {
    fn state(&self) -> State {
        *self.state.borrow()
    }

    fn ended(&self) -> bool {
        matches!(self.state(), State::Ended { .. })
    }

    /// Records the end; false if it is known already.
    fn end(&self, code: i32) -> bool {
        self.state.send_if_modified(|state| {
            let news = !matches!(state, State::Ended { .. });
            *state = if news { State::Ended { code } } else { *state };
            news
        })
    }
}

impl Engine {
    /// Prepares a process; its id.
    pub async fn exec_create(&self, name: &str, config: wire::ExecConfig) -> Result<String> {
        let container = self.0.containers.get(name)?;
        container.must_run()?;
        refuse_paused(&container)?;
        // What cannot be is told before anything starts.
        let (engine, record, given) = (self.clone(), container.record(), config.clone());
        blocking(move || engine.exec_process(&record, &given)).await?;
        let id = random_name()?;
        let exec = Exec {
            id: id.clone(),
            container: container.id.clone(),
            config,
            created: crate::now(),
            state: watch::channel(State::Created).0,
        };
        self.tell_exec(&container, &exec, "exec_create", &[]);
        self.0.execs.add(Arc::new(exec));
        Ok(id)
    }

    /// Starts it; its streams, unless it is detached.
    pub async fn exec_start(&self, id: &str, start: ExecStart) -> Result<Option<UnixStream>> {
        let exec = self.0.execs.get(id)?;
        let container = self.0.containers.get(&exec.container)?;
        container.must_run()?;
        refuse_paused(&container)?;
        let mine = exec.state.send_if_modified(|state| {
            let mine = *state == State::Created;
            *state = if mine { State::Starting } else { *state };
            mine
        });
        match exec.state() {
            State::Ended { .. } => {
                return Err(Error::conflict(format!("exec {id} has already run")));
            }
            _ if !mine => {
                return Err(Error::conflict(format!(
                    "Error: Exec command {id} is already running"
                )));
            }
            _ => {}
        }
        match self.exec_run(&container, &exec, start).await {
            Ok(stream) => {
                self.tell_exec(&container, &exec, "exec_start", &[]);
                Ok(stream)
            }
            Err((error, code)) => {
                exec.end(code);
                Err(error.doing("exec failed: unable to start container process"))
            }
        }
    }

    async fn exec_run(
        &self,
        container: &Arc<Container>,
        exec: &Exec,
        start: ExecStart,
    ) -> std::result::Result<Option<UnixStream>, (Error, i32)> {
        let other = |error| (error, 126);
        let (engine, record, config) = (self.clone(), container.record(), exec.config.clone());
        let process = blocking(move || engine.exec_process(&record, &config)).await;
        let given = |flag: Option<bool>| flag == Some(true);
        let config = &exec.config;
        let terminal = given(config.tty).then(|| {
            let console = config.console_size.as_deref();
            let asked = match console {
                Some([rows, columns]) => {
                    let cells = |count: usize| u16::try_from(count).unwrap_or_default();
                    Some((cells(*rows), cells(*columns)))
                }
                _ => None,
            };
            let (rows, columns) = start.rows_columns.or(asked).unwrap_or_default();
            TerminalSize { rows, columns }
        });
        let streams = Streams {
            stdin: given(config.attach_stdin),
            stdout: given(config.attach_stdout),
            stderr: given(config.attach_stderr),
        };
        let request = Request {
            id: exec.id.clone(),
            process: process.map_err(other)?,
            stdio: Stdio { terminal, stdin: streams.stdin && !start.detach },
            attach: (!start.detach).then_some(streams),
        };
        let client = self.client(container).await.map_err(other)?;
        let (pid, stream) = run(client, request).await?;
        // It may have ended already.
        exec.state.send_if_modified(|state| {
            let news = *state == State::Starting;
            *state = if news { State::Running { pid } } else { *state };
            news
        });
        Ok(stream.filter(|_| !start.detach))
    }

    /// Takes note of an exec's end.
    pub(crate) fn exec_ended(&self, id: &str, code: i32) {
        let Ok(exec) = self.0.execs.get(id) else { return };
        if exec.end(code)
            && let Ok(container) = self.0.containers.get(&exec.container)
        {
            self.tell_exec(&container, &exec, "exec_die", &[("exitCode", &code.to_string())]);
        }
    }

    /// The container has ended, and all its execs with it.
    pub(crate) fn execs_ended(&self, container: &str) {
        for exec in self.0.execs.of(container) {
            if matches!(exec.state(), State::Running { .. } | State::Starting) {
                self.exec_ended(&exec.id, KILLED);
            }
        }
    }

    /// The container is gone.
    pub(crate) fn execs_forget(&self, container: &str) {
        self.0.execs.lock().retain(|_, exec| exec.container != container);
    }

    pub async fn exec_inspect(&self, id: &str) -> Result<wire::ExecInspectResponse> {
        let exec = self.0.execs.get(id)?;
        self.exec_catch_up(&exec).await;
        let state = exec.state();
        let config = &exec.config;
        let command = config.cmd.clone().unwrap_or_default();
        let (pid, code) = match state {
            State::Running { pid } => (pid, None),
            State::Ended { code } => (0, Some(i64::from(code))),
            State::Created | State::Starting => (0, None),
        };
        Ok(wire::ExecInspectResponse {
            can_remove: Some(code.is_some()),
            detach_keys: config.detach_keys.clone(),
            id: Some(exec.id.clone()),
            running: Some(matches!(state, State::Running { .. })),
            exit_code: code,
            process_config: Some(wire::ProcessConfig {
                privileged: config.privileged,
                user: config.user.clone(),
                tty: config.tty,
                entrypoint: command.first().cloned(),
                arguments: command.get(1..).map(<[String]>::to_vec),
            }),
            open_stdin: config.attach_stdin,
            open_stderr: config.attach_stderr,
            open_stdout: config.attach_stdout,
            container_id: Some(exec.container.clone()),
            pid: Some(i64::from(pid)),
        })
    }

    /// Who saw the streams close may ask before the end has been told here: the supervisor knows it.
    async fn exec_catch_up(&self, exec: &Exec) {
        if !matches!(exec.state(), State::Running { .. }) {
            return;
        }
        let asked = async {
            let container = self.0.containers.get(&exec.container)?;
            self.client(&container).await?.status().await
        };
        match asked.await {
            Ok(status) => {
                let known = status.execs.iter().find(|(id, _)| *id == exec.id);
                if let Some((_, Some(exit))) = known {
                    self.exec_ended(&exec.id, exit.code);
                }
            }
            // The container ends at this moment: whoever follows it tells.
            Err(_) => {
                let mut state = exec.state.subscribe();
                let ended = state.wait_for(|state| matches!(state, State::Ended { .. }));
                let _ = tokio::time::timeout(ON_ITS_WAY, ended).await;
            }
        }
    }

    pub async fn exec_resize(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        let exec = self.0.execs.get(id)?;
        let container = self.0.containers.get(&exec.container)?;
        let mut state = exec.state.subscribe();
        // A client asks for it while the start is under way.
        let started = state.wait_for(|state| *state != State::Starting);
        let _ = tokio::time::timeout(ON_ITS_WAY, started).await;
        if !matches!(exec.state(), State::Running { .. }) {
            return Err(Error::conflict(format!("exec {id} is not running")));
        }
        let process = ProcessId::Exec(exec.id.clone());
        let size = TerminalSize { rows, columns };
        self.task(&container, task::Request::Resize { process, size }).await.map(drop)
    }

    pub async fn exec_tty(&self, id: &str) -> Result<bool> {
        Ok(self.0.execs.get(id)?.config.tty == Some(true))
    }

    /// The ids of a container's execs that are under way.
    pub(crate) fn exec_ids(&self, container: &str) -> Option<Vec<String>> {
        let execs = self.0.execs.of(container);
        let live = execs.iter().filter(|exec| !exec.ended());
        let mut ids: Vec<_> = live.map(|exec| exec.id.clone()).collect();
        ids.sort();
        Some(ids).filter(|ids| !ids.is_empty())
    }

    fn tell_exec(&self, container: &Container, exec: &Exec, verb: &str, more: &[(&str, &str)]) {
        let action = match verb {
            "exec_die" => verb.to_string(),
            _ => format!("{verb}: {}", exec.config.cmd.clone().unwrap_or_default().join(" ")),
        };
        let mut attributes = vec![("execID", exec.id.as_str())];
        attributes.extend_from_slice(more);
        self.tell_container(&container.record(), &action, &attributes);
    }
}

/// Asks the supervisor; the exit code that Docker gives a start that fails.
async fn run(
    mut client: Client,
    request: Request,
) -> std::result::Result<(i32, Option<UnixStream>), (Error, i32)> {
    let attach = request.attach.is_some();
    match client.exec(&Ask::Exec(Box::new(request))).await {
        Err(error) => Err((error, 126)),
        Ok(task::Reply::Started { pid }) => Ok((pid, attach.then(|| client.into_stream()))),
        Ok(task::Reply::Failed(failure)) => {
            let code = if failure.kind == FailureKind::NotFound { 127 } else { 126 };
            Err((failure.into(), code))
        }
        Ok(other) => {
            Err((Error::internal(format!("the supervisor answered out of turn: {other:?}")), 126))
        }
    }
}

fn refuse_paused(container: &Container) -> Result<()> {
    if container.look(|record| record.state.paused) {
        return Err(Error::conflict(format!(
            "Container {} is paused, unpause the container before exec",
            container.id
        )));
    }
    Ok(())
}
