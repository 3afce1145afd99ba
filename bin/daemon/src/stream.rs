//! A client's connection: a unix or a TCP socket.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};

/// One of the two.
#[derive(Debug)]
pub enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    /// Resolves when the client has closed both directions, which the end of what it sends does not tell.
    /// Over TCP only a reset does. The future does not borrow the stream.
    pub fn hung_up(&self) -> io::Result<impl Future<Output = ()> + Send + use<>> {
        let second = self.second()?;
        Ok(async move {
            while let Ok(ready) = second.ready().await {
                if ready.is_write_closed() {
                    return;
                }
            }
        })
    }

    /// The same socket again: what is forgotten of its readiness here is still known there.
    fn second(&self) -> io::Result<Self> {
        Ok(match self {
            Stream::Unix(stream) => {
                let socket = stream.as_fd().try_clone_to_owned()?;
                Stream::Unix(UnixStream::from_std(socket.into())?)
            }
            Stream::Tcp(stream) => {
                let socket = stream.as_fd().try_clone_to_owned()?;
                Stream::Tcp(TcpStream::from_std(socket.into())?)
            }
        })
    }

    /// Waits for the next change that concerns writing.
    async fn ready(&self) -> io::Result<Ready> {
        // What a call that would block does: it makes the next look wait for news.
        let forget = || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into());
        match self {
            Stream::Unix(stream) => {
                let ready = stream.ready(Interest::WRITABLE).await?;
                let _ = stream.try_io(Interest::WRITABLE, forget);
                Ok(ready)
            }
            Stream::Tcp(stream) => {
                let ready = stream.ready(Interest::WRITABLE).await?;
                let _ = stream.try_io(Interest::WRITABLE, forget);
                Ok(ready)
            }
        }
    }
}

macro_rules! either {
    ($self:ident, $io:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Unix(stream) => {
                let $io = Pin::new(stream);
                $call
            }
            Stream::Tcp(stream) => {
                let $io = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write(cx, buffer))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write_vectored(cx, buffers))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_shutdown(cx))
    }
}
