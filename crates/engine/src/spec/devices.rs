//! Devices of the host: which nodes a container gets, and what it may do with devices.

use std::path::{Component, Path, PathBuf};

use caisson_bundle::oci;
use rustix::fs::FileType;

use crate::error::{Doing, Error, Result};
use crate::wire::{DeviceMapping, HostConfig};

/// Devices of the host that the container gets, and what it may do with devices. `all`: a privileged
/// container gets every node.
pub fn devices(
    host: &HostConfig,
    mut rules: Vec<oci::LinuxDeviceCgroup>,
    all: bool,
) -> Result<(Vec<oci::LinuxDevice>, Vec<oci::LinuxDeviceCgroup>)> {
    let mut devices = Vec::new();
    if host.privileged == Some(true) {
        let mut any = oci::LinuxDeviceCgroup::default();
        any.set_allow(true).set_typ(Some(oci::LinuxDeviceType::A)).set_access(Some("rwm".into()));
        rules = vec![any];
        if all {
            nodes_below(Path::new("/dev"), Path::new("/dev"), &mut devices, 0);
        }
    }
    for mapping in host.devices.iter().flatten() {
        let Mapping { path, inside, access } = Mapping::read(mapping)?;
        let found = mapped(&path, &inside)?;
        rules.extend(found.iter().map(|device| allowed(device, access)));
        devices.retain(|other| !found.iter().any(|device| device.path() == other.path()));
        devices.extend(found);
    }
    for text in host.device_cgroup_rules.iter().flatten() {
        rules.push(rule(text)?);
    }
    Ok((devices, rules))
}

/// Refuses what no device can be, before one is looked for.
pub(crate) fn devices_checked(host: &HostConfig) -> Result<()> {
    for mapping in host.devices.iter().flatten() {
        Mapping::read(mapping)?;
    }
    for text in host.device_cgroup_rules.iter().flatten() {
        rule(text)?;
    }
    Ok(())
}

struct Mapping<'a> {
    path: PathBuf,
    inside: PathBuf,
    access: &'a str,
}

impl<'a> Mapping<'a> {
    fn read(mapping: &'a DeviceMapping) -> Result<Self> {
        let path = mapping.path_on_host.as_deref().unwrap_or_default();
        let inside = mapping.path_in_container.as_deref().filter(|path| !path.is_empty());
        let inside = inside.unwrap_or(path);
        if !path.starts_with('/') || !inside.starts_with('/') {
            return Err(Error::invalid(format!(
                "invalid device {path:?} at {inside:?}: both are absolute paths"
            )));
        }
        let plain = |part: Component| matches!(part, Component::RootDir | Component::Normal(_));
        if !Path::new(inside).components().all(plain) || Path::new(inside).parent().is_none() {
            return Err(Error::invalid(format!(
                "invalid device path in the container: {inside:?}"
            )));
        }
        let access = mapping.cgroup_permissions.as_deref().filter(|access| !access.is_empty());
        let access = access.unwrap_or("rwm");
        if access.bytes().any(|byte| !b"rwm".contains(&byte)) {
            return Err(Error::invalid(format!(
                "invalid cgroup permissions of device {path}: {access:?} is not made of r, w and m"
            )));
        }
        Ok(Mapping { path: path.into(), inside: inside.into(), access })
    }
}

/// A device, or all devices in a directory.
fn mapped(path: &Path, inside: &Path) -> Result<Vec<oci::LinuxDevice>> {
    let what = || {
        format!(
            "error gathering device information while adding custom device \"{}\"",
            path.display()
        )
    };
    // A link is followed, as Docker does.
    let status = match rustix::fs::stat(path) {
        Ok(status) => status,
        Err(rustix::io::Errno::NOENT) => {
            return Err(Error::invalid(format!("{}: no such file or directory", what())));
        }
        Err(error) => return Err(error).doing(what),
    };
    let mut found: Vec<_> = device(&status, inside).into_iter().collect();
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        nodes_below(path, inside, &mut found, 0);
    }
    match found.is_empty() {
        true => Err(Error::invalid(format!("{}: not a device node", what()))),
        false => Ok(found),
    }
}

