//! What a hyperv container cannot have.
//!
//! | of this host | why not |
//! | --- | --- |
//! | network, process ids, IPC objects, host name, cgroups | the guest has a kernel of its own |
//! | devices, and rules for them | the guest has its own |
//! | a choice of CPUs or memory nodes, a weight of disk accesses | the guest does not see this host's |
//! | mounts that a container makes and the host sees, sockets | the share carries files |
//!
//! All else is the same for both types.

use std::os::unix::fs::FileTypeExt;

use crate::error::{Error, Result};
use crate::record::MountKind;
use crate::wire;
use crate::{Engine, Record, RuntimeType};

impl Engine {
    /// Why a container cannot be of this type, if so.
    pub(crate) fn can_become(&self, record: &Record, to: RuntimeType) -> Result<()> {
        if to == RuntimeType::Process {
            return Ok(());
        }
        match obstacle(record) {
            None => Ok(()),
            Some(what) => Err(Error::invalid(format!(
                "a hyperv container has a kernel of its own and cannot have {what}: leave that out, or take the process type"
            ))),
        }
    }
}

/// What a container has that only this host's kernel can give.
fn obstacle(record: &Record) -> Option<String> {
    namespaces(record)
        .or_else(|| limits(record))
        .or_else(|| mounts(record))
        .or_else(|| (record.networks.len() > 1).then(|| "more than one network".to_string()))
}

fn namespaces(record: &Record) -> Option<String> {
    let host = &record.host_config;
    let network = host.network_mode.as_deref().unwrap_or_default();
    if network == "host" {
        return Some("the host's network (--network host)".into());
    }
    if let Some(other) = network.strip_prefix("container:") {
        return Some(format!("the network of the container {other} (--network container:…)"));
    }
    if let Some(other) = host.pid_mode.as_deref().and_then(|mode| mode.strip_prefix("container:")) {
        return Some(format!("the process ids of the container {other} (--pid container:…)"));
    }
    for (mode, what) in [
        (&host.pid_mode, "process ids (--pid host)"),
        (&host.ipc_mode, "IPC objects (--ipc host)"),
        (&host.uts_mode, "host name (--uts host)"),
    ] {
        if mode.as_deref() == Some("host") {
            return Some(format!("the host's {what}"));
        }
    }
    let cgroups = host.cgroupns_mode == Some(wire::HostConfigCgroupnsModeEnum::HOST);
    cgroups.then(|| "the host's cgroups (--cgroupns host)".into())
}

fn limits(record: &Record) -> Option<String> {
    let host = &record.host_config;
    if let Some(device) = host.devices.iter().flatten().next() {
        let path = device.path_on_host.clone().unwrap_or_default();
        return Some(format!("the host's device {path} (--device)"));
    }
    if let Some(rule) = host.device_cgroup_rules.iter().flatten().next() {
        return Some(format!("the rule '{rule}' for devices (--device-cgroup-rule)"));
    }
    for (set, what) in [
        (&host.cpuset_cpus, "CPUs (--cpuset-cpus): use --cpus"),
        (&host.cpuset_mems, "memory nodes (--cpuset-mems)"),
    ] {
        if set.as_deref().is_some_and(|set| !set.is_empty()) {
            return Some(format!("a choice of the host's {what}"));
        }
    }
    let weight = host.blkio_weight.is_some_and(|weight| weight != 0);
    weight.then(|| "a weight of disk accesses (--blkio-weight)".into())
}

fn mounts(record: &Record) -> Option<String> {
    for mount in &record.mounts {
        let MountKind::Bind { source, .. } = &mount.kind else { continue };
        if mount.propagation.contains("shared") {
            let place = mount.destination.display();
            return Some(format!("mounts at {place} that the host sees ({})", mount.propagation));
        }
        if std::fs::metadata(source).is_ok_and(|found| found.file_type().is_socket()) {
            return Some(format!("the host's socket {}", source.display()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::tests::record;
    use crate::record::MountRecord;
    use crate::wire::HostConfig;

    fn of(change: impl FnOnce(&mut HostConfig)) -> Option<String> {
        let mut one = record('a', "web", 100);
        change(&mut one.host_config);
        obstacle(&one)
    }

    #[test]
    fn what_only_this_kernel_has_is_named() {
        assert_eq!(of(|_| {}), None);
        assert!(of(|h| h.pid_mode = Some("host".into())).unwrap().contains("--pid host"));
        assert!(of(|h| h.network_mode = Some("host".into())).unwrap().contains("--network host"));
        assert!(of(|h| h.network_mode = Some("container:x".into())).unwrap().contains('x'));
        assert!(of(|h| h.cpuset_cpus = Some("0".into())).unwrap().contains("--cpuset-cpus"));
        assert!(of(|h| h.blkio_weight = Some(10)).unwrap().contains("--blkio-weight"));
        let device =
            wire::DeviceMapping { path_on_host: Some("/dev/fuse".into()), ..Default::default() };
        assert!(of(|h| h.devices = Some(vec![device])).unwrap().contains("/dev/fuse"));
        assert_eq!(of(|h| h.privileged = Some(true)), None);
        assert_eq!(of(|h| h.network_mode = Some("none".into())), None);
    }

    #[test]
    fn what_the_share_cannot_carry_is_named() {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let with = |source: &std::path::Path, propagation: &str| {
            let mut one = record('a', "web", 100);
            one.mounts = vec![MountRecord {
                destination: "/x".into(),
                kind: MountKind::Bind { source: source.into(), recursive: true },
                read_only: false,
                propagation: propagation.into(),
                mode: String::new(),
            }];
            obstacle(&one)
        };
        assert_eq!(with(place.path(), "rprivate"), None);
        assert_eq!(with(place.path(), "rslave"), None);
        assert!(with(place.path(), "rshared").unwrap().contains("rshared"));
        assert!(with(&socket, "rprivate").unwrap().contains("socket"));
    }
}
