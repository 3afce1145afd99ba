//! `caisson exec`.

use std::path::PathBuf;

use caisson_api::client::Client;
use caisson_api::wire::ExecConfig;
use clap::Args;
use serde_json::{Value, json};

use crate::create::environment;
use crate::failure::{Outcome, Result};
use crate::foreground::check_terminal;
use crate::keys::Keys;
use crate::output;
use crate::signals::{Watch, tell_size};
use crate::streams::{Ended, Streams};
use crate::terminal::{self, Raw};

/// Execute a command in a running container
///
/// In a hyperv container the command runs inside the microVM. The exit code is the command's.
#[derive(Debug, Args)]
#[command(
    override_usage = "caisson exec [OPTIONS] CONTAINER COMMAND [ARG...]",
    after_help = "Example: caisson exec -it web sh"
)]
pub struct Exec {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// The container, and what is run in it
    #[arg(
        value_names = ["CONTAINER", "COMMAND"],
        num_args = 2..,
        required = true,
        trailing_var_arg = true
    )]
    words: Vec<String>,
}

impl Exec {
    pub fn run(&self, client: &Client) -> Outcome {
        let keys = Keys::parse(self.detach_keys.as_deref())?;
        let attached = !self.detach;
        check_terminal(self.tty, self.interactive && attached)?;
        let name = self.words[0].as_str();
        let request = client.post(&["containers", name, "exec"]).json(&self.config()?);
        let made: Value = request.send()?.json()?;
        let id = made["Id"].as_str().unwrap_or_default();
        let size = if self.tty { terminal::console_size() } else { None };
        let start = client.post(&["exec", id, "start"]).json(&json!({
            "Detach": self.detach,
            "Tty": self.tty,
            "ConsoleSize": size,
        }));
        if self.detach {
            start.send()?;
            return Ok(0);
        }
        let connection = start.hijack()?;
        let sized = self.tty && terminal::output_is_terminal();
        let resize = sized.then(|| ["exec", id, "resize"].map(String::from).to_vec());
        let raw = if self.tty && self.interactive { Raw::enter()? } else { None };
        if let Some(resize) = &resize {
            tell_size(client, resize);
        }
        let _watching = Watch { forward_to: None, resize }.begin(client)?;
        let streams = Streams { input: self.interactive, tty: self.tty, keys };
        let ended = streams.run(connection);
        drop(raw);
        if ended? == Ended::Detached {
            output::note("read escape sequence");
            return Ok(1);
        }
        let ended: Value = client.get(&["exec", id, "json"]).send()?.json()?;
        Ok(ended["ExitCode"].as_i64().unwrap_or_default() as u8)
    }

    fn config(&self) -> Result<ExecConfig> {
        let attached = !self.detach;
        let env = environment(&self.env, &self.env_file)?;
        Ok(ExecConfig {
            attach_stdin: Some(self.interactive && attached),
            attach_stdout: Some(attached),
            attach_stderr: Some(attached),
            console_size: if self.tty { terminal::console_size() } else { None },
            detach_keys: self.detach_keys.clone(),
            tty: Some(self.tty),
            env: (!env.is_empty()).then_some(env),
            cmd: Some(self.words[1..].to_vec()),
            privileged: Some(self.privileged),
            user: self.user.clone(),
            working_dir: self.workdir.clone(),
        })
    }
}
