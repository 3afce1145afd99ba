//! The container's mount tree, made with the new mount API so that every target is a descriptor that was
//! resolved beneath the root (openat2), never a path that the image could redirect.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use caisson_beneath::open_in_root;
use caisson_bundle::oci;
use caisson_protocol::task::FailureKind;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use crate::error::{Context, Error};
use crate::sys;

mod source;

pub use source::{SUBPATH, source_tree};

const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;

/// Devices that every container has: name, major, minor.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links that every container has in /dev.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// The root file system while it is being furnished: this process is in its own mount namespace and has
/// not pivoted yet.
pub struct Root {
    fd: OwnedFd,
    null: OwnedFd,
    /// Sources of the binds that stay in the host's peer groups, by destination.
    shared: HashMap<PathBuf, OwnedFd>,
}

impl Root {
    /// Makes every mount of this namespace a slave, binds `rootfs` onto itself and opens it. Of `mounts`, the
    /// shared binds are taken before that.
    pub fn prepare(rootfs: &Path, mounts: &[oci::Mount]) -> Result<Self, Error> {
        let shared = shared_sources(mounts)?;
        rustix::mount::mount_change(
            "/",
            rustix::mount::MountPropagationFlags::DOWNSTREAM
                | rustix::mount::MountPropagationFlags::REC,
        )
        .context("make mounts private")?;
        let text = format!("root file system {}", rootfs.display());
        let tree = rustix::mount::open_tree(CWD, rootfs, clone_flags(true)).context(&text)?;
        attach(tree.as_fd(), CWD.as_fd(), Some(rootfs)).context(&text)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(rootfs, flags, Mode::empty()).context(&text)?;
        let null = rustix::fs::open("/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .context("open /dev/null")?;
        let stat = rustix::fs::fstat(&null).context("stat /dev/null")?;
        if !FileType::from_raw_mode(stat.st_mode).is_char_device()
            || stat.st_rdev != rustix::fs::makedev(1, 3)
        {
            return Err(Error::new(FailureKind::Internal, "/dev/null is not the null device"));
        }
        Ok(Root { fd, null, shared })
    }

    /// The root's descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Mounts one entry of the spec.
    pub fn mount(&mut self, mount: &oci::Mount) -> Result<(), Error> {
        let kind = mount.typ().as_deref().unwrap_or("none");
        let options = Options::parse(mount.options().as_deref().unwrap_or(&[]));
        let what = || format!("mount {} ({kind})", mount.destination().display());
        if kind == "bind" || options.bind {
            return self.bind(mount, &options);
        }
        let target = self.make(mount.destination(), true).context(what())?;
        if kind == "cgroup" {
            return self.cgroups(&target, &options).context(what());
        }
        let tree = new_file_system(kind, &options.data).context(what())?;
        sys::mount_setattr(tree.as_fd(), options.set, options.clear, false).context(what())?;
        attach(tree.as_fd(), target.as_fd(), None).context(what())
    }

    fn bind(&mut self, mount: &oci::Mount, options: &Options) -> Result<(), Error> {
        let what = || bind_text(mount);
        let tree = match self.shared.remove(mount.destination()) {
            Some(tree) => tree,
            None => options.tree(mount).context(what())?,
        };
        let stat = rustix::fs::fstat(&tree).context(what())?;
        let directory = FileType::from_raw_mode(stat.st_mode).is_dir();
        let target = self.make(mount.destination(), directory).context(what())?;
        if options.set != 0 || options.clear != 0 {
            sys::mount_setattr(tree.as_fd(), options.set, options.clear, false).context(what())?;
        }
        if options.read_only_below && options.recursive {
            sys::mount_setattr(tree.as_fd(), RDONLY, 0, true).context(what())?;
        }
        if let Some((kind, recursive)) = options.propagation {
            sys::mount_propagation(tree.as_fd(), kind, recursive).context(what())?;
        }
        attach(tree.as_fd(), target.as_fd(), None).context(what())
    }

    /// The cgroup hierarchies: v2 directly, or a tmpfs with one mount per v1 hierarchy. The new cgroup
    /// namespace makes the container's own cgroup their root.
    fn cgroups(&self, target: &OwnedFd, options: &Options) -> io::Result<()> {
        let hierarchies = crate::cgroup::hierarchies()?;
        if let [crate::cgroup::Hierarchy { version: 2, .. }] = hierarchies.as_slice() {
            let tree = new_file_system("cgroup2", &[])?;
            sys::mount_setattr(tree.as_fd(), options.set, options.clear, false)?;
            return attach(tree.as_fd(), target.as_fd(), None);
        }
        let tmpfs = new_file_system("tmpfs", &[("mode".into(), "755".into())])?;
        let v1: Vec<_> =
            hierarchies.iter().filter(|h| h.version == 1 && !h.controllers.is_empty()).collect();
        for hierarchy in &v1 {
            let name = hierarchy.controllers.join(",");
            rustix::fs::mkdirat(&tmpfs, &name, Mode::from_raw_mode(0o755))?;
        }
        sys::mount_setattr(tmpfs.as_fd(), options.set & !RDONLY, 0, false)?;
        attach(tmpfs.as_fd(), target.as_fd(), None)?;
        for hierarchy in v1 {
            let flags: Vec<_> =
                hierarchy.controllers.iter().map(|c| (c.clone(), String::new())).collect();
            let tree = new_file_system("cgroup", &flags)?;
            sys::mount_setattr(tree.as_fd(), options.set, options.clear, false)?;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let name = hierarchy.controllers.join(",");
            let place = rustix::fs::openat(&tmpfs, &name, flags, Mode::empty())?;
            attach(tree.as_fd(), place.as_fd(), None)?;
        }
        sys::mount_setattr(tmpfs.as_fd(), options.set, 0, false)
    }

    /// Opens `path` in the root, making what is missing: directories, and an empty file at the end
    /// unless `directory`.
    fn make(&self, path: &Path, directory: bool) -> io::Result<OwnedFd> {
        if let Ok(fd) = open_in_root(&self.fd, path, OFlags::PATH) {
            return Ok(fd);
        }
        let parts: Vec<_> = path
            .components()
            .filter_map(|part| match part {
                Component::Normal(name) => Some(name),
                _ => None,
            })
            .collect();
        let mut walked = PathBuf::from("/");
        let mut at = rustix::io::fcntl_dupfd_cloexec(&self.fd, 3)?;
        for (index, name) in parts.iter().enumerate() {
            walked.push(name);
            if let Ok(next) = open_in_root(&self.fd, &walked, OFlags::PATH) {
                at = next;
                continue;
            }
            let last = index + 1 == parts.len();
            if last && !directory {
                rustix::fs::openat(
                    &at,
                    *name,
                    OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                    Mode::from_raw_mode(0o644),
                )?;
            } else {
                rustix::fs::mkdirat(&at, *name, Mode::from_raw_mode(0o755))?;
            }
            at = open_in_root(&self.fd, &walked, OFlags::PATH)?;
        }
        Ok(at)
    }

    /// Device nodes and links in /dev, and what the spec adds.
    pub fn devices(&self, extra: &[oci::LinuxDevice]) -> Result<(), Error> {
        let dev = self.make(Path::new("/dev"), true).context("open /dev")?;
        for (name, major, minor) in DEVICES {
            node(&dev, name, FileType::CharacterDevice, 0o666, major, minor)?;
        }
        for (link, target) in LINKS {
            match rustix::fs::symlinkat(target, &dev, link) {
                Err(error) if error != rustix::io::Errno::EXIST => {
                    return Err(io::Error::from(error)).context(format!("link /dev/{link}"));
                }
                _ => {}
            }
        }
        for device in extra {
            self.device(device)?;
        }
        Ok(())
    }

    fn device(&self, device: &oci::LinuxDevice) -> Result<(), Error> {
        let path = device.path();
        let parent = self
            .make(path.parent().unwrap_or(Path::new("/")), true)
            .context(format!("open the directory of {}", path.display()))?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let kind = match device.typ() {
            oci::LinuxDeviceType::B => FileType::BlockDevice,
            oci::LinuxDeviceType::P => FileType::Fifo,
            _ => FileType::CharacterDevice,
        };
        let mode = device.file_mode().unwrap_or(0o666);
        node(&parent, name, kind, mode, device.major() as u32, device.minor() as u32)
    }

    /// Binds the terminal onto /dev/console, which must be a fresh file of ours (CVE-2025-52565).
    pub fn console(&self, terminal: BorrowedFd<'_>) -> Result<(), Error> {
        let dev = open_in_root(&self.fd, "/dev", OFlags::PATH).context("open /dev")?;
        let flags = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&dev, "console", flags, Mode::from_raw_mode(0o600))
            .context("make /dev/console")?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = rustix::fs::openat(&dev, "console", flags, Mode::empty())
            .context("open /dev/console")?;
        let tree = rustix::mount::open_tree(
            terminal,
            "",
            clone_flags(false) | OpenTreeFlags::AT_EMPTY_PATH,
        )
        .context("clone the terminal")?;
        attach(tree.as_fd(), target.as_fd(), None).context("bind /dev/console")
    }

