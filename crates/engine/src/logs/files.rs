//! The files of one log, oldest to newest, read while their writer goes on: `PATH`, and rotated ones
//! `PATH.1`, `PATH.2`, … that move up by one with each rotation.
//!
//! Files are told apart by their inode. They only ever move up, so that a search from the newest upward sees
//! every one, whatever is renamed meanwhile; one that is seen twice counts once.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::line::{After, Wanted};

/// As much is read, or given to a client, at once.
const CHUNK: usize = 64 << 10;
/// A line longer than any that a supervisor writes is not kept.
const LONGEST: usize = 1 << 20;

/// A log, somewhere in the middle of reading it.
pub struct Files {
    path: PathBuf,
    /// What is read now, and then, oldest first.
    coming: VecDeque<Opened>,
    /// The beginning of a line whose end was not there yet.
    partial: Vec<u8>,
    /// The line being read is too long.
    skipping: bool,
}

struct Opened {
    file: File,
    /// How far it is read.
    position: u64,
    /// A newer file exists: once this one is read to its end again, it is over.
    sealed: bool,
}

impl Opened {
    fn inode(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.ino())
    }
}

/// How a read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// There is more to read.
    More,
    /// There is no more now.
    End,
    /// What comes is past the time that is wanted.
    Past,
}

impl Files {
    /// Opens what there is; with `tail` behind all but so many records.
    pub fn open(path: PathBuf, tail: Option<usize>) -> io::Result<Self> {
        let mut coming = newer(&path, None)?;
        if let Some(tail) = tail {
            skip(&mut coming, tail)?;
        }
        Ok(Files { path, coming, partial: Vec::new(), skipping: false })
    }

    /// Reads on, and adds what is wanted to the text: about [`CHUNK`] bytes, fewer at the end.
    pub fn read(&mut self, wanted: &Wanted, text: &mut Vec<u8>) -> io::Result<Read> {
        let mut buffer = vec![0; CHUNK];
        while text.len() < CHUNK {
            let Some(current) = self.coming.front_mut() else {
                self.coming = newer(&self.path, None)?;
                if self.coming.is_empty() {
                    return Ok(Read::End);
                }
                continue;
            };
            let count = current.file.read_at(&mut buffer, current.position)?;
            if count > 0 {
                current.position += count as u64;
                if self.take(&buffer[..count], wanted, text) == After::Past {
                    return Ok(Read::Past);
                }
            } else if self.ended()? {
                return Ok(Read::End);
            }
        }
        Ok(Read::More)
    }

    /// At the end of the current file: goes on to the next one, or tells that there is none.
    fn ended(&mut self) -> io::Result<bool> {
        let Some(current) = self.coming.front_mut() else { return Ok(true) };
        if current.file.metadata()?.len() < current.position {
            // Emptied, to be written from its beginning.
            current.position = 0;
            self.partial.clear();
            self.skipping = false;
            return Ok(false);
        }
        if !current.sealed && self.coming.len() == 1 {
            let inode = self.coming[0].inode()?;
            let newer = newer(&self.path, Some(inode))?;
            if newer.is_empty() {
                return Ok(true);
            }
            self.coming.extend(newer);
        }
        // What was written before the newer file was made is read first.
        match self.coming.front_mut() {
            Some(current) if !current.sealed => current.sealed = true,
            _ => {
                self.coming.pop_front();
                self.partial.clear();
                self.skipping = false;
            }
        }
        Ok(false)
    }

    /// Takes in bytes of the current file, line by line.
    fn take(&mut self, bytes: &[u8], wanted: &Wanted, text: &mut Vec<u8>) -> After {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let whole = piece.ends_with(b"\n");
            let after = match (whole, self.skipping, self.partial.is_empty()) {
                (true, true, _) => {
                    self.skipping = false;
                    After::Go
                }
                (true, false, true) => wanted.add(piece, text),
                (true, false, false) => {
                    self.partial.extend_from_slice(piece);
                    let after = wanted.add(&self.partial, text);
                    self.partial.clear();
                    after
                }
                (false, true, _) => After::Go,
                (false, false, _) => {
                    self.partial.extend_from_slice(piece);
                    if self.partial.len() > LONGEST {
                        self.partial = Vec::new();
                        self.skipping = true;
                    }
                    After::Go
                }
            };
            if after == After::Past {
                return After::Past;
            }
        }
        After::Go
    }
}

/// The files that are newer than the one of this inode, oldest first; all when that one is gone, or `None`.
fn newer(path: &Path, than: Option<u64>) -> io::Result<VecDeque<Opened>> {
    let mut found: VecDeque<Opened> = VecDeque::new();
    let mut inodes = Vec::new();
    let mut missing = 0;
    // While a rotation is under way one number is missing, never two in a row.
    for number in 0.. {
        let file = match number {
            0 => File::open(path),
            _ => {
                let mut name = path.as_os_str().to_owned();
                name.push(format!(".{number}"));
                File::open(name)
            }
        };
        match file {
            Ok(file) => {
                missing = 0;
                let opened = Opened { file, position: 0, sealed: false };
                let inode = opened.inode()?;
                if than == Some(inode) {
                    break;
                }
                if !inodes.contains(&inode) {
                    inodes.push(inode);
                    found.push_front(opened);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                missing += 1;
                if missing == 2 {
                    break;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Leaves only the last so many records to read: whole lines count, a beginning of one comes with them.
fn skip(files: &mut VecDeque<Opened>, tail: usize) -> io::Result<()> {
    let mut left = tail;
    for index in (0..files.len()).rev() {
        let (start, lines) = tail_start(&files[index].file, left)?;
        files[index].position = start;
        left -= lines;
        if left == 0 {
            files.drain(..index);
            break;
        }
    }
    Ok(())
}

/// Where the last so many lines of a file begin, and how many of them it has. Read from the end.
fn tail_start(file: &File, lines: usize) -> io::Result<(u64, usize)> {
    let mut end = file.metadata()?.len();
    let mut buffer = vec![0; CHUNK];
    // The newline that ends the last line begins nothing.
    let mut newlines = 0;
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let block = &mut buffer[..(end - start) as usize];
        match file.read_exact_at(block, start) {
            // Emptied meanwhile.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok((0, 0)),
            other => other?,
        }
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            if newlines == lines {
                return Ok((start + index as u64 + 1, lines));
            }
            newlines += 1;
        }
        end = start;
    }
    Ok((0, newlines))
}

#[cfg(test)]
mod tests;
