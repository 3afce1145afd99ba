//! What a case gets: a client, a runtime type, names of its own, and a clean-up of all that it made.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use bollard::query_parameters::{
    ListNetworksOptions, ListVolumesOptions, RemoveImageOptions, RemoveVolumeOptions,
};
use caisson_tests::Type;
use caisson_tests::engine::{
    Bollard, Cli, Client, Exec, Finished, IMAGE, Response, Session, Spec, at, request,
};
use serde_json::Value;

use crate::shared::Shared;

/// The label that names the case on all that it makes.
const LABEL: &str = "caisson.test";

/// A script that says `up`, and ends with 0 when it is asked to.
pub const IDLE: &str = "trap 'exit 0' TERM; sleep 600 & echo up; wait";

/// A case's surroundings; its client's calls are its own.
pub struct Ctx {
    pub kind: Type,
    pub socket: PathBuf,
    /// The client crate, for what only it can do.
    pub bollard: Bollard,
    /// Whether the engine is not Caisson's.
    pub reference: bool,
    client: Box<dyn Client>,
    /// The command line, when that is the client.
    cli: Option<Cli>,
    unique: String,
    place: tempfile::TempDir,
    images: Mutex<Vec<String>>,
}

impl Deref for Ctx {
    type Target = dyn Client;

    fn deref(&self) -> &Self::Target {
        &*self.client
    }
}

/// The word for a runtime type.
pub fn word(kind: Type) -> &'static str {
    match kind {
        Type::Process => "process",
        Type::Hyperv => "hyperv",
    }
}

impl Ctx {
    pub fn new(shared: &Shared, case: &str, kind: Type, cli: bool) -> Result<Self> {
        let socket = shared.socket()?;
        Self::on(&socket, case, kind, cli, shared.is_reference())
    }

