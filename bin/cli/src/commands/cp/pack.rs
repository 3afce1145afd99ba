//! Local files into a tar archive.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::place::Source;
use crate::failure::{Failure, Result};

/// What is to be copied: its path and its name. With `follow` a link is what it points to.
pub fn source(path: &str, follow: bool) -> Result<(PathBuf, Source)> {
    let asserts_directory = path.ends_with('/') || path.ends_with("/.") || path == ".";
    let failed = || Failure::io(format!("look at {path}"));
    // A link with a slash behind it is what it points to.
    let metadata = match follow || asserts_directory {
        true => fs::metadata(path),
        false => fs::symlink_metadata(path),
    };
    let metadata = metadata.map_err(failed())?;
    if asserts_directory && !metadata.is_dir() {
        return Err(failed()(io::ErrorKind::NotADirectory.into()));
    }
    let local = match follow || asserts_directory {
        true => fs::canonicalize(path).map_err(failed())?,
        false => PathBuf::from(path),
    };
    // `..` and the like have the name of where they lead.
    let named = match Path::new(path).file_name() {
        None if !path.ends_with('.') || path == ".." || path.ends_with("/..") => {
            local.display().to_string()
        }
        _ => path.to_string(),
    };
    Ok((local, Source::new(&named, metadata.is_dir())))
}

/// Writes the archive, whose root is called `name`, or has no name when it is the contents that are copied.
/// Returns its size.
pub fn pack(from: &Path, name: Option<&str>, out: &mut dyn Write) -> io::Result<u64> {
    let mut counted = Counting { out, count: 0 };
    let mut builder = Builder::new(&mut counted);
    add(&mut builder, from, Path::new(name.unwrap_or(".")))?;
    builder.finish()?;
    drop(builder);
    Ok(counted.count)
}

struct Counting<'a> {
    out: &'a mut dyn Write,
    count: u64,
}

impl Write for Counting<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.out.write(data)?;
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn add<W: Write>(builder: &mut Builder<W>, path: &Path, name: &Path) -> io::Result<()> {
    let failed =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    let kind = metadata.file_type();
    let mut header = header(&metadata);
    if kind.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        let target = fs::read_link(path).map_err(failed)?;
        return builder.append_link(&mut header, name, target).map_err(failed);
    }
    if kind.is_file() {
        header.set_size(metadata.len());
        let file = File::open(path).map_err(failed)?;
        // A file that shrinks while it is read would shift everything after it.
        let exact = file.chain(io::repeat(0)).take(metadata.len());
        return builder.append_data(&mut header, name, exact).map_err(failed);
    }
    if kind.is_dir() {
        builder.append_data(&mut header, name, io::empty()).map_err(failed)?;
        let mut names: Vec<_> = fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.file_name())).collect())
            .map_err(failed)?;
        names.sort();
        return names
            .iter()
            .try_for_each(|child| add(builder, &path.join(child), &name.join(child)));
    }
    // A socket is nothing without the program that listens on it.
    if kind.is_socket() { Ok(()) } else { builder.append_data(&mut header, name, io::empty()) }
}

fn header(metadata: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_metadata(metadata);
    header.set_size(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(archive: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap();
        let shown = |entry: tar::Entry<'_, &[u8]>| {
            let link = entry.link_name().unwrap().map(|link| format!(">{}", link.display()));
            format!("{}{}", entry.path().unwrap().display(), link.unwrap_or_default())
        };
        entries.map(|entry| shown(entry.unwrap())).collect()
    }

    #[test]
    fn a_tree_under_its_new_name() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("d");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("f"), "12345").unwrap();
        std::os::unix::fs::symlink("f", root.join("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("sock")).unwrap();
        let mut archive = Vec::new();
        let size = pack(&root, Some("new"), &mut archive).unwrap();
        assert_eq!(size, archive.len() as u64);
        assert_eq!(names(&archive), ["new", "new/f", "new/link>f", "new/sub"]);
        let mut archive = Vec::new();
        pack(&root, None, &mut archive).unwrap();
        assert!(
            names(&archive).contains(&"./f".to_string())
                || names(&archive).contains(&"f".to_string())
        );
    }

    #[test]
    fn sources_are_what_their_paths_say() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| format!("{}/{name}", place.path().display());
        fs::create_dir(at("d")).unwrap();
        fs::write(at("f"), "").unwrap();
        std::os::unix::fs::symlink("d", at("link")).unwrap();
        assert_eq!(source(&at("link"), false).unwrap().1, Source::new("link", false));
        assert_eq!(source(&at("link"), true).unwrap().1, Source::new("link", true));
        assert_eq!(source(&at("link/"), false).unwrap().1, Source::new("link", true));
        assert_eq!(source(&at("d/."), false).unwrap().1, Source::new(".", true));
        let error = source(&at("f/"), false).unwrap_err().sentence();
        assert!(error.to_lowercase().contains("not a directory"), "{error}");
        assert!(source(&at("none"), false).unwrap_err().sentence().contains("No such file"));
    }
}
