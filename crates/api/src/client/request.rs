//! A request and its answer.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::body::{Body, ChunkWriter, Framing};
use super::{Address, Error, Stream};

/// The largest response head that is read.
const LONGEST_HEAD: usize = 64 * 1024;
/// The most headers that a response may have.
const MOST_HEADERS: usize = 64;
/// The most that is read of a refusal's body.
const LONGEST_REFUSAL: u64 = 1024 * 1024;
/// How much of a streamed request body is sent at a time.
const PIECE: usize = 64 * 1024;

type Producer<'a> = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + 'a>;

enum Payload<'a> {
    None,
    Bytes(Vec<u8>),
    Stream(Producer<'a>),
}

/// A request being made.
pub struct Request<'a> {
    address: &'a Address,
    method: &'static str,
    path: String,
    queried: bool,
    content_type: &'static str,
    payload: Payload<'a>,
}

impl<'a> Request<'a> {
    pub(super) fn new(address: &'a Address, method: &'static str, segments: &[&str]) -> Self {
        let mut path = String::new();
        for segment in segments {
            path.push('/');
            encode(segment, b"/:@+,=", &mut path);
        }
        let content_type = "application/json";
        Self { address, method, path, queried: false, content_type, payload: Payload::None }
    }

    /// Adds a parameter.
    pub fn query(mut self, key: &str, value: &str) -> Self {
        self.path.push(if self.queried { '&' } else { '?' });
        self.queried = true;
        encode(key, b"", &mut self.path);
        self.path.push('=');
        encode(value, b":", &mut self.path);
        self
    }

    /// Adds a parameter if there is a value.
    pub fn query_some(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }

    /// Adds `key=1` if `on`.
    pub fn query_if(self, key: &str, on: bool) -> Self {
        if on { self.query(key, "1") } else { self }
    }

    /// Sends `body` as JSON.
    pub fn json(mut self, body: &impl Serialize) -> Self {
        // Wire types are maps with text keys: they always serialise.
        self.payload = Payload::Bytes(serde_json::to_vec(body).unwrap_or_default());
        self
    }

    /// Sends a tar archive, in chunks, as `produce` writes it.
    pub fn tar(mut self, produce: impl FnOnce(&mut dyn Write) -> io::Result<()> + 'a) -> Self {
        self.content_type = "application/x-tar";
        self.payload = Payload::Stream(Box::new(produce));
        self
    }

    /// Sends it and waits for the answer's head. A status of 400 or more is an error.
    pub fn send(self) -> Result<Response, Error> {
        self.exchange(false)
    }

    /// Sends it and takes the connection over.
    pub fn hijack(self) -> Result<Hijacked, Error> {
        let (method, path) = (self.method, self.path.clone());
        let response = self.exchange(true)?;
        if !matches!(response.status, 101 | 200) {
            let reason = format!("status {} in place of an upgrade", response.status);
            return Err(Error::Answer { method, path, reason });
        }
        let content_type = response.header("content-type").unwrap_or_default().to_string();
        let reader = response.body.connection;
        let writer = reader.get_ref().try_clone();
        let writer = writer.map_err(|source| Error::Connection { method, path, source })?;
        Ok(Hijacked { content_type, reader, writer })
    }

    fn exchange(self, upgrade: bool) -> Result<Response, Error> {
        let (address, method, path) = (self.address, self.method, self.path.clone());
        let mut stream = Stream::connect(address)
            .map_err(|source| Error::Connect { address: address.to_string(), source })?;
        let failed = |source| Error::Connection { method, path: path.clone(), source };
        // A daemon may refuse without reading the body: its answer counts for more than the broken pipe.
        let sent = self.write_to(&mut stream, upgrade);
        if let Err(Error::Input(error)) = sent {
            return Err(Error::Input(error));
        }
        let mut connection = BufReader::with_capacity(PIECE, stream);
        let head = match (read_head(&mut connection), sent) {
            (Ok(head), _) => head,
            (Err(_), Err(error)) => return Err(error),
            (Err(error), Ok(())) => return Err(failed(error)),
        };
        let (status, headers) = parse_head(&head).map_err(|reason| Error::Answer {
            method,
            path: path.clone(),
            reason,
        })?;
        let framing = framing(method, status, &headers);
        let body = Body { connection, framing };
        let mut response = Response { status, headers, method, path, body };
        if status >= 400 { Err(response.refusal()) } else { Ok(response) }
    }

    fn write_to(self, stream: &mut Stream, upgrade: bool) -> Result<(), Error> {
        let (method, path) = (self.method, self.path);
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: caisson/{}\r\n",
            self.address.host_header(),
            env!("CARGO_PKG_VERSION"),
        )
        .into_bytes();
        let connection = if upgrade { "Upgrade\r\nUpgrade: tcp" } else { "close" };
        head.extend(format!("Connection: {connection}\r\n").into_bytes());
        let failed = |source| Error::Connection { method, path: path.clone(), source };
        match self.payload {
            Payload::None => {
                let length =
                    if matches!(method, "GET" | "HEAD") { "" } else { "Content-Length: 0\r\n" };
                head.extend(format!("{length}\r\n").into_bytes());
                stream.write_all(&head).map_err(failed)
            }
            Payload::Bytes(bytes) => {
                let kind = self.content_type;
                let length = bytes.len();
                head.extend(
                    format!("Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n").bytes(),
                );
                head.extend(bytes);
                stream.write_all(&head).map_err(failed)
            }
            Payload::Stream(produce) => {
                let kind = self.content_type;
                head.extend(
                    format!("Content-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n").bytes(),
                );
                stream.write_all(&head).map_err(failed)?;
                write_chunks(stream, produce, failed)
            }
        }
    }
}

