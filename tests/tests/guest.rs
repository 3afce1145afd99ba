//! What only a hyperv container has: its guest's clock, its standby, its monitor's limits.

use anyhow::{Result, ensure};
use caisson_tests::{Container, Type, busybox};

/// A root file system of busybox, and the place that holds it.
fn place() -> Result<(tempfile::TempDir, std::path::PathBuf)> {
    let directory = tempfile::tempdir()?;
    let rootfs = busybox(directory.path())?;
    Ok((directory, rootfs))
}

/// Four at once keep both cores busy: a guest that had to measure its own counter would now fail to, and
/// tell the time in steps of 10 ms.
#[test]
fn a_guest_on_a_busy_host_has_a_fine_clock() -> Result<()> {
    let (directory, rootfs) = place()?;
    let file = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    std::thread::scope(|scope| {
        let run = || -> Result<String> {
            let place = directory.path();
            let mut container = Container::new(Type::Hyperv, place, &rootfs, &["cat", file])?;
            let (output, _) = container.run()?;
            container.end()?;
            Ok(output)
        };
        let running: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        for thread in running {
            let output = thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            ensure!(output.starts_with("tsc"), "the guest's clock is {output}");
        }
        Ok(())
    })
}
