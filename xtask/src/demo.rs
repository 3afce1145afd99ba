//! The demo: one image under both runtime types, the difference, and a change of type.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use caisson_protocol::task::{Reply, Request};
use caisson_tests::image::{Mounted, store};
use caisson_tests::{Container, Type};

/// What was measured of one type.
struct Row {
    kind: Type,
    kernel: String,
    ready: Duration,
    start: Duration,
    visible: usize,
    memory_kib: u64,
    pid: i32,
}

pub fn run() -> Result<()> {
    // SAFETY: nothing else runs in this process yet that could read the environment.
    unsafe { std::env::set_var("CAISSON_PROGRAMS", crate::release()) };
    let place = tempfile::tempdir().context("make a place for the demo")?;
    let store = store(place.path())?;
    let image = store.get("busybox")?.id;
    println!("One image (busybox), two runtime types, the same commands.\n");
    let mut rows = Vec::new();
    for kind in [Type::Process, Type::Hyperv] {
        let rootfs = Mounted::new(&store, &image, &place.path().join(format!("{kind:?}")))?;
        rows.push(show(kind, place.path(), rootfs.path())?);
    }
    println!("{:<26}{:>24}{:>24}", "", "process", "hyperv");
    let line = |name: &str, value: &dyn Fn(&Row) -> String| {
        println!("{name:<26}{:>24}{:>24}", value(&rows[0]), value(&rows[1]));
    };
    line("image", &|_| image[..19].to_string());
    line("kernel inside", &|row| row.kernel.clone());
    line("sandbox ready", &|row| format!("{:.0} ms", row.ready.as_secs_f64() * 1e3));
    line("start, once ready", &|row| format!("{:.1} ms", row.start.as_secs_f64() * 1e3));
    line("its processes on the host", &|row| row.visible.to_string());
    line("memory on the host", &|row| format!("{:.1} MiB", row.memory_kib as f64 / 1024.0));
    line("pid that inspect names", &|row| match row.kind {
        Type::Process => format!("{} (its own)", row.pid),
        Type::Hyperv => format!("{} (the monitor)", row.pid),
    });
    println!("\nhyperv runs under QEMU's software emulation here: not a security boundary.");
    let rootfs = Mounted::new(&store, &image, &place.path().join("changed"))?;
    change_type(place.path(), rootfs.path())
}

fn show(kind: Type, place: &std::path::Path, rootfs: &std::path::Path) -> Result<Row> {
    let begun = Instant::now();
    let script = "trap 'exit 0' TERM; sleep 4711 & wait";
    let mut container = Container::new(kind, place, rootfs, &["sh", "-c", script])?;
    container.ready()?;
    let ready = begun.elapsed();
    let begun = Instant::now();
    let pid = container.start()?;
    let start = begun.elapsed();
    let (kernel, _) = container.exec(&["uname", "-r"])?;
    let Reply::Processes(inside) = container.task(Request::Processes)? else {
        anyhow::bail!("no list of processes");
    };
    ensure!(inside.iter().any(|process| process.command.contains("4711")), "top shows {inside:?}");
    let visible = on_host("sleep\x004711")?;
    let supervisor = container.status()?.supervisor_pid;
    let memory_kib = family(supervisor)?.into_iter().map(proportional).sum();
    container.signal(15)?;
    ensure!(container.wait()?.code == 0, "the container did not end well");
    container.end()?;
    let kernel = kernel.trim().to_string();
    Ok(Row { kind, kernel, ready, start, visible, memory_kib, pid })
}

fn change_type(place: &std::path::Path, rootfs: &std::path::Path) -> Result<()> {
    println!("\nThe same container, changed from process to hyperv and back:");
    for (kind, step) in [(Type::Process, 1), (Type::Hyperv, 2), (Type::Process, 3)] {
        let script =
            format!("echo written as step {step} on $(uname -r) >> /root/diary; cat /root/diary");
        let mut container = Container::new(kind, place, rootfs, &["sh", "-c", &script])?;
        let (output, exit) = container.run()?;
        ensure!(exit.code == 0 && output.lines().count() == step, "{kind:?}: {output}");
        container.end()?;
        if step == 3 {
            output.lines().for_each(|line| println!("  {line}"));
        }
    }
    Ok(())
}

/// Processes of the host whose command line starts with `command`.
fn on_host(command: &str) -> Result<usize> {
    let entries = std::fs::read_dir("/proc").context("read /proc")?;
    let lines = entries
        .flatten()
        .map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default());
    Ok(lines.filter(|line| line.starts_with(command)).count())
}

/// A process and its descendants.
fn family(pid: i32) -> Result<Vec<i32>> {
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        let path = format!("/proc/{parent}/task/{parent}/children");
        let children = std::fs::read_to_string(&path).unwrap_or_default();
        family.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        next += 1;
    }
    Ok(family)
}

/// Proportional share of memory, KiB.
fn proportional(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
