//! What an image has where a new volume is mounted becomes the volume's content.
//!
//! The source is an image's: no link is followed in it, and its depth is bounded.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, RawMode, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::error::Doing;
use crate::{Error, Result};

/// Directories in each other; each holds two descriptors open.
const DEPTH: usize = 256;
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// Copies the files of the directory `source` into the directory `data` if that is empty: owners, modes,
/// times, extended attributes, links and hard links are kept; sockets are not copied. `data` itself gets the
/// owner and the mode of `source`.
///
/// # Errors
/// Names the file that could not be copied. What was copied before it stays.
pub(crate) fn fill_volume(source: &Path, data: &Path) -> Result<()> {
    let open = |path: &Path| {
        // The source may be given as a link of /proc/self/fd.
        let flags = (READ | OFlags::DIRECTORY) - OFlags::NOFOLLOW;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        opened.doing(|| format!("open {}", path.display()))
    };
    let (from, to) = (open(source)?, open(data)?);
    if !entries(&to, data)?.is_empty() {
        return Ok(());
    }
    let mut copy = Copy { links: HashMap::new(), root: to.as_fd() };
    copy.directory(&from, &to, Path::new("."), 0)?;
    let status = rustix::fs::fstat(&from).doing(|| format!("look at {}", source.display()))?;
    attributes(&from, &to, &status).doing(|| format!("copy {} to the volume", source.display()))
}

struct Copy<'a> {
    /// Where a file with several names was copied to, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
    root: BorrowedFd<'a>,
}

impl Copy<'_> {
    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, path: &Path, depth: usize) -> Result<()> {
        if depth > DEPTH {
            return Err(Error::invalid(format!(
                "the image has more than {DEPTH} directories in each other at {}, too many for a \
                 volume: mount it with nocopy",
                path.display()
            )));
        }
        for name in entries(from, path)? {
            let path = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
            let what = || format!("copy {} to the volume", path.display());
            let status = rustix::fs::statat(from, &name, AtFlags::SYMLINK_NOFOLLOW).doing(what)?;
            let kind = FileType::from_raw_mode(status.st_mode);
            if kind == FileType::Directory {
                let mode = Mode::RWXU;
                rustix::fs::mkdirat(to, &name, mode).doing(what)?;
                let flags = READ | OFlags::DIRECTORY;
                let inner = rustix::fs::openat(from, &name, flags, Mode::empty()).doing(what)?;
                let made = rustix::fs::openat(to, &name, flags, Mode::empty()).doing(what)?;
                self.directory(&inner, &made, &path, depth + 1)?;
                attributes(&inner, &made, &status).doing(what)?;
            } else if !self.linked(&status, to, &name).doing(what)? {
                file(from, to, &name, &status, kind).doing(what)?;
                if status.st_nlink > 1 {
                    self.links.insert((status.st_dev, status.st_ino), path);
                }
            }
        }
        Ok(())
    }

    /// Links a name to what was copied under another one; whether that was so.
    fn linked(&self, status: &Stat, to: &OwnedFd, name: &CStr) -> Result<bool, Errno> {
        match self.links.get(&(status.st_dev, status.st_ino)) {
            Some(first) => {
                rustix::fs::linkat(self.root, first, to, name, AtFlags::empty()).map(|()| true)
            }
            None => Ok(false),
        }
    }
}

