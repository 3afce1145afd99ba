//! `caisson container`: the management forms of the commands for containers.

use caisson_api::client::Client;
use clap::{Args, Subcommand};

use super::inspect::InspectContainer;
use super::prune::Prune;
use super::*;

/// Manage containers
#[derive(Debug, Args)]
pub struct Container {
    #[command(subcommand)]
    command: ContainerCommand,
}

#[derive(Debug, Subcommand)]
enum ContainerCommand {
    Attach(attach::Attach),
    Commit(commit::Commit),
    Cp(cp::Cp),
    Create(Box<create::Create>),
    Diff(diff::Diff),
    Exec(exec::Exec),
    Export(export::Export),
    /// Display detailed information on one or more containers
    Inspect(InspectContainer),
    Kill(kill::Kill),
    Logs(logs::Logs),
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ps::Ps),
    Pause(pause::Pause),
    Port(port::Port),
    /// Remove all stopped containers
    Prune(Prune),
    Rename(rename::Rename),
    Restart(restart::Restart),
    #[command(visible_alias = "remove")]
    Rm(rm::Rm),
    Run(Box<run::Run>),
    Start(start::Start),
    Stats(stats::Stats),
    Stop(stop::Stop),
    Top(top::Top),
    Unpause(unpause::Unpause),
    Update(update::Update),
    Wait(wait::Wait),
}

impl Container {
    pub fn is_run(&self) -> bool {
        matches!(self.command, ContainerCommand::Run(_))
    }

    pub fn run(&self, client: &Client) -> Outcome {
        match &self.command {
            ContainerCommand::Attach(attach) => attach.run(client),
            ContainerCommand::Commit(commit) => commit.run(client),
            ContainerCommand::Cp(cp) => cp.run(client),
            ContainerCommand::Create(create) => create.run(client),
            ContainerCommand::Diff(diff) => diff.run(client),
            ContainerCommand::Exec(exec) => exec.run(client),
            ContainerCommand::Export(export) => export.run(client),
            ContainerCommand::Inspect(inspect) => inspect.run(client),
            ContainerCommand::Kill(kill) => kill.run(client),
            ContainerCommand::Logs(logs) => logs.run(client),
            ContainerCommand::Ls(ps) => ps.run(client),
            ContainerCommand::Pause(pause) => pause.run(client),
            ContainerCommand::Port(port) => port.run(client),
            ContainerCommand::Prune(prune) => prune.containers(client),
            ContainerCommand::Rename(rename) => rename.run(client),
            ContainerCommand::Restart(restart) => restart.run(client),
            ContainerCommand::Rm(rm) => rm.run(client),
            ContainerCommand::Run(run) => run.run(client),
            ContainerCommand::Start(start) => start.run(client),
            ContainerCommand::Stats(stats) => stats.run(client),
            ContainerCommand::Stop(stop) => stop.run(client),
            ContainerCommand::Top(top) => top.run(client),
            ContainerCommand::Unpause(unpause) => unpause.run(client),
            ContainerCommand::Update(update) => update.run(client),
            ContainerCommand::Wait(wait) => wait.run(client),
        }
    }
}
