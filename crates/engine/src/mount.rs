//! Root file systems, mounted while somebody uses them: the container that runs, a copy, a commit.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use crate::error::Doing;
use crate::{Container, Engine, Result};

/// A root file system that stays mounted as long as this lives.
pub(crate) struct Rootfs {
    path: PathBuf,
    /// Not an `Arc`: the container itself keeps one of these while it runs.
    container: std::sync::Weak<Container>,
}

impl Rootfs {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Rootfs {
    fn drop(&mut self) {
        let Some(container) = self.container.upgrade() else { return };
        let mut users = container.mounted.lock().unwrap_or_else(PoisonError::into_inner);
        *users -= 1;
        if *users == 0
            && let Err(error) = caisson_image::overlay::unmount(&self.path)
        {
            tracing::warn!("container {}: {error}", container.id);
        }
    }
}

impl Engine {
    /// The root file system of a container, running or not. May wait for a disk: not on an async worker.
    pub(crate) fn rootfs(&self, container: &Arc<Container>) -> Result<Rootfs> {
        let mut users = container.mounted.lock().unwrap_or_else(PoisonError::into_inner);
        if *users == 0 {
            self.mount(container)?;
        }
        *users += 1;
        Ok(Rootfs { path: container.places.rootfs(), container: Arc::downgrade(container) })
    }

    /// The same, of a container that an earlier daemon mounted and that runs.
    pub(crate) fn rootfs_adopted(&self, container: &Arc<Container>) -> Rootfs {
        *container.mounted.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Rootfs { path: container.places.rootfs(), container: Arc::downgrade(container) }
    }

    fn mount(&self, container: &Container) -> Result<()> {
        let image = self.0.images.of_container(&container.look(|record| record.image.clone()))?;
        let layers = self.0.images.layer_paths(&image);
        let places = &container.places;
        let rootfs = places.rootfs();
        std::fs::create_dir_all(&rootfs).doing(|| format!("make {}", rootfs.display()))?;
        // What an earlier daemon may have left there.
        caisson_image::overlay::unmount(&rootfs)?;
        Ok(caisson_image::overlay::mount(&layers, &places.upper(), &places.work(), &rootfs)?)
    }
}
