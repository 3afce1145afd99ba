//! A container's files: copied in and out, compared with its image, exported, made an image.
//!
//! The container is hostile: every path in it is resolved below its root by descriptors, also while it runs
//! and changes them.

mod archive;
mod changes;
mod commit;
mod extract;
mod pack;
#[cfg(test)]
mod tests;
mod view;

use std::io::{Read, Write};

use crate::error::Result;
use crate::{Engine, blocking, wire};
pub use archive::PathStat;

#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// The new image's name.
    pub name: Option<String>,
    pub comment: String,
    pub author: String,
    /// Lines of a Dockerfile.
    pub changes: Vec<String>,
    /// Freeze the container meanwhile.
    pub pause: bool,
}

#[derive(Debug, Clone, Default)]
pub struct PutOptions {
    /// A directory takes no file's place, nor a file a directory's.
    pub no_overwrite_dir_non_dir: bool,
    /// Files belong to the container's user.
    pub copy_uid_gid: bool,
}

impl Engine {
    /// Writes the whole root file system as an archive, without volumes.
    pub async fn export(&self, name: &str, mut output: impl Write + Send + 'static) -> Result<()> {
        let container = self.0.containers.get(name)?;
        let engine = self.clone();
        let record = container.record();
        blocking(move || {
            let rootfs = engine.rootfs(&container)?;
            pack::export(rootfs.path(), &mut output)
        })
        .await?;
        self.tell_container(&record, "export", &[]);
        Ok(())
    }

    /// What differs from the image, in the order of paths.
    pub async fn changes(&self, name: &str) -> Result<Vec<wire::FilesystemChange>> {
        let container = self.0.containers.get(name)?;
        let engine = self.clone();
        blocking(move || engine.changes_now(&container)).await
    }

    /// What is at a path of a container.
    pub async fn archive_stat(&self, name: &str, path: &str) -> Result<PathStat> {
        let (engine, container) = (self.clone(), self.0.containers.get(name)?);
        let (name, path) = (name.to_string(), path.to_string());
        blocking(move || {
            engine.in_view(&container, false, move |view| archive::stat(view, &name, &path))
        })
        .await
    }

    /// Writes what is at a path as an archive.
    pub async fn archive_get(
        &self,
        name: &str,
        path: &str,
        output: impl Write + Send + 'static,
    ) -> Result<()> {
        let (engine, container) = (self.clone(), self.0.containers.get(name)?);
        let record = container.record();
        let (name, path) = (name.to_string(), path.to_string());
        blocking(move || {
            engine.in_view(&container, false, move |view| archive::get(view, &name, &path, output))
        })
        .await?;
        self.tell_container(&record, "archive-path", &[]);
        Ok(())
    }

    /// Unpacks an archive into a directory of a container.
    pub async fn archive_put(
        &self,
        name: &str,
        path: &str,
        mut input: impl Read + Send + 'static,
        options: PutOptions,
    ) -> Result<()> {
        let (engine, container) = (self.clone(), self.0.containers.get(name)?);
        let record = container.record();
        let (name, path) = (name.to_string(), path.to_string());
        let user = record.config.user.clone().unwrap_or_default();
        let sealed = record.host_config.readonly_rootfs == Some(true);
        blocking(move || {
            engine.in_view(&container, sealed, move |view| {
                extract::put(view, &name, &path, &mut input, &options, &user)
            })
        })
        .await?;
        self.tell_container(&record, "extract-to-dir", &[]);
        Ok(())
    }
}
