//! What a process may do: limits, user, capabilities, no_new_privs.

use std::io;

use caisson_bundle::oci;
use caisson_protocol::task::FailureKind;

use crate::error::{Context, Error};
use crate::sys;
use crate::user::Identity;

/// Applies resource limits. A hard limit above what this host lets us set is lowered to it, and said.
pub fn limits(limits: &[oci::PosixRlimit]) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    for limit in limits {
        let name = limit.typ().to_string();
        let number = number(limit.typ());
        let mut wanted = libc::rlimit { rlim_cur: limit.soft(), rlim_max: limit.hard() };
        let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: both structures are valid for the length of the calls.
        let set = unsafe {
            libc::getrlimit(number, &mut now);
            libc::setrlimit(number, &wanted)
        };
        if set == 0 {
            continue;
        }
        if io::Error::last_os_error().raw_os_error() != Some(libc::EPERM) {
            return sys::check(-1).map(|_| warnings).context(format!("set {name}"));
        }
        wanted.rlim_max = now.rlim_max;
        wanted.rlim_cur = wanted.rlim_cur.min(now.rlim_max);
        // SAFETY: as above.
        sys::check(unsafe { libc::setrlimit(number, &wanted) }.into())
            .context(format!("set {name}"))?;
        warnings.push(format!("{name} stays at this host's hard limit of {}", now.rlim_max));
    }
    Ok(warnings)
}

fn number(kind: oci::PosixRlimitType) -> libc::__rlimit_resource_t {
    use oci::PosixRlimitType as T;
    match kind {
        T::RlimitCpu => libc::RLIMIT_CPU,
        T::RlimitFsize => libc::RLIMIT_FSIZE,
        T::RlimitData => libc::RLIMIT_DATA,
        T::RlimitStack => libc::RLIMIT_STACK,
        T::RlimitCore => libc::RLIMIT_CORE,
        T::RlimitRss => libc::RLIMIT_RSS,
        T::RlimitNproc => libc::RLIMIT_NPROC,
        T::RlimitNofile => libc::RLIMIT_NOFILE,
        T::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        T::RlimitAs => libc::RLIMIT_AS,
        T::RlimitLocks => libc::RLIMIT_LOCKS,
        T::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        T::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        T::RlimitNice => libc::RLIMIT_NICE,
        T::RlimitRtprio => libc::RLIMIT_RTPRIO,
        T::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

/// A set of capabilities as the kernel's bit mask.
pub fn mask(set: Option<&oci::Capabilities>) -> u64 {
    set.into_iter().flatten().fold(0, |mask, capability| {
        // The spec's enum is in the kernel's order but not its numbers, so go by name.
        let name = format!("{capability}").to_uppercase();
        let name = if name.starts_with("CAP_") { name } else { format!("CAP_{name}") };
        match CAPABILITIES.iter().position(|known| *known == name) {
            Some(bit) => mask | 1 << bit,
            None => mask,
        }
    })
}

/// Capability names in the order of their numbers (linux/capability.h).
pub const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Becomes the user and keeps only the capabilities asked for. The filter, when there is one, is
/// installed where it must be: before capabilities are lost, unless no_new_privs makes it free.
pub fn drop_to(
    identity: &Identity,
    process: &oci::Process,
    filter: Option<&[crate::seccomp::Instruction]>,
) -> Result<(), Error> {
    let none = oci::LinuxCapabilities::default();
    let sets = process.capabilities().as_ref();
    let sets = sets.unwrap_or(&none);
    let keep = mask(sets.bounding().as_ref());
    let no_new_privs = process.no_new_privileges().unwrap_or(false);
    if no_new_privs {
        sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).context("set no_new_privs")?;
    } else if let Some(filter) = filter {
        crate::seccomp::install(filter).context("install the seccomp filter")?;
    }
    for bit in 0..64 {
        if keep & (1 << bit) == 0 && sys::prctl(libc::PR_CAPBSET_DROP, bit, 0).is_err() {
            break;
        }
    }
    sys::prctl(libc::PR_SET_KEEPCAPS, 1, 0).context("keep capabilities")?;
    become_user(identity)?;
    let held = held()?;
    let permitted = mask(sets.permitted().as_ref()) & held;
    let root = identity.uid == 0;
    let ambient = mask(sets.ambient().as_ref()) & permitted;
    let effective = if root { mask(sets.effective().as_ref()) & held } else { ambient };
    let permitted = if root { permitted } else { permitted & ambient };
    let inheritable = mask(sets.inheritable().as_ref()) & held | ambient;
    set_capabilities(effective, permitted, inheritable).context("set capabilities")?;
    for bit in (0..64).filter(|bit| ambient & (1 << bit) != 0) {
        sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, bit)
            .context("raise an ambient capability")?;
    }
    if no_new_privs && let Some(filter) = filter {
        crate::seccomp::install(filter).context("install the seccomp filter")?;
    }
    Ok(())
}

/// Gives up every capability of this process, bounding set included, but those in the bit mask `keep`.
pub fn keep_only(keep: u64) -> Result<(), Error> {
    for bit in (0..64).filter(|bit| keep & (1 << bit) == 0) {
        if sys::prctl(libc::PR_CAPBSET_DROP, bit, 0).is_err() {
            break;
        }
    }
    let kept = held()? & keep;
    set_capabilities(kept, kept, 0).context("drop capabilities")
}

fn become_user(identity: &Identity) -> Result<(), Error> {
    let (uid, gid, groups) = (identity.uid, identity.gid, &identity.groups);
    if uid > i32::MAX as u32 || gid > i32::MAX as u32 {
        return Err(Error::new(
            FailureKind::Invalid,
            "uids and gids must be in range 0-2147483647",
        ));
    }
    // SAFETY: the pointer and length describe a live slice; raw calls act on this only thread.
    sys::check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })
        .context("set groups")?;
    // SAFETY: numbers only.
    sys::check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })
        .context(format!("become group {gid}"))?;
    // SAFETY: numbers only.
    sys::check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
        .context(format!("become user {uid}"))?;
    Ok(())
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Version 3 of the capability interface (capget(2)).
const VERSION: u32 = 0x2008_0522;

fn held() -> Result<u64, Error> {
    let mut header = Header { version: VERSION, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: header and two data elements are what version 3 writes to.
    sys::check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })
        .context("read capabilities")?;
    Ok(u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32)
}

fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    let header = Header { version: VERSION, pid: 0 };
    let half = |shift: u32| Data {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: header and two data elements are what version 3 reads.
    sys::check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_their_numbers() {
        let set: oci::Capabilities =
            [oci::Capability::Chown, oci::Capability::SysAdmin].into_iter().collect();
        assert_eq!(mask(Some(&set)), 1 | 1 << 21);
        let set: oci::Capabilities = [oci::Capability::CheckpointRestore].into_iter().collect();
        assert_eq!(mask(Some(&set)), 1 << 40);
    }
}
