//! What is made once and kept outside the checkout, under a key of what it was made from.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Where things of `kind` are kept: below XDG_CACHE_HOME or ~/.cache.
pub fn directory(kind: &str) -> Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("caisson").join(kind))
}

/// SHA-256 in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Bytes as hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts a file in place whole: a reader sees the old one or the new one.
pub fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let fresh = path.with_extension("new");
    let mut file =
        fs::File::create(&fresh).with_context(|| format!("create {}", fresh.display()))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path).with_context(|| format!("rename to {}", path.display()))
}
