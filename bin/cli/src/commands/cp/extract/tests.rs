//! Archives, kind ones and hostile ones.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use tar::{Builder, Header};

use super::*;

enum Item {
    Folder(&'static str),
    File(&'static str, &'static str),
    Link(&'static str, &'static str),
    Hard(&'static str, &'static str),
}

use Item::{File, Folder, Hard, Link};

/// An archive with these names as they are, however wrong.
fn archive(items: &[Item]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for item in items {
        let (name, kind, data, target) = match item {
            Folder(name) => (name, EntryType::Directory, "", ""),
            File(name, data) => (name, EntryType::Regular, *data, ""),
            Link(name, target) => (name, EntryType::Symlink, "", *target),
            Hard(name, target) => (name, EntryType::Link, "", *target),
        };
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_uid(1);
        header.set_gid(1);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        builder.append(&header, data.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

struct Place {
    _outer: tempfile::TempDir,
    outer: PathBuf,
    inner: PathBuf,
}

fn place() -> Place {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("in");
    fs::create_dir(&inner).unwrap();
    fs::write(outer.path().join("secret"), "secret").unwrap();
    Place { outer: outer.path().into(), inner, _outer: outer }
}

impl Place {
    fn unpack(&self, items: &[Item], name: Option<&str>) -> Result<()> {
        extract(&mut &archive(items)[..], self.inner.to_str().unwrap(), name, false)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.inner.join(name)).unwrap()
    }
}

#[test]
fn a_tree_gets_its_name_modes_and_times() {
    let place = place();
    let items = [
        Folder("d/"),
        File("d/f", "hello"),
        Link("d/link", "f"),
        Hard("d/hard", "d/f"),
        File("d/sub/g", "deep"),
    ];
    place.unpack(&items, Some("new")).unwrap();
    assert_eq!(
        place.read("new/f") + &place.read("new/link") + &place.read("new/sub/g"),
        "hellohellodeep"
    );
    let metadata = fs::metadata(place.inner.join("new/f")).unwrap();
    assert_eq!(metadata.mtime(), 1_000_000_000);
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o755, "the set-id bit is dropped");
    assert_eq!(metadata.nlink(), 2);
    assert_eq!(fs::metadata(place.inner.join("new")).unwrap().mtime(), 1_000_000_000);
    // Once more over itself.
    place.unpack(&items, Some("new")).unwrap();
    place.unpack(&[File("./f", "x")], Some("f")).unwrap();
    assert_eq!(place.read("f"), "x");
}

#[test]
fn contents_go_right_into_the_directory() {
    let place = place();
    let mode = fs::metadata(&place.inner).unwrap().permissions().mode();
    place
        .unpack(&[Folder("./"), File("./a", "1"), Folder("./b"), File("./b/c", "2")], None)
        .unwrap();
    assert_eq!(place.read("a") + &place.read("b/c"), "12");
    assert_eq!(fs::metadata(&place.inner).unwrap().permissions().mode(), mode);
}

#[test]
fn nothing_leads_out_of_the_directory() {
    let hostile: [&[Item]; 7] = [
        &[File("../secret", "owned")],
        &[Folder("d"), File("d/../../secret", "owned")],
        &[Folder("d"), Link("d/out", ".."), File("d/out/../secret", "owned")],
        &[Folder("d"), Link("d/out", "../.."), File("d/out/secret", "owned")],
        &[Folder("d"), Hard("d/h", "../secret")],
        &[Folder("d"), Link("d/out", "../.."), Hard("d/h", "d/out/secret")],
        &[Folder("d"), Folder("e")],
    ];
    for items in hostile {
        let place = place();
        place.unpack(items, Some("d")).unwrap_err();
        assert_eq!(fs::read_to_string(place.outer.join("secret")).unwrap(), "secret");
        assert_eq!(fs::metadata(place.outer.join("secret")).unwrap().nlink(), 1);
    }
}

#[test]
fn an_absolute_link_is_not_written_through() {
    let place = place();
    let target: &'static str = Box::leak(place.outer.display().to_string().into_boxed_str());
    place
        .unpack(&[Folder("d"), Link("d/out", target), File("d/out/secret", "x")], Some("d"))
        .unwrap_err();
    // A file with the link's name takes the link's place.
    place.unpack(&[Folder("d"), Link("d/s", "../../secret"), File("d/s", "x")], Some("d")).unwrap();
    assert_eq!(fs::read_to_string(place.outer.join("secret")).unwrap(), "secret");
    assert_eq!(place.read("d/s"), "x");
}

#[test]
fn kinds_are_not_mixed_up() {
    let place = place();
    fs::create_dir(place.inner.join("x")).unwrap();
    let error = place.unpack(&[File("x", "1")], Some("x")).unwrap_err().sentence();
    assert_eq!(error, "cannot overwrite directory \"x\" with a file");
    fs::write(place.inner.join("y"), "").unwrap();
    let error = place.unpack(&[Folder("y")], Some("y")).unwrap_err().sentence();
    assert_eq!(error, "cannot overwrite non-directory \"y\" with a directory");
}
