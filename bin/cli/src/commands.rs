//! The commands, one file each.

use caisson_api::client::Client;
use clap::Subcommand;

use crate::failure::Outcome;

mod attach;
mod check;
pub mod create;
mod exec;
mod host;
mod kill;
mod logs;
mod pause;
mod rename;
mod restart;
mod rm;
pub mod run;
mod start;
mod stop;
mod unpause;
mod wait;

/// What the user asks for.
#[derive(Debug, Subcommand)]
pub enum Command {
    Run(run::Run),
    Create(create::Create),
    Start(start::Start),
    Exec(exec::Exec),
    Attach(attach::Attach),
    Logs(logs::Logs),
    Stop(stop::Stop),
    Kill(kill::Kill),
    Restart(restart::Restart),
    Pause(pause::Pause),
    Unpause(unpause::Unpause),
    Wait(wait::Wait),
    Rename(rename::Rename),
    Rm(rm::Rm),
    Host(host::Host),
}

impl Command {
    pub fn run(&self, client: &Client) -> Outcome {
        match self {
            Self::Run(run) => run.run(client),
            Self::Create(create) => create.run(client),
            Self::Start(start) => start.run(client),
            Self::Exec(exec) => exec.run(client),
            Self::Attach(attach) => attach.run(client),
            Self::Logs(logs) => logs.run(client),
            Self::Stop(stop) => stop.run(client),
            Self::Kill(kill) => kill.run(client),
            Self::Restart(restart) => restart.run(client),
            Self::Pause(pause) => pause.run(client),
            Self::Unpause(unpause) => unpause.run(client),
            Self::Wait(wait) => wait.run(client),
            Self::Rename(rename) => rename.run(client),
            Self::Rm(rm) => rm.run(client),
            Self::Host(host) => host.run(),
        }
    }
}
