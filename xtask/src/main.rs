//! What a developer runs: `cargo xtask demo`, `cargo xtask test`, `cargo xtask bench`.
//!
//! Each does its own set-up on a fresh Debian 12 machine (packages, guest kernel, programs), says what it
//! does, and reuses what an earlier run made.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

mod bench;
mod cache;
mod demo;
#[cfg(test)]
mod documents;
mod guest;
mod images;
mod install;
mod memory;
mod session;
mod setup;
mod suite;

/// Builds, tests and shows Caisson.
#[derive(Parser)]
#[command(name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Shows the same images as process and as hyperv containers, and a change of type.
    Demo {
        /// Leave out WordPress: its image takes longest to make.
        #[arg(long)]
        without_wordpress: bool,
        /// Use the programs and the guest as they were built.
        #[arg(long)]
        no_build: bool,
    },
    /// Runs every test, the end-to-end suite over both runtime types included.
    Test,
    /// Measures starts, memory and image loading, beside Docker when that is installed.
    Bench {
        /// Starts of each kind.
        #[arg(long, default_value_t = 15)]
        rounds: usize,
        /// Write the table into docs/performance.md.
        #[arg(long)]
        write: bool,
        /// Use the programs and the guest as they were built.
        #[arg(long)]
        no_build: bool,
    },
    /// Builds the nano guest: kernel and initramfs.
    Guest,
    /// Builds the programs and the guest.
    Build,
    /// Installs the programs, the guest, a systemd unit, manual pages and completions.
    Install {
        /// What they go below.
        #[arg(long, value_name = "DIR", default_value = "/usr/local")]
        prefix: PathBuf,
        /// Stands for the root directory, when a package is made.
        #[arg(long, value_name = "DIR")]
        destdir: Option<PathBuf>,
        /// Use the programs and the guest as they were built.
        #[arg(long)]
        no_build: bool,
    },
    /// Makes the images busybox, nginx and wordpress from Debian's packages.
    Images {
        /// Only these.
        names: Vec<String>,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Demo { without_wordpress, no_build } => demo::run(!without_wordpress, !no_build),
        Task::Test => {
            setup::everything()?;
            suite::run()
        }
        Task::Bench { rounds, write, no_build } => {
            bench::run(&bench::Extent { rounds, write, build: !no_build })
        }
        Task::Guest => {
            setup::packages()?;
            setup::programs()?;
            guest::build().map(drop)
        }
        Task::Build => setup::everything(),
        Task::Install { prefix, destdir, no_build } => {
            if !no_build {
                setup::everything()?;
            }
            install::run(&install::Place { prefix, destination: destdir })
        }
        Task::Images { names } => images::run(&names),
    }
}

/// The workspace's root.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default()
}

/// Cargo's target directory.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Where the programs end up.
fn release() -> PathBuf {
    target().join("release")
}

/// Runs a command and says what for and how long it took.
fn step(what: &str, command: &mut Command) -> Result<()> {
    eprintln!("==> {what}");
    let begun = Instant::now();
    let status = command.status().with_context(|| format!("{what}: start {command:?}"))?;
    anyhow::ensure!(status.success(), "{what}: {command:?} ended with {status}");
    eprintln!("    {what}: {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}
