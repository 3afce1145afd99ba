//! One connection: HTTP/1.1 by hyper, until a handler takes it over.
//!
//! hyper gives a connection away only when the client asked for an upgrade and the answer is 101. Docker's
//! older clients ask for none, so the connection is taken from hyper here: the handler's takeover leaves
//! by a channel, hyper's machine is taken apart in the middle of the request, and what it had read beyond
//! the request goes before what is still to be read.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::hijack::{Raw, Takeover};
use crate::hold::{Download, Hold, Upload, Wire};
use crate::reply::Reply;
use crate::stream::Stream;

/// Answers a request.
pub type Handler = Arc<dyn Fn(Request<Upload>) -> BoxFuture<'static, Reply> + Send + Sync>;

/// Serves a connection to its end. When `closing` is cancelled, it ends after the request under way.
pub async fn serve(stream: Stream, handler: Handler, closing: CancellationToken) {
    let hold = Arc::new(Hold::default());
    let (sender, mut takeover) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let wire = Wire { stream, hold: hold.clone() };
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        // Now, not when the future is first polled: hyper looks for the end in between.
        hold.hold();
        let hold = hold.clone();
        let sender = sender.clone();
        let reply = handler(request.map(|body| Upload::new(body, hold.clone())));
        async move {
            match reply.await {
                Reply::Response(response) => Ok(response.map(|body| Download::new(body, hold))),
                Reply::Takeover(takeover) => leave(&sender, takeover).await,
            }
        }
    });
    let mut connection = http1::Builder::new()
        .title_case_headers(true)
        .serve_connection(TokioIo::new(wire), service);
    let taken = loop {
        tokio::select! {
            result = &mut connection => {
                if let Err(error) = result {
                    tracing::debug!("a connection ended early: {error}");
                }
                return;
            }
            Ok(taken) = &mut takeover => break taken,
            () = closing.cancelled(), if !closing.is_cancelled() => {
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let parts = connection.into_parts();
    taken.run(Raw { early: parts.read_buf, stream: parts.io.into_inner().stream }).await;
}

/// Hands the takeover to who drives the connection, and never answers hyper.
async fn leave(
    sender: &Mutex<Option<oneshot::Sender<Takeover>>>,
    takeover: Takeover,
) -> Result<Response<Download>, Infallible> {
    let sender = sender.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(sender) = sender {
        // Only a connection that is gone does not take it.
        let _ = sender.send(takeover);
    }
    std::future::pending().await
}

#[cfg(test)]
pub mod tests;
