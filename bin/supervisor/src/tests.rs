//! The loop driven over its real socket, with plain processes for a sandbox.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use caisson_bundle::{Bundle, defaults};
use caisson_protocol::frame;
use caisson_protocol::supervisor::{
    Attach, Config, Exec, Log, Reply, Request, Sandbox as Kind, Start, Status, Streams,
};
use caisson_protocol::task::{self, Event, Exit, ProcessId, Stdio};

use crate::fake::Fake;
use crate::serve::Server;

/// How long any one answer may take.
pub const LIMIT: Duration = Duration::from_secs(20);

pub struct Bench {
    directory: tempfile::TempDir,
    pub ended: mpsc::Receiver<()>,
    thread: i32,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(false)
    }

    fn with(standby: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("supervisor.sock")).unwrap();
        let config = Config {
            id: "test".into(),
            directory: directory.path().into(),
            init_program: "/nowhere".into(),
            sandbox: Kind::Process,
            standby,
        };
        let (told, thread) = mpsc::channel();
        let (done, ended) = mpsc::channel();
        std::thread::spawn(move || {
            told.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            Server::new(config, listener.into(), Box::new(Fake::new())).run().unwrap();
            done.send(()).unwrap();
        });
        Bench { directory, ended, thread: thread.recv_timeout(LIMIT).unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn connect(&self) -> UnixStream {
        let socket = UnixStream::connect(self.path().join("supervisor.sock")).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket
    }

    pub fn ask(&self, request: &Request) -> (UnixStream, task::Reply) {
        let mut socket = self.connect();
        frame::write_message(&mut socket, request).unwrap();
        match frame::read_message(&mut socket).unwrap().expect("an answer") {
            Reply::Task(reply) => (socket, reply),
            other => panic!("unexpected answer {other:?}"),
        }
    }

    pub fn status(&self) -> Status {
        let mut socket = self.connect();
        frame::write_message(&mut socket, &Request::Status).unwrap();
        match frame::read_message(&mut socket).unwrap().expect("an answer") {
            Reply::Status(status) => status,
            other => panic!("unexpected answer {other:?}"),
        }
    }

    pub fn attach(&self) -> UnixStream {
        let streams = Streams { stdin: true, stdout: true, stderr: true };
        let (socket, reply) =
            self.ask(&Request::Attach(Attach { process: ProcessId::Init, streams }));
        assert!(matches!(reply, task::Reply::Done), "{reply:?}");
        socket
    }

    fn subscribe(&self) -> UnixStream {
        let (socket, reply) = self.ask(&Request::Subscribe);
        assert!(matches!(reply, task::Reply::Done), "{reply:?}");
        socket
    }

    fn start(&self, script: &str, change: impl FnOnce(&mut Start)) {
        let reply = self.try_start(&["/bin/sh", "-c", script], change);
        assert!(matches!(reply, task::Reply::Started { .. }), "{reply:?}");
    }

    fn try_start(&self, args: &[&str], change: impl FnOnce(&mut Start)) -> task::Reply {
        let spec = defaults::spec(args);
        let bundle = Bundle { id: "c".into(), rootfs: "/".into(), spec };
        let mut start = Start {
            bundle,
            stdio: Stdio { terminal: None, stdin: true },
            stdin_once: true,
            log: Log::JsonFile { path: self.path().join("log"), max_size: 0, max_files: 1 },
            exit_file: self.path().join("exit.json"),
            interfaces: Vec::new(),
            published: Vec::new(),
        };
        change(&mut start);
        self.ask(&Request::Start(Box::new(start))).1
    }

    fn exec(&self, id: &str, script: &str, attach: bool) -> UnixStream {
        let spec = defaults::spec(&["/bin/sh", "-c", script]);
        let exec = Exec {
            id: id.into(),
            process: spec.process().clone().unwrap(),
            stdio: Stdio { terminal: None, stdin: true },
            attach: attach.then_some(Streams { stdin: true, stdout: true, stderr: true }),
        };
        let (socket, reply) = self.ask(&Request::Exec(Box::new(exec)));
        assert!(matches!(reply, task::Reply::Started { .. }), "{reply:?}");
        socket
    }

    pub fn shutdown(&self) {
        let _ = self.ask(&Request::Shutdown);
        self.wait();
    }

    pub fn wait(&self) {
        self.ended.recv_timeout(LIMIT).expect("the supervisor's end");
    }

    fn exit(&self) -> Exit {
        serde_json::from_slice(&std::fs::read(self.path().join("exit.json")).unwrap()).unwrap()
    }

    /// CPU time that the loop takes while nothing happens for a third of a second.
    pub fn idle_cpu(&self) -> Duration {
        let path = format!("/proc/self/task/{}/schedstat", self.thread);
        let read = || {
            let text = std::fs::read_to_string(&path).unwrap();
            Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
        };
        let before = read();
        // A window of observation: the loop must not end in it either.
        assert!(self.ended.recv_timeout(Duration::from_millis(300)).is_err());
        read() - before
    }
}

