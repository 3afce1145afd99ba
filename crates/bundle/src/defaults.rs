//! What a container gets when nobody says otherwise: Docker's defaults as data.

use std::path::PathBuf;

use crate::oci;
use oci::Capability as C;

/// Docker's default capabilities.
pub const CAPABILITIES: [C; 14] = [
    C::Chown,
    C::DacOverride,
    C::Fowner,
    C::Fsetid,
    C::Kill,
    C::NetBindService,
    C::NetRaw,
    C::Setfcap,
    C::Setgid,
    C::Setpcap,
    C::Setuid,
    C::SysChroot,
    C::Mknod,
    C::AuditWrite,
];

/// The search path of a container whose image sets none.
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    // Power readings tell what others compute (CVE-2020-8694).
    "/sys/devices/virtual/powercap",
];

const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Mounts of every container: destination, type, options.
const MOUNTS: [(&str, &str, &[&str]); 7] = [
    ("/proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    (
        "/dev/pts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    ("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
    ("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]),
];

/// Devices that may be used without being asked for: type, major, minor.
const DEVICES: [(oci::LinuxDeviceType, i64, i64); 8] = [
    (oci::LinuxDeviceType::C, 1, 3),
    (oci::LinuxDeviceType::C, 1, 5),
    (oci::LinuxDeviceType::C, 1, 7),
    (oci::LinuxDeviceType::C, 1, 8),
    (oci::LinuxDeviceType::C, 1, 9),
    (oci::LinuxDeviceType::C, 5, 0),
    (oci::LinuxDeviceType::C, 5, 2),
    (oci::LinuxDeviceType::C, 136, -1),
];

/// A spec that runs `args` with Docker's defaults and a network namespace of its own; its seccomp
/// profile is the caller's to add.
pub fn spec(args: &[&str]) -> oci::Spec {
    let capabilities: oci::Capabilities = CAPABILITIES.into_iter().collect();
    let mut sets = oci::LinuxCapabilities::default();
    sets.set_bounding(Some(capabilities.clone()))
        .set_permitted(Some(capabilities.clone()))
        .set_effective(Some(capabilities))
        .set_inheritable(None)
        .set_ambient(None);
    let mut process = oci::Process::default();
    process
        .set_args(Some(args.iter().map(|arg| arg.to_string()).collect()))
        .set_env(Some(vec![PATH.to_string()]))
        .set_cwd(PathBuf::from("/"))
        .set_no_new_privileges(Some(false))
        .set_rlimits(None)
        .set_capabilities(Some(sets));
    let mut root = oci::Root::default();
    root.set_readonly(Some(false));
    let mut spec = oci::Spec::default();
    spec.set_process(Some(process))
        .set_root(Some(root))
        .set_hostname(None)
        .set_mounts(Some(MOUNTS.iter().map(|entry| mount(*entry)).collect()))
        .set_annotations(None)
        .set_linux(Some(linux()));
    spec
}

fn mount((destination, kind, options): (&str, &str, &[&str])) -> oci::Mount {
    let mut mount = oci::Mount::default();
    mount
        .set_destination(PathBuf::from(destination))
        .set_typ(Some(kind.to_string()))
        .set_source(Some(PathBuf::from(kind)))
        .set_options(Some(options.iter().map(|option| option.to_string()).collect()));
    mount
}

fn linux() -> oci::Linux {
    use oci::LinuxNamespaceType as T;
    let namespace = |kind| {
        let mut namespace = oci::LinuxNamespace::default();
        namespace.set_typ(kind).set_path(None);
        namespace
    };
    let kinds = [T::Mount, T::Pid, T::Network, T::Ipc, T::Uts, T::Cgroup];
    let rule = |allow, kind, major, minor, access: &str| {
        let mut rule = oci::LinuxDeviceCgroup::default();
        rule.set_allow(allow)
            .set_typ(Some(kind))
            .set_major(major)
            .set_minor(minor)
            .set_access(Some(access.to_string()));
        rule
    };
    let mut rules = vec![rule(false, oci::LinuxDeviceType::A, None, None, "rwm")];
    for kind in [oci::LinuxDeviceType::C, oci::LinuxDeviceType::B] {
        rules.push(rule(true, kind, None, None, "m"));
    }
    for (kind, major, minor) in DEVICES {
        let minor = (minor >= 0).then_some(minor);
        rules.push(rule(true, kind, Some(major), minor, "rwm"));
    }
    let mut resources = oci::LinuxResources::default();
    resources.set_devices(Some(rules));
    let mut linux = oci::Linux::default();
    linux
        .set_namespaces(Some(kinds.into_iter().map(namespace).collect()))
        .set_resources(Some(resources))
        .set_devices(None)
        .set_masked_paths(Some(MASKED.map(String::from).to_vec()))
        .set_readonly_paths(Some(READ_ONLY.map(String::from).to_vec()));
    linux
}