    /// Hides paths: directories under an empty read-only tmpfs, files under the null device, whose
    /// descriptor was checked before the image had a say (CVE-2025-31133).
    pub fn mask(&self, paths: &[String]) -> Result<(), Error> {
        for path in paths {
            let what = || format!("mask {path}");
            let Some(target) = self.existing(path)? else { continue };
            let stat = rustix::fs::fstat(&target).context(what())?;
            let tree = if FileType::from_raw_mode(stat.st_mode).is_dir() {
                let tree = new_file_system("tmpfs", &[]).context(what())?;
                sys::mount_setattr(tree.as_fd(), RDONLY, 0, false).context(what())?;
                tree
            } else {
                let flags = clone_flags(false) | OpenTreeFlags::AT_EMPTY_PATH;
                rustix::mount::open_tree(&self.null, "", flags).context(what())?
            };
            attach(tree.as_fd(), target.as_fd(), None).context(what())?;
        }
        Ok(())
    }

    /// Makes paths read-only in place.
    pub fn read_only(&self, paths: &[String]) -> Result<(), Error> {
        for path in paths {
            let what = || format!("make {path} read-only");
            let Some(target) = self.existing(path)? else { continue };
            let flags = clone_flags(true) | OpenTreeFlags::AT_EMPTY_PATH;
            let tree = rustix::mount::open_tree(&target, "", flags).context(what())?;
            sys::mount_setattr(tree.as_fd(), RDONLY, 0, true).context(what())?;
            attach(tree.as_fd(), target.as_fd(), None).context(what())?;
        }
        Ok(())
    }

