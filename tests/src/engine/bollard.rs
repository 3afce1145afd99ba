//! The client crate `bollard`, made synchronous: what Testcontainers and the like see.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use bollard::errors::Error;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ContainerConfig, ContainerUpdateBody, EventMessage};
use bollard::query_parameters::*;
use bollard::{Docker, body_full};
use futures_util::{Stream, StreamExt, TryStreamExt};
use serde_json::Value;

use super::session::{Session, add};
use super::{Client, Exec, Finished, LIMIT, Logs, Refused, Spec};

/// A connection to one engine.
#[derive(Clone)]
pub struct Bollard {
    docker: Docker,
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().expect("start the clients' runtime")
    })
}

/// Waits for what `work` gives, within the limit.
pub(super) fn bounded<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let result = runtime().block_on(async { tokio::time::timeout(LIMIT, work).await });
    result.with_context(|| format!("{what}: no end after {LIMIT:?}"))?
}

/// The client's error as this suite reads it.
pub(super) fn fail(error: Error) -> anyhow::Error {
    match error {
        Error::DockerResponseServerError { status_code, message } => {
            Refused { status: Some(status_code), code: None, message }.into()
        }
        Error::DockerStreamError { error } => {
            Refused { status: None, code: None, message: error }.into()
        }
        other => other.into(),
    }
}

fn filters(filters: &[&str]) -> Option<HashMap<String, Vec<String>>> {
    let mut map: HashMap<String, Vec<String>> = HashMap::new();
    for filter in filters {
        let (key, value) = filter.split_once('=').unwrap_or((filter, ""));
        map.entry(key.into()).or_default().push(value.into());
    }
    Some(map)
}

/// The engine's events, one by one.
pub struct Events(Pin<Box<dyn Stream<Item = Result<EventMessage, Error>> + Send>>);

impl Events {
    /// The next one.
    pub fn take(&mut self) -> Result<EventMessage> {
        bounded("wait for an event", async {
            self.0.next().await.context("the events ended")?.map_err(fail)
        })
    }

    /// Waits for the next one of this action.
    pub fn until(&mut self, action: &str) -> Result<EventMessage> {
        let mut seen = Vec::new();
        loop {
            let event = self.take().with_context(|| format!("waiting for {action}: {seen:?}"))?;
            let found = event.action.clone().unwrap_or_default();
            if found == action {
                return Ok(event);
            }
            seen.push(found);
        }
    }
}

impl Bollard {
    /// Connects to the engine at a unix socket and agrees on a version.
    pub fn new(socket: &Path) -> Result<Self> {
        let path = socket.to_str().context("the socket's path")?;
        bounded("connect to the engine", async {
            let docker =
                Docker::connect_with_unix(path, LIMIT.as_secs(), bollard::API_DEFAULT_VERSION)?;
            Ok(Bollard { docker: docker.negotiate_version().await.map_err(fail)? })
        })
    }

    /// The crate itself, for calls that only one case makes.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// One such call.
    pub fn call<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T> {
        bounded("call the engine", async { call.await.map_err(fail) })
    }

    /// Attaches to the first process; returns when the engine has answered.
    pub fn attach(&self, name: &str, stdin: bool, detach_keys: Option<&str>) -> Result<Session> {
        let options = AttachContainerOptions {
            stream: true,
            stdin,
            stdout: true,
            stderr: true,
            logs: false,
            detach_keys: detach_keys.map(str::to_string),
        };
        let attached = self.call(self.docker.attach_container(name, Some(options)))?;
        Ok(Session::new(attached.output, attached.input))
    }

    /// Starts one more process and stays connected; its id too.
    pub fn exec_session(&self, name: &str, exec: &Exec, tty: bool) -> Result<(String, Session)> {
        let mut config = exec.config();
        config.tty = Some(tty);
        config.attach_stdin = Some(true);
        let id = self.call(self.docker.create_exec(name, config))?.id;
        let options = StartExecOptions { tty, ..StartExecOptions::default() };
        match self.call(self.docker.start_exec(&id, Some(options)))? {
            StartExecResults::Attached { output, input } => Ok((id, Session::new(output, input))),
            StartExecResults::Detached => bail!("the exec is detached"),
        }
    }

    /// An ended exec's code.
    pub fn exec_code(&self, id: &str) -> Result<i64> {
        let exec = self.call(self.docker.inspect_exec(id))?;
        exec.exit_code.with_context(|| format!("no exit code: {exec:?}"))
    }

    /// Events since a time (seconds since 1970) that `filters` let through.
    pub fn events(&self, since: i64, filter: &[&str]) -> Events {
        let options =
            EventsOptions { since: Some(since.to_string()), until: None, filters: filters(filter) };
        Events(Box::pin(self.docker.events(Some(options))))
    }

