//! Directories as tar streams: plain, or a writable layer with its whiteouts as an image's layer has them.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tar::{Builder, EntryType, Header};

use crate::error::{Doing, Error, Result};

/// Directories in each other; each holds a descriptor open.
const DEPTH: usize = 512;
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// Writes a tar stream.
pub struct Packer<W: Write> {
    builder: Builder<W>,
    /// The first name of a file with several, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
    /// Whiteouts of overlayfs become those of layers.
    layer: bool,
    /// Names in the archive that are left out.
    skipped: Vec<PathBuf>,
}

/// Writes all of a root file system.
pub fn export(rootfs: &Path, output: &mut dyn Write) -> Result<()> {
    let root = open_root(rootfs)?;
    let mut packer = Packer::new(output, false, Vec::new());
    packer.children(&root, Path::new(""), 0)?;
    packer.finish()
}

/// Writes a writable layer.
pub fn layer(upper: &Path, skipped: Vec<PathBuf>, output: &mut dyn Write) -> Result<()> {
    let root = open_root(upper)?;
    let mut packer = Packer::new(output, true, skipped);
    packer.children(&root, Path::new(""), 0)?;
    packer.finish()
}

fn open_root(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).doing(|| format!("open {}", path.display()))
}

/// The names in a directory, in order.
pub fn names(directory: &OwnedFd) -> std::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Whether overlayfs hides what is below with this.
pub fn is_whiteout(status: &Stat) -> bool {
    FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice && status.st_rdev == 0
}

/// Whether overlayfs shows nothing below this directory.
pub fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0; 1];
    let found = rustix::fs::fgetxattr(directory, "trusted.overlay.opaque", &mut value[..]);
    found == Ok(1) && value == *b"y"
}

impl<W: Write> Packer<W> {
    pub fn new(output: W, layer: bool, skipped: Vec<PathBuf>) -> Self {
        let mut builder = Builder::new(output);
        builder.sparse(false);
        Packer { builder, links: HashMap::new(), layer, skipped }
    }

    pub fn finish(mut self) -> Result<()> {
        let what = || "write the archive";
        self.builder.finish().doing(what)?;
        self.builder.get_mut().flush().doing(what)
    }

    /// Writes what a directory holds, below `name` in the archive.
    pub fn children(&mut self, directory: &OwnedFd, name: &Path, depth: usize) -> Result<()> {
        let what = || format!("read /{}", name.display());
        if depth > DEPTH {
            return Err(Error::invalid(format!(
                "/{} is more than {DEPTH} directories deep",
                name.display()
            )));
        }
        for child in names(directory).doing(what)? {
            let path = name.join(OsStr::from_bytes(child.to_bytes()));
            if !self.skipped.contains(&path) {
                self.entry(directory, &child, &path, depth)?;
            }
        }
        Ok(())
    }

