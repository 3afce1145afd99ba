//! A taken-over connection between the user's streams and those of a container or of a command in one.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use caisson_api::client::{Hijacked, Stream};

use crate::failure::{Failure, Result};
use crate::keys::Keys;
use crate::output;

const PIECE: usize = 32 * 1024;
/// The head of a multiplexed frame: stream, three zeros, length.
const HEAD: usize = 8;

/// Which of the user's streams take part.
#[derive(Debug, Clone)]
pub struct Streams {
    /// Standard input is sent.
    pub input: bool,
    /// There is a terminal: one stream comes back, as it is.
    pub tty: bool,
    /// What to look for in the input of a terminal.
    pub keys: Keys,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The outputs ended.
    Output,
    /// The user typed the detach keys.
    Detached,
}

impl Streams {
    /// Copies both ways until the outputs end.
    pub fn run(&self, connection: Hijacked) -> Result<Ended> {
        let Hijacked { content_type, mut reader, writer } = connection;
        let detached = Arc::new(AtomicBool::new(false));
        if self.input {
            let keys = self.tty.then(|| self.keys.clone());
            let detached = detached.clone();
            // It ends with its input, the connection or the program.
            std::thread::spawn(move || send_input(writer, keys, &detached));
        }
        let raw = match content_type.as_str() {
            "application/vnd.docker.multiplexed-stream" => false,
            _ => self.tty,
        };
        match raw {
            true => copy_raw(&mut reader)?,
            false => demultiplex(&mut reader, &mut io::stdout(), &mut io::stderr())?,
        }
        let typed = detached.load(Ordering::Acquire);
        Ok(if typed { Ended::Detached } else { Ended::Output })
    }
}

/// Sends standard input, then its end.
fn send_input(mut writer: Stream, mut keys: Option<Keys>, detached: &AtomicBool) {
    let mut buffer = [0; PIECE];
    loop {
        match rustix::io::read(io::stdin(), &mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                if keys.as_mut().is_some_and(|keys| keys.typed(&buffer[..read])) {
                    detached.store(true, Ordering::Release);
                }
                // The other side has ended: so does this one.
                if writer.write_all(&buffer[..read]).is_err() {
                    return;
                }
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(_) => break,
        }
    }
    let _ = writer.end_of_input();
}

fn copy_raw(reader: &mut dyn Read) -> Result<()> {
    let mut buffer = [0; PIECE];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => output::bytes(&buffer[..read])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(Failure::io("read the container's output")(error)),
        }
    }
}

/// Takes frames apart, as attach, exec and logs send them for what has no terminal.
pub fn demultiplex(from: &mut dyn Read, out: &mut dyn Write, err: &mut dyn Write) -> Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        let mut head = [0; HEAD];
        if !read_head(from, &mut head)? {
            return Ok(());
        }
        let mut left = u64::from(u32::from_be_bytes([head[4], head[5], head[6], head[7]]));
        if head[0] == 3 {
            return Err(said_by_daemon(from, left));
        }
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = match from.read(&mut buffer[..most]) {
                Ok(0) => return Err(cut_short()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::io("read the container's output")(error)),
            };
            let to: &mut dyn Write = if head[0] == 2 { &mut *err } else { &mut *out };
            output::checked(to.write_all(&buffer[..read]).and_then(|()| to.flush()))?;
            left -= read as u64;
        }
    }
}

/// Whether there is one more head.
fn read_head(from: &mut dyn Read, head: &mut [u8; HEAD]) -> Result<bool> {
    let mut filled = 0;
    while filled < HEAD {
        match from.read(&mut head[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(cut_short()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset && filled == 0 => {
                return Ok(false);
            }
            Err(error) => return Err(Failure::io("read the container's output")(error)),
        }
    }
    if head[0] > 3 {
        return Err(Failure::words(format!("Unrecognized input header: {}", head[0])));
    }
    Ok(true)
}

fn said_by_daemon(from: &mut dyn Read, length: u64) -> Failure {
    let mut text = Vec::new();
    // What arrived before the connection broke is still worth telling.
    let _ = from.take(length.min(PIECE as u64)).read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    Failure::words(format!("error from daemon in stream: {}", text.trim_end()))
}

fn cut_short() -> Failure {
    Failure::words("the connection to the daemon ended in the middle of the container's output")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let mut bytes = vec![stream, 0, 0, 0];
        bytes.extend((text.len() as u32).to_be_bytes());
        bytes.extend(text.bytes());
        bytes
    }

    fn split(bytes: &[u8]) -> (String, String, Result<()>) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let result = demultiplex(&mut &bytes[..], &mut out, &mut err);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (text(out), text(err), result)
    }

    #[test]
    fn outputs_are_kept_apart() {
        let bytes = [frame(1, "a\n"), frame(2, "oops"), frame(1, ""), frame(1, "b")].concat();
        let (out, err, result) = split(&bytes);
        assert_eq!((out.as_str(), err.as_str()), ("a\nb", "oops"));
        result.unwrap();
    }

    #[test]
    fn what_is_cut_short_or_no_frame_is_an_error() {
        let whole = frame(1, "hello");
        let (out, _, result) = split(&whole[..10]);
        assert_eq!(out, "he");
        assert!(result.unwrap_err().sentence().contains("in the middle"));
        assert!(split(&whole[..3]).2.is_err());
        let told = split(b"hello, this is no frame").2.unwrap_err().sentence();
        assert_eq!(told, "Unrecognized input header: 104");
    }

    #[test]
    fn the_daemon_may_say_why_it_stops() {
        let bytes = [frame(1, "a"), frame(3, "log is gone\n")].concat();
        let told = split(&bytes).2.unwrap_err().sentence();
        assert_eq!(told, "error from daemon in stream: log is gone");
    }
}
