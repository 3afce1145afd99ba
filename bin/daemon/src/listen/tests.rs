//! The listeners in a directory of their own.

use super::*;

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/api.sock");
    let host = [format!("unix://{}", path.display())];
    let first = Listeners::open(&host, None, false).unwrap();
    let text = format!("{:#}", Listeners::open(&host, None, false).unwrap_err());
    assert!(text.contains("served by another program"), "{text}");
    // What a daemon leaves that is killed: the file without a listener.
    std::mem::forget(first.files);
    drop(first.open);
    assert!(path.exists());
    let second = Listeners::open(&host, None, false).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    drop(second.files);
    assert!(!path.exists());
}

#[tokio::test]
async fn other_files_and_addresses_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let open = |host: &str| {
        Listeners::open(&[host.into()], None, true).map_err(|error| format!("{error:#}"))
    };
    assert!(open(&format!("unix://{}", file.display())).unwrap_err().contains("not a socket"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    assert!(open("unix://relative").unwrap_err().contains("not absolute"));
    assert!(open("npipe://x").unwrap_err().contains("no address"));
    assert!(open("tcp://0.0.0.0:0").unwrap_err().contains("loopback"));
    assert!(open("tcp://localhost").unwrap_err().contains("tcp://127.0.0.1:PORT"));
    assert!(open("tcp://127.0.0.1:0").is_ok());
    let refused = Listeners::open(&["tcp://127.0.0.1:0".into()], None, false).unwrap_err();
    assert!(format!("{refused:#}").contains("--insecure-loopback"));
}