    fn existing(&self, path: &str) -> Result<Option<OwnedFd>, Error> {
        match open_in_root(&self.fd, path, OFlags::PATH) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error).context(format!("open {path}")),
        }
    }

    /// Makes this root the process's `/` and detaches everything else.
    pub fn pivot(self, read_only: bool) -> Result<(), Error> {
        rustix::process::fchdir(&self.fd).context("enter the root")?;
        rustix::process::pivot_root(".", ".").context("pivot the root")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH).context("detach the old root")?;
        rustix::process::chdir("/").context("enter /")?;
        if read_only {
            let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .context("open /")?;
            sys::mount_setattr(root.as_fd(), RDONLY, 0, false).context("make / read-only")?;
        }
        Ok(())
    }
}

fn shared_sources(mounts: &[oci::Mount]) -> Result<HashMap<PathBuf, OwnedFd>, Error> {
    let mut shared = HashMap::new();
    for mount in mounts {
        let options = Options::parse(mount.options().as_deref().unwrap_or(&[]));
        if options.bind && matches!(options.propagation, Some((libc::MS_SHARED, _))) {
            let tree = options.tree(mount).context(bind_text(mount))?;
            shared.insert(mount.destination().clone(), tree);
        }
    }
    Ok(shared)
}

fn bind_text(mount: &oci::Mount) -> String {
    let source = mount.source().as_deref().unwrap_or(Path::new(""));
    format!("bind {} to {}", source.display(), mount.destination().display())
}

