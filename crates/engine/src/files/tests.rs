//! Hostile containers and hostile archives: what is written and read stays in the container. Run as root.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tar::{EntryType, Header};

use super::view::{Mount, View, with_view};
use super::{PutOptions, archive, extract, pack};
use crate::error::{Kind, Result};

/// A root file system beside a directory that nobody may touch.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Place(tempfile::tempdir().unwrap());
        for name in ["root/etc", "root/data", "outside", "volume"] {
            std::fs::create_dir_all(place.at(name)).unwrap();
        }
        std::fs::write(place.at("outside/kept"), "kept").unwrap();
        std::fs::write(place.at("root/etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/:\n")
            .unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn see<T: Send>(
        &self,
        mounts: &[Mount],
        work: impl FnOnce(&View) -> Result<T> + Send,
    ) -> Result<T> {
        let result = with_view(&self.at("root"), false, mounts, work);
        assert_eq!(std::fs::read_to_string(self.at("outside/kept")).unwrap(), "kept");
        assert_eq!(std::fs::metadata(self.at("outside/kept")).unwrap().uid(), 0);
        assert_eq!(std::fs::read_dir(self.at("outside")).unwrap().count(), 1);
        result
    }

    fn put(&self, path: &str, tar: &Tar) -> Result<()> {
        self.put_with(path, tar, &PutOptions::default(), &[])
    }

    fn put_with(
        &self,
        path: &str,
        tar: &Tar,
        options: &PutOptions,
        mounts: &[Mount],
    ) -> Result<()> {
        let bytes = [tar.0.as_slice(), &[0; 1024]].concat();
        self.see(mounts, |view| {
            extract::put(view, "web", path, &mut bytes.as_slice(), options, "web")
        })
    }

    fn get(&self, path: &str, mounts: &[Mount]) -> Result<Vec<(String, EntryType, String)>> {
        let mut bytes = Vec::new();
        self.see(mounts, |view| archive::get(view, "web", path, &mut bytes))?;
        Ok(listed(&bytes))
    }
}

fn listed(bytes: &[u8]) -> Vec<(String, EntryType, String)> {
    use std::io::Read;
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let kind = entry.header().entry_type();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (name, kind, text)
    });
    entries.collect()
}

#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(mut self, name: &str, kind: EntryType, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        // Past the library's own checks: this is what an attacker writes.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(if kind == EntryType::Directory { 0o750 } else { 0o4644 });
        header.set_uid(11);
        header.set_gid(12);
        header.set_mtime(1_000_000);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(7).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.entry(name, EntryType::Regular, "", content.as_bytes())
    }
}

fn volume(place: &Place, destination: &str) -> Mount {
    Mount {
        source: place.at("volume"),
        subpath: None,
        destination: destination.into(),
        read_only: false,
        recursive: false,
        optional: false,
    }
}

#[test]
fn files_keep_their_owner_mode_and_time() {
    let place = Place::new();
    let tar = Tar::default()
        .entry("new/", EntryType::Directory, "", b"")
        .file("new/file", "text")
        .entry("new/same", EntryType::Link, "new/file", b"")
        .entry("new/pipe", EntryType::Fifo, "", b"")
        .entry("new/loop", EntryType::Block, "", b"");
    place.put("/data", &tar).unwrap();
    let meta =
        |name: &str| std::fs::symlink_metadata(place.at("root/data/new").join(name)).unwrap();
    let file = meta("file");
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (11, 12, 0o4644));
    assert_eq!((file.mtime(), file.nlink()), (1_000_000, 2));
    assert_eq!((meta("").mtime(), meta("").mode() & 0o7777), (1_000_000, 0o750));
    assert!(meta("pipe").file_type().is_fifo());
    assert_eq!((meta("loop").rdev(), meta("loop").uid()), (rustix::fs::makedev(7, 3), 11));
    // Owned by the container's user, when that is asked for.
    let options = PutOptions { copy_uid_gid: true, ..PutOptions::default() };
    place.put_with("/data", &Tar::default().file("mine", "x"), &options, &[]).unwrap();
    let mine = std::fs::metadata(place.at("root/data/mine")).unwrap();
    assert_eq!((mine.uid(), mine.gid(), mine.mode() & 0o7777), (33, 34, 0o4644));
}

