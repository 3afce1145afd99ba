//! The container's log in Docker's json-file format, with rotation.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use caisson_protocol::supervisor::Log as Settings;

/// Longest line kept in one record, bytes; longer ones are split without a newline, as Docker does.
const MAX_LINE: usize = 16 << 10;

/// Writes records for one container.
pub struct Log {
    target: Option<Target>,
    /// Unfinished lines of stdout and stderr.
    partial: [Vec<u8>; 2],
}

struct Target {
    path: PathBuf,
    file: File,
    size: u64,
    max_size: u64,
    max_files: u32,
}

impl Log {
    pub fn open(settings: &Settings) -> io::Result<Self> {
        let target = match settings {
            Settings::None => None,
            Settings::JsonFile { path, max_size, max_files } => {
                let file = append(path)?;
                let size = file.metadata()?.len();
                let (max_size, max_files) = (*max_size, (*max_files).max(1));
                Some(Target { path: path.clone(), file, size, max_size, max_files })
            }
        };
        Ok(Log { target, partial: Default::default() })
    }

    /// Adds output of stream 1 or 2. A full disk costs the record, never the container.
    pub fn add(&mut self, stream: u8, bytes: &[u8]) {
        let Some(target) = &mut self.target else { return };
        let partial = &mut self.partial[usize::from(stream == 2)];
        let mut records = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            partial.extend_from_slice(piece);
            while partial.len() >= MAX_LINE
                && !(partial.len() == MAX_LINE && partial.ends_with(b"\n"))
            {
                let rest = partial.split_off(MAX_LINE.min(partial.len()));
                record(&mut records, stream, partial);
                *partial = rest;
            }
            if partial.ends_with(b"\n") {
                record(&mut records, stream, partial);
                partial.clear();
            }
        }
        if let Err(error) = target.write(&records) {
            eprintln!("log {}: {} bytes are lost: {error}", target.path.display(), records.len());
        }
    }

    /// Writes what has no newline yet.
    pub fn finish(&mut self) {
        for stream in [1, 2] {
            let partial = std::mem::take(&mut self.partial[usize::from(stream == 2)]);
            let mut records = Vec::new();
            if !partial.is_empty() {
                record(&mut records, stream, &partial);
            }
            if let Some(target) = &mut self.target
                && let Err(error) = target.write(&records)
            {
                eprintln!("log {}: the last line is lost: {error}", target.path.display());
            }
        }
    }
}

impl Target {
    fn write(&mut self, records: &[u8]) -> io::Result<()> {
        if self.max_size > 0 && self.size > 0 && self.size + records.len() as u64 > self.max_size {
            self.rotate()?;
        }
        self.file.write_all(records)?;
        self.size += records.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..self.max_files.saturating_sub(1)).rev() {
            match std::fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.max_files > 1 {
            std::fs::rename(&self.path, numbered(1))?;
        } else {
            self.file.set_len(0)?;
        }
        self.file = append(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

fn append(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn record(into: &mut Vec<u8>, stream: u8, line: &[u8]) {
    #[derive(serde::Serialize)]
    struct Record<'a> {
        log: std::borrow::Cow<'a, str>,
        stream: &'a str,
        time: String,
    }
    let now = chrono::Utc::now();
    let record = Record {
        log: String::from_utf8_lossy(line),
        stream: if stream == 2 { "stderr" } else { "stdout" },
        time: go_time(now),
    };
    // Text and strings always encode.
    let _ = serde_json::to_writer(&mut *into, &record);
    into.push(b'\n');
}

/// RFC 3339 with nanoseconds, trailing zeros dropped, as Go's RFC3339Nano.
fn go_time(time: chrono::DateTime<chrono::Utc>) -> String {
    let text = time.format("%Y-%m-%dT%H:%M:%S%.9f").to_string();
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(max_size: u64, max_files: u32, input: &[&[u8]]) -> (tempfile::TempDir, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let settings = Settings::JsonFile { path: path.clone(), max_size, max_files };
        let mut log = Log::open(&settings).unwrap();
        input.iter().for_each(|bytes| log.add(1, bytes));
        log.finish();
        let text = std::fs::read_to_string(&path).unwrap();
        (directory, text.lines().map(String::from).collect())
    }

    #[test]
    fn lines_are_joined_and_long_ones_split() {
        let long = vec![b'x'; MAX_LINE + 10];
        let (_directory, lines) = lines(0, 1, &[b"a", b"b\nc\n", &long, b"\nend"]);
        let logs: Vec<String> = lines
            .iter()
            .map(|l| {
                serde_json::from_str::<serde_json::Value>(l).unwrap()["log"]
                    .as_str()
                    .unwrap()
                    .into()
            })
            .collect();
        assert_eq!(logs[0], "ab\n");
        assert_eq!(logs[1], "c\n");
        assert_eq!((logs[2].len(), logs[3].as_str()), (MAX_LINE, "xxxxxxxxxx\n"));
        assert_eq!(logs[4], "end");
        assert!(lines[0].starts_with("{\"log\":\"ab\\n\",\"stream\":\"stdout\",\"time\":\"2"));
    }

    #[test]
    fn rotation_keeps_the_number_of_files() {
        let line: &[u8] = b"0123456789\n";
        let (directory, _) = lines(100, 3, &[line; 20]);
        let mut names: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["log", "log.1", "log.2"]);
    }
}
