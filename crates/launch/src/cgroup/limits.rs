//! Limits of the OCI spec as values of cgroup files.

use std::fs;
use std::path::Path;

use caisson_bundle::oci;
use caisson_protocol::task::FailureKind;

use super::Cgroup;
use crate::error::{Context, Error};

pub fn apply(cgroup: &Cgroup, resources: &oci::LinuxResources) -> Result<(), Error> {
    if let Some(memory) = resources.memory() {
        apply_memory(cgroup, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        apply_cpu(cgroup, cpu)?;
    }
    if let Some(limit) = resources.pids().as_ref().map(|pids| pids.limit()).filter(|l| *l != 0) {
        let value = if limit < 0 { "max".into() } else { limit.to_string() };
        set(cgroup, "pids", "pids.max", "pids.max", &value)?;
    }
    if let Some(weight) = resources.block_io().as_ref().and_then(|io| io.weight()) {
        let v2 = (1 + (u64::from(weight) - 10) * 9999 / 990).to_string();
        let (name, value) = match cgroup.of("blkio") {
            Some(_) => ("blkio", weight.to_string()),
            None => ("io", v2),
        };
        set(cgroup, name, "blkio.weight", "io.weight", &value)?;
    }
    if let Some(devices) = resources.devices() {
        apply_devices(cgroup, devices)?;
    }
    Ok(())
}

/// Writes a limit to the controller's file, or says that no controller can hold it.
fn set(cgroup: &Cgroup, controller: &str, v1: &str, v2: &str, value: &str) -> Result<(), Error> {
    let Some((directory, unified)) = cgroup.of(controller) else {
        let text =
            format!("this host has no {controller} cgroup controller to hold a limit of {value}");
        return Err(Error::new(FailureKind::Resources, text));
    };
    write(directory, if unified { v2 } else { v1 }, value)
}

fn write(directory: &Path, file: &str, value: &str) -> Result<(), Error> {
    fs::write(directory.join(file), value).context(format!("set {file} to {value}"))
}

fn apply_memory(cgroup: &Cgroup, memory: &oci::LinuxMemory) -> Result<(), Error> {
    let text = |value: i64| if value < 0 { "max".to_string() } else { value.to_string() };
    let Some(limit) = memory.limit().filter(|limit| *limit != 0) else {
        return reservation(cgroup, memory);
    };
    let swap = memory.swap().filter(|swap| *swap != 0);
    match cgroup.of("memory") {
        Some((directory, false)) => {
            let value = limit.to_string();
            let total = swap.map(|swap| swap.to_string());
            // The kernel keeps limit <= limit+swap at all times: widen the outer one first when raising.
            let outer = directory.join("memory.memsw.limit_in_bytes");
            let current = super::number(&outer).unwrap_or(u64::MAX);
            if let Some(total) = total.as_ref().filter(|_| outer.exists())
                && current < limit as u64
            {
                write(directory, "memory.memsw.limit_in_bytes", total)?;
            }
            write(directory, "memory.limit_in_bytes", &value)?;
            if let Some(total) = total.filter(|_| outer.exists()) {
                write(directory, "memory.memsw.limit_in_bytes", &total)?;
            }
        }
        _ => {
            set(cgroup, "memory", "", "memory.max", &text(limit))?;
            if let (Some(swap), Some((directory, true))) = (swap, cgroup.of("memory"))
                && directory.join("memory.swap.max").exists()
            {
                let value = if swap < 0 { -1 } else { (swap - limit).max(0) };
                write(directory, "memory.swap.max", &text(value))?;
            }
        }
    }
    reservation(cgroup, memory)
}

fn reservation(cgroup: &Cgroup, memory: &oci::LinuxMemory) -> Result<(), Error> {
    match memory.reservation().filter(|value| *value > 0) {
        None => Ok(()),
        Some(value) => {
            let value = value.to_string();
            set(cgroup, "memory", "memory.soft_limit_in_bytes", "memory.low", &value)
        }
    }
}

fn apply_cpu(cgroup: &Cgroup, cpu: &oci::LinuxCpu) -> Result<(), Error> {
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        let shares = shares.clamp(2, 262_144);
        let weight = 1 + (shares - 2) * 9999 / 262_142;
        let unified = cgroup.of("cpu").is_some_and(|(_, v2)| v2);
        let value = if unified { weight } else { shares }.to_string();
        set(cgroup, "cpu", "cpu.shares", "cpu.weight", &value)?;
    }
    let period = cpu.period().filter(|period| *period != 0);
    let quota = cpu.quota().filter(|quota| *quota != 0);
    if period.is_some() || quota.is_some() {
        match cgroup.of("cpu") {
            Some((directory, false)) => {
                if let Some(period) = period {
                    write(directory, "cpu.cfs_period_us", &period.to_string())?;
                }
                if let Some(quota) = quota {
                    write(directory, "cpu.cfs_quota_us", &quota.to_string())?;
                }
            }
            _ => {
                let quota = quota.filter(|quota| *quota > 0);
                let quota = quota.map_or("max".to_string(), |quota| quota.to_string());
                let value = format!("{quota} {}", period.unwrap_or(100_000));
                set(cgroup, "cpu", "", "cpu.max", &value)?;
            }
        }
    }
    for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            set(cgroup, "cpuset", file, file, value)?;
        }
    }
    Ok(())
}

fn apply_devices(cgroup: &Cgroup, rules: &[oci::LinuxDeviceCgroup]) -> Result<(), Error> {
    let Some((directory, false)) = cgroup.of("devices") else {
        // v2 has no device controller: nodes are withheld instead (no CAP_MKNOD beyond the default set
        // can open what the mount's nodev and the missing node keep away).
        return Ok(());
    };
    for rule in rules {
        let kind = match rule.typ() {
            Some(oci::LinuxDeviceType::B) => "b",
            Some(oci::LinuxDeviceType::C | oci::LinuxDeviceType::U) => "c",
            _ => "a",
        };
        let file = if rule.allow() { "devices.allow" } else { "devices.deny" };
        let part = |n: Option<i64>| n.filter(|n| *n >= 0).map_or("*".into(), |n| n.to_string());
        let access = rule.access().as_deref().unwrap_or("rwm");
        let value = match kind {
            "a" => "a".to_string(),
            kind => format!("{kind} {}:{} {access}", part(rule.major()), part(rule.minor())),
        };
        write(directory, file, &value)?;
    }
    Ok(())
}
