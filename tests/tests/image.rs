//! One image, two runtime types: an archive is loaded once, its layer is mounted below a writable one,
//! and the same mount is what both types run on.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use caisson_tests::image::{Mounted, store};
use caisson_tests::{Container, Type};

fn run(kind: Type, place: &Path, rootfs: &Path, script: &str) -> Result<String> {
    let mut container = Container::new(kind, place, rootfs, &["sh", "-c", script])?;
    let (output, exit) = container.run()?;
    container.end()?;
    ensure!(exit.code == 0, "{kind:?}: {script:?} ended with {}: {output}", exit.code);
    Ok(output)
}

#[test]
fn one_image_runs_as_both_types() -> Result<()> {
    let place = tempfile::tempdir()?;
    let store = store(place.path())?;
    for kind in [Type::Process, Type::Hyperv] {
        let own = place.path().join(format!("{kind:?}"));
        let mounted = Mounted::new(&store, "busybox", &own)?;
        let output =
            run(kind, &own, mounted.path(), "rm /bin/yes; echo new > /etc/new; id -un web")?;
        ensure!(output.trim() == "web", "{output}");
        ensure!(std::fs::read_to_string(own.join("upper/etc/new"))? == "new\n");
        // The image is below, and stays as it was.
        let image = store.get("busybox")?;
        let layer = store.layer_paths(&image).pop().context("a layer")?;
        ensure!(
            layer.join("bin/yes").symlink_metadata().is_ok() && !layer.join("etc/new").exists()
        );
        let mut saved = Vec::new();
        store.save(&["busybox".to_string()], &mut saved)?;
        ensure!(saved.len() > 1 << 20);
    }
    Ok(())
}

#[test]
fn the_writable_layer_outlives_a_change_of_type() -> Result<()> {
    let place = tempfile::tempdir()?;
    let store = store(place.path())?;
    let mounted = Mounted::new(&store, "busybox", &place.path().join("c"))?;
    let kinds = [Type::Process, Type::Hyperv, Type::Process];
    for (number, kind) in kinds.into_iter().enumerate() {
        let script = "echo x >> /data/count; chown 33:34 /data/count; rm -f /bin/yes; \
                      test ! -e /bin/yes && wc -l < /data/count";
        let output = run(kind, place.path(), mounted.path(), script)?;
        ensure!(output.trim() == (number + 1).to_string(), "{kind:?}: {output}");
    }
    Ok(())
}
