//! The end of what a client sends, kept from hyper while a request is under way.
//!
//! A client may close its sending side and still wait for the answer (`printf … | nc -U`), and one that
//! is to take over the connection does so all the time. hyper takes that end for the client's death and
//! drops the connection. So the end is held back until the answer is complete, or until it has begun when
//! it is an endless one: there, the end of the client must end it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::reply::Body;
use crate::stream::Stream;

/// How long and how much a client may still send after its answer, as Go's servers have it.
const HEARD_OUT: Duration = Duration::from_secs(1);
const MOST_HEARD: usize = 256 << 10;

/// What the parts of one connection know of its end.
#[derive(Default)]
pub struct Hold(Mutex<State>);

#[derive(Default)]
struct State {
    /// A request is under way.
    held: bool,
    /// The client sends no more.
    ended: bool,
    /// Who reads the connection.
    reader: Option<Waker>,
    /// Who reads the request's body.
    body: Option<Waker>,
}

impl Hold {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request is under way from now on.
    pub fn hold(&self) {
        self.lock().held = true;
    }

    /// No request is under way any more: an end may be seen.
    pub fn release(&self) {
        let mut state = self.lock();
        state.held = false;
        let reader = state.reader.take().filter(|_| state.ended);
        drop(state);
        reader.into_iter().for_each(Waker::wake);
    }
}

/// A connection whose end is held back.
pub struct Wire {
    pub stream: Stream,
    pub hold: Arc<Hold>,
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if !wire.hold.lock().ended {
            let before = buffer.remaining();
            ready!(Pin::new(&mut wire.stream).poll_read(cx, buffer))?;
            if buffer.remaining() < before || before == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        let mut state = wire.hold.lock();
        state.ended = true;
        let body = state.body.take();
        let answer = if state.held {
            state.reader = Some(cx.waker().clone());
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        };
        drop(state);
        body.into_iter().for_each(Waker::wake);
        answer
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A request's body. It fails when the client ends before the body does, which hyper is not told.
pub struct Upload {
    body: Option<Incoming>,
    hold: Arc<Hold>,
}

impl Upload {
    pub fn new(body: Incoming, hold: Arc<Hold>) -> Self {
        Upload { body: Some(body), hold }
    }
}

impl Drop for Upload {
    /// A client that is told no while it sends is heard out for a while: closing at once would break its
    /// sending, and many clients tell their users of that and not of the answer.
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| !body.is_end_stream());
        if let (Some(rest), Ok(runtime)) = (rest, tokio::runtime::Handle::try_current()) {
            // Whether all was read in time makes no difference any more.
            runtime.spawn(async { drop(tokio::time::timeout(HEARD_OUT, hear_out(rest)).await) });
        }
    }
}

/// Reads a body that nobody wants, up to a limit.
async fn hear_out(mut body: Incoming) {
    let mut left = MOST_HEARD;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(less) => left = less,
            None => return,
        }
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let mut state = self.hold.lock();
        // Looked at before the body: all that came before the end is in the body by then.
        let ended = state.ended;
        state.body = Some(cx.waker().clone());
        drop(state);
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other))),
            Poll::Pending if ended => {
                let error = "the request's body ended before its announced end";
                Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, error))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Incoming::size_hint)
    }
}

/// An answer's body: with it, the request is over.
pub struct Download {
    body: Body,
    hold: Arc<Hold>,
}

impl Download {
    pub fn new(body: Body, hold: Arc<Hold>) -> Self {
        if body.size_hint().exact().is_none() {
            hold.release();
        }
        Download { body, hold }
    }
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.hold.release();
    }
}
