//! A caissond of the benchmark's own, and clients of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use caisson_tests::engine::{Cli, Daemon, Options, request};

/// How long a client may take.
const LIMIT: u32 = 300;
/// How long a guest may take to be ready for a start.
const STANDBY: Duration = Duration::from_secs(60);

/// Runs clients with one daemon's address.
#[derive(Debug, Clone)]
pub struct Client {
    program: PathBuf,
    socket: PathBuf,
    /// The docker client's own directory: none of the user's settings.
    settings: PathBuf,
}

impl Client {
    pub fn new(program: PathBuf, socket: &Path, settings: &Path) -> Self {
        Client { program, socket: socket.to_path_buf(), settings: settings.to_path_buf() }
    }

    /// Runs a command to its end; its output and how long it took.
    pub fn run(&self, words: &[&str]) -> Result<(String, Duration)> {
        let host = format!("unix://{}", self.socket.display());
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &LIMIT.to_string()]).arg(&self.program).args(words);
        command.env("DOCKER_HOST", &host).env("CAISSON_HOST", &host);
        command.env("DOCKER_CONFIG", &self.settings).env_remove("DOCKER_CONTEXT");
        let begun = Instant::now();
        let output = command.stdin(Stdio::null()).output().context("run timeout")?;
        let took = begun.elapsed();
        let errors = String::from_utf8_lossy(&output.stderr);
        let program = self.program.display();
        ensure!(output.status.success(), "{program} {}: {}", words.join(" "), errors.trim());
        Ok((String::from_utf8_lossy(&output.stdout).trim().to_string(), took))
    }

    /// The same, without what it says.
    pub fn time(&self, words: &[&str]) -> Result<Duration> {
        self.run(words).map(|(_, took)| took)
    }

    /// The pid that `inspect` names.
    pub fn pid(&self, name: &str) -> Result<i32> {
        let (text, _) = self.run(&["inspect", "--format", "{{.State.Pid}}", name])?;
        text.parse().with_context(|| format!("{name} has the pid {text:?}"))
    }
}

/// The daemon, with one guest on standby.
pub struct Engine {
    daemon: Daemon,
    /// What the peers are measured with too: the docker command line, or ours where it is missing.
    pub client: Client,
    /// Our own command line.
    pub own: Client,
}

impl Engine {
    pub fn start() -> Result<Self> {
        let daemon = Daemon::start_empty(Options { standby: 1, ..Options::default() })?;
        let socket = daemon.socket();
        let own = Client::new(crate::release().join("caisson"), &socket, daemon.place());
        let client = match Cli::is_installed() {
            true => Client::new("docker".into(), &socket, daemon.place()),
            false => own.clone(),
        };
        Ok(Engine { daemon, client, own })
    }

    pub fn pid(&self) -> Result<i32> {
        self.daemon.pid()
    }

    /// Waits until a guest is ready for the next start. The pool tells nobody, so it is asked.
    pub fn warm(&self) -> Result<()> {
        let deadline = Instant::now() + STANDBY;
        while Instant::now() < deadline {
            let info = request(&self.daemon.socket(), "GET", "/info", None)?.json()?;
            let lines = info["DriverStatus"].as_array().cloned().unwrap_or_default();
            let guests = lines.iter().find(|line| line[0] == "Guests on standby");
            if guests.is_some_and(|line| line[1] != "0") {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("no guest is on standby after {STANDBY:?}: {}", self.daemon.log())
    }
}
