//! A connection that is taken over: after the head of the answer it carries a process's streams.
//!
//! The client's end of sending is the end of the process's stdin, and its output goes on. The end of the
//! outputs ends the connection. The keys that detach end it too, and leave the process as it is.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{Stream as FuturesStream, StreamExt};
use hyper::HeaderMap;
use hyper::header::UPGRADE;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::detach::Watcher;
use crate::stream::Stream;
use crate::version::Version;

const BUFFER: usize = 32 * 1024;
/// How long a client may take to notice the end before the connection is closed under it.
const LINGER: Duration = Duration::from_secs(2);

/// The content type of streams that are not multiplexed.
pub const RAW: &str = "application/vnd.docker.raw-stream";
/// The content type of streams that are.
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// The content type of a container's streams, as clients of this version expect it.
pub fn content_type(tty: bool, version: Version) -> &'static str {
    if !tty && version >= Version::SAYS_MULTIPLEXED { MULTIPLEXED } else { RAW }
}

/// A connection without HTTP.
pub struct Raw {
    /// What the client sent after its request, and was read already.
    pub early: Bytes,
    pub stream: Stream,
}

/// What is to be done with the connection.
pub struct Takeover {
    head: String,
    work: Box<dyn FnOnce(Raw) -> BoxFuture<'static, io::Result<()>> + Send>,
}

impl Takeover {
    /// After `head`, `work` has the connection.
    pub fn new<F, W>(head: String, work: W) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
        W: FnOnce(Raw) -> F + Send + 'static,
    {
        Takeover { head, work: Box::new(|raw| Box::pin(work(raw))) }
    }

    pub async fn run(self, mut raw: Raw) {
        let result = match raw.stream.write_all(self.head.as_bytes()).await {
            Ok(()) => (self.work)(raw).await,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            tracing::debug!("a client's stream ended early: {error}");
        }
    }
}

/// The head of the answer, by whether the client asked for an upgrade; `more` are whole header lines.
pub fn head(request: &HeaderMap, content_type: &str, more: &str) -> String {
    if request.contains_key(UPGRADE) {
        format!(
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n{more}\r\n"
        )
    } else {
        format!("HTTP/1.1 200 OK\r\nContent-Type: {RAW}\r\n{more}\r\n")
    }
}

/// How a tunnel ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The outputs ended, or the client is gone.
    Closed,
    /// The client typed the keys.
    Detached,
}

/// What of a client's input is passed on.
pub enum Input {
    /// Nothing; it is not even read.
    None,
    All,
    /// Everything up to the keys.
    Watched(Watcher),
}

/// Waits for something that a client wants, as long as the client is there.
pub async fn while_connected<T>(
    stream: &Stream,
    work: impl Future<Output = T>,
) -> io::Result<Option<T>> {
    let gone = stream.hung_up()?;
    tokio::select! {
        value = work => Ok(Some(value)),
        () = gone => Ok(None),
    }
}

/// Writes what a stream gives.
pub async fn write_stream<S, E>(raw: &mut Raw, mut stream: S) -> io::Result<()>
where
    S: FuturesStream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| io::Error::other(error.to_string()))?;
        raw.stream.write_all(&chunk).await?;
    }
    Ok(())
}

/// Ends a connection so that the client sees all that was sent: a socket that is closed while something
/// that the client sent is unread would reset the connection.
pub async fn finish(raw: Raw) -> io::Result<()> {
    let mut stream = raw.stream;
    stream.shutdown().await?;
    let drain = async { while !matches!(stream.read(&mut [0; 4096]).await, Ok(0) | Err(_)) {} };
    // A client that lingers is cut off; it has had its time.
    let _ = tokio::time::timeout(LINGER, drain).await;
    Ok(())
}

/// Joins a client with a process's streams.
pub async fn tunnel(raw: Raw, process: UnixStream, input: Input) -> io::Result<End> {
    let gone = raw.stream.hung_up()?;
    let Raw { early, stream } = raw;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (mut output, stdin) = process.into_split();
    let end = {
        let up = upward((&early[..]).chain(&mut reader), stdin, input);
        let down = downward(&mut output, &mut writer);
        tokio::pin!(up, down, gone);
        let mut typing = true;
        loop {
            tokio::select! {
                result = &mut down => break result.map(|()| End::Closed)?,
                end = &mut up, if typing => match end? {
                    End::Detached => break End::Detached,
                    End::Closed => typing = false,
                },
                () = &mut gone => return Ok(End::Closed),
            }
        }
    };
    finish(Raw { early: Bytes::new(), stream: reader.unsplit(writer) }).await?;
    Ok(end)
}

/// Passes a client's input on, and its end.
async fn upward(
    mut client: impl AsyncRead + Unpin,
    mut stdin: OwnedWriteHalf,
    mut input: Input,
) -> io::Result<End> {
    if matches!(input, Input::None) {
        // The process's side must not see an end: it would close what it was not asked to touch.
        std::future::pending::<()>().await;
    }
    let mut buffer = vec![0; BUFFER];
    let mut passed = Vec::new();
    loop {
        let length = client.read(&mut buffer).await?;
        let mut detached = false;
        let bytes = match &mut input {
            Input::Watched(watcher) => {
                passed.clear();
                if length == 0 {
                    passed = watcher.rest();
                } else {
                    detached = watcher.pass(&buffer[..length], &mut passed);
                }
                &passed[..]
            }
            _ => &buffer[..length],
        };
        let written = stdin.write_all(bytes).await;
        if detached {
            return Ok(End::Detached);
        }
        // A process that reads no more is no failure: its output goes on.
        if length == 0 || written.is_err() {
            let _ = stdin.shutdown().await;
            return Ok(End::Closed);
        }
    }
}

/// Passes the output on.
async fn downward(
    output: &mut OwnedReadHalf,
    client: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match output.read(&mut buffer).await? {
            0 => return Ok(()),
            length => client.write_all(&buffer[..length]).await?,
        }
    }
}
