//! What one daemon alone may have: its roots and its pidfile.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// A root that no other daemon uses while this lives.
#[derive(Debug)]
pub struct Root(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File);

/// Takes a root, making it if need be. `flag` is how another one is chosen.
pub fn root(directory: &Path, flag: &str) -> Result<Root> {
    match claim(&directory.join("caissond.lock"))? {
        Claim::Taken(file) => Ok(Root(file)),
        Claim::Owned(owner) => bail!(
            "{} is in use by another caissond (process {owner}): stop that one, or give this one a {flag} of its own",
            directory.display()
        ),
    }
}

/// A file with this process's id, removed with this value. Its lock tells whether that process lives: a number
/// may be another program's by now.
#[derive(Debug)]
pub struct Pidfile {
    path: PathBuf,
    #[expect(dead_code, reason = "the lock lasts as long as the file is open")]
    file: File,
}

/// Writes a pidfile, unless one of a daemon that lives is there.
pub fn pidfile(path: &Path) -> Result<Pidfile> {
    match claim(path)? {
        Claim::Taken(file) => Ok(Pidfile { path: path.into(), file }),
        Claim::Owned(owner) => bail!(
            "process with PID {owner} is still running: stop it, or give this daemon a --pidfile of its own instead of {}",
            path.display()
        ),
    }
}

enum Claim {
    /// Locked, with this process's id in it.
    Taken(File),
    /// By the process of this id, which lives.
    Owned(String),
}

/// Locks a file for as long as it is open, and writes this process's id into it.
fn claim(path: &Path) -> Result<Claim> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("make the directory {}", directory.display()))?;
    }
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("open {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut owner = String::new();
            // The number only helps to find it.
            let _ = file.read_to_string(&mut owner);
            return Ok(Claim::Owned(owner.trim().into()));
        }
        Err(error) => return Err(error).with_context(|| format!("lock {}", path.display())),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .with_context(|| format!("write {}", path.display()))?;
    Ok(Claim::Taken(file))
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!("remove {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_one_daemons() {
        let directory = tempfile::tempdir().unwrap();
        let mine = root(directory.path(), "--data-root").unwrap();
        let text = root(directory.path(), "--data-root").unwrap_err().to_string();
        assert!(text.contains(directory.path().to_str().unwrap()), "{text}");
        assert!(text.contains(&std::process::id().to_string()), "{text}");
        drop(mine);
        root(directory.path(), "--data-root").unwrap();
    }

    #[test]
    fn a_pidfile_is_one_daemons_while_it_lives() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/pid");
        let own = std::process::id().to_string();
        let mine = pidfile(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), own);
        let text = pidfile(&path).unwrap_err().to_string();
        assert!(text.starts_with(&format!("process with PID {own} is still running")), "{text}");
        drop(mine);
        assert!(!path.exists());
        // What a crash left says nothing, whoever has that number now.
        std::fs::write(&path, "1\n").unwrap();
        pidfile(&path).unwrap();
    }
}
