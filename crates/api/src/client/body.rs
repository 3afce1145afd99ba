//! The framing of bodies (RFC 9112, sections 6 and 7): by length, by chunks, or to the connection's end.

use std::io::{self, BufRead, BufReader, Read, Write};

use super::Stream;

/// The longest line of chunked framing that is read.
const LONGEST_LINE: u64 = 4096;

/// How the end of an answer is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// Chunks; so many bytes are left of this one.
    Chunked(u64),
    /// The last chunk has been read.
    Ended,
    /// Everything up to the connection's end.
    Close,
}

/// What is left of an answer.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) connection: BufReader<Stream>,
    pub(super) framing: Framing,
}

impl Body {
    /// Reads the next chunk's size; the chunk before it has been read wholly.
    fn next_chunk(&mut self) -> io::Result<u64> {
        let line = self.line()?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16)
            .map_err(|_| broken(format!("`{digits}` is not a chunk's size")))?;
        if size == 0 {
            while !self.line()?.is_empty() {}
        }
        Ok(size)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        let read = (&mut self.connection).take(LONGEST_LINE).read_line(&mut line)?;
        match line.strip_suffix('\n') {
            Some(line) => Ok(line.trim_end_matches('\r').to_string()),
            None if read as u64 == LONGEST_LINE => Err(broken("a line without an end".into())),
            None => Err(cut_short()),
        }
    }

    fn read_at_most(&mut self, left: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        match self.connection.read(&mut buffer[..most])? {
            0 => Err(cut_short()),
            read => Ok(read),
        }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.framing {
            Framing::Ended | Framing::Length(0) => Ok(0),
            Framing::Close => self.connection.read(buffer),
            Framing::Length(left) => {
                let read = self.read_at_most(left, buffer)?;
                self.framing = Framing::Length(left - read as u64);
                Ok(read)
            }
            Framing::Chunked(0) => {
                let size = self.next_chunk()?;
                self.framing = if size == 0 { Framing::Ended } else { Framing::Chunked(size) };
                self.read(buffer)
            }
            Framing::Chunked(left) => {
                let read = self.read_at_most(left, buffer)?;
                if left == read as u64 && !self.line()?.is_empty() {
                    return Err(broken("a chunk is longer than it says".into()));
                }
                self.framing = Framing::Chunked(left - read as u64);
                Ok(read)
            }
        }
    }
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the answer was cut short")
}

fn broken(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Writes chunks; remembers a failure of the connection, so that it can be told from the producer's own.
pub(super) struct ChunkWriter<'a> {
    stream: &'a mut Stream,
    pub(super) failed: Option<io::ErrorKind>,
}

impl<'a> ChunkWriter<'a> {
    pub(super) fn new(stream: &'a mut Stream) -> Self {
        Self { stream, failed: None }
    }

    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.send(b"0\r\n\r\n")
    }

    fn send(&mut self, data: &[u8]) -> io::Result<()> {
        let sent = self.stream.write_all(data);
        if let Err(error) = &sent {
            self.failed = Some(error.kind());
        }
        sent
    }
}

impl Write for ChunkWriter<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        let mut chunk = Vec::with_capacity(data.len() + 20);
        write!(chunk, "{:x}\r\n", data.len())?;
        chunk.extend_from_slice(data);
        chunk.extend_from_slice(b"\r\n");
        self.send(&chunk)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
