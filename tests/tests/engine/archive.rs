//! Tar archives, for and from the containers.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::{Context, Result};
use tar::{Builder, EntryType, Header};

/// An archive under construction.
pub struct Archive(Builder<Vec<u8>>);

impl Archive {
    pub fn new() -> Self {
        Archive(Builder::new(Vec::new()))
    }

    /// A file of user 33 and group 34, mode 640. The name is taken as it is, however hostile.
    pub fn file(self, name: &str, content: &str) -> Result<Self> {
        self.entry(EntryType::Regular, name, "", content.as_bytes())
    }

    pub fn directory(self, name: &str) -> Result<Self> {
        self.entry(EntryType::Directory, name, "", &[])
    }

    pub fn symlink(self, name: &str, target: &str) -> Result<Self> {
        self.entry(EntryType::Symlink, name, target, &[])
    }

    pub fn hard_link(self, name: &str, target: &str) -> Result<Self> {
        self.entry(EntryType::Link, name, target, &[])
    }

    fn entry(mut self, kind: EntryType, name: &str, link: &str, content: &[u8]) -> Result<Self> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        // Not by the crate's setters: they refuse what an attacker writes.
        let old = header.as_old_mut();
        for (field, text) in [(&mut old.name, name), (&mut old.linkname, link)] {
            field.get_mut(..text.len()).context("a long name")?.copy_from_slice(text.as_bytes());
        }
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o640 });
        header.set_uid(33);
        header.set_gid(34);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content)?;
        Ok(self)
    }

    pub fn finish(self) -> Result<Vec<u8>> {
        Ok(self.0.into_inner()?)
    }
}

/// What an archive holds, by name: type and link or content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: EntryType,
    pub mode: u32,
    pub owner: (u64, u64),
    pub link: String,
    pub content: String,
}

/// Reads an archive whole.
pub fn entries(archive: &[u8]) -> Result<BTreeMap<String, Entry>> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let link = entry.link_name_bytes().unwrap_or_default();
        let link = String::from_utf8_lossy(&link).into_owned();
        let header = entry.header();
        let (kind, mode) = (header.entry_type(), header.mode()? & 0o7777);
        let owner = (header.uid()?, header.gid()?);
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        let content = String::from_utf8_lossy(&content).into_owned();
        let name = name.trim_start_matches("./").trim_end_matches('/').to_string();
        found.insert(name, Entry { kind, mode, owner, link, content });
    }
    Ok(found)
}
