//! A few lines of HTTP/1.1 over the daemon's socket, for what the client crate does not show: headers,
//! the moment at which an answer begins, and Caisson's additions to the API.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::LIMIT;

/// An answer, its body read to the end.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Result<Value> {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {text}"))
    }

    /// The `message` of a refusal.
    pub fn message(&self) -> String {
        let text = || String::from_utf8_lossy(&self.body).into_owned();
        let value = self.json().ok();
        value.and_then(|value| value["message"].as_str().map(str::to_string)).unwrap_or_else(text)
    }
}

/// An answer that has begun: its body is still to come.
pub struct Body {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    reader: BufReader<UnixStream>,
}

impl Body {
    /// Reads the rest.
    pub fn finish(mut self) -> Result<Response> {
        let header = |name: &str| {
            self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
        };
        let mut body = Vec::new();
        if header("transfer-encoding") == Some("chunked") {
            while let Some(mut chunk) = read_chunk(&mut self.reader)? {
                body.append(&mut chunk);
            }
        } else if let Some(length) = header("content-length") {
            self.reader.take(length.parse()?).read_to_end(&mut body)?;
        } else if !matches!(self.status, 204 | 304) {
            self.reader.read_to_end(&mut body)?;
        }
        Ok(Response { status: self.status, headers: self.headers, body })
    }
}

fn read_chunk(reader: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let size = line.trim().split(';').next().unwrap_or_default();
    let size = usize::from_str_radix(size, 16).with_context(|| format!("a chunk of {line:?}"))?;
    let mut chunk = vec![0; size];
    reader.read_exact(&mut chunk)?;
    reader.read_exact(&mut [0; 2])?;
    Ok((size > 0).then_some(chunk))
}

/// Sends one request and returns when its answer's head is here.
pub fn request_streaming(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<Body> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
    stream.set_read_timeout(Some(LIMIT))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).with_context(|| format!("{method} {path}: no answer"))?;
    let status = line.split(' ').nth(1).and_then(|word| word.trim().parse().ok());
    let status = status.with_context(|| format!("{method} {path}: answered {line:?}"))?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        ensure!(reader.read_line(&mut line)? > 0, "{method} {path}: the answer's head is cut");
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_lowercase(), value.trim().to_string())),
            None => break,
        }
    }
    Ok(Body { status, headers, reader })
}

/// Sends one request and reads its answer to the end.
pub fn request(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> Result<Response> {
    request_streaming(socket, method, path, body)?.finish()
}