fn write_chunks(
    stream: &mut Stream,
    produce: Producer<'_>,
    failed: impl Fn(io::Error) -> Error,
) -> Result<(), Error> {
    let mut chunks = ChunkWriter::new(stream);
    let mut buffered = BufWriter::with_capacity(PIECE, &mut chunks);
    let produced = produce(&mut buffered).and_then(|()| buffered.flush());
    // What is still buffered after a failure must not be sent as if all were well.
    let (_, _) = buffered.into_parts();
    match (produced, chunks.failed) {
        (Ok(()), _) => chunks.finish().map_err(failed),
        (Err(_), Some(kind)) => Err(failed(kind.into())),
        (Err(error), None) => Err(Error::Input(error)),
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters and `also`.
fn encode(text: &str, also: &[u8], into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also.contains(&byte) {
            into.push(byte as char);
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// Reads one head, without interim answers (100 to 199 but 101).
fn read_head(connection: &mut BufReader<Stream>) -> io::Result<Vec<u8>> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let left = (LONGEST_HEAD - head.len()) as u64;
            if connection.take(left).read_until(b'\n', &mut head)? == 0 {
                let reason = if head.is_empty() { "it was closed" } else { "the head never ends" };
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
            }
        }
        let interim = head.starts_with(b"HTTP/1.1 1") && !head.starts_with(b"HTTP/1.1 101");
        if !interim {
            return Ok(head);
        }
    }
}

fn parse_head(head: &[u8]) -> Result<(u16, Vec<(String, String)>), String> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    parsed.parse(head).map_err(|error| error.to_string())?;
    let status = parsed.code.ok_or("no status")?;
    let headers = parsed.headers.iter();
    let headers = headers.map(|header| {
        (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).into_owned())
    });
    Ok((status, headers.collect()))
}

fn framing(method: &str, status: u16, headers: &[(String, String)]) -> Framing {
    let header = |name| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.trim());
    if method == "HEAD" || matches!(status, 101 | 204 | 304) {
        return Framing::Length(0);
    }
    if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return Framing::Chunked(0);
    }
    match header("content-length").and_then(|value| value.parse().ok()) {
        Some(length) => Framing::Length(length),
        None => Framing::Close,
    }
}

/// An answer; its body is read from it.
#[derive(Debug)]
pub struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    method: &'static str,
    path: String,
    body: Body,
}

impl Response {
    /// The status, below 400.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// A header's value; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The whole body as text.
    pub fn text(mut self) -> Result<String, Error> {
        let mut text = Vec::new();
        self.body.read_to_end(&mut text).map_err(|source| self.broken(source))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The whole body, of one JSON value.
    pub fn json<T: DeserializeOwned>(mut self) -> Result<T, Error> {
        let mut text = Vec::new();
        self.body.read_to_end(&mut text).map_err(|source| self.broken(source))?;
        serde_json::from_slice(&text).map_err(|error| Error::Answer {
            method: self.method,
            path: self.path.clone(),
            reason: error.to_string(),
        })
    }

    /// The body's JSON values, each as soon as it is there.
    pub fn values(self) -> impl Iterator<Item = Result<Value, Error>> {
        let (method, path) = (self.method, self.path.clone());
        let reader = BufReader::new(self);
        serde_json::Deserializer::from_reader(reader).into_iter().map(move |value| {
            let path = path.clone();
            value.map_err(|error| match error.is_io() {
                true => Error::Connection { method, path, source: error.into() },
                false => Error::Answer { method, path, reason: error.to_string() },
            })
        })
    }

    fn broken(&self, source: io::Error) -> Error {
        Error::Connection { method: self.method, path: self.path.clone(), source }
    }

    fn refusal(&mut self) -> Error {
        let mut text = Vec::new();
        // A refusal that is cut short is still a refusal.
        let _ = (&mut self.body).take(LONGEST_REFUSAL).read_to_end(&mut text);
        let said = serde_json::from_slice::<Value>(&text).ok();
        let said = said.as_ref().and_then(|value| value.get("message")).and_then(Value::as_str);
        let plain = String::from_utf8_lossy(&text);
        let message = match (said, plain.trim()) {
            (Some(message), _) => message.to_string(),
            (None, "") => format!("{} {}: status {}", self.method, self.path, self.status),
            (None, plain) => plain.to_string(),
        };
        Error::Refused { status: self.status, message }
    }
}

impl Read for Response {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer)
    }
}

/// A connection that is no longer HTTP.
#[derive(Debug)]
pub struct Hijacked {
    /// What the daemon says flows here: `application/vnd.docker.raw-stream` or `..multiplexed-stream`; old
    /// engines say nothing of use.
    pub content_type: String,
    /// From the daemon.
    pub reader: BufReader<Stream>,
    /// To the daemon.
    pub writer: Stream,
}