    fn bytes(&self, stream: impl Stream<Item = Result<bytes::Bytes, Error>>) -> Result<Vec<u8>> {
        bounded("read from the engine", async {
            let parts: Vec<bytes::Bytes> = stream.try_collect().await.map_err(fail)?;
            Ok(parts.concat())
        })
    }
}

/// Splits `name:tag`.
fn reference(image: &str) -> (String, String) {
    let (name, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
    (name.into(), tag.into())
}

impl Client for Bollard {
    fn create(&self, spec: &Spec) -> Result<String> {
        let options = CreateContainerOptions {
            name: (!spec.name.is_empty()).then(|| spec.name.clone()),
            ..CreateContainerOptions::default()
        };
        Ok(self.call(self.docker.create_container(Some(options), spec.body()?))?.id)
    }

    fn start(&self, name: &str) -> Result<()> {
        self.call(self.docker.start_container(name, None::<StartContainerOptions>))
    }

    fn run(&self, spec: &Spec, stdin: &[u8]) -> Result<Finished> {
        let id = self.create(spec)?;
        let mut session = self.attach(&id, spec.stdin, None)?;
        self.start(&id)?;
        if spec.stdin {
            session.exchange(stdin)?;
        } else {
            session.finish()?;
        }
        let code = self.wait(&id)?;
        Ok(Finished { stdout: session.stdout, stderr: session.stderr, code })
    }

    fn wait(&self, name: &str) -> Result<i64> {
        let options = WaitContainerOptions { condition: "not-running".into() };
        let mut stream = Box::pin(self.docker.wait_container(name, Some(options)));
        bounded("wait for the container's end", async {
            match stream.next().await.context("no answer to wait")? {
                Ok(response) => Ok(response.status_code),
                Err(Error::DockerContainerWaitError { code, error }) if error.is_empty() => {
                    Ok(code)
                }
                Err(error) => Err(fail(error)),
            }
        })
    }

    fn stop(&self, name: &str, seconds: Option<u32>) -> Result<()> {
        let options = StopContainerOptions { t: seconds.map(|t| t as i32), signal: None };
        self.call(self.docker.stop_container(name, Some(options)))
    }

    fn restart(&self, name: &str, seconds: Option<u32>) -> Result<()> {
        let options = RestartContainerOptions { t: seconds.map(|t| t as i32), signal: None };
        self.call(self.docker.restart_container(name, Some(options)))
    }

    fn kill(&self, name: &str, signal: &str) -> Result<()> {
        let options = KillContainerOptions { signal: signal.into() };
        self.call(self.docker.kill_container(name, Some(options)))
    }

    fn pause(&self, name: &str) -> Result<()> {
        self.call(self.docker.pause_container(name))
    }

    fn unpause(&self, name: &str) -> Result<()> {
        self.call(self.docker.unpause_container(name))
    }

    fn rename(&self, name: &str, new: &str) -> Result<()> {
        let options = RenameContainerOptions { name: new.into() };
        self.call(self.docker.rename_container(name, options))
    }

    fn remove(&self, name: &str, force: bool, volumes: bool) -> Result<()> {
        let options = RemoveContainerOptions { force, v: volumes, link: false };
        self.call(self.docker.remove_container(name, Some(options)))
    }

    fn exec(&self, name: &str, exec: &Exec) -> Result<Finished> {
        let id = self.call(self.docker.create_exec(name, exec.config()))?.id;
        let options = StartExecOptions::default();
        let started = self.call(self.docker.start_exec(&id, Some(options)))?;
        let StartExecResults::Attached { output, input } = started else {
            bail!("the exec is detached");
        };
        let mut session = Session::new(output, input);
        match &exec.stdin {
            Some(bytes) => session.exchange(bytes)?,
            None => session.finish()?,
        }
        let code = self.exec_code(&id)?;
        Ok(Finished { stdout: session.stdout, stderr: session.stderr, code })
    }

    fn inspect(&self, name: &str) -> Result<Value> {
        let options = None::<InspectContainerOptions>;
        Ok(serde_json::to_value(self.call(self.docker.inspect_container(name, options))?)?)
    }

    fn names(&self, filter: &[&str]) -> Result<Vec<String>> {
        let options = ListContainersOptions {
            all: true,
            filters: filters(filter),
            ..ListContainersOptions::default()
        };
        let containers = self.call(self.docker.list_containers(Some(options)))?;
        let names =
            containers.into_iter().flat_map(|container| container.names.unwrap_or_default());
        Ok(names.map(|name| name.trim_start_matches('/').to_string()).collect())
    }

    fn logs(&self, name: &str, logs: &Logs) -> Result<Finished> {
        let options = LogsOptions {
            follow: logs.follow,
            stdout: true,
            stderr: true,
            since: logs.since.unwrap_or(0) as i32,
            until: logs.until.unwrap_or(0) as i32,
            timestamps: logs.timestamps,
            tail: logs.tail.map_or("all".into(), |lines| lines.to_string()),
        };
        let mut stream = Box::pin(self.docker.logs(name, Some(options)));
        let (mut stdout, mut stderr) = (String::new(), String::new());
        bounded("read the logs", async {
            while let Some(part) = stream.next().await {
                add(part.map_err(fail)?, &mut stdout, &mut stderr);
            }
            Ok(())
        })?;
        Ok(Finished { stdout, stderr, code: 0 })
    }

    fn top(&self, name: &str) -> Result<Vec<(i32, String)>> {
        let top = self.call(self.docker.top_processes(name, None::<TopOptions>))?;
        let titles = top.titles.unwrap_or_default();
        let column = |names: &[&str]| {
            let found = titles.iter().position(|title| names.contains(&title.as_str()));
            found.with_context(|| format!("no column {names:?} in {titles:?}"))
        };
        let (pid, command) = (column(&["PID"])?, column(&["CMD", "COMMAND"])?);
        let row = |row: Vec<String>| {
            let pid = row.get(pid).context("a pid")?.parse()?;
            Ok((pid, row.get(command).context("a command")?.clone()))
        };
        top.processes.unwrap_or_default().into_iter().map(row).collect()
    }

    fn changes(&self, name: &str) -> Result<Vec<String>> {
        let changes = self.call(self.docker.container_changes(name))?.unwrap_or_default();
        let line = |change: bollard::models::FilesystemChange| {
            let value = serde_json::to_value(&change)?;
            let kind = ["C", "A", "D"][value["Kind"].as_u64().context("a kind")? as usize % 3];
            Ok(format!("{kind} {}", change.path))
        };
        changes.into_iter().map(line).collect()
    }

    fn update_memory(&self, name: &str, bytes: i64) -> Result<()> {
        let body = ContainerUpdateBody {
            memory: Some(bytes),
            memory_swap: Some(bytes),
            ..ContainerUpdateBody::default()
        };
        self.call(self.docker.update_container(name, body))
    }

    fn copy_in(&self, name: &str, directory: &str, archive: &[u8]) -> Result<()> {
        let options = UploadToContainerOptions {
            path: directory.into(),
            ..UploadToContainerOptions::default()
        };
        let body = body_full(archive.to_vec().into());
        self.call(self.docker.upload_to_container(name, Some(options), body))
    }

    fn copy_out(&self, name: &str, path: &str) -> Result<Vec<u8>> {
        let options = DownloadFromContainerOptions { path: path.into() };
        self.bytes(self.docker.download_from_container(name, Some(options)))
    }

    fn commit(&self, name: &str, image: &str) -> Result<String> {
        let (repo, tag) = reference(image);
        let options = CommitContainerOptions {
            container: Some(name.into()),
            repo: Some(repo),
            tag: Some(tag),
            pause: true,
            ..CommitContainerOptions::default()
        };
        Ok(self.call(self.docker.commit_container(options, ContainerConfig::default()))?.id)
    }

    fn export(&self, name: &str) -> Result<Vec<u8>> {
        self.bytes(self.docker.export_container(name))
    }

    fn import(&self, archive: &[u8], image: &str, command: &str) -> Result<()> {
        let (repo, tag) = reference(image);
        let options = CreateImageOptions {
            from_src: Some("-".into()),
            repo: Some(repo),
            tag: Some(tag),
            changes: vec![format!("CMD [\"{command}\"]")],
            ..CreateImageOptions::default()
        };
        let body = body_full(archive.to_vec().into());
        let stream = self.docker.create_image(Some(options), Some(body), None);
        bounded("import an image", async {
            stream.try_collect::<Vec<_>>().await.map(drop).map_err(fail)
        })
    }

    fn load(&self, archive: &[u8]) -> Result<()> {
        let body = body_full(archive.to_vec().into());
        let stream = self.docker.import_image(ImportImageOptions::default(), body, None);
        bounded("load an archive", async {
            stream.try_collect::<Vec<_>>().await.map(drop).map_err(fail)
        })
    }

    fn save(&self, images: &[&str]) -> Result<Vec<u8>> {
        self.bytes(self.docker.export_images(images))
    }

    fn tag(&self, image: &str, new: &str) -> Result<()> {
        let (repo, tag) = reference(new);
        let options = TagImageOptions { repo: Some(repo), tag: Some(tag) };
        self.call(self.docker.tag_image(image, Some(options)))
    }

    fn remove_image(&self, image: &str) -> Result<()> {
        let options = None::<RemoveImageOptions>;
        self.call(self.docker.remove_image(image, options, None)).map(drop)
    }

    fn images(&self) -> Result<Vec<String>> {
        let images = self.call(self.docker.list_images(None::<ListImagesOptions>))?;
        Ok(images.into_iter().flat_map(|image| image.repo_tags).collect())
    }

    fn inspect_image(&self, image: &str) -> Result<Value> {
        Ok(serde_json::to_value(self.call(self.docker.inspect_image(image))?)?)
    }
}