#[test]
fn compressed_archives_are_taken() {
    use std::io::Write;
    let place = Place::new();
    let tar = Tar::default().file("file", "text");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&[tar.0.as_slice(), &[0; 1024]].concat()).unwrap();
    let bytes = gzip.finish().unwrap();
    let options = PutOptions::default();
    place
        .see(&[], |view| extract::put(view, "w", "/data", &mut bytes.as_slice(), &options, ""))
        .unwrap();
    assert_eq!(std::fs::read_to_string(place.at("root/data/file")).unwrap(), "text");
}

#[test]
fn cve_2018_15664_links_lead_nowhere_but_into_the_container() {
    let place = Place::new();
    let outside = place.at("outside");
    symlink(&outside, place.at("root/absolute")).unwrap();
    symlink("../../../../../../../../..", place.at("root/data/up")).unwrap();
    symlink(outside.join("kept"), place.at("root/file")).unwrap();
    let tar = Tar::default().file("kept", "changed");
    // The link's target is looked for in the container, which does not have it.
    let error = place.put("/absolute", &tar).unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
    assert_eq!(error.message, "Could not find the file /absolute in container web");
    assert_eq!(place.get("/absolute/", &[]).unwrap_err().kind, Kind::NotFound);
    assert_eq!(place.get("/absolute/kept", &[]).unwrap_err().kind, Kind::NotFound);
    // Too many steps up end at the container's root.
    place.put("/data/up", &tar).unwrap();
    assert_eq!(std::fs::read(place.at("root/kept")).unwrap(), b"changed");
    // The last link itself is what is copied, not what it leads to.
    let got = place.get("/file", &[]).unwrap();
    assert_eq!(got, [("file".to_string(), EntryType::Symlink, String::new())]);
    let stat = place.see(&[], |view| archive::stat(view, "web", "/file")).unwrap();
    assert_eq!(stat.link_target, outside.join("kept").display().to_string());
    assert_eq!(stat.mode, 1 << 27 | 0o777);
    // A file takes the link's place.
    place.put("/", &Tar::default().file("file", "own")).unwrap();
    assert_eq!(std::fs::read(place.at("root/file")).unwrap(), b"own");
}

#[test]
fn archives_cannot_climb_or_link_out() {
    let place = Place::new();
    for name in ["../outside/new", "a/../../outside/new", "/../outside/new"] {
        let error = place.put("/data", &Tar::default().file(name, "x")).unwrap_err();
        assert!(error.kind == Kind::Invalid && error.message.contains(".."), "{error}");
    }
    let outside = place.at("outside").display().to_string();
    for target in ["/outside/kept", "../outside/kept", &format!("{outside}/kept"), "none", "/"] {
        let tar = Tar::default().entry("stolen", EntryType::Link, target, b"");
        let error = place.put("/data", &tar).unwrap_err();
        assert_eq!(error.kind, Kind::Invalid, "{target}: {error}");
        assert!(!place.at("root/data/stolen").exists());
    }
    // A link that the archive brings, and an entry through it.
    for target in [outside.as_str(), "../../outside", "/proc/self/root", "/proc/self/cwd"] {
        let tar = Tar::default().entry("way", EntryType::Symlink, target, b"");
        let _ = place.put("/data", &tar.file("way/kept", "changed").file("way/new", "x"));
    }
    // A hard link to a symbolic link is one more name of the link.
    let tar = Tar::default()
        .entry("link", EntryType::Symlink, &format!("{outside}/kept"), b"")
        .entry("hard", EntryType::Link, "link", b"")
        .file("hard", "own");
    place.put("/data", &tar).unwrap();
    assert_eq!(std::fs::read(place.at("root/data/hard")).unwrap(), b"own");
}

#[test]
fn absolute_names_are_taken_below_the_directory() {
    let place = Place::new();
    place.put("/data", &Tar::default().file("/etc/shadow", "x")).unwrap();
    assert!(place.at("root/data/etc/shadow").exists() && !place.at("root/etc/shadow").exists());
    // Links of the container are followed as it would follow them itself.
    symlink("/etc", place.at("root/data/conf")).unwrap();
    place.put("/data", &Tar::default().file("conf/name", "x")).unwrap();
    assert!(place.at("root/etc/name").exists());
}

