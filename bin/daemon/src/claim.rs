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
    std::fs::create_dir_all(directory)
        .with_context(|| format!("make the directory {}", directory.display()))?;
    let path = directory.join("caissond.lock");
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut owner = String::new();
            // The number only helps to find it.
            let _ = file.read_to_string(&mut owner);
            bail!(
                "{} is in use by another caissond (process {}): stop that one, or give this one a {flag} of its own",
                directory.display(),
                owner.trim()
            );
        }
        Err(error) => return Err(error).with_context(|| format!("lock {}", path.display())),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .with_context(|| format!("write {}", path.display()))?;
    writeln!(file, "{}", std::process::id())
        .with_context(|| format!("write {}", path.display()))?;
    Ok(Root(file))
}

/// A file with this process's id, removed with this value.
#[derive(Debug)]
pub struct Pidfile(PathBuf);

/// Writes a pidfile, unless one of a process that lives is there.
pub fn pidfile(path: &Path) -> Result<Pidfile> {
    let known = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if let Some(known) = known
        && known != std::process::id() as i32
        && Path::new(&format!("/proc/{known}")).exists()
    {
        bail!(
            "process with PID {known} is still running: stop it, or remove {} if that is another program",
            path.display()
        );
    }
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("make the directory {}", directory.display()))?;
    }
    std::fs::write(path, format!("{}\n", std::process::id()))
        .with_context(|| format!("write {}", path.display()))?;
    Ok(Pidfile(path.into()))
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!("remove {}: {error}", self.0.display());
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
    fn a_pidfile_of_a_dead_process_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/pid");
        let mine = pidfile(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), std::process::id().to_string());
        drop(mine);
        assert!(!path.exists());
        std::fs::write(&path, "1\n").unwrap();
        assert!(pidfile(&path).unwrap_err().to_string().contains("PID 1 is still running"));
        std::fs::write(&path, "2147483647\n").unwrap();
        pidfile(&path).unwrap();
    }
}
