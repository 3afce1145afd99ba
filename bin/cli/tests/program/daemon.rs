//! A daemon of a few lines: one answer for each connection, and a record of what was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// What was asked.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub body: Vec<u8>,
}

impl Request {
    pub fn place(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What is answered: bytes, and whether the rest of the input is sent back.
pub struct Answer {
    bytes: Vec<u8>,
    echo: bool,
}

pub struct Daemon {
    place: tempfile::TempDir,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Daemon {
    /// Serves until the test's process ends.
    pub fn new(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let place = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(place.path().join("d.sock")).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new(answer);
        let record = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, record) = (answer.clone(), record.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &*answer, &record));
            }
        });
        Daemon { place, requests }
    }

    pub fn host(&self) -> String {
        format!("unix://{}/d.sock", self.place.path().display())
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(
    stream: UnixStream,
    answer: &(impl Fn(&Request) -> Answer + ?Sized),
    record: &Mutex<Vec<Request>>,
) {
    let mut stream = BufReader::new(stream);
    let Some(request) = read(&mut stream) else { return };
    let Answer { mut bytes, echo } = answer(&request);
    record.lock().unwrap().push(request);
    stream.get_mut().write_all(&bytes).unwrap();
    if echo {
        bytes.clear();
        stream.read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        stream.get_mut().write_all(&frames(&[(1, &text)])).unwrap();
    }
    let _ = stream.get_mut().shutdown(Shutdown::Both);
}

fn read(stream: &mut BufReader<UnixStream>) -> Option<Request> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).unwrap() == 0 {
            return None;
        }
    }
    let mut words = head.lines().next()?.split(' ');
    let (method, target) = (words.next()?.to_string(), words.next()?.to_string());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    Some(Request { method, path: path.into(), query: query.into(), body })
}

fn with_head(head: &str, body: &[u8]) -> Answer {
    Answer { bytes: [format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), body].concat(), echo: false }
}

pub fn answer(status: u16, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    with_head(&format!("{status} X\r\nContent-Length: {}", body.len()), body.as_bytes())
}

pub fn bytes(body: &[u8]) -> Answer {
    with_head(&format!("200 OK\r\nContent-Length: {}", body.len()), body)
}

pub fn chunked(pieces: &[&str]) -> Answer {
    let chunk = |piece: &&str| format!("{:x}\r\n{piece}\r\n", piece.len());
    let body = pieces.iter().map(chunk).collect::<String>() + "0\r\n\r\n";
    with_head("200 OK\r\nTransfer-Encoding: chunked", body.as_bytes())
}

const UPGRADED: &str = "101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\
                        Connection: Upgrade\r\nUpgrade: tcp";

/// A taken-over connection on which this is said.
pub fn upgraded(output: &[u8]) -> Answer {
    with_head(UPGRADED, output)
}

/// A taken-over connection on which the input comes back when it has ended.
pub fn echoing() -> Answer {
    Answer { echo: true, ..with_head(UPGRADED, b"") }
}

/// Multiplexed output.
pub fn frames(pieces: &[(u8, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (stream, text) in pieces {
        bytes.extend([*stream, 0, 0, 0]);
        bytes.extend((text.len() as u32).to_be_bytes());
        bytes.extend(text.bytes());
    }
    bytes
}
