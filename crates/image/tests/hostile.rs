//! Hostile layers: refused or contained, with nothing written outside. Run as root.

use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use caisson_image::stream::{Recorder, replay};
use caisson_image::unpack::unpack_layer;
use caisson_image::{Kind, Removed, Store, User};
use proptest::prelude::*;
use tar::{EntryType, Header};

fn entry(tar: &mut Vec<u8>, name: &str, kind: EntryType, link: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    // Past the library's own checks: this is what an attacker writes.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o4644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000);
    if matches!(kind, EntryType::Char | EntryType::Block) {
        header.set_device_major(7).unwrap();
        header.set_device_minor(3).unwrap();
    }
    header.set_cksum();
    tar.extend(header.as_bytes());
    tar.extend(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Place(tempfile::tempdir().unwrap());
        std::fs::create_dir(place.diff()).unwrap();
        std::fs::create_dir(place.0.path().join("outside")).unwrap();
        std::fs::write(place.0.path().join("outside/kept"), "kept").unwrap();
        place
    }

    fn diff(&self) -> std::path::PathBuf {
        self.0.path().join("diff")
    }

    fn unpack(&self, mut tar: Vec<u8>) -> Result<String, String> {
        tar.extend([0; 1024]);
        let record = std::fs::File::create(self.0.path().join("stream")).unwrap();
        let mut recorder = Recorder::new(tar.as_slice(), record).unwrap();
        let result = unpack_layer(&self.diff(), &mut recorder).map_err(|error| error.to_string());
        let untouched = std::fs::read_to_string(self.0.path().join("outside/kept")).unwrap();
        assert_eq!(untouched, "kept");
        assert_eq!(std::fs::read_dir(self.0.path().join("outside")).unwrap().count(), 1);
        result.map(|_| recorder.finish().unwrap())
    }
}

#[test]
fn names_that_climb_are_refused() {
    let place = Place::new();
    let mut tar = Vec::new();
    entry(&mut tar, "../outside/new", EntryType::Regular, "", b"x");
    assert!(place.unpack(tar).unwrap_err().contains(".."));
}

#[test]
fn absolute_names_and_links_stay_inside() {
    let place = Place::new();
    let outside = place.0.path().join("outside").display().to_string();
    let mut tar = Vec::new();
    entry(&mut tar, "/etc/name", EntryType::Regular, "", b"x");
    entry(&mut tar, "way", EntryType::Symlink, &outside, b"");
    entry(&mut tar, "way/kept", EntryType::Regular, "", b"changed");
    // The link leads to a place that is not there below the layer's root.
    place.unpack(tar).unwrap_err();
    assert_eq!(std::fs::read(place.diff().join("etc/name")).unwrap(), b"x");
}

