//! A layer's tar stream, hashed as it passes and recorded so that it can be given back byte for byte.
//!
//! The record holds everything but the files' contents, which are in the unpacked layer: `b'R'`, a
//! little-endian u32 length and that many bytes; or `b'F'`, a little-endian u64 size, a u32 length and a
//! path of that length. It is compressed with zstd.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};

use caisson_beneath::open_in_root;

/// Longest path in a record, bytes.
const MAX_PATH: usize = 64 << 10;

struct Record {
    output: zstd::Encoder<'static, File>,
    raw: Vec<u8>,
    position: u64,
    skip_until: u64,
}

/// Tells a recorder what the bytes are that come next.
pub struct Control(Rc<RefCell<Record>>);

impl Control {
    /// The next `size` bytes are the content of the layer's file `path`.
    pub fn payload(&self, path: &Path, size: u64) {
        let mut record = self.0.borrow_mut();
        let path = path.as_os_str().as_bytes();
        // A path that is too long is recorded as bytes, like all else.
        if path.len() > MAX_PATH || record.flush().is_err() {
            return;
        }
        let mut head = vec![b'F'];
        head.extend(size.to_le_bytes());
        head.extend((path.len() as u32).to_le_bytes());
        head.extend(path);
        if record.output.write_all(&head).is_ok() {
            record.skip_until = record.position + size;
        }
    }
}

impl Record {
    fn flush(&mut self) -> io::Result<()> {
        if !self.raw.is_empty() {
            self.output.write_all(b"R")?;
            self.output.write_all(&(self.raw.len() as u32).to_le_bytes())?;
            self.output.write_all(&self.raw)?;
            self.raw.clear();
        }
        Ok(())
    }
}

/// Hashes and records what is read through it.
pub struct Recorder<R> {
    inner: R,
    hash: Sha256,
    record: Rc<RefCell<Record>>,
}

impl<R: Read> Recorder<R> {
    /// Reads from `inner`, records to `file`.
    pub fn new(inner: R, file: File) -> io::Result<Self> {
        let output = zstd::Encoder::new(file, 1)?;
        let record = Record { output, raw: Vec::new(), position: 0, skip_until: 0 };
        Ok(Recorder { inner, hash: Sha256::new(), record: Rc::new(RefCell::new(record)) })
    }

    pub fn control(&self) -> Control {
        Control(self.record.clone())
    }

    /// Reads what is left, and returns the digest of all of it in hexadecimal digits.
    pub fn finish(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        let mut record = self.record.borrow_mut();
        record.flush()?;
        record.output.do_finish()?;
        Ok(format!("{:x}", self.hash.finalize_reset()))
    }
}

impl<R: Read> Read for Recorder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        let mut record = self.record.borrow_mut();
        let skipped = record.skip_until.saturating_sub(record.position).min(count as u64);
        record.raw.extend_from_slice(&buffer[skipped as usize..count]);
        record.position += count as u64;
        if record.raw.len() > 1 << 20 {
            record.flush()?;
        }
        Ok(count)
    }
}

/// Writes the layer whose record is `record` and whose files are below `root`; returns its digest.
pub fn replay(record: File, root: &OwnedFd, to: &mut dyn Write) -> io::Result<String> {
    let mut record = zstd::Decoder::new(record)?;
    let mut hash = Sha256::new();
    let mut kind = [0];
    while record.read(&mut kind)? == 1 {
        if kind == *b"R" {
            let length = u64::from(u32::from_le_bytes(array(&mut record)?));
            copy_exactly(&mut record.by_ref().take(length), length, &mut hash, to)?;
            continue;
        }
        let size = u64::from_le_bytes(array(&mut record)?);
        let length = u32::from_le_bytes(array(&mut record)?) as usize;
        let mut path = vec![0; length.min(MAX_PATH)];
        record.read_exact(&mut path)?;
        let path = Path::new(std::ffi::OsStr::from_bytes(&path));
        let file = File::from(open_in_root(root, path, OFlags::RDONLY | OFlags::NOFOLLOW)?);
        copy_exactly(&mut file.take(size), size, &mut hash, to)?;
    }
    Ok(format!("{:x}", hash.finalize()))
}

fn array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn copy_exactly(
    from: &mut impl Read,
    mut left: u64,
    hash: &mut Sha256,
    to: &mut dyn Write,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    while left > 0 {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
        left -= count as u64;
    }
    Ok(())
}
