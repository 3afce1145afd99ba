//! Commands against a daemon of its own, typed and answered as in a shell. The demo shows them; the
//! benchmark runs them silently.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Seconds that one command may take: an emulated guest boots within them on a busy machine.
const LIMIT: u32 = 180;

/// A shell's view of one daemon.
pub struct Session {
    /// Where `caisson` is.
    programs: PathBuf,
    /// The daemon's address.
    host: String,
    /// Whether output goes to someone who sees colours.
    colour: bool,
    /// Set when the user wants to leave.
    interrupted: Arc<AtomicBool>,
}

/// What a command wrote, and how long it took.
#[derive(Debug)]
pub struct Said {
    pub stdout: String,
    pub stderr: String,
    pub success: bool,
    pub took: Duration,
}

impl Said {
    /// Its output without the last line's end.
    pub fn text(&self) -> &str {
        self.stdout.trim_end()
    }
}

impl Session {
    /// Commands for the daemon that listens on `socket`. An interrupt (Ctrl-C) no longer ends this
    /// process: the command that it ends fails, and what was started is cleaned up.
    pub fn new(programs: &Path, socket: &Path) -> Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, interrupted.clone())
                .context("watch for an interrupt")?;
        }
        Ok(Session {
            programs: programs.to_path_buf(),
            host: format!("unix://{}", socket.display()),
            colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
            interrupted,
        })
    }

    /// A heading.
    pub fn title(&self, text: &str) {
        println!("\n{}", self.painted("1", &format!("# {text}")));
    }

    /// A remark.
    pub fn remark(&self, text: &str) {
        println!("{}", self.painted("2", &format!("  {text}")));
    }

    /// Shows a command as typed.
    pub fn typed(&self, line: &str) {
        println!("{}", self.painted("36", &format!("$ {line}")));
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    /// Types a `caisson` command, shows what it says, and expects success.
    pub fn caisson(&self, words: &[&str]) -> Result<Said> {
        self.show("caisson", words)?.expect_success(words)
    }

    /// Types any command, shows what it says, whatever it ends with.
    pub fn show(&self, program: &str, words: &[&str]) -> Result<Said> {
        self.typed(&line(program, words));
        let said = self.quiet(program, words)?;
        for line in said.stdout.lines().chain(said.stderr.lines()) {
            println!("  {line}");
        }
        Ok(said)
    }

    /// Runs a `caisson` command without showing it, and expects success.
    pub fn silent(&self, words: &[&str]) -> Result<Said> {
        self.quiet("caisson", words)?.expect_success(words)
    }

    /// Runs a command without showing it, within a time limit.
    pub fn quiet(&self, program: &str, words: &[&str]) -> Result<Said> {
        ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted");
        let begun = Instant::now();
        let output = self.command(program, words).output().context("run timeout")?;
        let took = begun.elapsed();
        let Output { status, stdout, stderr } = output;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let line = line(program, words);
        ensure!(status.code() != Some(124), "{line}: not done after {LIMIT} seconds");
        Ok(Said { stdout: text(stdout), stderr: text(stderr), success: status.success(), took })
    }

    /// Starts a `caisson` command whose output is read while it runs.
    pub fn following(&self, words: &[&str]) -> Result<Following> {
        let mut command = self.command("caisson", words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("run timeout")?;
        let stderr = child.stderr.take().context("its errors")?;
        Ok(Following { child, errors: Some(stderr), line: line("caisson", words) })
    }

    fn command(&self, program: &str, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--foreground", "--kill-after=5", &LIMIT.to_string()]);
        match program {
            "caisson" => command.arg(self.programs.join(program)),
            other => command.arg(other),
        };
        command.args(words).env("CAISSON_HOST", &self.host).stdin(Stdio::null());
        command
    }
}

impl Said {
    fn expect_success(self, words: &[&str]) -> Result<Self> {
        ensure!(
            self.success,
            "{} failed: {}{}",
            line("caisson", words),
            self.stdout.trim(),
            self.stderr.trim()
        );
        Ok(self)
    }
}

/// A command that runs until its output has shown what is waited for.
pub struct Following {
    child: Child,
    errors: Option<std::process::ChildStderr>,
    line: String,
}

impl Following {
    /// Reads both outputs up to the line that has `word` in it, and ends the command.
    pub fn until(mut self, word: &str) -> Result<()> {
        let outputs = (self.child.stdout.take(), self.errors.take());
        let (Some(stdout), Some(stderr)) = outputs else { bail!("its outputs") };
        let (send, lines) = std::sync::mpsc::channel();
        let other = send.clone();
        std::thread::spawn(move || pass_on(stdout, &send));
        std::thread::spawn(move || pass_on(stderr, &other));
        let mut last = String::new();
        // The command has a time limit; at its end the outputs end.
        for line in lines {
            if line.contains(word) {
                return Ok(());
            }
            last = line;
        }
        bail!("{}: ended before it said {word:?}; the last line was {last:?}", self.line)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // `timeout` passes it on; the command may have ended by itself.
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

fn pass_on(output: impl std::io::Read, to: &std::sync::mpsc::Sender<String>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if to.send(line).is_err() {
            return;
        }
    }
}

/// A command line as one would type it.
pub fn line(program: &str, words: &[&str]) -> String {
    let mut line = program.to_string();
    for word in words {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            let _ = write!(line, " {word}");
        } else {
            let _ = write!(line, " '{}'", word.replace('\'', r"'\''"));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_be_typed() {
        let words = ["exec", "web", "sh", "-c", "echo it's > /a", ""];
        assert_eq!(line("caisson", &words), r"caisson exec web sh -c 'echo it'\''s > /a' ''");
    }
}