#[test]
fn links_that_climb_end_at_the_root() {
    let place = Place::new();
    let mut tar = Vec::new();
    entry(&mut tar, "outside", EntryType::Directory, "", b"");
    entry(&mut tar, "way", EntryType::Symlink, "../../../outside", b"");
    entry(&mut tar, "way/kept", EntryType::Regular, "", b"changed");
    entry(&mut tar, "way/.wh.gone", EntryType::Regular, "", b"");
    place.unpack(tar).unwrap();
    assert_eq!(std::fs::read(place.diff().join("outside/kept")).unwrap(), b"changed");
    let gone = std::fs::symlink_metadata(place.diff().join("outside/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
}

#[test]
fn hard_links_out_are_refused() {
    for target in ["/outside/kept", "../outside/kept", "etc/passwd"] {
        let place = Place::new();
        let mut tar = Vec::new();
        entry(&mut tar, "stolen", EntryType::Link, target, b"");
        place.unpack(tar).unwrap_err();
        assert!(!place.diff().join("stolen").exists());
    }
}

#[test]
fn a_file_replaces_a_link_instead_of_writing_through_it() {
    let place = Place::new();
    let mut tar = Vec::new();
    entry(&mut tar, "real", EntryType::Regular, "", b"real");
    entry(&mut tar, "way", EntryType::Symlink, "real", b"");
    entry(&mut tar, "way", EntryType::Regular, "", b"new");
    place.unpack(tar).unwrap();
    assert_eq!(std::fs::read(place.diff().join("real")).unwrap(), b"real");
    assert_eq!(std::fs::read(place.diff().join("way")).unwrap(), b"new");
}

#[test]
fn odd_whiteouts_are_refused() {
    for name in [".wh.", ".wh...", "a/.wh.."] {
        let place = Place::new();
        let mut tar = Vec::new();
        entry(&mut tar, name, EntryType::Regular, "", b"");
        assert!(place.unpack(tar).unwrap_err().contains("whiteout"), "{name}");
    }
}

#[test]
fn zeros_take_no_space_and_modes_stay() {
    let place = Place::new();
    let mut tar = Vec::new();
    entry(&mut tar, "zeros", EntryType::Regular, "", &vec![0; 64 << 20]);
    place.unpack(tar).unwrap();
    let meta = std::fs::metadata(place.diff().join("zeros")).unwrap();
    assert_eq!((meta.len(), meta.mode() & 0o7777), (64 << 20, 0o4644));
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
}

#[test]
fn a_layer_is_given_back_byte_for_byte() {
    let place = Place::new();
    let mut tar = Vec::new();
    entry(&mut tar, "bin/", EntryType::Directory, "", b"");
    entry(&mut tar, "bin/tool", EntryType::Regular, "", &[7; 100_000]);
    entry(&mut tar, "bin/alias", EntryType::Link, "bin/tool", b"");
    entry(&mut tar, "bin/.wh..wh..opq", EntryType::Regular, "", b"");
    entry(&mut tar, "dev", EntryType::Block, "", b"");
    let whole = [tar.as_slice(), &[0; 1024]].concat();
    let digest = place.unpack(tar).unwrap();
    let record = std::fs::File::open(place.0.path().join("stream")).unwrap();
    let root = std::fs::File::open(place.diff()).unwrap().into();
    let mut back = Vec::new();
    assert_eq!(replay(record, &root, &mut back).unwrap(), digest);
    assert!(back == whole);
}

#[test]
fn any_cut_or_flipped_stream_fails_cleanly() {
    let mut tar = Vec::new();
    for name in ["a", "a/b", "a/b/c"] {
        entry(&mut tar, name, EntryType::Directory, "", b"");
    }
    entry(&mut tar, "a/b/c/file", EntryType::Regular, "", &[1; 700]);
    entry(&mut tar, "way", EntryType::Symlink, "a/b", b"");
    for at in (0..tar.len()).step_by(37) {
        let place = Place::new();
        let mut flipped = tar.clone();
        flipped[at] ^= 0x55;
        // Whatever comes of it, `unpack` looks outside.
        let _ = place.unpack(flipped);
        let _ = place.unpack(tar[..at].to_vec());
    }
}

fn archive(layer: &[u8], digest: &str) -> Vec<u8> {
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["sha256:{digest}"]}}}}"#
    );
    let mut tar = Vec::new();
    entry(&mut tar, "config.json", EntryType::Regular, "", config.as_bytes());
    entry(&mut tar, "l/layer.tar", EntryType::Regular, "", layer);
    let manifest = r#"[{"Config":"config.json","RepoTags":["t:1"],"Layers":["l/layer.tar"]}]"#;
    entry(&mut tar, "manifest.json", EntryType::Regular, "", manifest.as_bytes());
    tar.extend([0; 1024]);
    tar
}

fn load(store: &Store, mut bytes: &[u8]) -> caisson_image::Result<Vec<caisson_image::Loaded>> {
    store.load(&mut bytes, &mut |_| {})
}

fn layer() -> (Vec<u8>, String) {
    use sha2::Digest;
    let mut layer = Vec::new();
    entry(&mut layer, "hello", EntryType::Regular, "", b"world");
    layer.extend([0; 1024]);
    let digest = format!("{:x}", sha2::Sha256::digest(&layer));
    (layer, digest)
}

