//! Bodies that the engine reads and writes with blocking calls: archives.

use std::io::{self, Read, Write};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use crate::hold::Upload;
use crate::reply::{self, Failure, Reply, Result};

/// How much is written before it is sent.
const CHUNK: usize = 64 * 1024;
/// How many chunks may wait for the client.
const WAITING: usize = 4;

/// A request's body for a thread that may block.
pub fn reader(body: Upload) -> impl Read + Send + 'static {
    let frames = body.into_data_stream();
    tokio_util::io::SyncIoBridge::new(tokio_util::io::StreamReader::new(frames))
}

/// The answer's body for a thread that may block.
pub struct Writer {
    chunk: BytesMut,
    sender: mpsc::Sender<Bytes>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK - self.chunk.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.chunk.extend_from_slice(taken);
        if self.chunk.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = self.chunk.split().freeze();
        self.sender.blocking_send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.chunk.is_empty() {
            // A client that is gone misses nothing; a channel that is full waits for the client.
            let _ = self.flush();
        }
    }
}

/// Answers with what `work` writes. A failure before the first chunk is the answer; one after it breaks the
/// answer off, so that no client takes it for whole.
pub async fn respond<W, F>(content_type: &'static str, work: W) -> Result<Reply>
where
    W: FnOnce(Writer) -> F,
    F: Future<Output = caisson_engine::Result<()>> + Send + 'static,
{
    let (sender, mut receiver) = mpsc::channel(WAITING);
    let work = tokio::spawn(work(Writer { chunk: BytesMut::new(), sender }));
    let Some(first) = receiver.recv().await else {
        outcome(work.await)?;
        return Ok(reply::bytes(hyper::StatusCode::OK, content_type, Bytes::new()));
    };
    let rest =
        stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
    let chunks = stream::iter([first]).chain(rest).map(Ok);
    let end = stream::once(work).filter_map(async |result| {
        let failure = outcome(result).err()?;
        tracing::warn!("an answer was broken off: {}", failure.message);
        Some(Err(io::Error::other(failure.message)))
    });
    Ok(reply::stream(content_type, chunks.chain(end)))
}

fn outcome(
    result: std::result::Result<caisson_engine::Result<()>, tokio::task::JoinError>,
) -> Result<()> {
    match result {
        Ok(result) => Ok(result?),
        Err(error) => Err(Failure::internal(format!("the work behind the answer died: {error}"))),
    }
}
