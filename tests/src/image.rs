//! An image for the tests and the demo, and containers' root file systems made from it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use caisson_image::{Store, overlay};

use crate::busybox_archive;

/// A root file system mounted from an image; unmounted when dropped.
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts `image` below a writable layer in `place`.
    pub fn new(store: &Store, image: &str, place: &Path) -> Result<Self> {
        let image = store.get(image)?;
        let [upper, work, target] = ["upper", "work", "rootfs"].map(|name| place.join(name));
        for directory in [&upper, &work, &target] {
            std::fs::create_dir_all(directory)?;
        }
        overlay::mount(&store.layer_paths(&image), &upper, &work, &target)?;
        Ok(Mounted(target))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
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
pub fn store(place: &Path) -> Result<Store> {
    let archive = busybox_archive(place)?;
    let store = Store::open(&place.join("images"))?;
    let config = serde_json::json!({ "Cmd": ["sh"] });
    store.import(&mut archive.as_slice(), Some("busybox"), config, "imported")?;
    Ok(store)
}