/// Adds the nodes below a directory. What cannot be looked at, or goes meanwhile, is left out; so are the file
/// systems that a container has its own of.
fn nodes_below(path: &Path, inside: &Path, found: &mut Vec<oci::LinuxDevice>, depth: usize) {
    const DEPTH: usize = 8;
    const OWN: [&str; 8] =
        ["pts", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev"];
    let Ok(entries) = std::fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if depth == 0 && OWN.iter().any(|own| name == *own) {
            continue;
        }
        let (path, inside) = (entry.path(), inside.join(&name));
        let Ok(status) = rustix::fs::lstat(&path) else { continue };
        if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            if depth < DEPTH {
                nodes_below(&path, &inside, found, depth + 1);
            }
        } else {
            found.extend(device(&status, &inside));
        }
    }
}

fn device(status: &rustix::fs::Stat, inside: &Path) -> Option<oci::LinuxDevice> {
    let kind = match FileType::from_raw_mode(status.st_mode) {
        FileType::CharacterDevice => oci::LinuxDeviceType::C,
        FileType::BlockDevice => oci::LinuxDeviceType::B,
        _ => return None,
    };
    let mut device = oci::LinuxDevice::default();
    device
        .set_path(inside.to_path_buf())
        .set_typ(kind)
        .set_major(i64::from(rustix::fs::major(status.st_rdev)))
        .set_minor(i64::from(rustix::fs::minor(status.st_rdev)))
        .set_file_mode(Some(status.st_mode & 0o7777))
        .set_uid(Some(status.st_uid))
        .set_gid(Some(status.st_gid));
    Some(device)
}

fn allowed(device: &oci::LinuxDevice, access: &str) -> oci::LinuxDeviceCgroup {
    let mut rule = oci::LinuxDeviceCgroup::default();
    rule.set_allow(true)
        .set_typ(Some(device.typ()))
        .set_major(Some(device.major()))
        .set_minor(Some(device.minor()))
        .set_access(Some(access.into()));
    rule
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_rules_are_read() {
        let read = rule("c 1:* rw").unwrap();
        assert_eq!((read.major(), read.minor()), (Some(1), None));
        for bad in ["c 1 rw", "x 1:3 r", "c 1:3 q", "c 1:3", ""] {
            assert!(rule(bad).is_err(), "{bad}");
        }
    }

    fn mapping(path: &str, inside: &str, access: &str) -> HostConfig {
        let mapping = DeviceMapping {
            path_on_host: Some(path.into()),
            path_in_container: Some(inside.into()),
            cgroup_permissions: Some(access.into()),
        };
        HostConfig { devices: Some(vec![mapping]), ..Default::default() }
    }

    #[test]
    fn a_device_is_looked_up() {
        let (found, rules) =
            devices(&mapping("/dev/null", "/dev/zip", "r"), Vec::new(), false).unwrap();
        assert_eq!(found[0].path(), Path::new("/dev/zip"));
        assert_eq!((found[0].major(), found[0].minor()), (1, 3));
        assert_eq!(rules[0].access().as_deref(), Some("r"));
        assert!(devices(&mapping("/etc/passwd", "", ""), Vec::new(), false).is_err());
        for (path, inside, access) in [
            ("dev/null", "", ""),
            ("/dev/null", "/dev/../x", ""),
            ("/dev/null", "", "x"),
            ("/dev/null", "/", ""),
        ] {
            assert!(devices_checked(&mapping(path, inside, access)).is_err(), "{path} {inside}");
        }
    }

    #[test]
    fn privileged_containers_get_every_node() {
        let host = HostConfig { privileged: Some(true), ..Default::default() };
        let (found, rules) = devices(&host, Vec::new(), true).unwrap();
        assert!(found.iter().any(|device| device.path() == Path::new("/dev/null")));
        assert!(!found.iter().any(|device| device.path().starts_with("/dev/pts")));
        assert_eq!(rules.len(), 1);
        assert!(devices(&host, Vec::new(), false).unwrap().0.is_empty());
    }
}