#[test]
fn a_racing_container_wins_nothing() {
    let place = Place::new();
    let (link, directory) = (place.at("root/data/x"), place.at("root/data/y"));
    symlink(place.at("outside"), &link).unwrap();
    std::fs::create_dir(&directory).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(
                    rustix::fs::CWD,
                    &link,
                    rustix::fs::CWD,
                    &directory,
                    rustix::fs::RenameFlags::EXCHANGE,
                )
                .unwrap();
            }
        });
        for _ in 0..200 {
            let tar = Tar::default().file("x/kept", "changed").file("x/new", "x");
            let _ = place.put("/data", &tar);
            let _ = place.put("/data/x", &Tar::default().file("kept", "changed"));
            // Whatever is read, it is not what is outside.
            if let Ok(entries) = place.get("/data/x/.", &[]) {
                assert!(entries.iter().all(|(_, _, text)| text != "kept"), "{entries:?}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn directories_and_files_do_not_replace_each_other_unless_they_may() {
    let place = Place::new();
    std::fs::create_dir_all(place.at("root/data/d/sub")).unwrap();
    std::fs::write(place.at("root/data/f"), "").unwrap();
    let strict = PutOptions { no_overwrite_dir_non_dir: true, ..PutOptions::default() };
    let file = Tar::default().file("d", "file");
    let directory = Tar::default().entry("f", EntryType::Directory, "", b"");
    let error = place.put_with("/data", &file, &strict, &[]).unwrap_err();
    let words = r#"cannot overwrite directory "/data/d" with non-directory "/data""#;
    assert_eq!((error.kind, error.message.as_str()), (Kind::Invalid, words));
    let error = place.put_with("/data", &directory, &strict, &[]).unwrap_err();
    assert!(error.message.starts_with(r#"cannot overwrite non-directory "/data/f""#), "{error}");
    place.put("/data", &file).unwrap();
    place.put("/data", &directory).unwrap();
    assert!(place.at("root/data/d").is_file() && place.at("root/data/f").is_dir());
    let error = place.put("/data/d", &file).unwrap_err();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (Kind::Invalid, "extraction point is not a directory")
    );
}

#[test]
fn volumes_are_where_the_container_has_them() {
    let place = Place::new();
    std::fs::write(place.at("volume/old"), "volume").unwrap();
    symlink("/mnt/deep", place.at("root/way")).unwrap();
    symlink("/etc", place.at("volume/back")).unwrap();
    // Its place is not there before the first start.
    let mounts = [volume(&place, "/mnt/deep")];
    let tar = Tar::default().file("new", "x").file("back/made", "y");
    place.put_with("/way", &tar, &PutOptions::default(), &mounts).unwrap();
    assert_eq!(std::fs::read_to_string(place.at("volume/new")).unwrap(), "x");
    assert_eq!(std::fs::read_to_string(place.at("root/etc/made")).unwrap(), "y");
    assert_eq!(std::fs::read_dir(place.at("root/mnt/deep")).unwrap().count(), 0);
    let got = place.get("/mnt", &mounts).unwrap();
    assert!(got.contains(&("mnt/deep/old".into(), EntryType::Regular, "volume".into())), "{got:?}");
    // Nothing is left of it here.
    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains("mnt/deep"));
}

#[test]
fn a_part_of_a_volume_is_found_in_the_volume() {
    let place = Place::new();
    std::fs::create_dir_all(place.at("volume/outside")).unwrap();
    symlink(place.at("outside"), place.at("volume/absolute")).unwrap();
    symlink("../outside", place.at("volume/relative")).unwrap();
    let part = |path: &str| Mount { subpath: Some(path.into()), ..volume(&place, "/data") };
    let tar = Tar::default().file("kept", "changed");
    let put = |path: &str| place.put_with("/data", &tar, &PutOptions::default(), &[part(path)]);
    assert!(put("absolute").is_err() && put("../outside/../../outside/none").is_err());
    put("relative").unwrap();
    assert_eq!(std::fs::read(place.at("volume/outside/kept")).unwrap(), b"changed");
}

#[test]
fn what_is_read_only_is_refused() {
    let place = Place::new();
    let tar = Tar::default().file("x", "x");
    let mounts = [Mount { read_only: true, ..volume(&place, "/data") }];
    let options = PutOptions::default();
    let error = place.put_with("/data", &tar, &options, &mounts).unwrap_err();
    let words = "mounted volume is marked read-only";
    assert_eq!((error.kind, error.message.as_str()), (Kind::Forbidden, words));
    // Through a link that only the archive's entry takes.
    symlink("/data", place.at("root/etc/way")).unwrap();
    let tar = Tar::default().file("way/x", "x");
    assert_eq!(place.put_with("/etc", &tar, &options, &mounts).unwrap_err().kind, Kind::Forbidden);
    assert!(!place.at("volume/x").exists());
    let bytes = [tar.0.as_slice(), &[0; 1024]].concat();
    let put = |path: &'static str| {
        with_view(&place.at("root"), true, &[volume(&place, "/data")], |view| {
            extract::put(view, "web", path, &mut bytes.as_slice(), &options, "")
        })
    };
    let error = put("/etc").unwrap_err();
    let words = "container rootfs is marked read-only";
    assert_eq!((error.kind, error.message.as_str()), (Kind::Forbidden, words));
    put("/data").unwrap();
    assert!(place.at("volume/way/x").exists());
}

#[test]
fn names_in_archives_begin_as_docker_has_them() {
    let place = Place::new();
    std::fs::write(place.at("root/data/file"), "text").unwrap();
    symlink("/data", place.at("root/way")).unwrap();
    let names = |path: &str| -> Vec<String> {
        place.get(path, &[]).unwrap().into_iter().map(|(name, _, _)| name).collect()
    };
    assert_eq!(names("/data"), ["data/", "data/file"]);
    assert_eq!(names("data/"), ["data/", "data/file"]);
    assert_eq!(names("/data/."), ["./", "./file"]);
    assert_eq!(names("/data/file"), ["file"]);
    assert_eq!(names("/etc/../data/file"), ["file"]);
    assert_eq!(names("/way"), ["way"]);
    assert_eq!(names("/way/"), ["way/", "way/file"]);
    assert_eq!(names("/way/file"), ["file"]);
    assert!(names("/").contains(&"/data/file".to_string()), "{:?}", names("/"));
    let name = |path: &str| place.see(&[], |view| archive::stat(view, "w", path)).unwrap().name;
    assert_eq!(
        [name("/data"), name("/data/"), name("/data/."), name("/")],
        ["data", "data", ".", "/"]
    );
    let error = place.get("/none/x", &[]).unwrap_err();
    assert_eq!(error.message, "Could not find the file /none/x in container web");
}

#[test]
fn what_goes_out_comes_in_again() {
    let place = Place::new();
    let long = "n".repeat(200);
    let file = place.at("root/data").join(&long);
    std::fs::write(&file, "text").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o4711)).unwrap();
    std::fs::hard_link(&file, place.at("root/data/same")).unwrap();
    symlink(format!("/{long}/{long}"), place.at("root/data/link")).unwrap();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&file, "security.capability", &capability, flags).unwrap();
    std::os::unix::net::UnixListener::bind(place.at("root/data/socket")).unwrap();
    let mut bytes = Vec::new();
    pack::export(&place.at("root"), &mut bytes).unwrap();
    let again = Place::new();
    let options = PutOptions::default();
    again
        .see(&[], |view| extract::put(view, "w", "/", &mut bytes.as_slice(), &options, ""))
        .unwrap();
    let copy = again.at("root/data").join(&long);
    let meta = std::fs::metadata(&copy).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.nlink()), (0o4711, 2));
    assert_eq!(std::fs::read_link(again.at("root/data/link")).unwrap().as_os_str().len(), 402);
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(&copy, "security.capability", &mut value[..]).unwrap();
    assert_eq!(value[..length], capability);
    assert!(!Path::new(&again.at("root/data/socket")).exists());
}
