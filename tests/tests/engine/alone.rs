//! What needs a daemon of its own: it is killed, starved, or one of two.

mod crash;
mod faults;
mod leaks;
mod moments;

use anyhow::{Result, ensure};
use caisson_tests::Type;
use caisson_tests::engine::Daemon;
use libtest_mimic::Trial;

use crate::context::{Ctx, word};

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, run) in crash::CASES.iter().chain(moments::CASES).chain(leaks::CASES) {
        for kind in [Type::Process, Type::Hyperv] {
            let name = format!("alone::{}::{name}", word(kind));
            trials.push(Trial::test(name, move || run(kind).map_err(crate::failed)));
        }
    }
    for (name, run) in faults::CASES {
        trials.push(Trial::test(format!("alone::{name}"), move || run().map_err(crate::failed)));
    }
    trials
}

/// A case for both types.
type Typed = (&'static str, fn(Type) -> Result<()>);
/// A case that chooses its types.
type Plain = (&'static str, fn() -> Result<()>);

/// A case's surroundings at a daemon; what it makes goes with the daemon.
fn at(daemon: &Daemon, kind: Type) -> Result<Ctx> {
    Ctx::on(&daemon.socket(), "alone", kind, false, false)
}

/// Removes every container and looks for what is left of them.
fn clean(daemon: &Daemon, ctx: &Ctx) -> Result<()> {
    ctx.clean()?;
    let left = daemon.left()?;
    ensure!(left.is_empty(), "left behind: {left:#?}\n{}", daemon.log());
    Ok(())
}
