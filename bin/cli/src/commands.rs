//! The commands, one file each.

use caisson_api::client::Client;
use clap::Subcommand;

use crate::failure::Outcome;

mod attach;
mod check;
mod commit;
mod completion;
mod container;
mod cp;
pub mod create;
mod df;
mod diff;
mod events;
mod exec;
mod export;
mod get;
mod history;
mod host;
mod image;
mod images;
mod import;
mod info;
mod inspect;
mod kill;
mod load;
mod logs;
mod network;
mod pause;
mod port;
mod prune;
mod ps;
mod rename;
mod restart;
mod rm;
mod rmi;
pub mod run;
mod save;
mod set;
mod start;
mod stats;
mod stop;
mod system;
mod tag;
mod top;
mod unpause;
mod update;
mod version;
mod vm;
mod volume;
mod wait;

/// What the user asks for.
#[derive(Debug, Subcommand)]
pub enum Command {
    Run(Box<run::Run>),
    Exec(exec::Exec),
    Ps(ps::Ps),
    Set(set::Set),
    Get(get::Get),
    Attach(attach::Attach),
    Commit(commit::Commit),
    Completion(completion::Completion),
    Container(container::Container),
    Cp(cp::Cp),
    Create(Box<create::Create>),
    Diff(diff::Diff),
    Events(events::Events),
    Export(export::Export),
    History(history::History),
    Host(host::Host),
    Image(image::Image),
    Images(images::Images),
    Import(import::Import),
    Info(info::Info),
    Inspect(inspect::Inspect),
    Kill(kill::Kill),
    Load(load::Load),
    Logs(logs::Logs),
    Network(network::Network),
    Pause(pause::Pause),
    Port(port::Port),
    Rename(rename::Rename),
    Restart(restart::Restart),
    Rm(rm::Rm),
    Rmi(rmi::Rmi),
    Save(save::Save),
    Start(start::Start),
    Stats(stats::Stats),
    Stop(stop::Stop),
    System(system::System),
    Tag(tag::Tag),
    Top(top::Top),
    Unpause(unpause::Unpause),
    Update(update::Update),
    Version(version::Version),
    Vm(vm::Vm),
    Volume(volume::Volume),
    Wait(wait::Wait),
}

impl Command {
    /// Whether a failure's exit code must not be mistaken for the container's.
    pub fn is_run(&self) -> bool {
        match self {
            Self::Run(_) => true,
            Self::Container(container) => container.is_run(),
            _ => false,
        }
    }

    pub fn run(&self, client: &Client) -> Outcome {
        match self {
            Self::Run(run) => run.run(client),
            Self::Exec(exec) => exec.run(client),
            Self::Ps(ps) => ps.run(client),
            Self::Set(set) => set.run(client),
            Self::Get(get) => get.run(client),
            Self::Attach(attach) => attach.run(client),
            Self::Commit(commit) => commit.run(client),
            Self::Completion(completion) => completion.run(),
            Self::Container(container) => container.run(client),
            Self::Cp(cp) => cp.run(client),
            Self::Create(create) => create.run(client),
            Self::Diff(diff) => diff.run(client),
            Self::Events(events) => events.run(client),
            Self::Export(export) => export.run(client),
            Self::History(history) => history.run(client),
            Self::Host(host) => host.run(),
            Self::Image(image) => image.run(client),
            Self::Images(images) => images.run(client),
            Self::Import(import) => import.run(client),
            Self::Info(info) => info.run(client),
            Self::Inspect(inspect) => inspect.run(client),
            Self::Kill(kill) => kill.run(client),
            Self::Load(load) => load.run(client),
            Self::Logs(logs) => logs.run(client),
            Self::Network(network) => network.run(client),
            Self::Pause(pause) => pause.run(client),
            Self::Port(port) => port.run(client),
            Self::Rename(rename) => rename.run(client),
            Self::Restart(restart) => restart.run(client),
            Self::Rm(rm) => rm.run(client),
            Self::Rmi(rmi) => rmi.run(client),
            Self::Save(save) => save.run(client),
            Self::Start(start) => start.run(client),
            Self::Stats(stats) => stats.run(client),
            Self::Stop(stop) => stop.run(client),
            Self::System(system) => system.run(client),
            Self::Tag(tag) => tag.run(client),
            Self::Top(top) => top.run(client),
            Self::Unpause(unpause) => unpause.run(client),
            Self::Update(update) => update.run(client),
            Self::Version(version) => version.run(client),
            Self::Vm(vm) => vm.run(),
            Self::Volume(volume) => volume.run(client),
            Self::Wait(wait) => wait.run(client),
        }
    }
}
