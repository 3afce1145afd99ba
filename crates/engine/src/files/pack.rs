//! Directories as tar streams: plain, or a writable layer with its whiteouts as an image's layer has them.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tar::{Builder, EntryType, Header};

use crate::error::{Doing, Error, Result};

/// Directories in each other; each holds a descriptor open.
pub const DEPTH: usize = 512;
/// How much is written at once, bytes.
const BUFFER: usize = 256 << 10;
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// Writes a tar stream.
pub struct Packer<W: Write> {
    builder: Builder<BufWriter<W>>,
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

/// What an entry's header says, and what is too long or too rich for it.
struct Head<'a> {
    header: Header,
    path: &'a Path,
    link: Option<&'a OsStr>,
    /// Extended attributes.
    xattrs: Vec<(String, Vec<u8>)>,
}

impl<'a> Head<'a> {
    fn new(status: &Stat, kind: EntryType, path: &'a Path) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(status.st_mode & 0o7777);
        header.set_uid(status.st_uid.into());
        header.set_gid(status.st_gid.into());
        header.set_mtime(status.st_mtime.max(0) as u64);
        header.set_size(0);
        Head { header, path, link: None, xattrs: Vec::new() }
    }
}

impl<W: Write> Packer<W> {
    pub fn new(output: W, layer: bool, skipped: Vec<PathBuf>) -> Self {
        let builder = Builder::new(BufWriter::with_capacity(BUFFER, output));
        Packer { builder, links: HashMap::new(), layer, skipped }
    }

    pub fn finish(mut self) -> Result<()> {
        let what = || "write the archive";
        self.builder.finish().doing(what)?;
        self.builder.get_mut().flush().doing(what)
    }

    /// Writes what a directory holds, below `name` in the archive.
    pub fn children(&mut self, directory: &OwnedFd, name: &Path, depth: usize) -> Result<()> {
        let what = || format!("read {}", name.display());
        if depth > DEPTH {
            return Err(Error::invalid(format!(
                "{} is more than {DEPTH} directories deep",
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
        let what = || format!("read {}", path.display());
        let status = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.doing(what)?,
        };
        if self.layer && is_whiteout(&status) {
            return self.whiteout(path, &status);
        }
        let kind = FileType::from_raw_mode(status.st_mode);
        let entry = match kind {
            FileType::Directory => return self.directory(parent, name, path, &status, depth),
            FileType::RegularFile => EntryType::Regular,
            FileType::Symlink => EntryType::Symlink,
            FileType::CharacterDevice => EntryType::Char,
            FileType::BlockDevice => EntryType::Block,
            FileType::Fifo => EntryType::Fifo,
            // Sockets are nobody's outside their process.
            _ => return Ok(()),
        };
        if status.st_nlink > 1 {
            let key = (status.st_dev, status.st_ino);
            if let Some(first) = self.links.get(&key).cloned() {
                let mut head = Head::new(&status, EntryType::Link, path);
                head.link = Some(first.as_os_str());
                return self.write(head, std::io::empty());
            }
            self.links.insert(key, path.to_path_buf());
        }
        let mut head = Head::new(&status, entry, path);
        match entry {
            EntryType::Regular => self.file(parent, name, head, status.st_size),
            EntryType::Symlink => {
                let target = match rustix::fs::readlinkat(parent, name, Vec::new()) {
                    // It is something else by now, or gone.
                    Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
                    other => other.doing(what)?,
                };
                head.link = Some(OsStr::from_bytes(target.to_bytes()));
                self.write(head, std::io::empty())
            }
            EntryType::Fifo => self.write(head, std::io::empty()),
            _ => {
                let (major, minor) =
                    (rustix::fs::major(status.st_rdev), rustix::fs::minor(status.st_rdev));
                let set = head.header.set_device_major(major);
                set.and_then(|()| head.header.set_device_minor(minor)).doing(what)?;
                self.write(head, std::io::empty())
            }
        }
    }

    /// Writes one entry: what the header has no room for goes before it (PAX).
    fn write(&mut self, mut head: Head, content: impl Read) -> Result<()> {
        let what = || format!("write {} to the archive", head.path.display());
        let mut name = head.path.as_os_str().as_bytes().to_vec();
        if head.header.entry_type() == EntryType::Directory && !name.ends_with(b"/") {
            // As tar programs write it.
            name.push(b'/');
        }
        let mut more: Vec<(&str, &[u8])> =
            head.xattrs.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let old = head.header.as_old_mut();
        let link = head.link.unwrap_or_default().as_bytes();
        let fields =
            [("path", &mut old.name, name.as_slice()), ("linkpath", &mut old.linkname, link)];
        for (key, field, text) in fields {
            let room = text.len().min(field.len());
            field[..room].copy_from_slice(&text[..room]);
            if room < text.len() {
                more.push((key, text));
            }
        }
        head.header.set_cksum();
        if !more.is_empty() {
            self.builder.append_pax_extensions(more).doing(what)?;
        }
        self.builder.append(&head.header, content).doing(what)
    }

    fn whiteout(&mut self, path: &Path, status: &Stat) -> Result<()> {
        let mut name = std::ffi::OsString::from(".wh.");
        name.push(path.file_name().unwrap_or_default());
        self.marker(&path.with_file_name(name), status)
    }

    fn marker(&mut self, path: &Path, status: &Stat) -> Result<()> {
        let mut head = Head::new(status, EntryType::Regular, path);
        head.header.set_mode(0o600);
        self.write(head, std::io::empty())
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
            other => other.doing(|| format!("open {}", path.display()))?,
        };
        let mut head = Head::new(status, EntryType::Directory, path);
        head.xattrs = xattrs(&directory);
        self.write(head, std::io::empty())?;
        if self.layer && is_opaque(&directory) {
            self.marker(&path.join(".wh..wh..opq"), status)?;
        }
        self.children(&directory, path, depth + 1)
    }

    fn file(&mut self, parent: &OwnedFd, name: &CStr, mut head: Head, size: i64) -> Result<()> {
        // Not to wait for a writer, should it be a pipe by now.
        let opened = rustix::fs::openat(parent, name, READ | OFlags::NONBLOCK, Mode::empty());
        let what = || format!("open {}", head.path.display());
        let file = match opened {
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(()),
            other => other.doing(what)?,
        };
        let status = rustix::fs::fstat(&file).doing(what)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        head.xattrs = xattrs(&file);
        let size = size.max(0) as u64;
        head.header.set_size(size);
        // A file that shrinks meanwhile is filled up, one that grows is cut.
        self.write(head, File::from(file).chain(std::io::repeat(0)).take(size))
    }
}

/// The extended attributes that an archive keeps.
fn xattrs(file: &OwnedFd) -> Vec<(String, Vec<u8>)> {
    let mut kept: Vec<(String, Vec<u8>)> = Vec::new();
    // Most files have none.
    let length = rustix::fs::flistxattr_query(file).unwrap_or_default();
    if length == 0 {
        return kept;
    }
    let mut list = vec![0_u8; length];
    let Ok(length) = rustix::fs::flistxattr(file, &mut list[..]) else { return kept };
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
