//! The client against a server of a few lines on a unix socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use super::{Address, Client, Error};

/// A client, and what its one request looked like when the server is done.
struct Exchange {
    client: Client,
    server: JoinHandle<String>,
    _place: tempfile::TempDir,
}

/// Serves one connection: reads a head, then lets `answer` go on.
fn exchange(answer: impl FnOnce(&mut BufReader<UnixStream>) + Send + 'static) -> Exchange {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("d.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(stream.read_line(&mut head).unwrap(), 0, "the head ends early: {head}");
        }
        answer(&mut stream);
        head
    });
    let client = Client::new(&format!("unix://{}", path.display())).unwrap();
    Exchange { client, server, _place: place }
}

fn says(text: &'static str) -> Exchange {
    exchange(move |stream| stream.get_mut().write_all(text.as_bytes()).unwrap())
}

#[test]
fn reads_a_body_of_known_length_and_sends_what_was_asked() {
    let exchange = says("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}not read");
    let request = exchange.client.get(&["containers", "a b/ü", "json"]);
    let request =
        request.query("filters", "{\"x\":1}").query_if("size", true).query_if("all", false);
    let answer: Value = request.send().unwrap().json().unwrap();
    assert_eq!(answer, json!({"a": 1}));
    let head = exchange.server.join().unwrap();
    let first = head.lines().next().unwrap();
    assert_eq!(first, "GET /containers/a%20b/%C3%BC/json?filters=%7B%22x%22:1%7D&size=1 HTTP/1.1");
    assert!(head.contains("Connection: close\r\n"), "{head}");
}

#[test]
fn joins_chunks_and_ignores_extensions_and_trailers() {
    let exchange = says(concat!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
        "4;x=y\r\nabcd\r\nA\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n"
    ));
    let text = exchange.client.get(&["x"]).send().unwrap().text().unwrap();
    assert_eq!(text, "abcd0123456789");
}

#[test]
fn an_answer_without_framing_ends_with_the_connection() {
    let exchange = says("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\nto the end");
    let text = exchange.client.get(&["x"]).send().unwrap().text().unwrap();
    assert_eq!(text, "to the end");
}

#[test]
fn a_chunk_that_is_cut_short_is_an_error_not_an_end() {
    for text in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabcd",
    ] {
        let exchange = says(text);
        let read = exchange.client.get(&["x"]).send().unwrap().text();
        assert!(matches!(read, Err(Error::Connection { .. })), "{text}: {read:?}");
    }
}

#[test]
fn values_arrive_before_the_answer_ends() {
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let exchange = exchange(move |stream| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let first = format!("{head}8\r\n{{\"a\":1}}\n\r\n");
        stream.get_mut().write_all(first.as_bytes()).unwrap();
        wait.recv().unwrap();
        stream.get_mut().write_all(b"7\r\n{\"a\":2}\r\n0\r\n\r\n").unwrap();
    });
    let mut values = exchange.client.get(&["events"]).send().unwrap().values();
    assert_eq!(values.next().unwrap().unwrap(), json!({"a": 1}));
    go_on.send(()).unwrap();
    assert_eq!(values.next().unwrap().unwrap(), json!({"a": 2}));
    assert!(values.next().is_none());
}

#[test]
fn a_refusal_carries_the_daemons_sentence() {
    let exchange = says(concat!(
        "HTTP/1.1 404 Not Found\r\nContent-Length: 37\r\n\r\n",
        "{\"message\":\"No such container: web1\"}"
    ));
    let error = exchange.client.post(&["containers", "web1", "start"]).send().unwrap_err();
    assert_eq!(error.to_string(), "No such container: web1");
    assert_eq!(error.status(), Some(404));
    assert!(exchange.server.join().unwrap().contains("Content-Length: 0\r\n"));
}

#[test]
fn a_refusal_without_a_body_says_what_was_asked() {
    let exchange = says("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n");
    let error = exchange.client.head(&["_ping"]).send().unwrap_err();
    assert_eq!(error.to_string(), "HEAD /_ping: status 500");
}