    /// Writes one entry of a directory, as `path` in the archive. One that goes away meanwhile is left out.
    pub fn entry(
        &mut self,
        parent: &OwnedFd,
        name: &CStr,
        path: &Path,
        depth: usize,
    ) -> Result<()> {
        let what = || format!("read /{}", path.display());
        let status = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.doing(what)?,
        };
        if self.layer && is_whiteout(&status) {
            return self.whiteout(path, &status);
        }
        let kind = FileType::from_raw_mode(status.st_mode);
        match kind {
            FileType::Directory => self.directory(parent, name, path, &status, depth),
            FileType::RegularFile => self.file(parent, name, path, &status),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new()).doing(what)?;
                let mut header = header(&status, EntryType::Symlink);
                header.set_size(0);
                let target = OsStr::from_bytes(target.to_bytes());
                self.records(path, None, Vec::new())?;
                let link = self.builder.append_link(&mut header, plain(path), Path::new(target));
                link.doing(write(path))
            }
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo => {
                let entry = match kind {
                    FileType::CharacterDevice => EntryType::Char,
                    FileType::BlockDevice => EntryType::Block,
                    _ => EntryType::Fifo,
                };
                let mut header = header(&status, entry);
                header.set_size(0);
                if kind != FileType::Fifo {
                    header
                        .set_device_major(rustix::fs::major(status.st_rdev))
                        .and_then(|()| header.set_device_minor(rustix::fs::minor(status.st_rdev)))
                        .doing(what)?;
                }
                self.records(path, None, Vec::new())?;
                let data = std::io::empty();
                self.builder.append_data(&mut header, plain(path), data).doing(write(path))
            }
            // Sockets are nobody's outside their process.
            _ => Ok(()),
        }
    }

    fn whiteout(&mut self, path: &Path, status: &Stat) -> Result<()> {
        let mut name = std::ffi::OsString::from(".wh.");
        name.push(path.file_name().unwrap_or_default());
        self.marker(&path.with_file_name(name), status)
    }

    fn marker(&mut self, path: &Path, status: &Stat) -> Result<()> {
        let mut header = header(status, EntryType::Regular);
        header.set_size(0);
        header.set_mode(0o600);
        self.builder.append_data(&mut header, path, std::io::empty()).doing(write(path))
    }

    fn directory(
        &mut self,
        parent: &OwnedFd,
        name: &CStr,
        path: &Path,
        status: &Stat,
        depth: usize,
    ) -> Result<()> {
        let opened = rustix::fs::openat(parent, name, READ | OFlags::DIRECTORY, Mode::empty());
        let directory = match opened {
            // It is something else by now, or gone.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            other => other.doing(|| format!("open /{}", path.display()))?,
        };
        let mut header = header(status, EntryType::Directory);
        header.set_size(0);
        // A directory's name ends in a slash, as tar programs write it.
        let slashed = |path: &Path| {
            let mut named = path.as_os_str().to_owned();
            named.push("/");
            PathBuf::from(named)
        };
        let named = if path == Path::new("/") { path.to_path_buf() } else { slashed(path) };
        self.records(&named, None, attributes(&directory))?;
        let named = slashed(plain(path));
        self.builder.append_data(&mut header, named, std::io::empty()).doing(write(path))?;
        if self.layer && is_opaque(&directory) {
            self.marker(&path.join(".wh..wh..opq"), status)?;
        }
        self.children(&directory, path, depth + 1)
    }

    fn file(&mut self, parent: &OwnedFd, name: &CStr, path: &Path, status: &Stat) -> Result<()> {
        let key = (status.st_dev, status.st_ino);
        if status.st_nlink > 1 {
            if let Some(first) = self.links.get(&key) {
                let mut header = header(status, EntryType::Link);
                header.set_size(0);
                let first = first.clone();
                self.records(path, Some(&first), Vec::new())?;
                let link = self.builder.append_link(&mut header, plain(path), plain(&first));
                return link.doing(write(path));
            }
            self.links.insert(key, path.to_path_buf());
        }
        // Not to wait for a writer, should it be a pipe by now.
        let flags = READ | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::LOOP) => return Ok(()),
            other => other.doing(|| format!("open /{}", path.display()))?,
        };
        self.records(path, None, attributes(&file))?;
        let mut header = header(status, EntryType::Regular);
        let size = status.st_size as u64;
        header.set_size(size);
        // A file that shrinks meanwhile is filled up, one that grows is cut.
        let content = File::from(file).chain(std::io::repeat(0)).take(size);
        self.builder.append_data(&mut header, plain(path), content).doing(write(path))
    }

    /// Writes what the next entry's header has no place for: its extended attributes, and a name that begins
    /// with `.` or `/`. Clients give an archive's root another name by its first one, so it must be whole.
    fn records(
        &mut self,
        path: &Path,
        link: Option<&Path>,
        mut records: Vec<(String, Vec<u8>)>,
    ) -> Result<()> {
        if path.starts_with(".") || path.is_absolute() {
            records.push(("path".into(), path.as_os_str().as_bytes().to_vec()));
            let link = link.map(|link| link.as_os_str().as_bytes().to_vec());
            records.extend(link.map(|link| ("linkpath".into(), link)));
        }
        if records.is_empty() {
            return Ok(());
        }
        let pairs = records.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        self.builder.append_pax_extensions(pairs).doing(write(path))
    }
}

