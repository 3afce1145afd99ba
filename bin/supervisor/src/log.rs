//! The container's log in Docker's json-file format, with rotation.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use caisson_protocol::supervisor::Log as Settings;

/// Longest line kept in one record, bytes; longer ones are split without a newline, as Docker does.
const MAX_LINE: usize = 16 << 10;

/// Writes records for one container.
pub struct Log {
    target: Option<Target>,
    /// Unfinished lines of stdout and stderr.
    partial: [Vec<u8>; 2],
    /// Bytes of records lost since the last one that was written.
    lost: u64,
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
        Ok(Log { target, partial: Default::default(), lost: 0 })
    }

    /// Adds output of stream 1 or 2. A full disk costs the record, never the container.
    pub fn add(&mut self, stream: u8, bytes: &[u8]) {
        if self.target.is_none() {
            return;
        }
        let mut partial = std::mem::take(&mut self.partial[usize::from(stream == 2)]);
        let mut records = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            partial.extend_from_slice(piece);
            while partial.len() >= MAX_LINE
                && !(partial.len() == MAX_LINE && partial.ends_with(b"\n"))
            {
                let rest = partial.split_off(MAX_LINE);
                record(&mut records, stream, &partial);
                partial = rest;
            }
            if partial.ends_with(b"\n") {
                record(&mut records, stream, &partial);
                partial.clear();
            }
        }
        self.partial[usize::from(stream == 2)] = partial;
        self.write(&records);
    }

    /// Writes what has no newline yet.
    pub fn finish(&mut self) {
        for stream in [1, 2] {
            let partial = std::mem::take(&mut self.partial[usize::from(stream == 2)]);
            if !partial.is_empty() {
                let mut records = Vec::new();
                record(&mut records, stream, &partial);
                self.write(&records);
            }
        }
    }

    /// Says a loss once at its beginning and once at its end: the note may be on the same full disk.
    fn write(&mut self, records: &[u8]) {
        let Some(target) = &mut self.target else { return };
        match target.write(records) {
            Ok(()) if self.lost > 0 && !records.is_empty() => {
                eprintln!("log {}: {} bytes were lost", target.path.display(), self.lost);
                self.lost = 0;
            }
            Ok(()) => {}
            Err(error) => {
                if self.lost == 0 {
                    eprintln!("log {}: output is being lost: {error}", target.path.display());
                }
                self.lost += records.len() as u64;
            }
        }
    }
}

impl Target {
    /// Writes whole records, as many at once as the current file takes: a file is full once it has
    /// reached its size, as Docker counts.
    fn write(&mut self, mut records: &[u8]) -> io::Result<()> {
        while !records.is_empty() {
            if self.max_size > 0 && self.size >= self.max_size {
                self.rotate()?;
            }
            let now = self.fitting(records);
            if let Err(error) = self.file.write_all(&records[..now]) {
                // Half a record would spoil the next one. A device has no length to restore.
                let _ = self.file.set_len(self.size);
                return Err(error);
            }
            self.size += now as u64;
            records = &records[now..];
        }
        Ok(())
    }

    /// The length of the records at the front that go to the current file.
    fn fitting(&self, records: &[u8]) -> usize {
        if self.max_size == 0 {
            return records.len();
        }
        let room = usize::try_from(self.max_size - self.size).unwrap_or(usize::MAX);
        let beyond = records.get(room.saturating_sub(1)..).unwrap_or_default();
        let end = beyond.iter().position(|byte| *byte == b'\n');
        end.map_or(records.len(), |end| room.saturating_sub(1) + end + 1)
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
            // Whoever reads the old one can still do so to its end.
            std::fs::remove_file(&self.path)?;
        }
        self.file = append(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

fn append(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

/// One record, byte for byte as Docker writes it.
fn record(into: &mut Vec<u8>, stream: u8, line: &[u8]) {
    let stream = if stream == 2 { "stderr" } else { "stdout" };
    into.extend_from_slice(b"{\"log\":\"");
    for chunk in line.utf8_chunks() {
        chunk.valid().chars().for_each(|character| escape(into, character));
        chunk.invalid().iter().for_each(|_| into.extend_from_slice(b"\\ufffd"));
    }
    let time = go_time(chrono::Utc::now());
    let _ = writeln!(into, "\",\"stream\":\"{stream}\",\"time\":\"{time}\"}}");
}

/// Docker's escapes (`jsonlog.ffjsonWriteJSONBytesAsString`): `<`, `>`, `&` and the line separators too.
fn escape(into: &mut Vec<u8>, character: char) {
    match character {
        '"' | '\\' => into.extend([b'\\', character as u8]),
        '\n' => into.extend_from_slice(b"\\n"),
        '\r' => into.extend_from_slice(b"\\r"),
        '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
            // Writing to memory does not fail.
            let _ = write!(into, "\\u{:04x}", u32::from(character));
        }
        other => into.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
    }
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
    fn records_are_dockers_byte_for_byte() {
        let cases: [(&[u8], &str); 6] = [
            (b"plain\n", r"plain\n"),
            (b"\"q\" \\ \t\r\x1b[0m\n", r#"\"q\" \\ \u0009\r\u001b[0m\n"#),
            (b"<a href=x&y>\n", r"\u003ca href=x\u0026y\u003e\n"),
            ("\u{2028}\u{e9}\u{1f600}\n".as_bytes(), "\\u2028\u{e9}\u{1f600}\\n"),
            // Each byte that is no text is replaced, also those of a cut character.
            (b"a\xe2\x82b\xff\n", r"a\ufffd\ufffdb\ufffd\n"),
            (b"\n", r"\n"),
        ];
        for (line, expected) in cases {
            let mut bytes = Vec::new();
            record(&mut bytes, 2, line);
            let text = String::from_utf8(bytes).unwrap();
            let start = format!("{{\"log\":\"{expected}\",\"stream\":\"stderr\",\"time\":\"2");
            assert!(text.starts_with(&start) && text.ends_with("Z\"}\n"), "{text}");
        }
    }

    #[test]
    fn times_are_trimmed_as_go_does() {
        let time = |nanos| go_time(chrono::DateTime::from_timestamp(1_700_000_000, nanos).unwrap());
        assert_eq!(time(0), "2023-11-14T22:13:20Z");
        assert_eq!(time(120_000_000), "2023-11-14T22:13:20.12Z");
        assert_eq!(time(1), "2023-11-14T22:13:20.000000001Z");
    }

    #[test]
    fn a_burst_is_rotated_record_by_record() {
        let burst = b"0123456789\n".repeat(100);
        let (directory, _) = lines(200, 4, &[&burst]);
        for name in ["log.1", "log.2", "log.3"] {
            let text = std::fs::read_to_string(directory.path().join(name)).unwrap();
            assert!(text.ends_with("}\n") && (200..320).contains(&text.len()), "{}", text.len());
        }
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