#[test]
fn an_image_is_loaded_saved_and_removed() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    let (layer, digest) = layer();
    let loaded = load(&store, &archive(&layer, &digest)).unwrap();
    assert_eq!(loaded[0].names, ["t:1"]);
    let image = store.get("t:1").unwrap();
    assert_eq!(image.size, 5);
    assert_eq!(store.get(&image.id[7..15]).unwrap().id, image.id);
    let mut saved = Vec::new();
    store.save(&["t:1".to_string()], &mut saved).unwrap();
    let user = |running| User { container: "c".into(), running };
    let refusal = store.remove("t:1", false, true, &|_| Some(user(false))).unwrap_err();
    assert_eq!(refusal.kind(), Kind::Conflict);
    let words = format!(
        "conflict: unable to remove repository reference \"t:1\" (must force) - container c is using its referenced image {}",
        &image.id[7..19]
    );
    assert_eq!(refusal.to_string(), words);
    let id = image.id.clone();
    for (force, running, words) in [
        (true, true, "(cannot be forced) - image is being used by running container c"),
        (false, false, "(must be forced) - image is being used by stopped container c"),
    ] {
        let refusal = store.remove(&id, force, true, &|_| Some(user(running))).unwrap_err();
        assert!(refusal.to_string().ends_with(words), "{refusal}");
    }
    store.remove("t:1", false, true, &|_| None).unwrap();
    assert_eq!(store.get("t:1").unwrap_err().kind(), Kind::NotFound);
    assert_eq!(std::fs::read_dir(place.path().join("layers")).unwrap().count(), 0);
    let compressed = zstd::encode_all(saved.as_slice(), 1).unwrap();
    assert_eq!(load(&store, &compressed).unwrap()[0].id, image.id);
    let again = Store::open(place.path()).unwrap();
    assert_eq!(again.list().len(), 1);
}

#[test]
fn a_removed_image_stays_for_its_container() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    let (layer, digest) = layer();
    let id = load(&store, &archive(&layer, &digest)).unwrap()[0].id.clone();
    let stopped = |_: &str| Some(User { container: "c".into(), running: false });
    let removed = store.remove("t:1", true, true, &stopped).unwrap();
    let untagged = Removed::Untagged { image: id.clone(), name: "t:1".into() };
    assert_eq!(removed, [untagged, Removed::Image(id.clone())]);
    assert!(store.list().is_empty() && store.get(&id).is_err());
    for store in [store, Store::open(place.path()).unwrap()] {
        let image = store.of_container(&id).unwrap();
        assert!(store.layer_paths(&image)[0].join("hello").exists());
        store.release(&stopped).unwrap();
        assert!(store.of_container(&id).is_ok());
    }
    let store = Store::open(place.path()).unwrap();
    store.release(&|_| None).unwrap();
    assert_eq!(store.of_container(&id).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(std::fs::read_dir(place.path().join("layers")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(place.path().join("configs")).unwrap().count(), 0);
}

#[test]
fn a_committed_image_has_a_parent() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    let (bytes, digest) = layer();
    load(&store, &archive(&bytes, &digest)).unwrap();
    let parent = store.get("t:1").unwrap();
    let commit = |mut layer: &[u8], name: Option<&str>| {
        let entry = serde_json::json!({"created_by": "sh"});
        store.commit(&mut layer, &parent, parent.config.clone(), entry, name).unwrap()
    };
    // Without a change there is no layer.
    let same = store.get(&commit(&[0; 1024], Some("same"))).unwrap();
    assert_eq!((same.layers.len(), same.parent.as_deref()), (1, Some(parent.id.as_str())));
    assert_eq!(same.config["history"][0]["empty_layer"], true);
    let mut more = Vec::new();
    entry(&mut more, "more", EntryType::Regular, "", b"more!");
    more.extend([0; 1024]);
    let child = store.get(&commit(&more, None)).unwrap();
    assert_eq!((child.layer_sizes.as_slice(), child.size), ([5, 5].as_slice(), 10));
    // The last name goes, the image stays for its children; by its id it is refused.
    let removed = store.remove("t:1", false, true, &|_| None).unwrap();
    assert_eq!(removed.len(), 1);
    let refusal = store.remove(&parent.id, true, true, &|_| None).unwrap_err();
    assert!(refusal.to_string().contains("image has dependent child images"), "{refusal}");
    // With its last child the nameless parent goes too.
    store.remove("same", false, true, &|_| None).unwrap();
    let removed = store.remove(&child.id, false, true, &|_| None).unwrap();
    assert_eq!(removed[..2], [Removed::Image(child.id), Removed::Image(parent.id)]);
    assert_eq!(removed.len(), 4, "{removed:?}");
    assert!(store.list().is_empty());
}

