//! `caisson host`: asks about this host, without a daemon.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::check;
use crate::failure::{Failure, Outcome};
use crate::output;

/// Ask about this host
#[derive(Debug, Args)]
pub struct Host {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(Check),
}

/// Find out which isolation this host can really give
///
/// Boots the nano guest once by hardware virtualisation and once by emulation, each with a time limit,
/// and looks at what containers need of the kernel. One line per item: verdict, evidence, remedy. Needs no
/// daemon.
#[derive(Debug, Args)]
#[command(after_help = "Example: caisson host check --format json")]
struct Check {
    /// How to print the findings
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Where the guest's kernel and initramfs are [default: `guest` beside this program]
    #[arg(long, value_name = "DIR")]
    guest_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Lines for people.
    Table,
    /// A JSON array of objects with `item`, `verdict`, `evidence`, `remedy`.
    Json,
}

impl Host {
    pub fn run(&self) -> Outcome {
        let Command::Check(check) = &self.command;
        let program = std::env::current_exe().map_err(Failure::io("find this program"))?;
        let programs = program.parent().unwrap_or(&program);
        let guest = check.guest_dir.clone().unwrap_or_else(|| programs.join("guest"));
        let findings =
            check::run(programs, &guest).map_err(|error| Failure::words(format!("{error:#}")))?;
        match check.format {
            Format::Json => output::line(pretty(&findings))?,
            Format::Table => {
                findings.iter().try_for_each(|finding| output::line(finding.to_string()))?;
            }
        }
        Ok(0)
    }
}

fn pretty(findings: &[check::Finding]) -> String {
    // Texts only: they always serialise.
    serde_json::to_string_pretty(findings).unwrap_or_default()
}
