//! Images, as the API shows them.

use std::io::{Read, Write};

use caisson_api::filters::Filters;

use crate::{Engine, Result, pending, wire};

/// What happens while images are loaded.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LoadMessage {
    pub stream: String,
}

impl Engine {
    pub async fn image_list(
        &self,
        all: bool,
        filters: &Filters,
    ) -> Result<Vec<wire::ImageSummary>> {
        let _ = (all, filters);
        pending()
    }

    pub async fn image_inspect(&self, name: &str) -> Result<wire::ImageInspect> {
        let _ = name;
        pending()
    }

    pub async fn image_history(&self, name: &str) -> Result<Vec<wire::HistoryResponseItem>> {
        let _ = name;
        pending()
    }

    pub async fn image_tag(&self, name: &str, new: &str) -> Result<()> {
        let _ = (name, new);
        pending()
    }

    pub async fn image_remove(
        &self,
        name: &str,
        force: bool,
        no_prune: bool,
    ) -> Result<Vec<wire::ImageDeleteResponseItem>> {
        let _ = (name, force, no_prune);
        pending()
    }

    pub async fn images_prune(&self, filters: &Filters) -> Result<wire::ImagePruneResponse> {
        let _ = filters;
        pending()
    }

    pub async fn image_load(
        &self,
        input: impl Read + Send + 'static,
        progress: impl FnMut(LoadMessage) + Send + 'static,
    ) -> Result<()> {
        let _ = (input, progress);
        pending()
    }

    pub async fn image_save(
        &self,
        names: Vec<String>,
        output: impl Write + Send + 'static,
    ) -> Result<()> {
        let _ = (names, output);
        pending()
    }

    pub async fn image_import(
        &self,
        input: impl Read + Send + 'static,
        name: Option<String>,
        changes: Vec<String>,
        message: &str,
    ) -> Result<String> {
        let _ = (input, name, changes, message);
        pending()
    }
}
