//! Following a log.

use std::io::Write;
use std::time::Duration;

use super::*;
use crate::list::tests::record;

struct Bench {
    _directory: tempfile::TempDir,
    container: Arc<Container>,
    watches: Watches,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let container = Container::new(record('a', "web", 1), directory.path());
        std::fs::create_dir_all(&container.places.directory).unwrap();
        Bench { _directory: directory, container, watches: Watches::default() }
    }

    fn write(&self, text: &str) {
        let path = self.container.places.log(&self.container.id);
        let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn entry(&self, text: &str) {
        let time = caisson_api::time::rfc3339(crate::now());
        self.write(&format!(
            "{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"{time}\"}}\n"
        ));
    }

    fn follow(&self, until: Option<i64>) -> Reading {
        let options = LogOptions { stdout: true, until, ..LogOptions::default() };
        let mut record = self.container.record();
        record.config.tty = Some(true);
        let path = self.container.places.log(&self.container.id);
        Reading {
            files: Some(Files::open(path, None).unwrap()),
            wanted: Arc::new(Wanted::new(&options, &record)),
            follow: Some(Follow::new(&self.watches, &self.container, &record, until).unwrap()),
        }
    }

    fn end(&self) {
        self.container.note(|record| {
            record.state.status = Status::Exited;
            record.state.exits += 1;
        });
    }
}

/// What comes next; `None` at the end. Not in time: a failure.
async fn next(reading: &mut Reading) -> Option<String> {
    let next = tokio::time::timeout(Duration::from_secs(20), reading.next()).await;
    let chunk = next.expect("nothing came")?;
    Some(String::from_utf8(chunk.unwrap().to_vec()).unwrap())
}

#[tokio::test]
async fn a_follower_sees_each_line_once_and_ends_with_the_run() {
    let bench = Bench::new();
    let mut reading = bench.follow(None);
    let mut other = bench.follow(None);
    let writer = async {
        bench.entry("1");
        assert_eq!(next(&mut reading).await.unwrap(), "1\n");
        let half = "{\"log\":\"2\\n\",\"stream\":";
        bench.write(half);
        tokio::task::yield_now().await;
        bench.write("\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}\n");
        assert_eq!(next(&mut reading).await.unwrap(), "2\n");
        bench.entry("last");
        bench.end();
        assert_eq!(next(&mut reading).await.unwrap(), "last\n");
        assert_eq!(next(&mut reading).await, None);
    };
    let reader = async {
        let mut all = String::new();
        while let Some(text) = next(&mut other).await {
            all.push_str(&text);
        }
        assert_eq!(all, "1\n2\nlast\n");
    };
    tokio::join!(writer, reader);
}

#[tokio::test]
async fn a_follower_of_what_has_ended_ends() {
    let bench = Bench::new();
    bench.entry("1");
    let mut reading = bench.follow(None);
    bench.end();
    // Started again before the follower looks.
    bench.container.note(|record| record.state.status = Status::Running);
    bench.entry("2");
    assert_eq!(next(&mut reading).await.unwrap(), "1\n2\n");
    assert_eq!(next(&mut reading).await, None);
}

#[tokio::test]
async fn a_follower_ends_when_its_time_is_past() {
    let bench = Bench::new();
    bench.entry("1");
    let mut reading = bench.follow(Some(crate::now() + 50_000_000));
    assert_eq!(next(&mut reading).await.unwrap(), "1\n");
    assert_eq!(next(&mut reading).await, None);
}

#[tokio::test]
async fn a_directory_is_watched_as_long_as_somebody_follows() {
    let bench = Bench::new();
    let first = bench.watches.watch(&bench.container.places.directory).unwrap();
    let mut second = bench.watches.watch(&bench.container.places.directory).unwrap();
    drop(first);
    second.seen();
    bench.entry("1");
    tokio::time::timeout(Duration::from_secs(20), second.changed()).await.unwrap();
    drop(second);
    let mut third = bench.watches.watch(&bench.container.places.directory).unwrap();
    bench.entry("2");
    tokio::time::timeout(Duration::from_secs(20), third.changed()).await.unwrap();
}