#[test]
fn nobody_there_names_the_address() {
    let client = Client::new("unix:///nonexistent/caisson.sock").unwrap();
    let error = client.get(&["_ping"]).send().unwrap_err();
    assert!(matches!(error, Error::Connect { .. }));
    assert!(error.to_string().ends_with("at unix:///nonexistent/caisson.sock"), "{error}");
}

#[test]
fn streams_a_request_body_in_chunks() {
    let exchange = exchange(|stream| {
        let mut body = String::new();
        while !body.ends_with("0\r\n\r\n") {
            assert_ne!(stream.read_line(&mut body).unwrap(), 0);
        }
        assert_eq!(body, "5\r\nhello\r\n0\r\n\r\n");
        stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    });
    let request = exchange.client.put(&["archive"]).tar(|out| out.write_all(b"hello"));
    assert_eq!(request.send().unwrap().status(), 204);
    assert!(exchange.server.join().unwrap().contains("Transfer-Encoding: chunked\r\n"));
}

#[test]
fn a_refusal_before_the_body_is_read_is_what_the_user_sees() {
    let exchange = exchange(|stream| {
        let text = "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        stream.get_mut().write_all(text.as_bytes()).unwrap();
        stream.get_mut().shutdown(std::net::Shutdown::Both).unwrap();
    });
    let request = exchange.client.put(&["archive"]).tar(|out| {
        let piece = [0u8; 65536];
        (0..1024).try_for_each(|_| out.write_all(&piece))
    });
    assert_eq!(request.send().unwrap_err().status(), Some(413));
}

#[test]
fn what_cannot_be_read_is_not_sent_as_if_it_were_whole() {
    let exchange = exchange(|stream| {
        let mut body = Vec::new();
        stream.read_to_end(&mut body).unwrap();
        assert!(!body.ends_with(b"0\r\n\r\n"), "the body looks complete");
    });
    let request = exchange.client.put(&["archive"]).tar(|out| {
        out.write_all(b"half")?;
        Err(std::io::Error::other("disk on fire"))
    });
    assert!(matches!(request.send(), Err(Error::Input(_))));
    exchange.server.join().unwrap();
}

#[test]
fn a_hijacked_connection_half_closes() {
    let exchange = exchange(|stream| {
        let head = concat!(
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n",
            "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly "
        );
        stream.get_mut().write_all(head.as_bytes()).unwrap();
        let mut input = String::new();
        stream.read_to_string(&mut input).unwrap();
        stream.get_mut().write_all(input.to_uppercase().as_bytes()).unwrap();
    });
    let mut hijacked = exchange.client.post(&["containers", "x", "attach"]).hijack().unwrap();
    assert_eq!(hijacked.content_type, "application/vnd.docker.raw-stream");
    hijacked.writer.write_all(b"late").unwrap();
    hijacked.writer.end_of_input().unwrap();
    let mut output = String::new();
    hijacked.reader.read_to_string(&mut output).unwrap();
    assert_eq!(output, "early LATE");
    assert!(exchange.server.join().unwrap().contains("Connection: Upgrade\r\nUpgrade: tcp\r\n"));
}

#[test]
fn addresses() {
    assert_eq!(Address::parse("unix:///run/x.sock").unwrap(), Address::Unix("/run/x.sock".into()));
    assert_eq!(Address::parse("/run/x.sock").unwrap(), Address::Unix("/run/x.sock".into()));
    assert_eq!(Address::parse("tcp://h:2375").unwrap(), Address::Tcp("h:2375".into()));
    assert_eq!(Address::parse("tcp://[::1]:2375/").unwrap(), Address::Tcp("[::1]:2375".into()));
    for wrong in ["unix://run/x.sock", "tcp://h", "ssh://h", ""] {
        assert!(Address::parse(wrong).is_err(), "{wrong}");
    }
}
