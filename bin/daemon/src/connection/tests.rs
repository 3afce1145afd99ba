//! Connections over unix sockets in this process, with handlers made for the test.

use std::io;
use std::time::Duration;

use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::*;
use crate::detach::{self, Watcher};
use crate::hijack::{self, End, Input};
use crate::reply::{self, Failure};

const LIMIT: Duration = Duration::from_secs(10);

/// A client's end of a connection that `handler` serves.
pub fn client<F>(
    handler: impl Fn(Request<Upload>) -> F + Send + Sync + 'static,
) -> (UnixStream, tokio::task::JoinHandle<()>)
where
    F: Future<Output = Reply> + Send + 'static,
{
    let (client, server) = UnixStream::pair().unwrap();
    let handler: Handler = Arc::new(move |request| handler(request).boxed());
    (client, tokio::spawn(serve(Stream::Unix(server), handler, CancellationToken::new())))
}

/// All that comes back for these bytes.
pub async fn answer_of(client: &mut UnixStream, request: &[u8]) -> String {
    // A server that has read enough may close before it has read all.
    let _ = client.write_all(request).await;
    read_all(client).await
}

async fn read_all(client: &mut UnixStream) -> String {
    let mut text = Vec::new();
    timeout(LIMIT, client.read_to_end(&mut text))
        .await
        .expect("the connection does not end")
        .unwrap();
    String::from_utf8(text).unwrap()
}

/// Reads until `end` has come.
async fn read_until(client: &mut UnixStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut bytes = [0; 4096];
        let length = timeout(LIMIT, client.read(&mut bytes)).await.expect("nothing comes").unwrap();
        assert_ne!(length, 0, "the end after {text:?}, not {end:?}");
        text.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
    }
    text
}

/// Takes the connection over, for a process that is the other end of the pair.
fn taken(request: &Request<Upload>, process: UnixStream, input: Input) -> Reply {
    let head = hijack::head(request.headers(), hijack::MULTIPLEXED, "");
    Reply::Takeover(Takeover::new(head, move |raw| async move {
        hijack::tunnel(raw, process, input).await.map(|_| ())
    }))
}

/// A client whose connection is taken over after the body was read, and the process's end.
fn attached(input: fn() -> Input) -> (UnixStream, UnixStream) {
    let (process, engine) = UnixStream::pair().unwrap();
    let engine = Mutex::new(Some(engine));
    let (client, _) = client(move |request| {
        let engine = engine.lock().unwrap().take().expect("only one request");
        async move {
            let (parts, body) = request.into_parts();
            let read = body.collect().await.unwrap().to_bytes();
            assert_eq!(&read[..], b"{}");
            let request = Request::from_parts(parts, ());
            let head =
                hijack::head(request.headers(), hijack::MULTIPLEXED, "Api-Version: 1.51\r\n");
            Reply::Takeover(Takeover::new(head, move |raw| async move {
                hijack::tunnel(raw, engine, input()).await.map(|_| ())
            }))
        }
    });
    (client, process)
}

#[tokio::test]
async fn an_upgrade_gets_dockers_head_and_the_streams() {
    let (mut client, mut process) = attached(|| Input::All);
    let request = "POST /exec/1/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n{}";
    client.write_all(request.as_bytes()).await.unwrap();
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert_eq!(
        head,
        "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nApi-Version: 1.51\r\n\r\n"
    );
    client.write_all(b"in").await.unwrap();
    read_until(&mut process, "in").await;
    // The client's end is stdin's end, and the output goes on.
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut process).await, "");
    process.write_all(b"out").await.unwrap();
    read_until(&mut client, "out").await;
    drop(process);
    assert_eq!(read_all(&mut client).await, "");
}

#[tokio::test]
async fn without_an_upgrade_the_answer_is_plain_and_early_input_is_kept() {
    let (mut client, mut process) = attached(|| Input::All);
    let request = "POST /exec/1/start HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}early";
    client.write_all(request.as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut process).await, "early");
    process.write_all(b"out").await.unwrap();
    drop(process);
    assert_eq!(
        read_all(&mut client).await,
        "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\nApi-Version: 1.51\r\n\r\nout"
    );
}

