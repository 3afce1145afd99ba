//! The options of a local volume: `type`, `device` and `o`, as mount(8) takes them.
//!
//! A volume with options is mounted on its own `_data` when a container first uses it, and stays so until it
//! is removed or the host starts anew.

use std::collections::HashMap;
use std::ffi::CString;
use std::path::Path;

use rustix::mount::MountFlags;

use crate::error::Doing;
use crate::{Error, Result};

const FLAGS: [(&str, MountFlags); 9] = [
    ("ro", MountFlags::RDONLY),
    ("nosuid", MountFlags::NOSUID),
    ("nodev", MountFlags::NODEV),
    ("noexec", MountFlags::NOEXEC),
    ("sync", MountFlags::SYNCHRONOUS),
    ("dirsync", MountFlags::DIRSYNC),
    ("noatime", MountFlags::NOATIME),
    ("nodiratime", MountFlags::NODIRATIME),
    ("relatime", MountFlags::RELATIME),
];

/// Refuses options that a local volume does not have.
pub(super) fn check(options: &HashMap<String, String>) -> Result<()> {
    if options.is_empty() {
        return Ok(());
    }
    let mut names: Vec<&String> = options.keys().collect();
    names.sort();
    for name in names {
        match name.as_str() {
            "type" | "device" | "o" => {}
            "size" => {
                return Err(Error::invalid(
                    "the option \"size\" needs quotas, which Caisson does not set: use a tmpfs \
                     (type=tmpfs, device=tmpfs, o=size=…) or a file system of that size",
                ));
            }
            _ => return Err(Error::invalid(format!("invalid option: {name:?}"))),
        }
    }
    for name in ["device", "type"] {
        if options.get(name).is_none_or(String::is_empty) {
            return Err(Error::invalid(format!("missing required option: {name:?}")));
        }
    }
    Ok(())
}

/// Mounts what the options name on `data`, unless something is mounted there.
pub(super) fn mount(options: &HashMap<String, String>, data: &Path) -> Result<()> {
    if options.is_empty() || is_mounted(data)? {
        return Ok(());
    }
    let get = |name: &str| options.get(name).map(String::as_str).unwrap_or_default();
    let (device, kind) = (get("device"), get("type"));
    let mut flags = MountFlags::empty();
    let (mut bind, mut recursive, mut rest) = (false, false, Vec::new());
    for option in get("o").split(',').filter(|option| !option.is_empty()) {
        match FLAGS.iter().find(|(name, _)| *name == option) {
            Some((_, flag)) => flags |= *flag,
            None if option == "bind" => bind = true,
            None if option == "rbind" => (bind, recursive) = (true, true),
            None if option == "rw" => {}
            None => rest.push(option),
        }
    }
    let what = || format!("failed to mount local volume: mount {device}:{}", data.display());
    if bind {
        if recursive {
            rustix::mount::mount_bind_recursive(device, data).doing(what)?;
        } else {
            rustix::mount::mount_bind(device, data).doing(what)?;
        }
        if !flags.is_empty() {
            let changed = rustix::mount::mount_remount(data, MountFlags::BIND | flags, c"");
            if let Err(error) = changed {
                unmount(data)?;
                return Err(error).doing(what);
            }
        }
        return Ok(());
    }
    let rest = CString::new(rest.join(",")).map_err(|_| {
        Error::invalid("the option \"o\" of the volume has a zero byte: give it without")
    })?;
    rustix::mount::mount(device, data, kind, flags, rest.as_c_str()).doing(what)
}

/// Takes away what is mounted on `data`.
pub(super) fn unmount(data: &Path) -> Result<()> {
    if is_mounted(data)? {
        let flags = rustix::mount::UnmountFlags::DETACH;
        rustix::mount::unmount(data, flags).doing(|| format!("unmount {}", data.display()))?;
    }
    Ok(())
}

fn is_mounted(data: &Path) -> Result<bool> {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
    let status = rustix::fs::statx(CWD, data, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty());
    match status {
        Ok(status) => Ok(status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error).doing(|| format!("look at {}", data.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn options_are_checked_in_dockers_words() {
        let good = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,nosuid")];
        assert!(check(&options(&good)).is_ok() && check(&options(&[])).is_ok());
        let cases: [(&[(&str, &str)], &str); 3] = [
            (&[("color", "red")], "invalid option: \"color\""),
            (&[("type", "tmpfs")], "missing required option: \"device\""),
            (&[("device", "/x"), ("o", "bind")], "missing required option: \"type\""),
        ];
        for (given, expected) in cases {
            assert_eq!(check(&options(given)).unwrap_err().message, expected);
        }
        assert!(check(&options(&[("size", "1g")])).unwrap_err().message.contains("quotas"));
    }

    #[test]
    fn a_plain_directory_is_no_mount() {
        let place = tempfile::tempdir().unwrap();
        assert!(!is_mounted(place.path()).unwrap());
        assert!(is_mounted(Path::new("/proc")).unwrap());
        mount(&options(&[]), place.path()).unwrap();
        unmount(&place.path().join("missing")).unwrap();
    }
}