pub const QUIET: Duration = Duration::from_millis(50);

fn read_all(mut socket: UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).unwrap();
    bytes
}

/// The bytes of one stream of Docker's multiplexed format.
fn stream(of: u8, mut wire: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some((header, rest)) = wire.split_first_chunk::<8>() {
        let length = u32::from_be_bytes(header[4..].try_into().unwrap()) as usize;
        assert_eq!(header[1..4], [0, 0, 0]);
        if header[0] == of {
            bytes.extend(&rest[..length]);
        }
        wire = &rest[length..];
    }
    bytes
}

fn next_exit(socket: &mut UnixStream) -> (ProcessId, i32) {
    match frame::read_message(socket).unwrap().expect("an event") {
        Event::Exited { process, exit } => (process, exit.code),
        other => panic!("unexpected event {other:?}"),
    }
}

#[test]
fn outputs_are_framed_apart_and_the_exit_is_recorded() {
    let bench = Bench::new();
    let client = bench.attach();
    bench.start("echo out; echo err >&2; exit 3", |_| {});
    let wire = read_all(client);
    assert_eq!((stream(1, &wire), stream(2, &wire)), (b"out\n".to_vec(), b"err\n".to_vec()));
    bench.wait();
    assert_eq!(bench.exit().code, 3);
}

#[test]
fn a_terminals_output_is_raw() {
    let bench = Bench::new();
    let client = bench.attach();
    let size = task::TerminalSize { rows: 24, columns: 80 };
    bench.start("echo raw", |start| start.stdio.terminal = Some(size));
    assert_eq!(read_all(client), b"raw\n");
    bench.wait();
}

#[test]
fn stdin_that_ended_before_the_start_is_ended_after_it() {
    let bench = Bench::new();
    let client = bench.attach();
    client.shutdown(Shutdown::Write).unwrap();
    // The answer shows that the loop has been round since the end of stdin arrived.
    bench.status();
    bench.start("cat; echo over", |_| {});
    assert_eq!(stream(1, &read_all(client)), b"over\n");
    bench.wait();
}

#[test]
fn stdin_sent_before_the_start_waits_without_spinning() {
    let bench = Bench::new();
    let mut client = bench.attach();
    client.write_all(b"early").unwrap();
    let spent = bench.idle_cpu();
    assert!(spent < QUIET, "{spent:?}");
    client.shutdown(Shutdown::Write).unwrap();
    bench.start("cat", |_| {});
    assert_eq!(stream(1, &read_all(client)), b"early");
    bench.wait();
}

#[test]
fn stdin_that_came_with_the_request_arrives() {
    let bench = Bench::new();
    bench.start("sleep 60", |_| {});
    let spec = defaults::spec(&["/bin/sh", "-c", "read line; echo got $line"]);
    let exec = Exec {
        id: "e".into(),
        process: spec.process().clone().unwrap(),
        stdio: Stdio { terminal: None, stdin: true },
        attach: Some(Streams { stdin: true, stdout: true, stderr: true }),
    };
    let mut wire = frame::encode_message(&Request::Exec(Box::new(exec))).unwrap();
    wire.extend(b"word\n");
    let mut client = bench.connect();
    client.write_all(&wire).unwrap();
    let started: Reply = frame::read_message(&mut client).unwrap().unwrap();
    assert!(matches!(started, Reply::Task(task::Reply::Started { .. })));
    assert_eq!(stream(1, &read_all(client)), b"got word\n");
    bench.shutdown();
}

