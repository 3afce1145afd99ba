//! One image, two runtime types: an archive is loaded once, its layer is mounted below a writable one,
//! and the same mount is what both types run on.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use caisson_image::{Store, overlay};
use caisson_tests::{Container, Type, busybox};

/// A root file system mounted from an image; unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(store: &Store, image: &str, place: &Path) -> Result<Self> {
        let image = store.get(image)?;
        let [upper, work, target] = ["upper", "work", "rootfs"].map(|name| place.join(name));
        for directory in [&upper, &work, &target] {
            std::fs::create_dir_all(directory)?;
        }
        overlay::mount(&store.layer_paths(&image), &upper, &work, &target)?;
        Ok(Mounted(target))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = overlay::unmount(&self.0) {
            eprintln!("{error}");
        }
    }
}

/// The busybox image, imported into a fresh store.
fn store(place: &Path) -> Result<Store> {
    let rootfs = busybox(place)?;
    let mut archive = tar::Builder::new(Vec::new());
    archive.follow_symlinks(false);
    archive.append_dir_all(".", &rootfs)?;
    let archive = archive.into_inner()?;
    let store = Store::open(&place.join("images"))?;
    let config = serde_json::json!({ "Cmd": ["sh"] });
    store.import(&mut archive.as_slice(), Some("busybox"), config, "imported")?;
    Ok(store)
}

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
        let output = run(kind, &own, &mounted.0, "rm /bin/yes; echo new > /etc/new; id -un web")?;
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
        let output = run(kind, place.path(), &mounted.0, script)?;
        ensure!(output.trim() == (number + 1).to_string(), "{kind:?}: {output}");
    }
    Ok(())
}
