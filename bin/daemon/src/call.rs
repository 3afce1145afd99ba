//! One request, as a handler sees it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use caisson_api::filters::Filters;
use caisson_engine::Engine;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use crate::hold::Upload;
use crate::query::Query;
use crate::reply::{Failure, Result};
use crate::version::Version;

/// The most that a JSON body may have.
const JSON_LIMIT: usize = 4 << 20;

/// What all requests share.
#[derive(Clone)]
pub struct Shared {
    pub engine: Engine,
    pub detach_keys: DetachKeys,
}

/// The detach keys of exec instances that have some of their own, until they are started.
#[derive(Clone, Default)]
pub struct DetachKeys(Arc<Mutex<HashMap<String, String>>>);

impl DetachKeys {
    pub fn keep(&self, exec: &str, keys: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(exec.into(), keys);
    }

    pub fn take(&self, exec: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(exec)
    }
}

/// One request.
pub struct Call {
    pub shared: Shared,
    pub version: Version,
    pub query: Query,
    pub headers: HeaderMap,
    pub body: Upload,
}

impl Call {
    pub fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// The `filters` of the query.
    pub fn filters(&self) -> Result<Filters> {
        Ok(Filters::parse(self.query.get("filters").unwrap_or_default())?)
    }

    /// The body as JSON; it must be there.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let bytes = self.json_bytes().await?;
        if bytes.is_empty() {
            return Err(Failure::invalid("invalid JSON: got EOF while reading request body"));
        }
        parse(&bytes)
    }

    /// The body as JSON, or the default when there is none.
    pub async fn json_or_default<T: DeserializeOwned + Default>(&mut self) -> Result<T> {
        let bytes = self.json_bytes().await?;
        if bytes.is_empty() { Ok(T::default()) } else { parse(&bytes) }
    }

    /// The bytes of a JSON body, not too many of them.
    pub async fn json_bytes(&mut self) -> Result<Bytes> {
        json_bytes(&self.headers, &mut self.body).await
    }
}

async fn json_bytes(headers: &HeaderMap, body: &mut Upload) -> Result<Bytes> {
    let bytes = Limited::new(body, JSON_LIMIT).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            let limit = JSON_LIMIT >> 20;
            let message = format!("request body too large: a JSON body has at most {limit} MiB");
            Failure::new(StatusCode::PAYLOAD_TOO_LARGE, message)
        } else {
            Failure::invalid(format!("read the request's body: {error}"))
        }
    })?;
    let bytes = bytes.to_bytes();
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or(""));
    let essence = content_type.map(|text| text.split(';').next().unwrap_or("").trim());
    match essence {
        Some(other) if !bytes.is_empty() && !other.eq_ignore_ascii_case("application/json") => {
            Err(Failure::invalid(format!(
                "unsupported Content-Type header ({other}): must be 'application/json'"
            )))
        }
        _ => Ok(bytes),
    }
}

/// Reads JSON.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| Failure::invalid(format!("invalid JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::{answer_of, client};

    /// The answer to a body that a handler reads as JSON.
    async fn answer(content_type: &str, body: &[u8]) -> String {
        let (mut client, _) = client(|request| async {
            let (parts, mut body) = request.into_parts();
            match json_bytes(&parts.headers, &mut body)
                .await
                .and_then(|bytes| parse::<serde_json::Value>(&bytes))
            {
                Ok(_) => crate::reply::empty(StatusCode::OK),
                Err(failure) => failure.into(),
            }
        });
        let head = format!(
            "POST /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        answer_of(&mut client, &[head.as_bytes(), body].concat()).await
    }

    #[tokio::test]
    async fn json_is_bounded_and_says_what_it_is() {
        assert!(answer("application/json; charset=utf-8", b"{}").await.starts_with("HTTP/1.1 200"));
        let text = answer("text/plain", b"{}").await;
        assert!(text.contains("unsupported Content-Type header (text/plain)"), "{text}");
        let text = answer("application/json", b"{\"a\":").await;
        assert!(text.starts_with("HTTP/1.1 400") && text.contains("invalid JSON: EOF"), "{text}");
        let text = answer("application/json", &vec![b' '; JSON_LIMIT + 1]).await;
        assert!(text.starts_with("HTTP/1.1 413"), "{text}");
    }
}
