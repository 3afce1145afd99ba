//! Reading logs that grow and rotate.

use std::io::Write;

use super::*;
use crate::LogOptions;
use crate::list::tests::record;

struct Bench {
    directory: tempfile::TempDir,
}

fn entry(text: &str) -> String {
    format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}}\n")
}

impl Bench {
    fn new() -> Self {
        Bench { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn append(&self, text: &str) {
        let file = File::options().create(true).append(true).open(self.path());
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn entries(&self, texts: &[&str]) {
        texts.iter().for_each(|text| self.append(&entry(text)));
    }

    /// As a supervisor does that keeps three files.
    fn rotate(&self) {
        let name = |end: &str| self.directory.path().join(format!("log{end}"));
        let _ = std::fs::rename(name(".1"), name(".2"));
        std::fs::rename(name(""), name(".1")).unwrap();
        File::create(name("")).unwrap();
    }

    fn open(&self, tail: Option<usize>) -> Files {
        Files::open(self.path(), tail).unwrap()
    }
}

/// What comes until there is no more now.
fn read(files: &mut Files) -> String {
    let options = LogOptions { stdout: true, stderr: true, ..Default::default() };
    let mut terminal = record('a', "web", 1);
    terminal.config.tty = Some(true);
    let wanted = Wanted::new(&options, &terminal);
    let mut text = Vec::new();
    loop {
        let mut more = Vec::new();
        let read = files.read(&wanted, &mut more).unwrap();
        text.extend(more);
        if read == Read::End {
            return String::from_utf8(text).unwrap().replace('\n', " ").trim_end().to_string();
        }
    }
}

#[test]
fn all_or_the_last_records_of_all_files() {
    let bench = Bench::new();
    assert_eq!(read(&mut bench.open(None)), "");
    bench.entries(&["1", "2", "3"]);
    bench.rotate();
    bench.entries(&["4", "5"]);
    bench.rotate();
    bench.entries(&["6"]);
    assert_eq!(read(&mut bench.open(None)), "1 2 3 4 5 6");
    for (tail, expected) in
        [(0, ""), (1, "6"), (2, "5 6"), (4, "3 4 5 6"), (6, "1 2 3 4 5 6"), (9, "1 2 3 4 5 6")]
    {
        assert_eq!(read(&mut bench.open(Some(tail))), expected, "{tail}");
    }
    bench.rotate();
    assert_eq!(read(&mut bench.open(Some(1))), "6", "the newest file is empty");
    assert_eq!(read(&mut bench.open(None)), "4 5 6", "the oldest file is gone");
}

#[test]
fn a_tail_across_many_blocks() {
    let bench = Bench::new();
    let words: Vec<String> = (0..5000).map(|number| number.to_string()).collect();
    bench.append(&words.iter().map(|word| entry(word)).collect::<String>());
    for tail in [1, 999, 2500, 4999, 5000] {
        assert_eq!(read(&mut bench.open(Some(tail))), words[5000 - tail..].join(" "), "{tail}");
    }
    assert_eq!(read(&mut bench.open(None)), words.join(" "));
}

#[test]
fn a_half_written_record_waits_for_its_end() {
    let bench = Bench::new();
    bench.entries(&["1", "2"]);
    let third = entry("3");
    let (begin, end) = third.split_at(20);
    bench.append(begin);
    let mut all = bench.open(None);
    let mut last = bench.open(Some(1));
    let mut none = bench.open(Some(0));
    assert_eq!(read(&mut all), "1 2");
    assert_eq!(read(&mut last), "2");
    assert_eq!(read(&mut none), "");
    bench.append(end);
    for files in [&mut all, &mut last, &mut none] {
        assert_eq!(read(files), "3");
        assert_eq!(read(files), "");
    }
}

#[test]
fn rotations_lose_nothing() {
    let bench = Bench::new();
    bench.entries(&["1"]);
    let mut files = bench.open(None);
    assert_eq!(read(&mut files), "1");
    bench.entries(&["2"]);
    bench.rotate();
    bench.entries(&["3"]);
    bench.rotate();
    bench.entries(&["4"]);
    assert_eq!(read(&mut files), "2 3 4");
    bench.rotate();
    assert_eq!(read(&mut files), "");
    bench.entries(&["5"]);
    assert_eq!(read(&mut files), "5");
    // Slower than the rotation: what is open is read to its end, what was removed is missing.
    bench.entries(&["6"]);
    for text in ["7", "8", "9"] {
        bench.rotate();
        bench.entries(&[text]);
    }
    assert_eq!(read(&mut files), "6 7 8 9");
}

#[test]
fn a_rotation_under_way_hides_no_file() {
    let bench = Bench::new();
    bench.entries(&["1"]);
    bench.rotate();
    bench.entries(&["2"]);
    let name = |end: &str| bench.directory.path().join(format!("log{end}"));
    std::fs::rename(name(".1"), name(".2")).unwrap();
    assert_eq!(read(&mut bench.open(None)), "1 2");
    std::fs::rename(name(""), name(".1")).unwrap();
    let mut files = bench.open(None);
    assert_eq!(read(&mut files), "1 2");
    bench.entries(&["3"]);
    assert_eq!(read(&mut files), "3");
}

#[test]
fn a_file_that_is_emptied_is_read_from_its_beginning() {
    let bench = Bench::new();
    bench.entries(&["1", "2"]);
    let mut files = bench.open(None);
    assert_eq!(read(&mut files), "1 2");
    File::options().write(true).open(bench.path()).unwrap().set_len(0).unwrap();
    bench.entries(&["3"]);
    assert_eq!(read(&mut files), "3");
}

#[test]
fn a_line_without_end_is_not_kept() {
    let bench = Bench::new();
    bench.append(&"x".repeat(3 * LONGEST));
    let mut files = bench.open(None);
    assert_eq!(read(&mut files), "");
    assert!(files.partial.len() <= LONGEST);
    bench.append("\n");
    bench.entries(&["1"]);
    assert_eq!(read(&mut files), "1");
}