#[test]
fn stdin_stays_open_without_stdin_once() {
    let bench = Bench::new();
    let first = bench.attach();
    bench.start("read a; read b; echo $a $b", |start| start.stdin_once = false);
    (&first).write_all(b"one\n").unwrap();
    first.shutdown(Shutdown::Write).unwrap();
    let mut second = bench.attach();
    second.write_all(b"two\n").unwrap();
    assert_eq!(stream(1, &read_all(second)), b"one two\n");
    assert_eq!(stream(1, &read_all(first)), b"one two\n");
    bench.wait();
}

#[test]
fn a_client_that_vanished_costs_nothing() {
    let bench = Bench::new();
    bench.start("sleep 60", |start| start.stdin_once = false);
    let client = bench.attach();
    let watcher = bench.subscribe();
    drop((client, watcher));
    bench.status();
    let spent = bench.idle_cpu();
    assert!(spent < QUIET, "{spent:?}");
    bench.shutdown();
}

#[test]
fn a_client_that_vanished_before_the_start_costs_nothing() {
    let bench = Bench::new();
    let streams = Streams { stdin: true, stdout: true, stderr: true };
    let request = Request::Attach(Attach { process: ProcessId::Init, streams });
    frame::write_message(&mut bench.connect(), &request).unwrap();
    drop(bench.attach());
    bench.status();
    let spent = bench.idle_cpu();
    assert!(spent < QUIET, "{spent:?}");
    bench.start("exit 0", |_| {});
    bench.wait();
}

#[test]
fn sockets_that_were_not_announced_are_refused() {
    let bench = Bench::new();
    let target = "127.0.0.1:80".parse().unwrap();
    let published = caisson_protocol::supervisor::Published { protocol: "tcp".into(), target };
    let reply = bench.try_start(&["true"], |start| start.published = vec![published]);
    let task::Reply::Failed(failure) = reply else { panic!("{reply:?}") };
    assert_eq!(failure.kind, task::FailureKind::Invalid);
    assert_eq!(failure.message, "1 published ports are named and 0 sockets came along");
    bench.wait();
}

#[test]
fn a_failed_start_ends_attached_clients_cleanly() {
    let log = Log::JsonFile { path: "/nowhere/log".into(), max_size: 0, max_files: 1 };
    for (args, log) in [("/nowhere/program", Log::None), ("true", log)] {
        let bench = Bench::new();
        let mut client = bench.attach();
        // Stdin that nobody will read: closing the socket over it would tell the client of a reset.
        client.write_all(b"early").unwrap();
        bench.status();
        let reply = bench.try_start(&[args], |start| start.log = log);
        assert!(matches!(reply, task::Reply::Failed(_)), "{reply:?}");
        assert!(read_all(client).is_empty());
        bench.wait();
    }
}

#[test]
fn unread_stdin_does_not_spoil_the_end() {
    let bench = Bench::new();
    let mut client = bench.attach();
    bench.start("echo out", |_| {});
    // The process is gone or going: this stays unread.
    let _ = client.write_all(&[b'x'; 100_000]);
    assert_eq!(stream(1, &read_all(client)), b"out\n");
    bench.wait();
}

#[test]
fn two_clients_get_the_same_and_one_that_leaves_does_not_hold_the_other() {
    let bench = Bench::new();
    let (first, second, stalled) = (bench.attach(), bench.attach(), bench.attach());
    bench.start("seq 1 200000", |_| {});
    let reader = std::thread::spawn(|| read_all(first));
    let other = std::thread::spawn(|| read_all(second));
    bench.status();
    drop(stalled);
    let text: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    assert!(stream(1, &reader.join().unwrap()) == text.as_bytes());
    assert!(stream(1, &other.join().unwrap()) == text.as_bytes());
    bench.wait();
}

#[test]
fn a_full_disk_does_not_stop_the_container() {
    let bench = Bench::new();
    let client = bench.attach();
    bench.start("seq 1 20000; exit 6", |start| {
        start.log = Log::JsonFile { path: "/dev/full".into(), max_size: 0, max_files: 1 };
    });
    assert!(stream(1, &read_all(client)).ends_with(b"20000\n"));
    bench.wait();
    assert_eq!(bench.exit().code, 6);
}