/// A name as a header has it.
fn plain(path: &Path) -> &Path {
    match path.strip_prefix("/") {
        Ok(rest) if rest.as_os_str().is_empty() => Path::new("."),
        Ok(rest) => rest,
        Err(_) => path,
    }
}

/// The extended attributes that an archive keeps.
fn attributes(file: &OwnedFd) -> Vec<(String, Vec<u8>)> {
    let mut list = vec![0_u8; 64 << 10];
    let Ok(length) = rustix::fs::flistxattr(file, &mut list[..]) else { return Vec::new() };
    let mut kept = Vec::new();
    for name in list[..length].split(|byte| *byte == 0) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        if name != "security.capability" && !name.starts_with("user.") {
            continue;
        }
        let mut value = vec![0_u8; 64 << 10];
        if let Ok(length) = rustix::fs::fgetxattr(file, name, &mut value[..]) {
            value.truncate(length);
            kept.push((format!("SCHILY.xattr.{name}"), value));
        }
    }
    kept
}

fn write(path: &Path) -> impl FnOnce() -> String {
    let shown = format!("write /{} to the archive", path.display());
    move || shown
}

fn header(status: &Stat, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(status.st_mode & 0o7777);
    header.set_uid(status.st_uid.into());
    header.set_gid(status.st_gid.into());
    header.set_mtime(status.st_mtime.max(0) as u64);
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn names_are_whole_from_the_root_on() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("d")).unwrap();
        std::fs::write(place.path().join("f"), "text").unwrap();
        std::fs::hard_link(place.path().join("f"), place.path().join("g")).unwrap();
        for (base, expected) in [
            (".", ["./", "./d/", "./f", "./g>./f"]),
            ("/", ["/", "/d/", "/f", "/g>/f"]),
            ("x", ["x/", "x/d/", "x/f", "x/g>x/f"]),
        ] {
            let mut bytes = Vec::new();
            let mut packer = Packer::new(&mut bytes, false, Vec::new());
            let root = open_root(place.path()).unwrap();
            packer.entry(&root, c".", Path::new(base), 0).unwrap();
            packer.finish().unwrap();
            let mut archive = tar::Archive::new(bytes.as_slice());
            let name = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
                let entry = entry.unwrap();
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let link = entry.link_name_bytes().map(|link| format!(">{}", text(&link)));
                text(&entry.path_bytes()) + &link.unwrap_or_default()
            };
            let names: Vec<_> = archive.entries().unwrap().map(name).collect();
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn a_layer_says_what_is_gone() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::create_dir_all(at("etc/new")).unwrap();
        std::fs::write(at("etc/new/file"), "text").unwrap();
        std::fs::hard_link(at("etc/new/file"), at("etc/second")).unwrap();
        symlink("/outside", at("link")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("etc/gone"),
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        )
        .unwrap();
        rustix::fs::setxattr(
            at("etc/new"),
            "trusted.overlay.opaque",
            b"y",
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
        let mut bytes = Vec::new();
        layer(place.path(), vec!["etc/second2".into()], &mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.path().unwrap().display().to_string(), entry.header().entry_type())
            })
            .collect();
        let expected = [
            ("etc/", EntryType::Directory),
            ("etc/.wh.gone", EntryType::Regular),
            ("etc/new/", EntryType::Directory),
            ("etc/new/.wh..wh..opq", EntryType::Regular),
            ("etc/new/file", EntryType::Regular),
            ("etc/second", EntryType::Link),
            ("link", EntryType::Symlink),
        ];
        let expected: Vec<_> = expected.map(|(name, kind)| (name.to_string(), kind)).to_vec();
        assert_eq!(names, expected);
    }
}
