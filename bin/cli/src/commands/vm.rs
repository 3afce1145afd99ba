//! `caisson vm`: virtual machines that are no containers, of which there are none.

use clap::{Args, Subcommand};

use crate::failure::Outcome;
use crate::output;

/// Show the virtual machines that Caisson keeps: none
#[derive(Debug, Args)]
pub struct Vm {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(List),
}

/// List virtual machines: always an empty list
///
/// A hyperv container has a microVM of its own, and that is no machine that anybody manages: it has no name,
/// no disk image, no login, and it comes and goes with its container. So a list of virtual machines is empty,
/// however many hyperv containers run. `caisson get` shows them.
#[derive(Debug, Args)]
#[command(visible_alias = "ls")]
struct List {}

impl Vm {
    pub fn run(&self) -> Outcome {
        let Command::List(List {}) = &self.command;
        output::line("NAME      STATE     MEMORY    CPUS")?;
        Ok(0)
    }
}
