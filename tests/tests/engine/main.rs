//! The suite over a whole engine: every case runs for both runtime types, from outside, through an
//! independent client crate always and through the stock docker command line when it is installed.
//!
//! `bollard::TYPE::TOPIC::CASE`, `docker-cli::TYPE::TOPIC::CASE`, and `alone::CASE` for what needs a daemon of its own.
//! All cases of the first two share one daemon. With `CAISSON_TEST_HOST=/path/to.sock` they run against
//! another engine instead, which has the process type only: that is how the suite itself is checked.

mod alone;
mod archive;
mod context;
mod copy;
mod exec;
mod images;
mod lifecycle;
mod limits;
mod logs;
mod network;
mod restarts;
mod run;
mod security;
mod shared;
mod shown;
mod streams;
mod types;
mod volumes;

use std::sync::Arc;

use anyhow::Result;
use caisson_tests::Type;
use caisson_tests::engine::Cli;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::context::Ctx;
use crate::shared::Shared;

/// Which clients a case needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum With {
    /// Any client: it runs through each.
    Both,
    /// Something that only one of them shows.
    Bollard,
    DockerCli,
}

/// One thing that must hold.
struct Case {
    /// The module that it is in.
    group: &'static str,
    name: &'static str,
    with: With,
    run: fn(&Ctx) -> Result<()>,
    /// Whether the reference engine can do it too.
    reference: bool,
}

/// Lists a file's cases: `cases! { both: [a, b], bollard: [c], docker_cli: [d], caisson: [e] }`, where
/// the last are about what only Caisson does, through bollard.
macro_rules! cases {
    ($($with:ident: [$($name:ident),* $(,)?]),* $(,)?) => {
        pub fn cases() -> Vec<crate::Case> {
            vec![$($(cases!(@ $with $name)),*),*]
        }
    };
    (@ both $name:ident) => { cases!(@@ Both $name true) };
    (@ bollard $name:ident) => { cases!(@@ Bollard $name true) };
    (@ docker_cli $name:ident) => { cases!(@@ DockerCli $name true) };
    (@ caisson $name:ident) => { cases!(@@ Bollard $name false) };
    (@@ $with:ident $name:ident $reference:literal) => {
        crate::Case {
            group: module_path!().rsplit(':').next().unwrap_or_default(),
            name: stringify!($name),
            with: crate::With::$with,
            run: $name,
            reference: $reference,
        }
    };
}
pub(crate) use cases;

fn main() -> Result<()> {
    let mut arguments = Arguments::from_args();
    // Emulated guests start one per core at most.
    arguments.test_threads.get_or_insert(2);
    let shared = Arc::new(Shared::from_environment());
    let mut trials = Vec::new();
    if !Cli::is_installed() {
        eprintln!("docker is not installed: the cases run through the client crate only");
    }
    let groups = [
        run::cases(),
        streams::cases(),
        exec::cases(),
        lifecycle::cases(),
        limits::cases(),
        volumes::cases(),
        network::cases(),
        logs::cases(),
        copy::cases(),
        images::cases(),
        shown::cases(),
        restarts::cases(),
        types::cases(),
        security::cases(),
    ];
    for case in groups.into_iter().flatten() {
        add(&mut trials, Arc::new(case), &shared)?;
    }
    if !shared.is_reference() {
        trials.extend(alone::trials());
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The daemon ends here, with all that it started.
    drop(shared);
    conclusion.exit()
}

/// One trial for each client and type that the case is for.
fn add(trials: &mut Vec<Trial>, case: Arc<Case>, shared: &Arc<Shared>) -> Result<()> {
    if shared.is_reference() && !case.reference {
        return Ok(());
    }
    let kinds: &[Type] =
        if shared.is_reference() { &[Type::Process] } else { &[Type::Process, Type::Hyperv] };
    let installed = Cli::is_installed();
    for kind in kinds {
        for cli in [false, true] {
            if cli && !installed {
                continue;
            }
            let not_for = if cli { With::Bollard } else { With::DockerCli };
            if case.with == not_for {
                continue;
            }
            let client = if cli { "docker-cli" } else { "bollard" };
            let name = format!("{client}::{}::{}::{}", context::word(*kind), case.group, case.name);
            let (case, shared, kind) = (case.clone(), shared.clone(), *kind);
            let run = move || run_case(&case, &shared, kind, cli).map_err(failed);
            trials.push(Trial::test(name, run));
        }
    }
    Ok(())
}

/// The whole chain of causes, and where it was found when a backtrace tells.
pub fn failed(error: anyhow::Error) -> Failed {
    let backtrace = error.backtrace().to_string();
    let places = backtrace.lines().map(str::trim).filter(|line| line.contains("/tests/engine/"));
    format!("{error:#}\n  {}", places.take(2).collect::<Vec<_>>().join("\n  ")).into()
}

fn run_case(case: &Case, shared: &Shared, kind: Type, cli: bool) -> Result<()> {
    let ctx = Ctx::new(shared, case.name, kind, cli)?;
    let result = (case.run)(&ctx);
    match (result, ctx.clean()) {
        (Ok(()), cleaned) => cleaned.map_err(|error| error.context("clean up")),
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(left)) => Err(error.context(format!("and cleaning up failed: {left:#}"))),
    }
}