#[tokio::test]
async fn without_input_nothing_is_passed_on_and_a_client_that_is_gone_is_noticed() {
    let (process, engine) = UnixStream::pair().unwrap();
    let engine = Mutex::new(Some(engine));
    let (mut client, served) = client(move |request| {
        let engine = engine.lock().unwrap().take().unwrap();
        async move { taken(&request, engine, Input::None) }
    });
    client.write_all(b"POST /a HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\n\r\n").await.unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    client.write_all(b"ignored").await.unwrap();
    client.shutdown().await.unwrap();
    // Both ends are still open: the process may write.
    let mut process = process;
    process.write_all(b"out").await.unwrap();
    read_until(&mut client, "out").await;
    assert!(process.read(&mut [0; 8]).now_or_never().is_none(), "input was passed on");
    drop(client);
    timeout(LIMIT, served).await.expect("the tunnel outlives its client").unwrap();
    assert_eq!(read_all(&mut process).await, "");
}

#[tokio::test]
async fn the_keys_end_the_connection_and_not_the_process() {
    let (process, engine) = UnixStream::pair().unwrap();
    let engine = Mutex::new(Some(engine));
    let (end, ended) = tokio::sync::oneshot::channel();
    let end = Arc::new(Mutex::new(Some(end)));
    let (mut client, _) = client(move |request| {
        let engine = engine.lock().unwrap().take().unwrap();
        let end = end.clone();
        async move {
            let head = hijack::head(request.headers(), hijack::RAW, "");
            Reply::Takeover(Takeover::new(head, move |raw| async move {
                let keys = Watcher::new(detach::parse(None).unwrap());
                let how = hijack::tunnel(raw, engine, Input::Watched(keys)).await?;
                end.lock().unwrap().take().unwrap().send(how).unwrap();
                Ok(())
            }))
        }
    });
    client.write_all(b"POST /a HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\n\r\n").await.unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    client.write_all(b"ls\x10").await.unwrap();
    let mut process = process;
    read_until(&mut process, "ls").await;
    client.write_all(b"\x11").await.unwrap();
    assert_eq!(read_all(&mut client).await, "");
    drop(client);
    assert_eq!(timeout(LIMIT, ended).await.unwrap().unwrap(), End::Detached);
}

#[tokio::test]
async fn a_client_that_sends_no_more_still_gets_its_answer() {
    let (mut client, _) = client(|_| async {
        tokio::task::yield_now().await;
        reply::bytes(StatusCode::OK, "text/plain", "answer")
    });
    client.write_all(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    let text = read_all(&mut client).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\nanswer"), "{text}");
}

#[tokio::test]
async fn headers_of_a_stream_come_before_its_first_byte_and_its_end_is_the_clients() {
    struct Dropped(Option<tokio::sync::oneshot::Sender<()>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.take().unwrap().send(());
        }
    }
    let (sender, dropped) = tokio::sync::oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let (mut client, _) = client(move |_| {
        let guard = Dropped(sender.lock().unwrap().take());
        async move {
            let never = futures_util::stream::once(async move {
                let _guard = guard;
                std::future::pending::<io::Result<bytes::Bytes>>().await
            });
            reply::stream("application/json", never)
        }
    });
    client.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
    drop(client);
    timeout(LIMIT, dropped).await.expect("the stream outlives its client").unwrap();
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_and_not_a_wait() {
    let (mut client, _) = client(|request| async {
        match request.into_body().collect().await {
            Ok(_) => reply::empty(StatusCode::OK),
            Err(error) => Failure::invalid(error.to_string()).into(),
        }
    });
    client
        .write_all(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nshort")
        .await
        .unwrap();
    client.shutdown().await.unwrap();
    let text = read_all(&mut client).await;
    assert!(text.starts_with("HTTP/1.1 400") && text.contains("announced end"), "{text}");
}

#[tokio::test]
async fn requests_follow_each_other_and_204_has_no_body() {
    let (mut client, _) = client(|request| async move {
        match request.uri().path() {
            "/none" => reply::no_content().unwrap(),
            _ => Failure::no_page().into(),
        }
    });
    client.write_all(b"POST /none HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert!(
        head.starts_with("HTTP/1.1 204 No Content\r\n") && !head.contains("Content-Length"),
        "{head}"
    );
    client.write_all(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let text = read_until(&mut client, "}\n").await;
    assert!(text.ends_with("\r\n\r\n{\"message\":\"page not found\"}\n"), "{text}");
}

#[tokio::test]
async fn who_is_told_no_while_sending_may_finish() {
    let (mut client, _) = client(|_| async { Failure::invalid("no").into() });
    let head = "PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
    for _ in 0..2 {
        client.write_all(head.as_bytes()).await.unwrap();
        let answer = read_until(&mut client, "}\n").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        client.write_all(&[0; 100_000]).await.expect("the connection was closed");
    }
}
