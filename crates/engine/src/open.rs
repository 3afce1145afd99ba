//! An engine is opened.

use std::sync::Arc;

use caisson_image::Store;

use crate::{Engine, Inner, Result, Settings, blocking};

impl Engine {
    /// Opens the engine and takes over what an earlier one left running.
    pub async fn open(settings: Settings) -> Result<Self> {
        let root = settings.data_root.join("images");
        let images = blocking(move || Store::open(&root)).await?;
        let engine = Engine(Arc::new(Inner {
            settings,
            images,
            events: Default::default(),
            containers: Default::default(),
            networks: Default::default(),
            host: Default::default(),
            execs: Default::default(),
            standby: Default::default(),
        }));
        engine.volumes_open()?;
        engine.host_open().await?;
        engine.networks_open().await?;
        Ok(engine)
    }
}
