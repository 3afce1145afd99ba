//! `cargo xtask bench`: what a start, a container and an image cost, beside the peers that are installed.
//!
//! Everything is measured in one run on one machine, the engines taking turns, so that what disturbs one
//! disturbs the other: the ratios mean something even where the times do not. The docker command line is the
//! client on both sides when it is installed.

mod engine;
mod measure;
mod peer;
mod report;

use std::path::PathBuf;

use anyhow::Result;

use crate::{images, release, setup};
use engine::Engine;
use measure::Bench;
use peer::Peer;
use report::Report;

/// How much is measured.
pub struct Extent {
    /// Starts of each kind.
    pub rounds: usize,
    /// Write the table into docs/performance.md.
    pub write: bool,
    /// Build the programs and the guest first.
    pub build: bool,
}

/// Measures, prints the table, and writes it if asked.
pub fn run(extent: &Extent) -> Result<()> {
    if extent.build {
        setup::everything()?;
    }
    let archives = [images::archive("busybox")?, images::archive("wordpress")?];
    // SAFETY: no other thread runs that could read the environment.
    unsafe { std::env::set_var("CAISSON_PROGRAMS", release()) };
    let report = measure(extent.rounds, &archives)?;
    let table = report.table();
    println!("\n{table}");
    if extent.write {
        report::write_into(&crate::root().join("docs/performance.md"), &table)?;
    }
    Ok(())
}

fn measure(rounds: usize, archives: &[PathBuf; 2]) -> Result<Report> {
    let peer = Peer::start()?;
    let engine = Engine::start()?;
    let mut bench = Bench::new(engine, peer, rounds)?;
    bench.idle()?;
    bench.load(&archives[1])?;
    bench.images(&archives[0])?;
    bench.starts()?;
    bench.at_once()?;
    bench.memory()?;
    Ok(bench.finish())
}
