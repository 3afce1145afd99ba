//! A container's files: copied in and out, compared, exported, made an image.

use std::io::{Read, Write};

use crate::{Engine, Result, pending, wire};

#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    pub name: Option<String>,
    pub comment: String,
    pub author: String,
    pub changes: Vec<String>,
    pub pause: bool,
}

#[derive(Debug, Clone, Default)]
pub struct PutOptions {
    pub no_overwrite_dir_non_dir: bool,
    pub copy_uid_gid: bool,
}

#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct PathStat {
    pub name: String,
}

impl Engine {
    pub async fn commit(
        &self,
        container: &str,
        options: CommitOptions,
        config: Option<wire::ContainerConfig>,
    ) -> Result<String> {
        let _ = (container, options, config);
        pending()
    }

    pub async fn changes(&self, name: &str) -> Result<Vec<wire::FilesystemChange>> {
        let _ = name;
        pending()
    }

    pub async fn export(&self, name: &str, output: impl Write + Send + 'static) -> Result<()> {
        let _ = (name, output);
        pending()
    }

    pub async fn archive_stat(&self, name: &str, path: &str) -> Result<PathStat> {
        let _ = (name, path);
        pending()
    }

    pub async fn archive_get(
        &self,
        name: &str,
        path: &str,
        output: impl Write + Send + 'static,
    ) -> Result<()> {
        let _ = (name, path, output);
        pending()
    }

    pub async fn archive_put(
        &self,
        name: &str,
        path: &str,
        input: impl Read + Send + 'static,
        options: PutOptions,
    ) -> Result<()> {
        let _ = (name, path, input, options);
        pending()
    }
}
