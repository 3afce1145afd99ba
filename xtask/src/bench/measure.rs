//! What is measured, and how.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use caisson_tests::engine::proportional_memory;

use super::engine::{Client, Engine};
use super::peer::Peer;
use super::report::{Report, Row, Samples};
use crate::memory;

/// How many containers start at once.
const AT_ONCE: usize = 10;
/// How often an archive is loaded.
const LOADS: usize = 3;

pub struct Bench {
    engine: Engine,
    peer: Option<Peer>,
    rounds: usize,
    report: Report,
}

impl Bench {
    pub fn new(engine: Engine, peer: Option<Peer>, rounds: usize) -> Result<Self> {
        let report = Report::new(peer.as_ref().map(|peer| peer.name.clone()), rounds)?;
        Ok(Bench { engine, peer, rounds, report })
    }

    pub fn finish(self) -> Report {
        self.report
    }

    fn doing(what: &str) {
        eprintln!("==> {what}");
    }

    /// What the daemons take before they have done anything.
    pub fn idle(&mut self) -> Result<()> {
        Self::doing("memory of an idle daemon");
        let own = Samples::one(memory::resident(self.engine.pid()?)? as f64 / 1024.0);
        let sum = |peer: &Peer| -> Result<f64> {
            let kib: Result<u64> = peer.pids().into_iter().map(memory::resident).sum();
            Ok(kib? as f64 / 1024.0)
        };
        let peer = self.peer.as_ref().map(sum).transpose()?.map(Samples::one);
        let name = "resident memory of the idle daemon";
        self.report.add(Row { name, unit: "MB", budget: "30 MB", own, peer });
        Ok(())
    }

    /// Loads a large archive, taking turns.
    pub fn load(&mut self, archive: &Path) -> Result<()> {
        let archive = archive.to_str().context("an archive's path")?;
        let (mut own, mut peer) = (Samples::default(), Samples::default());
        for round in 1..=LOADS {
            Self::doing(&format!("load an archive: {round} of {LOADS}"));
            own.push(seconds(load(&self.engine.client, archive)?));
            if let Some(other) = &self.peer {
                peer.push(seconds(load(&other.client, archive)?));
            }
        }
        let peer = self.peer.is_some().then_some(peer);
        let name = "load of a 500 MB archive";
        self.report.add(Row { name, unit: "s", budget: "1.0 x Docker", own, peer });
        Ok(())
    }

    /// Gives both the image that the containers run.
    pub fn images(&self, archive: &Path) -> Result<()> {
        let archive = archive.to_str().context("an archive's path")?;
        self.engine.client.time(&["load", "-i", archive])?;
        if let Some(peer) = &self.peer {
            peer.client.time(&["load", "-i", archive])?;
        }
        Ok(())
    }

    /// Single starts, taking turns: process, hyperv, the peer.
    pub fn starts(&mut self) -> Result<()> {
        let [mut process, mut hyperv, mut own, mut peer] = [const { Samples::new() }; 4];
        // The first of each pays for what is made once.
        self.engine.client.time(&run("process"))?;
        self.engine.client.time(&run("hyperv"))?;
        if let Some(other) = &self.peer {
            other.client.time(&run(""))?;
        }
        for round in 1..=self.rounds {
            Self::doing(&format!("start a container: {round} of {}", self.rounds));
            self.engine.warm()?;
            hyperv.push(milliseconds(self.engine.client.time(&run("hyperv"))?));
            // The next guest boots now, which is no part of these.
            self.engine.warm()?;
            process.push(milliseconds(self.engine.client.time(&run("process"))?));
            own.push(milliseconds(self.engine.own.time(&run("process"))?));
            if let Some(other) = &self.peer {
                peer.push(milliseconds(other.client.time(&run(""))?));
            }
        }
        let peer = self.peer.is_some().then_some(peer);
        let rows = [
            ("`run --rm busybox true`, process", "0.3 x Docker", process, peer.clone()),
            ("the same by `caisson`, process", "", own, peer.clone()),
            ("the same, hyperv, a guest on standby", "1.0 x Docker's process", hyperv, peer),
        ];
        for (name, budget, own, peer) in rows {
            self.report.add(Row { name, unit: "ms", budget, own, peer });
        }
        Ok(())
    }

    /// Many at the same time: how long the slowest took.
    pub fn at_once(&mut self) -> Result<()> {
        let name = ["10 at once, each, process", "10 at once, each, hyperv"];
        for (name, kind) in name.into_iter().zip(["process", "hyperv"]) {
            Self::doing(&format!("{AT_ONCE} starts at once, {kind}"));
            self.engine.warm()?;
            let own = together(&self.engine.client, kind)?;
            let peer = match &self.peer {
                Some(peer) if kind == "process" => Some(together(&peer.client, "")?),
                _ => None,
            };
            let budget = if kind == "hyperv" { "slowest within 6 x one start" } else { "" };
            self.report.add(Row { name, unit: "ms", budget, own, peer });
        }
        Ok(())
    }

    /// What a container takes while it does nothing.
    pub fn memory(&mut self) -> Result<()> {
        Self::doing("memory per container");
        let mut all = Vec::new();
        for kind in ["process", "hyperv"] {
            let name = format!("memory-{kind}");
            let sleep = ["--isolation", kind, "busybox", "sleep", "600"];
            self.engine.client.time(&[&["run", "-d", "--name", &name], &sleep[..]].concat())?;
            all.push(memory::of(self.engine.client.pid(&name)?)?);
        }
        let peer = match &self.peer {
            None => None,
            Some(peer) => {
                let words = ["run", "-d", "--name", "memory", "busybox", "sleep", "600"];
                peer.client.time(&words)?;
                let shim = peer.shim(peer.client.pid("memory")?)?;
                let kib = proportional_memory(shim);
                peer.client.time(&["rm", "-f", "memory"])?;
                Some(Samples::one(kib as f64 / 1024.0))
            }
        };
        self.engine.client.time(&["rm", "-f", "memory-process", "memory-hyperv"])?;
        let mebibytes = |kib: u64| Samples::one(kib as f64 / 1024.0);
        self.report.add(Row {
            name: "supervisor of a process container (peer: shim), proportional",
            unit: "MB",
            budget: "1.5 MB",
            own: mebibytes(all[0].supervisor),
            peer,
        });
        self.report.add(Row {
            name: "hyperv container in all, proportional",
            unit: "MB",
            budget: "",
            own: mebibytes(all[1].all),
            peer: None,
        });
        Ok(())
    }
}

fn run(kind: &str) -> Vec<&str> {
    let isolation: &[&str] = if kind.is_empty() { &[] } else { &["--isolation", kind] };
    [&["run", "--rm"], isolation, &["busybox", "true"]].concat()
}

fn load(client: &Client, archive: &str) -> Result<Duration> {
    let took = client.time(&["load", "-i", archive])?;
    let (images, _) = client.run(&["images", "--quiet"])?;
    let mut ids: Vec<&str> = images.split_whitespace().collect();
    ids.dedup();
    client.time(&[&["rmi", "-f"], &ids[..]].concat())?;
    Ok(took)
}

/// Starts many; how long each took.
fn together(client: &Client, kind: &str) -> Result<Samples> {
    let begun = Instant::now();
    let times: Result<Vec<Duration>> = std::thread::scope(|scope| {
        let one = || client.time(&run(kind)).map(|_| begun.elapsed());
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(one)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Duration>>| {
            thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?
        };
        threads.into_iter().map(join).collect()
    });
    Ok(times?.into_iter().map(milliseconds).collect())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