fn node(
    at: &OwnedFd,
    name: &str,
    kind: FileType,
    mode: u32,
    major: u32,
    minor: u32,
) -> Result<(), Error> {
    let device = rustix::fs::makedev(major, minor);
    match rustix::fs::mknodat(at, name, kind, Mode::from_raw_mode(mode), device) {
        Ok(()) => {
            // mknod is subject to the umask.
            rustix::fs::chmodat(at, name, Mode::from_raw_mode(mode), AtFlags::empty())
                .context(format!("set the mode of /dev/{name}"))
        }
        Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(io::Error::from(error)).context(format!("make device {name}")),
    }
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// Attaches a detached tree to the place `at` itself, or to `path`.
fn attach(tree: BorrowedFd<'_>, at: BorrowedFd<'_>, path: Option<&Path>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    match path {
        Some(path) => rustix::mount::move_mount(tree, "", at, path, flags)?,
        None => {
            let flags = flags | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            rustix::mount::move_mount(tree, "", at, "", flags)?
        }
    }
    Ok(())
}

fn new_file_system(kind: &str, data: &[(String, String)]) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in data {
        if value.is_empty() {
            rustix::mount::fsconfig_set_flag(context.as_fd(), key)?;
        } else {
            rustix::mount::fsconfig_set_string(context.as_fd(), key, value)?;
        }
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    Ok(rustix::mount::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?)
}

/// Mount options of the spec, split into attributes and file system data.
#[derive(Debug, Default, PartialEq)]
struct Options {
    set: u64,
    clear: u64,
    bind: bool,
    recursive: bool,
    /// `rro`: the mounts below a recursive bind too.
    read_only_below: bool,
    /// The kind (`MS_*`), and whether it is that of the mounts below too.
    propagation: Option<(u64, bool)>,
    subpath: Option<PathBuf>,
    data: Vec<(String, String)>,
}

impl Options {
    fn parse(options: &[String]) -> Self {
        let mut parsed = Options::default();
        for option in options {
            let (set, clear) = match option.as_str() {
                "ro" => (RDONLY, 0),
                "rw" => (0, RDONLY),
                "nosuid" => (libc::MOUNT_ATTR_NOSUID, 0),
                "suid" => (0, libc::MOUNT_ATTR_NOSUID),
                "nodev" => (libc::MOUNT_ATTR_NODEV, 0),
                "dev" => (0, libc::MOUNT_ATTR_NODEV),
                "noexec" => (libc::MOUNT_ATTR_NOEXEC, 0),
                "exec" => (0, libc::MOUNT_ATTR_NOEXEC),
                "noatime" => (libc::MOUNT_ATTR_NOATIME, libc::MOUNT_ATTR__ATIME),
                "strictatime" => (libc::MOUNT_ATTR_STRICTATIME, libc::MOUNT_ATTR__ATIME),
                "relatime" | "defaults" | "async" => (0, 0),
                "bind" => {
                    parsed.bind = true;
                    (0, 0)
                }
                "rbind" => {
                    (parsed.bind, parsed.recursive) = (true, true);
                    (0, 0)
                }
                "rro" => {
                    parsed.read_only_below = true;
                    (RDONLY, 0)
                }
                "z" | "Z" => (0, 0),
                other if propagation(other).is_some() => {
                    parsed.propagation = propagation(other);
                    (0, 0)
                }
                other if other.starts_with(SUBPATH) => {
                    parsed.subpath = Some(other[SUBPATH.len()..].into());
                    (0, 0)
                }
                other => {
                    let (key, value) = other.split_once('=').unwrap_or((other, ""));
                    parsed.data.push((key.into(), value.into()));
                    (0, 0)
                }
            };
            parsed.set = (parsed.set & !clear) | set;
            parsed.clear = (parsed.clear & !set) | clear;
        }
        parsed
    }

    fn tree(&self, mount: &oci::Mount) -> io::Result<OwnedFd> {
        let source = mount.source().as_deref().unwrap_or(Path::new(""));
        source_tree(source, self.subpath.as_deref(), self.recursive)
    }
}

fn propagation(option: &str) -> Option<(u64, bool)> {
    let (recursive, name) = match option.strip_prefix('r') {
        Some(name) => (true, name),
        None => (false, option),
    };
    let kind = match name {
        "private" => libc::MS_PRIVATE,
        "slave" => libc::MS_SLAVE,
        "shared" => libc::MS_SHARED,
        "unbindable" => libc::MS_UNBINDABLE,
        _ => return None,
    };
    Some((kind, recursive))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_options_win_and_data_is_kept() {
        let options: Vec<String> = ["ro", "nosuid", "rw", "size=64m"].map(String::from).to_vec();
        let parsed = Options::parse(&options);
        assert_eq!(parsed.set, libc::MOUNT_ATTR_NOSUID);
        assert_eq!(parsed.clear, RDONLY);
        assert_eq!(parsed.data, [("size".to_string(), "64m".to_string())]);
    }

    #[test]
    fn binds_have_a_propagation_and_a_part() {
        let options = ["rbind", "rro", "rslave", "io.caisson.subpath=a/b"].map(String::from);
        let parsed = Options::parse(&options);
        assert!(parsed.bind && parsed.recursive && parsed.read_only_below);
        assert_eq!(parsed.set, RDONLY);
        assert_eq!(parsed.propagation, Some((libc::MS_SLAVE, true)));
        assert_eq!(parsed.subpath.as_deref(), Some(Path::new("a/b")));
        assert_eq!(propagation("private"), Some((libc::MS_PRIVATE, false)));
        assert!(parsed.data.is_empty() && propagation("ro").is_none());
    }
}
