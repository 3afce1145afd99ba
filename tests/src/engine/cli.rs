//! The stock docker command line.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Client, Exec, Finished, LIMIT, Logs, Refused, Spec};

/// The command line for one engine.
pub struct Cli {
    program: PathBuf,
    host: String,
    /// An empty configuration, so that this machine's says nothing.
    config: tempfile::TempDir,
}

impl Cli {
    /// Whether the docker command line is on this machine.
    pub fn is_installed() -> bool {
        installed().is_some()
    }

    /// The docker command line, when it is installed.
    pub fn find(socket: &Path) -> Result<Option<Self>> {
        installed().map(|program| Self::new(program, socket)).transpose()
    }

    /// Another program that takes the same commands.
    pub fn new(program: PathBuf, socket: &Path) -> Result<Self> {
        let config = tempfile::tempdir().context("make a configuration directory")?;
        Ok(Cli { program, host: format!("unix://{}", socket.display()), config })
    }

    /// The command with these arguments, bounded in time.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.arg("--kill-after=10").arg(LIMIT.as_secs().to_string()).arg(&self.program);
        command.args(arguments);
        command.env("DOCKER_HOST", &self.host).env("DOCKER_CONFIG", self.config.path());
        command.env_remove("DOCKER_CONTEXT").env_remove("CAISSON_HOST");
        command
    }

    /// Runs it to the end, whatever it ends with; its standard output as bytes.
    pub fn output(&self, arguments: &[&str], stdin: &[u8]) -> Result<(Vec<u8>, String, i64)> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start timeout docker")?;
        let mut input = child.stdin.take().context("its input")?;
        let mut errors = child.stderr.take().context("its errors")?;
        let mut output = Vec::new();
        let stderr = std::thread::scope(|scope| -> Result<String> {
            // A client that does not read its input ends all the same.
            scope.spawn(move || input.write_all(stdin));
            let stderr = scope.spawn(move || {
                let mut bytes = Vec::new();
                errors.read_to_end(&mut bytes).map(|_| bytes)
            });
            child.stdout.take().context("its output")?.read_to_end(&mut output)?;
            let bytes = stderr.join().map_err(|_| anyhow::anyhow!("a reader panicked"))??;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        })?;
        let status = child.wait()?;
        let code = status.code().with_context(|| format!("docker {arguments:?}: {status}"))?;
        ensure!(code != 124, "docker {arguments:?} did not end in {LIMIT:?}: {stderr}");
        Ok((output, stderr, i64::from(code)))
    }

    /// The same, which must succeed.
    fn bytes(&self, arguments: &[&str], stdin: &[u8]) -> Result<Vec<u8>> {
        let (output, stderr, code) = self.output(arguments, stdin)?;
        if code != 0 {
            return Err(no(code, stderr).into());
        }
        Ok(output)
    }

    /// Its output as text, without the last line's end.
    pub fn text(&self, arguments: &[&str]) -> Result<String> {
        let bytes = self.bytes(arguments, &[])?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_string())
    }

    fn finished(&self, arguments: &[&str], stdin: &[u8]) -> Result<Finished> {
        let (output, stderr, code) = self.output(arguments, stdin)?;
        let stdout = String::from_utf8_lossy(&output).into_owned();
        Ok(Finished { stdout, stderr, code })
    }

    fn quiet(&self, arguments: &[&str]) -> Result<()> {
        self.bytes(arguments, &[]).map(drop)
    }
}

/// Docker's own, or another program that takes the same commands, such as Caisson's.
fn installed() -> Option<PathBuf> {
    if let Some(other) = std::env::var_os("CAISSON_TEST_CLI") {
        return Some(other.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|place| place.join("docker")).find(|path| path.is_file())
}

fn no(code: i64, stderr: String) -> Refused {
    let message = stderr.trim().trim_start_matches("docker: ").trim_start_matches("caisson: ");
    let message = message.trim_start_matches("Error response from daemon: ").to_string();
    Refused { status: None, code: Some(code), message }
}

fn words<'a>(before: &[&'a str], flags: &'a [String], after: &[&'a str]) -> Vec<&'a str> {
    let flags = flags.iter().map(String::as_str);
    before.iter().copied().chain(flags).chain(after.iter().copied()).collect()
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_string).collect()
}

impl Client for Cli {
    fn create(&self, spec: &Spec) -> Result<String> {
        self.text(&words(&["create", "--pull=never"], &spec.command_line(), &[]))
    }

    fn start(&self, name: &str) -> Result<()> {
        self.quiet(&["start", name])
    }

    fn run(&self, spec: &Spec, stdin: &[u8]) -> Result<Finished> {
        let line = spec.command_line();
        let finished = self.finished(&words(&["run", "--pull=never"], &line, &[]), stdin)?;
        if finished.code == 125 {
            return Err(no(125, finished.stderr).into());
        }
        Ok(finished)
    }

    fn wait(&self, name: &str) -> Result<i64> {
        Ok(self.text(&["wait", name])?.parse()?)
    }

    fn stop(&self, name: &str, seconds: Option<u32>) -> Result<()> {
        let time = seconds.map(|seconds| format!("-t={seconds}"));
        self.quiet(&words(&["stop"], time.as_slice(), &[name]))
    }

