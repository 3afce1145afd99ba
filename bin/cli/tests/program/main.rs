//! The program itself against a daemon of a few lines: what it asks, in which order, and what it makes of the
//! answers.

mod daemon;

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use daemon::{Daemon, answer, chunked, frames};
use serde_json::{Value, json};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs `caisson` with these words against a daemon.
fn caisson(daemon: &Daemon, words: &[&str]) -> Output {
    caisson_with_input(daemon, words, b"")
}

fn caisson_with_input(daemon: &Daemon, words: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_caisson"))
        .args(words)
        .env("CAISSON_HOST", daemon.host())
        .env("DOCKER_HOST", "unix:///nonexistent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading all of it.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A daemon with one container, which says something and ends with a code.
fn one_container(output: Vec<u8>, code: u8) -> Daemon {
    Daemon::new(move |request| match request.place().as_str() {
        "POST /containers/create" => answer(201, &json!({ "Id": "abc", "Warnings": ["careful"] })),
        "POST /containers/abc/attach" => daemon::upgraded(&output),
        "POST /containers/abc/wait" => chunked(&[&json!({ "StatusCode": code }).to_string()]),
        "POST /containers/abc/start" => answer(204, &Value::Null),
        "GET /containers/abc/json" => answer(
            200,
            &json!({
                "Id": "abc", "Name": "/abc", "Config": { "Tty": false },
                "State": { "Running": false, "Status": "exited" },
                "HostConfig": { "Isolation": "hyperv" },
            }),
        ),
        other => answer(404, &json!({ "message": format!("no {other}") })),
    })
}

#[test]
fn run_attaches_and_waits_before_it_starts() {
    let daemon = one_container(frames(&[(1, "hello\n"), (2, "oops\n")]), 7);
    let output = caisson(&daemon, &["run", "--rm", "--isolation", "hyperv", "x", "echo", "hello"]);
    assert_eq!(text(&output.stdout), "hello\n");
    assert_eq!(text(&output.stderr), "WARNING: careful\noops\n");
    assert_eq!(output.status.code(), Some(7));
    let places: Vec<String> = daemon.requests().iter().map(|request| request.place()).collect();
    assert_eq!(
        places,
        [
            "POST /containers/create",
            "POST /containers/abc/attach",
            "POST /containers/abc/wait",
            "POST /containers/abc/start",
        ]
    );
    let requests = daemon.requests();
    assert_eq!(requests[0].json()["HostConfig"]["Isolation"], "hyperv");
    assert!(requests[1].query.contains("stdout=1") && !requests[1].query.contains("stdin"));
    assert_eq!(requests[2].query, "condition=removed");
}

#[test]
fn a_signal_during_a_slow_start_reaches_the_container() {
    let (started, starts) = std::sync::mpsc::channel();
    let started = std::sync::Mutex::new(started);
    let (signalled, signals) = std::sync::mpsc::channel::<()>();
    let signals = std::sync::Mutex::new(signals);
    let (killed, kills) = std::sync::mpsc::channel();
    let (killed, kills) = (std::sync::Mutex::new(killed), std::sync::Mutex::new(kills));
    let daemon = Daemon::new(move |request| match request.place().as_str() {
        "POST /containers/create" => answer(201, &json!({ "Id": "abc", "Warnings": [] })),
        // It runs on: the connection does not end.
        "POST /containers/abc/attach" => daemon::echoing(),
        "POST /containers/abc/start" => {
            started.lock().unwrap().send(()).unwrap();
            signals.lock().unwrap().recv_timeout(LIMIT).unwrap();
            answer(204, &Value::Null)
        }
        "POST /containers/abc/wait" => chunked(&[r#"{"StatusCode":143}"#]),
        "POST /containers/abc/kill" => {
            killed.lock().unwrap().send(request.query.clone()).unwrap();
            answer(204, &Value::Null)
        }
        other => panic!("{other}"),
    });
    let mut child = Command::new(env!("CARGO_BIN_EXE_caisson"))
        .args(["run", "x"])
        .env("CAISSON_HOST", daemon.host())
        .spawn()
        .unwrap();
    starts.recv_timeout(LIMIT).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    signalled.send(()).unwrap();
    assert_eq!(kills.lock().unwrap().recv_timeout(LIMIT).unwrap(), "signal=TERM");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn run_in_the_background_prints_the_id() {
    let daemon = one_container(Vec::new(), 0);
    let output = caisson(&daemon, &["run", "-d", "x"]);
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("abc\n", Some(0)));
    assert_eq!(daemon.requests()[0].json()["AttachStdout"], false);
}

#[test]
fn start_failures_have_a_shells_exit_codes() {
    for (message, code) in [
        ("exec: \"x\": executable file not found in $PATH", 127),
        ("exec: \"/etc\": permission denied", 126),
        ("the disk is full", 125),
    ] {
        let daemon = Daemon::new(move |request| match request.place().as_str() {
            "POST /containers/create" => answer(201, &json!({ "Id": "abc", "Warnings": [] })),
            "POST /containers/abc/start" => answer(400, &json!({ "message": message })),
            "POST /containers/abc/attach" => daemon::upgraded(b""),
            _ => chunked(&[r#"{"StatusCode":0}"#]),
        });
        let output = caisson(&daemon, &["run", "x"]);
        assert_eq!(output.status.code(), Some(code), "{message}");
        let expected = format!("caisson: Error response from daemon: {message}\n");
        assert!(text(&output.stderr).starts_with(&expected), "{}", text(&output.stderr));
    }
}

#[test]
fn an_image_that_is_not_here_is_asked_for_once() {
    let daemon = Daemon::new(|request| match request.place().as_str() {
        "POST /containers/create" => answer(404, &json!({ "message": "No such image: x:latest" })),
        _ => answer(501, &json!({ "message": "registries are not supported yet" })),
    });
    let output = caisson(&daemon, &["run", "x"]);
    assert_eq!(output.status.code(), Some(125));
    let told = text(&output.stderr);
    assert!(told.starts_with("Unable to find image 'x:latest' locally\n"), "{told}");
    assert!(told.contains("registries are not supported yet"), "{told}");
    assert_eq!(daemon.requests()[1].query, "fromImage=x&tag=latest");
    let output = caisson(&daemon, &["run", "--pull", "never", "x"]);
    assert!(text(&output.stderr).contains("Error response from daemon: No such image: x:latest"));
    assert_eq!(daemon.requests().len(), 3);
}

#[test]
fn without_a_daemon() {
    let run = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_caisson"));
        let output = command.args(["-H", "unix:///nonexistent"]).args(words).output().unwrap();
        (output.status.code(), text(&output.stderr))
    };
    let sentence =
        "Cannot connect to the Caisson daemon at unix:///nonexistent. Start one: sudo caissond";
    let (code, told) = run(&["ps"]);
    assert_eq!(code, Some(1));
    assert!(told.starts_with(sentence), "{told}");
    let (code, told) = run(&["run", "x"]);
    assert_eq!(code, Some(125));
    assert!(told.starts_with(&format!("caisson: {sentence}")), "{told}");
}

#[test]
fn what_is_written_wrongly_has_its_exit_codes() {
    let code = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_caisson"));
        command.args(words).output().unwrap().status.code()
    };
    assert_eq!(code(&["ps", "--nope"]), Some(125));
    assert_eq!(code(&["run"]), Some(1));
    assert_eq!(code(&["nope"]), Some(1));
    assert_eq!(code(&["run", "--help"]), Some(0));
    assert_eq!(code(&["--version"]), Some(0));
}

#[test]
fn set_changes_the_runtime_type_and_get_shows_it() {
    let daemon = Daemon::new(|request| match request.place().as_str() {
        "POST /containers/web/update" => answer(200, &json!({ "Warnings": null })),
        "POST /containers/db/update" => {
            answer(409, &json!({ "message": "container db is running" }))
        }
        "GET /containers/json" => answer(200, &json!([{ "Id": "abc", "Names": ["/web"] }])),
        _ => answer(
            200,
            &json!({
                "Id": "0123456789abcdef", "Name": "/web", "State": { "Status": "running" },
                "HostConfig": { "Isolation": "hyperv" }, "Config": { "Image": "busybox" },
            }),
        ),
    });
    let words = ["set", "web", "db", "--runtime-type", "hyperv", "--no-restart"];
    let output = caisson(&daemon, &words);
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("web\n", Some(1)));
    assert_eq!(text(&output.stderr), "Error response from daemon: container db is running\n");
    let body = daemon.requests()[0].json();
    assert_eq!(body, json!({ "RuntimeType": "hyperv", "NoRestart": true }));
    let output = caisson(&daemon, &["get"]);
    let line = "web       0123456789ab   running   hyperv         busybox\n";
    assert!(text(&output.stdout).ends_with(line), "{}", text(&output.stdout));
}

#[test]
fn exec_sends_its_input_and_ends_as_the_command_did() {
    let daemon = Daemon::new(|request| match request.place().as_str() {
        "POST /containers/web/exec" => answer(201, &json!({ "Id": "e1" })),
        "POST /exec/e1/start" => daemon::echoing(),
        _ => answer(200, &json!({ "ExitCode": 4 })),
    });
    let output = caisson_with_input(&daemon, &["exec", "-i", "web", "cat", "-"], b"some input");
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("some input", Some(4)));
    let body = daemon.requests()[0].json();
    assert_eq!((&body["Cmd"], &body["AttachStdin"]), (&json!(["cat", "-"]), &json!(true)));
}

#[test]
fn a_terminal_for_a_container_needs_one_here() {
    let daemon = one_container(Vec::new(), 0);
    let output = caisson(&daemon, &["run", "-it", "x"]);
    assert_eq!(text(&output.stderr), "the input device is not a TTY\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(daemon.requests().is_empty());
}

#[test]
fn logs_keep_the_outputs_apart() {
    let logs = frames(&[(1, "out\n"), (2, "err\n")]);
    let daemon = Daemon::new(move |request| match request.place().as_str() {
        "GET /containers/web/json" => {
            answer(200, &json!({ "Id": "abc", "Config": { "Tty": false } }))
        }
        _ => daemon::bytes(&logs),
    });
    let output = caisson(&daemon, &["logs", "-n", "5", "--since", "1.5", "web"]);
    assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).as_str()), ("out\n", "err\n"));
    let query = &daemon.requests()[1].query;
    assert!(query.contains("tail=5") && query.contains("since=1.500000000"), "{query}");
}

#[test]
fn inspect_shows_what_there_is_and_tells_what_there_is_not() {
    let daemon = Daemon::new(|request| match request.place().as_str() {
        "GET /images/busybox/json" => daemon::bytes(br#"{"Id":"b","A":[1]}"#),
        _ => answer(404, &json!({ "message": "no such thing" })),
    });
    let output = caisson(&daemon, &["inspect", "busybox", "nope"]);
    let shown =
        "[\n    {\n        \"Id\": \"b\",\n        \"A\": [\n            1\n        ]\n    }\n]\n";
    assert_eq!(text(&output.stdout), shown);
    assert_eq!(text(&output.stderr), "Error: No such object: nope\n");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let daemon = Daemon::new(|_| answer(200, &json!([])));
    let mut child = Command::new(env!("CARGO_BIN_EXE_caisson"))
        .arg("ps")
        .env("CAISSON_HOST", daemon.host())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stderr), "");
    assert!(matches!(output.status.code(), Some(0 | 141)), "{:?}", output.status);
}