#[test]
fn a_slow_client_loses_nothing_and_nor_does_the_log() {
    // Ends with all of it read; with a part in the pipe; and with the process waiting to write.
    for lines in [50_000, 78_000, 100_000] {
        let bench = Bench::new();
        let client = bench.attach();
        bench.start(&format!("seq 1 {lines}"), |_| {});
        // Nothing is read for longer than the supervisor gives those who wait for replies.
        assert!(bench.ended.recv_timeout(Duration::from_secs(6)).is_err(), "{lines}");
        let text: String = (1..=lines).map(|n| format!("{n}\n")).collect();
        assert!(stream(1, &read_all(client)) == text.as_bytes(), "{lines}");
        bench.wait();
        let log = std::fs::read_to_string(bench.path().join("log")).unwrap();
        assert_eq!(log.lines().count(), lines);
    }
}

#[test]
fn exits_nobody_heard_of_are_told_to_the_next_subscriber() {
    let bench = Bench::new();
    bench.start("sleep 60", |_| {});
    read_all(bench.exec("early", "exit 4", true));
    let mut watcher = bench.subscribe();
    assert_eq!(next_exit(&mut watcher), (ProcessId::Exec("early".into()), 4));
    read_all(bench.exec("late", "exit 5", true));
    assert_eq!(next_exit(&mut watcher), (ProcessId::Exec("late".into()), 5));
    drop(watcher);
    bench.shutdown();
}

#[test]
fn an_execs_exit_is_recorded_before_its_stream_ends() {
    let bench = Bench::new();
    bench.start("sleep 60", |_| {});
    let wire = read_all(bench.exec("e", "echo hi; exit 7", true));
    assert_eq!(stream(1, &wire), b"hi\n");
    let exit = bench.status().execs.into_iter().find(|(id, _)| id == "e").unwrap().1;
    assert_eq!(exit.unwrap().code, 7);
    bench.shutdown();
}

#[test]
fn a_background_child_does_not_hold_an_execs_stream_for_ever() {
    let bench = Bench::new();
    bench.start("sleep 60", |_| {});
    let wire = read_all(bench.exec("e", "sleep 15 & echo hi", true));
    assert_eq!(stream(1, &wire), b"hi\n");
    bench.shutdown();
}

#[test]
fn ended_execs_are_not_remembered_without_bound() {
    let bench = Bench::new();
    bench.start("sleep 60", |_| {});
    let mut watcher = bench.subscribe();
    for number in 0..300 {
        bench.exec(&number.to_string(), "exit 0", false);
        next_exit(&mut watcher);
    }
    let execs = bench.status().execs;
    assert!(execs.len() <= 256, "{}", execs.len());
    assert_eq!(execs.last().unwrap().0, "299");
    bench.shutdown();
}

#[test]
fn a_malformed_request_ends_its_connection_only() {
    let bench = Bench::new();
    let steady = bench.subscribe();
    let mut broken = bench.connect();
    broken.write_all(&[0xff; 64]).unwrap();
    assert!(matches!(broken.read(&mut [0; 8]), Ok(0) | Err(_)));
    let mut nonsense = bench.connect();
    let message = frame::encode_message(&"no request").unwrap();
    nonsense.write_all(&message).unwrap();
    assert!(matches!(nonsense.read(&mut [0; 8]), Ok(0) | Err(_)));
    bench.start("exit 0", |_| {});
    drop(steady);
    bench.wait();
}

#[test]
fn a_standby_ends_with_its_last_client_and_a_started_one_does_not() {
    let unused = Bench::with(true);
    drop(unused.subscribe());
    unused.wait();
    let used = Bench::with(true);
    let daemon = used.subscribe();
    used.start("sleep 60", |_| {});
    drop(daemon);
    let pid = used.status().pid;
    let mut again = used.subscribe();
    let signal = task::Request::Signal { process: ProcessId::Init, signal: 9, all: false };
    assert!(pid > 0);
    used.ask(&Request::Task(signal));
    assert_eq!(next_exit(&mut again), (ProcessId::Init, 137));
    used.wait();
}
