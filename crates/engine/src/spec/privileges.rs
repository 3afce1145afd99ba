//! What a container's processes may do: capabilities, seccomp, devices, resource limits.

use std::str::FromStr;

use caisson_bundle::{defaults, oci};

use crate::error::{Doing, Error, Result};
use crate::wire::HostConfig;

/// `--security-opt`.
#[derive(Debug, Default)]
pub(crate) struct Security {
    pub no_new_privileges: bool,
    profile: Profile,
}

#[derive(Debug, Default)]
enum Profile {
    #[default]
    Default,
    Unconfined,
    Own(Box<oci::LinuxSeccomp>),
}

impl Security {
    pub fn parse(options: &[String]) -> Result<Self> {
        let mut security = Security::default();
        for option in options {
            let (name, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
            match (name, value) {
                ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
                ("no-new-privileges", "false") => security.no_new_privileges = false,
                ("seccomp", "unconfined") => security.profile = Profile::Unconfined,
                ("seccomp", "builtin") => security.profile = Profile::Default,
                ("seccomp", text) => security.profile = Profile::Own(Box::new(own_profile(text)?)),
                ("apparmor", "unconfined" | "docker-default") | ("label", _) => {}
                ("systempaths", "unconfined") => {}
                _ => {
                    return Err(Error::invalid(format!("invalid --security-opt: {option:?}")));
                }
            }
        }
        Ok(security)
    }

    /// The filter of a container whose bounding set is this bit mask.
    pub fn seccomp(&self, privileged: bool, bounding: u64) -> Option<oci::LinuxSeccomp> {
        match &self.profile {
            Profile::Own(profile) => Some((**profile).clone()),
            Profile::Default if !privileged => {
                Some(caisson_launch::seccomp::default_profile(bounding))
            }
            _ => None,
        }
    }
}

fn own_profile(text: &str) -> Result<oci::LinuxSeccomp> {
    let invalid = |why: String| Error::invalid(format!("invalid seccomp profile: {why}"));
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
    // Docker's own form has rules by kernel and capability, which this does not read.
    let conditional =
        value.get("syscalls").and_then(|calls| calls.as_array()).is_some_and(|calls| {
            calls.iter().any(|call| {
                ["includes", "excludes"].iter().any(|key| {
                    call.get(key)
                        .and_then(|rule| rule.as_object())
                        .is_some_and(|map| !map.is_empty())
                })
            })
        });
    if conditional {
        return Err(invalid(
            "rules with includes or excludes are not supported: give the plain OCI form".into(),
        ));
    }
    serde_json::from_value(value).map_err(|error| invalid(error.to_string()))
}

/// Reads a capability's name, with or without `CAP_`.
pub(crate) fn capability(name: &str) -> Result<Option<oci::Capability>> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if short == "ALL" {
        return Ok(None);
    }
    let known = oci::Capability::from_str(&format!("CAP_{short}"))
        .or_else(|_| oci::Capability::from_str(short));
    known.map(Some).map_err(|_| {
        Error::invalid(format!("invalid CapAdd or CapDrop: unknown capability: \"{name}\""))
    })
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

/// The bounding set as a bit mask.
pub fn bounding(process: &oci::Process) -> u64 {
    let set = process.capabilities().as_ref().and_then(|sets| sets.bounding().clone());
    let set = set.unwrap_or_default();
    let bits = ALL.iter().enumerate().filter(|(_, capability)| set.contains(capability));
    bits.fold(0, |mask, (number, _)| mask | 1 << number)
}

/// Devices of the host that the container gets, and what it may do with devices.
pub fn devices(
    host: &HostConfig,
    mut rules: Vec<oci::LinuxDeviceCgroup>,
) -> Result<(Vec<oci::LinuxDevice>, Vec<oci::LinuxDeviceCgroup>)> {
    if host.privileged == Some(true) {
        let mut all = oci::LinuxDeviceCgroup::default();
        all.set_allow(true).set_typ(Some(oci::LinuxDeviceType::A)).set_access(Some("rwm".into()));
        rules = vec![all];
    }
    let mut devices = Vec::new();
    for mapping in host.devices.iter().flatten() {
        let path = mapping.path_on_host.clone().unwrap_or_default();
        let inside = mapping.path_in_container.clone().filter(|path| !path.is_empty());
        let access = mapping.cgroup_permissions.clone().filter(|access| !access.is_empty());
        let (device, rule) = device(&path, &inside.unwrap_or_else(|| path.clone()), access)?;
        devices.push(device);
        rules.push(rule);
    }
    for text in host.device_cgroup_rules.iter().flatten() {
        rules.push(rule(text)?);
    }
    Ok((devices, rules))
}

fn device(
    path: &str,
    inside: &str,
    access: Option<String>,
) -> Result<(oci::LinuxDevice, oci::LinuxDeviceCgroup)> {
    use rustix::fs::FileType;
    let what =
        || format!("error gathering device information while adding custom device \"{path}\"");
    let status = rustix::fs::stat(path).doing(what)?;
    let kind = match FileType::from_raw_mode(status.st_mode) {
        FileType::CharacterDevice => oci::LinuxDeviceType::C,
        FileType::BlockDevice => oci::LinuxDeviceType::B,
        _ => return Err(Error::invalid(format!("{}: not a device node", what()))),
    };
    let major = i64::from(rustix::fs::major(status.st_rdev));
    let minor = i64::from(rustix::fs::minor(status.st_rdev));
    let mut device = oci::LinuxDevice::default();
    device
        .set_path(inside.into())
        .set_typ(kind)
        .set_major(major)
        .set_minor(minor)
        .set_file_mode(Some(status.st_mode & 0o7777))
        .set_uid(Some(status.st_uid))
        .set_gid(Some(status.st_gid));
    let mut rule = oci::LinuxDeviceCgroup::default();
    rule.set_allow(true)
        .set_typ(Some(kind))
        .set_major(Some(major))
        .set_minor(Some(minor))
        .set_access(Some(access.unwrap_or_else(|| "rwm".into())));
    Ok((device, rule))
}

/// Reads `c 1:3 rwm`, where a number may be `*`.
fn rule(text: &str) -> Result<oci::LinuxDeviceCgroup> {
    let invalid = || Error::invalid(format!("invalid device cgroup rule: '{text}'"));
    let words: Vec<&str> = text.split_whitespace().collect();
    let [kind, numbers, access] = words.as_slice() else { return Err(invalid()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        text => text.parse::<i64>().map(Some).map_err(|_| invalid()),
    };
    let kind = match *kind {
        "a" => oci::LinuxDeviceType::A,
        "b" => oci::LinuxDeviceType::B,
        "c" => oci::LinuxDeviceType::C,
        _ => return Err(invalid()),
    };
    if access.is_empty() || access.bytes().any(|byte| !b"rwm".contains(&byte)) {
        return Err(invalid());
    }
    let mut rule = oci::LinuxDeviceCgroup::default();
    rule.set_allow(true)
        .set_typ(Some(kind))
        .set_major(number(major)?)
        .set_minor(number(minor)?)
        .set_access(Some(access.to_string()));
    Ok(rule)
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

    #[test]
    fn security_options_are_read() {
        let parse = |options: &[&str]| {
            Security::parse(&options.iter().map(|o| o.to_string()).collect::<Vec<_>>())
        };
        let security = parse(&["no-new-privileges", "seccomp=unconfined"]).unwrap();
        assert!(security.no_new_privileges && security.seccomp(false, 0).is_none());
        assert!(parse(&[]).unwrap().seccomp(false, 0).is_some());
        assert!(parse(&[]).unwrap().seccomp(true, 0).is_none());
        let own = parse(&[r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW"}"#]).unwrap();
        assert!(own.seccomp(true, 0).is_some());
        for bad in [
            "seccomp={",
            "magic=1",
            r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["x"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["A"]}}]}"#,
        ] {
            assert!(parse(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn device_rules_are_read() {
        let read = rule("c 1:* rw").unwrap();
        assert_eq!((read.major(), read.minor()), (Some(1), None));
        for bad in ["c 1 rw", "x 1:3 r", "c 1:3 q", "c 1:3", ""] {
            assert!(rule(bad).is_err(), "{bad}");
        }
        let null = device("/dev/null", "/dev/zip", None).unwrap();
        assert_eq!((null.0.major(), null.0.minor()), (1, 3));
        assert!(device("/etc/passwd", "/x", None).is_err());
    }
}
