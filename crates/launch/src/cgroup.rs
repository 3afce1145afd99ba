//! Control groups of one container on v1, v2 and hybrid hosts.
//!
//! A container's path, such as `/caisson/ID`, is the same below every hierarchy. A limit that was asked
//! for and that no mounted controller can give is an error that names it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use caisson_bundle::oci;
use caisson_protocol::task::{FailureKind, Stats};

use crate::error::{Context, Error};

mod limits;
mod stats;

/// A mounted cgroup hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// 1 or 2.
    pub version: u8,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Its controllers.
    pub controllers: Vec<String>,
}

/// The hierarchies of this host, from /proc/self/mountinfo. A v2 mount comes last.
pub fn hierarchies() -> io::Result<Vec<Hierarchy>> {
    Ok(parse_mounts(&fs::read_to_string("/proc/self/mountinfo")?, |mount| {
        fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default()
    }))
}

fn parse_mounts(text: &str, controllers_of: impl Fn(&Path) -> String) -> Vec<Hierarchy> {
    const V1: [&str; 12] = [
        "cpu",
        "cpuacct",
        "cpuset",
        "memory",
        "devices",
        "freezer",
        "blkio",
        "pids",
        "net_cls",
        "net_prio",
        "perf_event",
        "hugetlb",
    ];
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in text.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(mount) = left.split(' ').nth(4) else { continue };
        let right: Vec<_> = right.split(' ').collect();
        let mount = PathBuf::from(mount);
        let (version, controllers): (u8, Vec<String>) = match right.first() {
            Some(&"cgroup2") => {
                (2, controllers_of(&mount).split_whitespace().map(String::from).collect())
            }
            Some(&"cgroup") => {
                let options = right.get(2).copied().unwrap_or_default();
                (1, options.split(',').filter(|o| V1.contains(o)).map(String::from).collect())
            }
            _ => continue,
        };
        if !found.iter().any(|known| known.version == version && known.controllers == controllers) {
            found.push(Hierarchy { version, mount, controllers });
        }
    }
    found.sort_by_key(|hierarchy| hierarchy.version);
    found
}

/// The cgroup of one container in every hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    parts: Vec<(Hierarchy, PathBuf)>,
}

impl Cgroup {
    /// Makes the directories of `path` (absolute, no `..`) in every hierarchy.
    pub fn create(path: &str) -> Result<Self, Error> {
        let relative = path.trim_start_matches('/');
        if relative.is_empty() || relative.split('/').any(|part| part == ".." || part.is_empty()) {
            return Err(Error::new(
                FailureKind::Invalid,
                format!("cgroup path {path} is not valid"),
            ));
        }
        let mut parts = Vec::new();
        for hierarchy in hierarchies().context("read the cgroup mounts")? {
            let directory = hierarchy.mount.join(relative);
            let what = || format!("make cgroup {}", directory.display());
            if hierarchy.version == 2 {
                delegate(&hierarchy, relative);
            }
            fs::create_dir_all(&directory).context(what())?;
            if hierarchy.controllers.iter().any(|controller| controller == "cpuset") {
                inherit_cpuset(&hierarchy.mount, relative);
            }
            parts.push((hierarchy, directory));
        }
        Ok(Cgroup { parts })
    }

    /// The files a process joins by writing its pid to.
    pub fn procs_files(&self) -> Vec<PathBuf> {
        self.parts.iter().map(|(_, directory)| directory.join("cgroup.procs")).collect()
    }

    /// The directory of a v1 controller, and whether it is the v2 one.
    fn of(&self, controller: &str) -> Option<(&Path, bool)> {
        let has = |h: &Hierarchy| h.controllers.iter().any(|name| name == controller);
        let (hierarchy, directory) = self.parts.iter().find(|(hierarchy, _)| has(hierarchy))?;
        Some((directory, hierarchy.version == 2))
    }

    fn v2(&self) -> Option<&Path> {
        self.parts.iter().find(|(h, _)| h.version == 2).map(|(_, directory)| directory.as_path())
    }

