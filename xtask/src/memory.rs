//! What a container's programs take of this host's memory.

use std::fs;

use anyhow::{Context, Result, ensure};
use caisson_tests::engine::proportional_memory;

/// What one container takes, KiB of proportional share.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// The supervisor alone.
    pub supervisor: u64,
    /// The supervisor and all below it: the container's processes, or monitor and share server.
    pub all: u64,
}

/// What the container takes now, of which `inspect` names this pid: its first process, or its monitor.
pub fn of(pid: i32) -> Result<Memory> {
    let supervisor = parent(pid)?;
    let line = fs::read_to_string(format!("/proc/{supervisor}/cmdline")).unwrap_or_default();
    let program = line.split('\0').next().unwrap_or_default();
    ensure!(program.ends_with("caisson-supervisor"), "the parent of process {pid} is {program:?}");
    let all = family(supervisor).into_iter().map(proportional_memory).sum();
    Ok(Memory { supervisor: proportional_memory(supervisor), all })
}

/// The process that started it, or took it over.
pub fn parent(pid: i32) -> Result<i32> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // The program's name, in parentheses, may hold anything.
    let rest = text.rsplit(')').next().unwrap_or_default();
    let parent = rest.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    parent.with_context(|| format!("{path} has no parent"))
}

/// A process and its descendants.
pub fn family(pid: i32) -> Vec<i32> {
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        for task in fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            family.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
        next += 1;
    }
    family
}

/// Resident memory of a process, KiB.
pub fn resident(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("{path} has no VmRSS"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_its_children_are_found() {
        let own = std::process::id() as i32;
        assert!(resident(own).unwrap() > 100);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(family(own).contains(&(child.id() as i32)));
        assert_eq!(parent(child.id() as i32).unwrap(), own);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
