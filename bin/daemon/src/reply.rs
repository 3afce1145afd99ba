//! What a handler answers: a response, a failure, or the taking over of the connection.

use std::io;

use bytes::Bytes;
use caisson_engine::Kind;
use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::hijack::Takeover;

pub type Body = UnsyncBoxBody<Bytes, io::Error>;
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// What is answered.
pub enum Reply {
    Response(Response<Body>),
    /// The connection speaks no more HTTP.
    Takeover(Takeover),
}

/// A failure as the API tells it: a status and one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub status: StatusCode,
    pub message: String,
}

impl Failure {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Failure { status, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// No route has this path and method.
    pub fn no_page() -> Self {
        Self::new(StatusCode::NOT_FOUND, "page not found")
    }
}

impl From<caisson_engine::Error> for Failure {
    fn from(error: caisson_engine::Error) -> Self {
        let status = match error.kind {
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::NotModified => StatusCode::NOT_MODIFIED,
            Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.message)
    }
}

impl From<caisson_api::filters::Invalid> for Failure {
    fn from(invalid: caisson_api::filters::Invalid) -> Self {
        Self::invalid(invalid.to_string())
    }
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        if failure.status == StatusCode::NOT_MODIFIED {
            return empty(failure.status);
        }
        let text = serde_json::json!({ "message": failure.message });
        bytes(failure.status, "application/json", format!("{text}\n"))
    }
}

/// A status and nothing else.
pub fn empty(status: StatusCode) -> Reply {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    Reply::Response(response)
}

/// Done, and nothing to tell.
pub fn no_content() -> Result<Reply> {
    Ok(empty(StatusCode::NO_CONTENT))
}

/// A value as JSON.
pub fn json(value: &impl Serialize) -> Result<Reply> {
    json_with(StatusCode::OK, value)
}

/// A value as JSON, with a status.
pub fn json_with(status: StatusCode, value: &impl Serialize) -> Result<Reply> {
    Ok(bytes(status, "application/json", line(value)?))
}

/// A value as one line of JSON.
pub fn line(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec(value)
        .map_err(|error| Failure::internal(format!("write an answer as JSON: {error}")))?;
    text.push(b'\n');
    Ok(text)
}

/// A body that is known.
pub fn bytes(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    with_type(status, content_type, body)
}

/// A body that comes bit by bit; the headers are sent before its first byte.
pub fn stream<S>(content_type: &'static str, stream: S) -> Reply
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let body = StreamBody::new(stream.map(|item| item.map(Frame::data)));
    with_type(StatusCode::OK, content_type, BodyExt::boxed_unsync(body))
}

fn with_type(status: StatusCode, content_type: &'static str, body: Body) -> Reply {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Reply::Response(response)
}

impl Reply {
    /// Adds a header to a response.
    pub fn header(mut self, name: &'static str, value: &str) -> Result<Self> {
        let value = HeaderValue::from_str(value).map_err(|_| {
            Failure::internal(format!(
                "the value of the header {name} has bytes that a header cannot have"
            ))
        })?;
        if let Reply::Response(response) = &mut self {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
        Ok(self)
    }
}
