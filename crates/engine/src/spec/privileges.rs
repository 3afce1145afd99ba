//! What a container's processes may do: capabilities and resource limits.

use std::str::FromStr;

use caisson_bundle::{defaults, oci};

use crate::error::{Error, Result};
use crate::wire::HostConfig;

/// Reads a capability's name, with or without `CAP_`.
pub(crate) fn capability(name: &str) -> Result<Option<oci::Capability>> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if short == "ALL" {
        return Ok(None);
    }
    let known = oci::Capability::from_str(&format!("CAP_{short}"))
        .or_else(|_| oci::Capability::from_str(short));
    known.map(Some).map_err(|_| Error::invalid(format!("unknown capability: \"{name}\"")))
}

/// Every capability that this kernel knows.
fn every() -> Vec<oci::Capability> {
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap_or_default();
    let last = last.trim().parse::<u32>().unwrap_or(40);
    ALL.into_iter().take(last as usize + 1).collect()
}

/// In the order of their numbers (capability.h).
const ALL: [oci::Capability; 41] = {
    use oci::Capability as C;
    [
        C::Chown,
        C::DacOverride,
        C::DacReadSearch,
        C::Fowner,
        C::Fsetid,
        C::Kill,
        C::Setgid,
        C::Setuid,
        C::Setpcap,
        C::LinuxImmutable,
        C::NetBindService,
        C::NetBroadcast,
        C::NetAdmin,
        C::NetRaw,
        C::IpcLock,
        C::IpcOwner,
        C::SysModule,
        C::SysRawio,
        C::SysChroot,
        C::SysPtrace,
        C::SysPacct,
        C::SysAdmin,
        C::SysBoot,
        C::SysNice,
        C::SysResource,
        C::SysTime,
        C::SysTtyConfig,
        C::Mknod,
        C::Lease,
        C::AuditWrite,
        C::AuditControl,
        C::Setfcap,
        C::MacOverride,
        C::MacAdmin,
        C::Syslog,
        C::WakeAlarm,
        C::BlockSuspend,
        C::AuditRead,
        C::Perfmon,
        C::Bpf,
        C::CheckpointRestore,
    ]
};

fn sets(capabilities: Vec<oci::Capability>) -> oci::LinuxCapabilities {
    let set: oci::Capabilities = capabilities.into_iter().collect();
    let mut sets = oci::LinuxCapabilities::default();
    sets.set_bounding(Some(set.clone()))
        .set_permitted(Some(set.clone()))
        .set_effective(Some(set))
        .set_inheritable(None)
        .set_ambient(None);
    sets
}

pub fn all_capabilities() -> oci::LinuxCapabilities {
    sets(every())
}

/// Docker's default set, with what is added and without what is dropped.
pub fn capabilities(host: &HostConfig) -> Result<oci::LinuxCapabilities> {
    if host.privileged == Some(true) {
        return Ok(all_capabilities());
    }
    let read = |names: &Option<Vec<String>>| -> Result<Vec<Option<oci::Capability>>> {
        names.iter().flatten().map(|name| capability(name)).collect()
    };
    let (added, dropped) = (read(&host.cap_add)?, read(&host.cap_drop)?);
    let mut set = if added.contains(&None) { every() } else { defaults::CAPABILITIES.to_vec() };
    if dropped.contains(&None) {
        set.clear();
    }
    set.retain(|capability| !dropped.contains(&Some(*capability)));
    for capability in added.into_iter().flatten() {
        if !set.contains(&capability) {
            set.push(capability);
        }
    }
    Ok(sets(set))
}

/// A capability's place in a bit mask.
pub fn bit(capability: oci::Capability) -> u64 {
    ALL.iter().position(|known| *known == capability).map_or(0, |number| 1 << number)
}

/// The bounding set as a bit mask.
pub fn bounding(process: &oci::Process) -> u64 {
    let set = process.capabilities().as_ref().and_then(|sets| sets.bounding().clone());
    let set = set.unwrap_or_default();
    set.into_iter().fold(0, |mask, capability| mask | bit(capability))
}

/// `--ulimit`.
pub(crate) fn rlimits(host: &HostConfig) -> Result<Vec<oci::PosixRlimit>> {
    let limit = |value: Option<i64>| match value.unwrap_or_default() {
        negative if negative < 0 => u64::MAX,
        value => value as u64,
    };
    host.ulimits
        .iter()
        .flatten()
        .map(|given| {
            let name = given.name.clone().unwrap_or_default();
            let kind = format!("RLIMIT_{}", name.to_ascii_uppercase());
            let kind = oci::PosixRlimitType::from_str(&kind)
                .map_err(|_| Error::invalid(format!("invalid ulimit type: {name}")))?;
            let (soft, hard) = (limit(given.soft), limit(given.hard));
            if soft > hard {
                return Err(Error::invalid(format!(
                    "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
                )));
            }
            let rlimit = oci::PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build();
            rlimit.map_err(|error| Error::internal(error.to_string()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(add: &[&str], drop: &[&str]) -> u64 {
        let list = |names: &[&str]| Some(names.iter().map(|name| name.to_string()).collect());
        let host = HostConfig { cap_add: list(add), cap_drop: list(drop), ..Default::default() };
        let mut process = oci::Process::default();
        process.set_capabilities(Some(capabilities(&host).unwrap()));
        bounding(&process)
    }

    #[test]
    fn capabilities_are_added_and_dropped() {
        // Docker's default set, as /proc/PID/status shows it.
        assert_eq!(mask(&[], &[]), 0xa80425fb);
        assert_eq!(mask(&["NET_ADMIN"], &["cap_mknod"]), 0xa80435fb & !(1 << 27));
        assert_eq!(mask(&[], &["ALL"]), 0);
        assert_eq!(mask(&["CHOWN"], &["all"]), 1);
        assert_eq!(mask(&["ALL"], &["CHOWN"]) & 1, 0);
        assert!(capability("CAP_FLY").unwrap_err().message.contains("CAP_FLY"));
    }
}