    /// The same for the engine at a socket.
    pub fn on(socket: &Path, case: &str, kind: Type, cli: bool, reference: bool) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let unique = format!("t{}-{number}", std::process::id());
        let bollard = Bollard::new(socket)?;
        let client: Box<dyn Client> = match cli {
            true => Box::new(Cli::find(socket)?.context("docker is not installed")?),
            false => Box::new(bollard.clone()),
        };
        let place = tempfile::Builder::new().prefix(&format!("{case}-")).tempdir()?;
        let cli = if cli { Cli::find(socket)? } else { None };
        Ok(Ctx {
            kind,
            socket: socket.to_path_buf(),
            bollard,
            reference,
            client,
            cli,
            unique,
            place,
            images: Mutex::default(),
        })
    }

    /// Connects anew, through the client crate: the engine at its socket is another one now.
    pub fn reconnect(&mut self) -> Result<()> {
        self.bollard = Bollard::new(&self.socket)?;
        self.client = Box::new(self.bollard.clone());
        Ok(())
    }

    /// A directory of the host that is the case's own.
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    /// A name that no other case uses.
    pub fn name(&self, part: &str) -> String {
        format!("{}-{part}", self.unique)
    }

    /// The name of an image that is removed with the case.
    pub fn image(&self, part: &str) -> String {
        let image = format!("{}:1", self.name(part));
        self.images.lock().expect("the list of images").push(image.clone());
        image
    }

    /// The label that what the case makes must carry.
    pub fn label(&self) -> (String, String) {
        (LABEL.into(), self.unique.clone())
    }

    /// A container of the case's type that runs `args` on the image.
    pub fn spec(&self, args: &[&str]) -> Spec {
        let isolation = if self.reference { "" } else { word(self.kind) };
        Spec {
            image: IMAGE.into(),
            args: args.iter().map(|arg| arg.to_string()).collect(),
            isolation: isolation.into(),
            labels: [self.label()].into(),
            ..Spec::default()
        }
    }

    /// The same, named.
    pub fn named(&self, part: &str, args: &[&str]) -> Spec {
        Spec { name: self.name(part), ..self.spec(args) }
    }

    /// One that runs a script.
    pub fn script(&self, script: &str) -> Spec {
        self.spec(&["sh", "-c", script])
    }

    /// Runs a script to its end, which must be good; what it wrote.
    pub fn output(&self, spec: &Spec) -> Result<String> {
        let finished = self.run(spec, &[])?;
        ensure!(finished.code == 0, "{:?} ended with {finished:?}", spec.args);
        Ok(finished.stdout)
    }

    /// Creates and starts a container and waits until its output has `word`.
    pub fn start_until(&self, spec: &Spec, word: &str) -> Result<String> {
        let id = self.create(spec)?;
        let mut session = self.bollard.attach(&id, false, None)?;
        self.start(&id)?;
        session.until(word)?;
        Ok(id)
    }

    /// A running container that does nothing until it is told to end; its id.
    pub fn idle(&self) -> Result<String> {
        self.start_until(&self.script(IDLE), "up")
    }

    /// The same with a changed spec.
    pub fn idle_with(&self, change: impl FnOnce(&mut Spec)) -> Result<String> {
        let mut spec = self.script(IDLE);
        change(&mut spec);
        self.start_until(&spec, "up")
    }

    /// Runs one more process, which must end well; what it wrote.
    pub fn inside(&self, name: &str, args: &[&str]) -> Result<String> {
        let finished = self.exec(name, &Exec::new(args))?;
        ensure!(finished.code == 0, "{args:?} ended with {finished:?}");
        Ok(finished.stdout)
    }

    /// The command line, in a case that is only for it.
    pub fn cli(&self) -> Result<&Cli> {
        self.cli.as_ref().context("the client is not the command line")
    }

    /// A connection to a container's streams.
    pub fn attach(&self, name: &str) -> Result<Session> {
        self.bollard.attach(name, true, None)
    }

    /// One request as it is, for what no client sends.
    pub fn api(&self, method: &str, path: &str, body: Option<Value>) -> Result<Response> {
        request(&self.socket, method, path, body.as_ref())
    }

    /// The state's word, such as `running`.
    pub fn status(&self, name: &str) -> Result<String> {
        let inspect = self.inspect(name)?;
        Ok(at(&inspect, "State.Status").as_str().unwrap_or_default().to_string())
    }

    /// The address in the default network.
    pub fn address(&self, name: &str) -> Result<String> {
        let inspect = self.inspect(name)?;
        let address = at(&inspect, "NetworkSettings.Networks.bridge.IPAddress");
        Ok(address.as_str().with_context(|| format!("no address: {inspect}"))?.to_string())
    }

    /// The containers that the case has made.
    pub fn own(&self) -> Result<Vec<String>> {
        self.bollard.names(&[&format!("label={LABEL}={}", self.unique)])
    }

    /// Removes what the case has made.
    pub fn clean(&self) -> Result<()> {
        for name in self.own()? {
            self.bollard.remove(&name, true, true).with_context(|| format!("remove {name}"))?;
        }
        let docker = self.bollard.docker();
        for image in self.images.lock().expect("the list of images").drain(..) {
            let options = RemoveImageOptions { force: true, ..RemoveImageOptions::default() };
            // A case may have removed it, or never made it.
            let _ = self.bollard.call(docker.remove_image(&image, Some(options), None));
        }
        let volumes = self.bollard.call(docker.list_volumes(None::<ListVolumesOptions>))?;
        for volume in volumes.volumes.unwrap_or_default() {
            if volume.name.starts_with(&self.unique) {
                let options = RemoveVolumeOptions { force: true };
                self.bollard.call(docker.remove_volume(&volume.name, Some(options)))?;
            }
        }
        let networks = self.bollard.call(docker.list_networks(None::<ListNetworksOptions>))?;
        let names = networks.into_iter().filter_map(|network| network.name);
        for name in names.filter(|name| name.starts_with(&self.unique)) {
            self.bollard.call(docker.remove_network(&name))?;
        }
        Ok(())
    }
}

/// Both outputs together.
pub fn all(finished: &Finished) -> String {
    format!("{}{}", finished.stdout, finished.stderr)
}