#[test]
fn a_repository_is_saved_with_all_its_tags() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    let (layer, digest) = layer();
    load(&store, &archive(&layer, &digest)).unwrap();
    store.tag("t:1", "t:2").unwrap();
    let id = store.get("t:2").unwrap().id;
    let names = |saved: &[&str]| {
        let mut bytes = Vec::new();
        let saved: Vec<_> = saved.iter().map(|name| name.to_string()).collect();
        store.save(&saved, &mut bytes).unwrap();
        let place = tempfile::tempdir().unwrap();
        load(&Store::open(place.path()).unwrap(), &bytes).unwrap()[0].names.clone()
    };
    assert_eq!(names(&["t"]), ["t:1", "t:2"]);
    assert_eq!(names(&["t:2"]), ["t:2"]);
    assert!(names(&[&id]).is_empty());
}

#[test]
fn a_blob_that_is_not_what_it_is_called_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    let (layer, digest) = layer();
    let compressed = zstd::encode_all(layer.as_slice(), 1).unwrap();
    for (name, blob) in [("0".repeat(64), &layer), (digest.clone(), &compressed)] {
        let mut tar = Vec::new();
        entry(&mut tar, &format!("blobs/sha256/{name}"), EntryType::Regular, "", blob);
        tar.extend([0; 1024]);
        let error = load(&store, &tar).unwrap_err();
        assert!(error.to_string().contains("the archive is damaged"), "{error}");
    }
    let mut tar = Vec::new();
    entry(&mut tar, &format!("blobs/sha256/{digest}"), EntryType::Regular, "", &layer);
    tar.extend([0; 1024]);
    // It is whole, and no image.
    assert!(load(&store, &tar).unwrap_err().to_string().contains("holds no image"));
}

#[test]
fn a_broken_archive_is_the_clients_fault() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    let (layer, digest) = layer();
    let good = archive(&layer, &digest);
    let gzip = [&[0x1f, 0x8b, 8, 0][..], &[7; 600]].concat();
    let text = b"no archive ".repeat(100);
    for bad in [&good[..1500], &good[..good.len() / 2], &gzip, &text, b"", b"short"] {
        let error = load(&store, bad).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
    }
    assert!(store.list().is_empty());
}

#[test]
fn a_wrong_digest_and_a_missing_layer_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    let (layer, _) = layer();
    let error = load(&store, &archive(&layer, &"0".repeat(64))).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    let mut nothing: &[u8] = &[0; 2048];
    assert!(store.load(&mut nothing.by_ref(), &mut |_| {}).is_err());
    assert!(store.list().is_empty());
    assert!(Path::new(&place.path().join("names.json")).metadata().is_err());
}

/// Any order of these entries; the names collide on purpose.
fn entries() -> impl Strategy<Value = Vec<(&'static str, EntryType, &'static str)>> {
    let names =
        ["a", "a/b", "a/b/c", "way", "way/kept", "a/.wh.b", "./way/../a", ".wh.way", "/a/x"];
    let links = ["a", "/", "../outside", "../../outside/kept", "a/b/c", "."];
    let kinds = [
        EntryType::Regular,
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Fifo,
    ];
    let entry = (
        proptest::sample::select(names.to_vec()),
        proptest::sample::select(kinds.to_vec()),
        proptest::sample::select(links.to_vec()),
    );
    proptest::collection::vec(entry, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_entries_reaches_outside(entries in entries()) {
        let place = Place::new();
        let mut tar = Vec::new();
        for (number, (name, kind, link)) in entries.iter().enumerate() {
            let linked = matches!(kind, EntryType::Symlink | EntryType::Link);
            let content = if *kind == EntryType::Regular { vec![number as u8 + 1; 9] } else { vec![] };
            entry(&mut tar, name, *kind, if linked { link } else { "" }, &content);
        }
        let whole = [tar.as_slice(), &[0; 1024]].concat();
        // `unpack` itself looks outside, whatever comes of it.
        let unpacked = place.unpack(tar);
        let regular = entries.iter().filter(|(_, kind, _)| *kind == EntryType::Regular).count();
        if let (Ok(digest), true) = (unpacked, regular == entries.len()) {
            let record = std::fs::File::open(place.0.path().join("stream")).unwrap();
            let root = std::fs::File::open(place.diff()).unwrap().into();
            let mut back = Vec::new();
            match replay(record, &root, &mut back) {
                Ok(again) => prop_assert_eq!(again == digest, back == whole),
                // A file that a later entry took away cannot be given back.
                Err(error) => {
                    use std::io::ErrorKind::{NotADirectory, NotFound};
                    prop_assert!(matches!(error.kind(), NotFound | NotADirectory), "{error}");
                }
            }
        }
    }
}