    fn restart(&self, name: &str, seconds: Option<u32>) -> Result<()> {
        let time = seconds.map(|seconds| format!("-t={seconds}"));
        self.quiet(&words(&["restart"], time.as_slice(), &[name]))
    }

    fn kill(&self, name: &str, signal: &str) -> Result<()> {
        self.quiet(&["kill", "--signal", signal, name])
    }

    fn pause(&self, name: &str) -> Result<()> {
        self.quiet(&["pause", name])
    }

    fn unpause(&self, name: &str) -> Result<()> {
        self.quiet(&["unpause", name])
    }

    fn rename(&self, name: &str, new: &str) -> Result<()> {
        self.quiet(&["rename", name, new])
    }

    fn remove(&self, name: &str, force: bool, volumes: bool) -> Result<()> {
        let mut arguments = vec!["rm"];
        arguments.extend(force.then_some("--force"));
        arguments.extend(volumes.then_some("--volumes"));
        arguments.push(name);
        self.quiet(&arguments)
    }

    fn exec(&self, name: &str, exec: &Exec) -> Result<Finished> {
        let args: Vec<&str> = exec.args.iter().map(String::as_str).collect();
        let after = [&[name], &args[..]].concat();
        let stdin = exec.stdin.as_deref().unwrap_or_default();
        self.finished(&words(&["exec"], &exec.flags(), &after), stdin)
    }

    fn inspect(&self, name: &str) -> Result<Value> {
        let text = self.text(&["container", "inspect", name])?;
        let mut found: Vec<Value> = serde_json::from_str(&text)?;
        found.pop().context("inspect shows nothing")
    }

    fn names(&self, filters: &[&str]) -> Result<Vec<String>> {
        let flags: Vec<_> = filters.iter().map(|filter| format!("--filter={filter}")).collect();
        let before = ["ps", "--all", "--no-trunc", "--format={{.Names}}"];
        Ok(lines(&self.text(&words(&before, &flags, &[]))?))
    }

    fn logs(&self, name: &str, logs: &Logs) -> Result<Finished> {
        let mut flags = Vec::new();
        flags.extend(logs.follow.then(|| "--follow".to_string()));
        flags.extend(logs.timestamps.then(|| "--timestamps".to_string()));
        flags.extend(logs.tail.map(|lines| format!("--tail={lines}")));
        flags.extend(logs.since.map(|time| format!("--since={time}")));
        flags.extend(logs.until.map(|time| format!("--until={time}")));
        let finished = self.finished(&words(&["logs"], &flags, &[name]), &[])?;
        match finished.code {
            0 => Ok(finished),
            code => Err(no(code, finished.stderr).into()),
        }
    }

    fn top(&self, name: &str) -> Result<Vec<(i32, String)>> {
        let text = self.text(&["top", name])?;
        let title = text.lines().next().unwrap_or_default();
        let pid = title.split_whitespace().position(|word| word == "PID").context("no PID")?;
        let count = title.split_whitespace().count();
        let row = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let pid = words.get(pid).context("a pid")?.parse()?;
            Ok((pid, words.get(count - 1..).unwrap_or_default().join(" ")))
        };
        text.lines().skip(1).map(row).collect()
    }

    fn changes(&self, name: &str) -> Result<Vec<String>> {
        Ok(lines(&self.text(&["diff", name])?))
    }

    fn update_memory(&self, name: &str, bytes: i64) -> Result<()> {
        let (memory, both) = (format!("--memory={bytes}b"), format!("--memory-swap={bytes}b"));
        self.quiet(&["update", &memory, &both, name])
    }

    fn copy_in(&self, name: &str, directory: &str, archive: &[u8]) -> Result<()> {
        self.bytes(&["cp", "-", &format!("{name}:{directory}")], archive).map(drop)
    }

    fn copy_out(&self, name: &str, path: &str) -> Result<Vec<u8>> {
        self.bytes(&["cp", &format!("{name}:{path}"), "-"], &[])
    }

    fn commit(&self, name: &str, image: &str) -> Result<String> {
        self.text(&["commit", name, image])
    }

    fn export(&self, name: &str) -> Result<Vec<u8>> {
        self.bytes(&["export", name], &[])
    }

    fn import(&self, archive: &[u8], image: &str, command: &str) -> Result<()> {
        let change = format!("--change=CMD [\"{command}\"]");
        self.bytes(&["import", &change, "-", image], archive).map(drop)
    }

    fn load(&self, archive: &[u8]) -> Result<()> {
        self.bytes(&["load"], archive).map(drop)
    }

    fn save(&self, images: &[&str]) -> Result<Vec<u8>> {
        self.bytes(&[&["save"], images].concat(), &[])
    }

    fn tag(&self, image: &str, new: &str) -> Result<()> {
        self.quiet(&["tag", image, new])
    }

    fn remove_image(&self, image: &str) -> Result<()> {
        self.quiet(&["rmi", image])
    }

    fn images(&self) -> Result<Vec<String>> {
        Ok(lines(&self.text(&["images", "--format={{.Repository}}:{{.Tag}}"])?))
    }

    fn inspect_image(&self, image: &str) -> Result<Value> {
        let text = self.text(&["image", "inspect", image])?;
        let mut found: Vec<Value> = serde_json::from_str(&text)?;
        found.pop().context("inspect shows nothing")
    }
}
