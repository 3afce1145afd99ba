//! `caisson`: the command line. So far `caisson host check`; the container commands need the daemon,
//! which does not exist yet.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};

mod check;

/// Containers as processes of this host, or each alone in a microVM.
#[derive(Parser)]
#[command(name = "caisson", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Asks about this host.
    Host {
        #[command(subcommand)]
        command: Host,
    },
}

#[derive(Subcommand)]
enum Host {
    /// Finds out which isolation this host can really give.
    ///
    /// Boots the nano guest once by hardware virtualisation and once by emulation, each with a time limit,
    /// and looks at what containers need of the kernel. One line per item: verdict, evidence, remedy.
    ///
    /// Example: caisson host check --format json
    Check {
        /// How to print the findings.
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
        /// Where the guest's kernel and initramfs are [default: `guest` beside this program].
        #[arg(long, value_name = "DIR")]
        guest_dir: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Lines for people.
    Table,
    /// A JSON array of objects with `item`, `verdict`, `evidence`, `remedy`.
    Json,
}

fn main() -> Result<()> {
    let Command::Host { command: Host::Check { format, guest_dir } } = Arguments::parse().command;
    let program = std::env::current_exe().context("find this program")?;
    let programs = program.parent().context("find this program's directory")?;
    let guest = guest_dir.unwrap_or_else(|| programs.join("guest"));
    let findings = check::run(programs, &guest)?;
    match format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&findings)?),
        Format::Table => findings.iter().for_each(|finding| println!("{finding}")),
    }
    Ok(())
}
