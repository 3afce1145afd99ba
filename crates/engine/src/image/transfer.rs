//! Images as archives.

use std::io::{Read, Write};

use serde_json::json;

use super::apply_changes;
use crate::error::Result;
use crate::{Engine, blocking};

/// What happens while images are loaded, as Docker's clients print it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LoadMessage {
    pub stream: String,
}

impl Engine {
    /// Loads the images of an archive.
    pub async fn image_load(
        &self,
        mut input: impl Read + Send + 'static,
        mut progress: impl FnMut(LoadMessage) + Send + 'static,
    ) -> Result<()> {
        let engine = self.clone();
        blocking(move || {
            let mut tell = |text: String| progress(LoadMessage { stream: text + "\n" });
            for loaded in engine.0.images.load(&mut input, &mut |_| {})? {
                for (name, other) in &loaded.taken {
                    tell(format!(
                        "The image {name} already exists, renaming the old one with ID {other} to empty string"
                    ));
                }
                for name in &loaded.names {
                    tell(format!("Loaded image: {name}"));
                }
                if loaded.names.is_empty() {
                    tell(format!("Loaded image ID: {}", loaded.id));
                }
                engine.tell_image("load", &loaded.id, &loaded.id);
            }
            Ok(())
        })
        .await
    }

    /// Writes images as one archive.
    pub async fn image_save(
        &self,
        names: Vec<String>,
        mut output: impl Write + Send + 'static,
    ) -> Result<()> {
        let engine = self.clone();
        blocking(move || {
            engine.0.images.save(&names, &mut output)?;
            for name in &names {
                // One that went meanwhile was written all the same.
                if let Ok(image) = engine.0.images.get(name) {
                    engine.tell_image("save", &image.id, &image.id);
                }
            }
            Ok(())
        })
        .await
    }

    /// Makes an image of a root file system's archive; its id.
    pub async fn image_import(
        &self,
        mut input: impl Read + Send + 'static,
        name: Option<String>,
        changes: Vec<String>,
        message: &str,
    ) -> Result<String> {
        let (engine, message) = (self.clone(), message.to_string());
        blocking(move || {
            let mut config = json!({});
            apply_changes(&mut config, &changes)?;
            let id = engine.0.images.import(&mut input, name.as_deref(), config, &message)?;
            if let Some(name) = name.as_deref().and_then(|n| caisson_image::parse_reference(n).ok())
            {
                engine.tell_image("tag", &id, &name);
            }
            engine.tell_image("import", &id, &id);
            Ok(id)
        })
        .await
    }
}