/// Copies what is no directory.
fn file(
    from: &OwnedFd,
    to: &OwnedFd,
    name: &CStr,
    status: &Stat,
    kind: FileType,
) -> std::io::Result<()> {
    match kind {
        FileType::RegularFile => {
            let source = rustix::fs::openat(from, name, READ | OFlags::NONBLOCK, Mode::empty())?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let target = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
            let (mut reader, mut writer) = (File::from(source), File::from(target));
            std::io::copy(&mut reader, &mut writer)?;
            return attributes(&reader, &writer, status);
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new())?;
            rustix::fs::symlinkat(target, to, name)?;
        }
        FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
            rustix::fs::mknodat(to, name, kind, mode(status), status.st_rdev)?;
        }
        _ => return Ok(()),
    }
    let (uid, gid) = owner(status);
    rustix::fs::chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    if kind != FileType::Symlink {
        rustix::fs::chmodat(to, name, mode(status), AtFlags::empty())?;
    }
    rustix::fs::utimensat(to, name, &times(status), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

/// Gives an open file or directory the owner, mode, extended attributes and times of another one.
fn attributes(from: impl AsFd, to: impl AsFd, status: &Stat) -> std::io::Result<()> {
    let (uid, gid) = owner(status);
    rustix::fs::fchown(&to, uid, gid)?;
    // After the owner: a change of it takes set-user-id bits and capabilities away.
    rustix::fs::fchmod(&to, mode(status))?;
    extended(&from, &to)?;
    rustix::fs::futimens(&to, &times(status))?;
    Ok(())
}

fn extended(from: &impl AsFd, to: &impl AsFd) -> std::io::Result<()> {
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::flistxattr(from, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if name.to_bytes().starts_with(b"trusted.overlay.") {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        match rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            // A file system without them.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn entries(directory: &OwnedFd, path: &Path) -> Result<Vec<CString>> {
    let what = || format!("list {}", path.display());
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).doing(what)? {
        let name = entry.doing(what)?.file_name().to_owned();
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            names.push(name);
        }
    }
    Ok(names)
}

fn mode(status: &Stat) -> Mode {
    Mode::from_raw_mode(status.st_mode as RawMode & 0o7777)
}

fn owner(status: &Stat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(status.st_uid)), Some(Gid::from_raw(status.st_gid)))
}

fn times(status: &Stat) -> Timestamps {
    let time =
        |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as i64 };
    Timestamps {
        last_access: time(status.st_atime, status.st_atime_nsec),
        last_modification: time(status.st_mtime, status.st_mtime_nsec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn an_empty_volume_gets_the_images_files() {
        let place = tempfile::tempdir().unwrap();
        let (source, data) = (place.path().join("image"), place.path().join("data"));
        std::fs::create_dir_all(source.join("a/b")).unwrap();
        std::fs::create_dir(&data).unwrap();
        std::fs::write(source.join("a/b/file"), "hello").unwrap();
        std::fs::hard_link(source.join("a/b/file"), source.join("second")).unwrap();
        symlink("/etc/passwd", source.join("link")).unwrap();
        let permissions = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(source.join("a/b/file"), permissions(0o4751)).unwrap();
        std::fs::set_permissions(source.join("a"), permissions(0o1770)).unwrap();
        std::fs::set_permissions(&source, permissions(0o711)).unwrap();
        let old = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000, 5);
        File::open(source.join("a")).unwrap().set_modified(old).unwrap();
        File::open(source.join("second")).unwrap().set_modified(old).unwrap();

        fill_volume(&source, &data).unwrap();
        let status = |name: &str| std::fs::symlink_metadata(data.join(name)).unwrap();
        assert_eq!(std::fs::read_to_string(data.join("a/b/file")).unwrap(), "hello");
        assert_eq!(std::fs::read_link(data.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(status("second").ino(), status("a/b/file").ino());
        assert_eq!(status("second").mode() & 0o7777, 0o4751);
        assert_eq!(status("a").mode() & 0o7777, 0o1770);
        assert_eq!(status(".").mode() & 0o7777, 0o711);
        assert_eq!(status("a").modified().unwrap(), old);
        assert_eq!(status("second").modified().unwrap(), old);
    }

    #[test]
    fn a_volume_with_files_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let (source, data) = (place.path().join("image"), place.path().join("data"));
        std::fs::create_dir(&source).unwrap();
        std::fs::create_dir(&data).unwrap();
        std::fs::write(source.join("new"), "").unwrap();
        std::fs::write(data.join("mine"), "").unwrap();
        fill_volume(&source, &data).unwrap();
        assert!(data.join("mine").exists() && !data.join("new").exists());
    }

    #[test]
    fn a_hostile_depth_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let (source, data) = (place.path().join("i"), place.path().join("d"));
        std::fs::create_dir_all(source.join("x/".repeat(DEPTH + 2))).unwrap();
        std::fs::create_dir(&data).unwrap();
        let error = fill_volume(&source, &data).unwrap_err();
        assert!(error.message.contains("nocopy"), "{error}");
    }
}
