//! The supervisor program itself, from outside: its size, its session, and how much it can log.

use std::io::Read;

use anyhow::{Context, Result, ensure};
use caisson_tests::{Container, Type, busybox};

/// Most memory of one supervisor among [`CROWD`], KiB: its own, and its share of the program's pages.
/// One that is alone pays for all of those pages.
const MAX_PSS: u64 = 1024;
/// How many supervisors share the program's pages while one is measured.
const CROWD: usize = 10;

fn idle(directory: &std::path::Path) -> Result<Container> {
    let rootfs = busybox(directory)?;
    let script = "trap 'exit 0' TERM; echo up; while :; do sleep 1; done";
    let mut container = Container::new(Type::Process, directory, &rootfs, &["sh", "-c", script])?;
    let mut streams = container.attach()?;
    container.start()?;
    streams.read_exact(&mut [0; 8 + 3])?;
    Ok(container)
}

#[test]
fn a_supervisor_is_small_among_others() -> Result<()> {
    let places: Vec<_> = (0..CROWD).map(|_| tempfile::tempdir()).collect::<Result<_, _>>()?;
    let mut crowd: Vec<_> = places.iter().map(|place| idle(place.path())).collect::<Result<_>>()?;
    let mut container = crowd.pop().context("a supervisor")?;
    let (output, _) = container.exec(&["seq", "1", "50000"])?;
    ensure!(output.ends_with("50000\n"));
    let pid = container.status()?.supervisor_pid;
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find(|line| line.starts_with("Pss:")).context("a Pss line")?;
    let pss: u64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
    println!("one of {CROWD} supervisors, after 50000 lines: {pss} KiB PSS");
    container.end()?;
    crowd.into_iter().try_for_each(Container::end)?;
    ensure!(pss <= MAX_PSS, "{pss} KiB");
    Ok(())
}

#[test]
fn a_supervisor_has_a_session_of_its_own() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut container = idle(directory.path())?;
    let pid = container.status()?.supervisor_pid;
    let raw = rustix::process::Pid::from_raw(pid);
    let session = rustix::process::getsid(raw)?;
    container.end()?;
    ensure!(Some(session) == raw, "session {session:?} of supervisor {pid}");
    Ok(())
}

#[test]
fn a_hundred_thousand_lines_are_logged_in_order() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let rootfs = busybox(directory.path())?;
    let mut container =
        Container::new(Type::Process, directory.path(), &rootfs, &["seq", "1", "100000"])?;
    let begin = std::time::Instant::now();
    container.start()?;
    container.wait()?;
    let took = begin.elapsed();
    println!("100000 lines in {took:?}");
    let log = container.log();
    for (number, line) in (1..=100_000).zip(log.lines()) {
        ensure!(line.starts_with(&format!("{{\"log\":\"{number}\\n\",\"stream\"")), "{line}");
    }
    ensure!(log.lines().count() == 100_000);
    // A hundred times what is asked for; ten seconds would be ten times.
    ensure!(took.as_secs() < 10, "{took:?}");
    container.end()
}