    /// Applies limits, at the start and live.
    pub fn apply(&self, resources: &oci::LinuxResources) -> Result<(), Error> {
        limits::apply(self, resources)
    }

    /// Reads the counters (interfaces excepted).
    pub fn stats(&self) -> Stats {
        stats::read(self)
    }

    /// How often the kernel killed for this cgroup's memory limit.
    pub fn oom_kills(&self) -> u64 {
        let Some((directory, v2)) = self.of("memory") else { return 0 };
        let file = if v2 { "memory.events" } else { "memory.oom_control" };
        flat(&directory.join(file)).get("oom_kill").copied().unwrap_or(0)
    }

    /// Freezes or thaws every process.
    pub fn freeze(&self, frozen: bool) -> Result<(), Error> {
        let what = if frozen { "freeze the container" } else { "thaw the container" };
        if let Some((directory, false)) = self.of("freezer") {
            let state = if frozen { "FROZEN" } else { "THAWED" };
            return fs::write(directory.join("freezer.state"), state).context(what);
        }
        let Some(directory) = self.v2().filter(|d| d.join("cgroup.freeze").exists()) else {
            return Err(Error::new(FailureKind::Internal, "this host has no cgroup freezer"));
        };
        fs::write(directory.join("cgroup.freeze"), if frozen { "1" } else { "0" }).context(what)
    }

    /// The pids in the cgroup and below, ascending.
    pub fn pids(&self) -> Vec<i32> {
        let best = self.of("pids").map(|(d, _)| d).or(self.v2()).or(self.of("memory").map(|m| m.0));
        let mut pids = Vec::new();
        if let Some(directory) = best {
            collect_pids(directory, &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Removes the directories. They must be empty of processes.
    pub fn remove(&self) -> Result<(), Error> {
        for (_, directory) in &self.parts {
            remove_tree(directory).context(format!("remove cgroup {}", directory.display()))?;
        }
        Ok(())
    }
}

/// Turns the controllers on in every ancestor of a v2 cgroup; one that cannot be is left out.
fn delegate(hierarchy: &Hierarchy, relative: &str) {
    let mut directory = hierarchy.mount.clone();
    let mut parts: Vec<_> = relative.split('/').collect();
    parts.pop();
    for part in std::iter::once("").chain(parts) {
        if !part.is_empty() {
            directory.push(part);
        }
        if fs::create_dir_all(&directory).is_err() {
            return;
        }
        for controller in &hierarchy.controllers {
            // A controller that the parent does not hand down shows when a limit asks for it.
            let _ = fs::write(directory.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

/// v1 cpuset directories start empty and take no process before they are filled from their parents.
fn inherit_cpuset(mount: &Path, relative: &str) {
    let mut directory = mount.to_path_buf();
    for part in relative.split('/') {
        let parent = directory.clone();
        directory.push(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let own = fs::read_to_string(directory.join(file)).unwrap_or_default();
            if own.trim().is_empty()
                && let Ok(value) = fs::read_to_string(parent.join(file))
            {
                // A failure shows as ENOSPC when the first process joins.
                let _ = fs::write(directory.join(file), value.trim());
            }
        }
    }
}

fn collect_pids(directory: &Path, pids: &mut Vec<i32>) {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_pids(&entry.path(), pids);
        }
    }
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}

/// A file of `name value` lines.
fn flat(path: &Path) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.filter_map(|(key, value)| Some((key.to_string(), value.trim().parse().ok()?))).collect()
}

/// A file of one number; `max` is none.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_host_is_told_apart() {
        let text = "30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                    31 25 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                    32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = parse_mounts(text, |_| "hugetlb\n".into());
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].controllers, ["cpu"]);
        assert!(found[1].controllers.is_empty());
        assert_eq!(
            (found[2].version, found[2].controllers.as_slice()),
            (2, &["hugetlb".into()][..])
        );
    }

    #[test]
    fn a_path_that_climbs_is_refused() {
        assert!(Cgroup::create("/caisson/../x").is_err());
        assert!(Cgroup::create("/").is_err());
    }
}
