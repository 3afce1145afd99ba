//! What the containers wrote, afterwards and as it comes.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use caisson_tests::engine::{Exec, Logs, Spec, at, refused};
use serde_json::Value;

use crate::cases;
use crate::context::Ctx;

cases! {
    both: [
        logs_keep_both_outputs_and_the_last_lines,
        logs_follow_to_the_end,
    ],
    bollard: [
        logs_have_times_and_are_cut_by_them,
        following_ends_with_its_client,
        a_terminals_logs_are_as_it_wrote_them,
        long_and_unended_lines_come_whole,
        logs_go_on_over_a_restart,
        logs_are_rotated,
        logs_of_none_are_refused,
    ],
}

fn logs_keep_both_outputs_and_the_last_lines(ctx: &Ctx) -> Result<()> {
    let script = "i=1; while [ $i -le 20 ]; do echo out $i; i=$((i+1)); done; \
        echo err >&2";
    let spec = Spec { name: ctx.name("wrote"), ..ctx.script(script) };
    ctx.run(&spec, &[])?;
    let logs = ctx.logs(&spec.name, &Logs::default())?;
    ensure!(logs.stdout.lines().count() == 20 && logs.stderr == "err\n", "{logs:?}");
    ensure!(logs.stdout.starts_with("out 1\nout 2\n"), "{logs:?}");
    let tail = |lines| ctx.logs(&spec.name, &Logs { tail: Some(lines), ..Logs::default() });
    let three = tail(3)?;
    // The two outputs are two pipes: the order between them is not told.
    ensure!(three.stdout.lines().count() + three.stderr.lines().count() == 3, "{three:?}");
    ensure!(three.stdout.ends_with("out 20\n"), "{three:?}");
    let none = tail(0)?;
    ensure!(none.stdout.is_empty() && none.stderr.is_empty(), "{none:?}");
    ensure!(tail(1000)?.stdout == logs.stdout);
    ctx.remove(&spec.name, false, false)?;
    let no = refused(ctx.logs(&spec.name, &Logs::default()))?;
    ensure!(no.message.to_lowercase().contains("no such container"), "{no}");
    Ok(())
}

fn logs_follow_to_the_end(ctx: &Ctx) -> Result<()> {
    let script = "echo before; until [ -e /go ]; do sleep 0.1; done; echo after; exit 3";
    let id = ctx.start_until(&ctx.script(script), "before")?;
    let follow = Logs { follow: true, ..Logs::default() };
    let logs = std::thread::scope(|scope| {
        let following = scope.spawn(|| ctx.logs(&id, &follow));
        // The container may be gone before the one who let it go on: how that ended is not asked.
        let _ = ctx.exec(&id, &Exec::new(&["touch", "/go"]));
        following.join().map_err(|_| anyhow::anyhow!("the follower panicked"))?
    })?;
    ensure!(logs.stdout == "before\nafter\n", "{logs:?}");
    Ok(())
}

/// The time and the text of each line.
fn timed(ctx: &Ctx, id: &str, query: &str) -> Result<Vec<(String, String)>> {
    let path = format!("/containers/{id}/logs?stdout=1&timestamps=1{query}");
    let answer = ctx.api("GET", &path, None)?;
    ensure!(answer.status == 200, "{}", answer.message());
    let mut rest = answer.body.as_slice();
    let mut lines = Vec::new();
    while let Some((head, tail)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        ensure!(tail.len() >= length, "the stream is cut");
        let line = String::from_utf8_lossy(&tail[..length]).into_owned();
        let (time, text) = line.split_once(' ').with_context(|| format!("no time: {line:?}"))?;
        lines.push((time.to_string(), text.to_string()));
        rest = &tail[length..];
    }
    Ok(lines)
}

/// Such as `1764313525.123456789` for a time of today's.
fn seconds(time: &str) -> Result<String> {
    let day = time.get(..19).context("a time")?.replace('T', " ");
    let output = std::process::Command::new("date").args(["-u", "-d", &day, "+%s"]).output()?;
    let whole = String::from_utf8(output.stdout)?;
    Ok(format!("{}{}", whole.trim(), time.trim_end_matches('Z').get(19..).context("a fraction")?))
}

fn logs_have_times_and_are_cut_by_them(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.script("echo one; read x; echo two; read x; echo three");
    spec.stdin = true;
    let id = ctx.create(&spec)?;
    let mut session = ctx.attach(&id)?;
    ctx.start(&id)?;
    for word in ["one", "two"] {
        session.until(word)?;
        session.send(b"\n")?;
    }
    session.finish()?;
    let all = timed(ctx, &id, "")?;
    let texts: Vec<&str> = all.iter().map(|(_, text)| text.as_str()).collect();
    ensure!(texts == ["one\n", "two\n", "three\n"], "{all:?}");
    let times: Vec<&str> = all.iter().map(|(time, _)| time.as_str()).collect();
    // Thirty characters, nanoseconds, UTC: they can be compared as text.
    ensure!(times.iter().all(|time| time.len() == 30 && time.ends_with('Z')), "{times:?}");
    ensure!(times[0] < times[1] && times[1] < times[2], "{times:?}");
    // As the API takes it: seconds since 1970, with nanoseconds.
    let second = seconds(times[1])?;
    let since = timed(ctx, &id, &format!("&since={second}"))?;
    ensure!(since == all[1..], "{since:?}");
    let until = timed(ctx, &id, &format!("&until={second}"))?;
    ensure!(until == all[..2], "{until:?}");
    let neither = timed(ctx, &id, "&since=4000000000")?;
    ensure!(neither.is_empty(), "{neither:?}");
    let answer = ctx.api("GET", &format!("/containers/{id}/logs"), None)?;
    ensure!(answer.status == 400, "no output was chosen: {answer:?}");
    Ok(())
}

fn following_ends_with_its_client(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle()?;
    let path = format!("/containers/{id}/logs?stdout=1&follow=1");
    for _ in 0..3 {
        // The answer has begun, and its client goes away.
        drop(caisson_tests::engine::request_streaming(&ctx.socket, "GET", &path, None)?);
    }
    ctx.stop(&id, Some(60))?;
    ctx.remove(&id, false, false)
}

fn a_terminals_logs_are_as_it_wrote_them(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.script("echo one; echo two >&2");
    spec.tty = true;
    let id = ctx.create(&spec)?;
    ctx.start(&id)?;
    ctx.wait(&id)?;
    let answer = ctx.api("GET", &format!("/containers/{id}/logs?stdout=1&stderr=1"), None)?;
    ensure!(answer.body == b"one\r\ntwo\r\n", "{answer:?}");
    Ok(())
}

fn long_and_unended_lines_come_whole(ctx: &Ctx) -> Result<()> {
    // Longer than the 16 KiB that one entry of the log holds.
    let script = "head -c 40000 /dev/zero | tr '\\0' a; echo; printf end";
    let id = ctx.create(&ctx.script(script))?;
    ctx.start(&id)?;
    ctx.wait(&id)?;
    let logs = ctx.logs(&id, &Logs::default())?;
    let wanted = format!("{}\nend", "a".repeat(40_000));
    ensure!(logs.stdout == wanted, "{} of {} bytes", logs.stdout.len(), wanted.len());
    let last = ctx.logs(&id, &Logs { tail: Some(1), ..Logs::default() })?;
    ensure!(last.stdout == "end", "{last:?}");
    Ok(())
}

fn logs_go_on_over_a_restart(ctx: &Ctx) -> Result<()> {
    let id = ctx.create(&ctx.script("echo start >> /count; echo number $(wc -l < /count)"))?;
    for _ in 0..3 {
        ctx.start(&id)?;
        ctx.wait(&id)?;
    }
    let logs = ctx.logs(&id, &Logs::default())?;
    ensure!(logs.stdout == "number 1\nnumber 2\nnumber 3\n", "{logs:?}");
    Ok(())
}

fn logs_are_rotated(ctx: &Ctx) -> Result<()> {
    let script = "i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done";
    let mut spec = ctx.named("rotated", &["sh", "-c", script]);
    spec.log = vec![("max-size".into(), "10k".into()), ("max-file".into(), "2".into())];
    ctx.run(&spec, &[])?;
    let logs = ctx.logs(&spec.name, &Logs::default())?;
    let lines: Vec<&str> = logs.stdout.lines().collect();
    ensure!(lines.last() == Some(&"line 999"), "{lines:?}");
    ensure!(lines.len() > 50 && lines.len() < 900, "{} lines are kept", lines.len());
    let first: usize = lines[0].trim_start_matches("line ").parse()?;
    ensure!(first == 1000 - lines.len(), "lines are missing: {lines:?}");
    let last = ctx.logs(&spec.name, &Logs { tail: Some(60), ..Logs::default() })?;
    ensure!(last.stdout.lines().eq(lines[lines.len() - 60..].iter().copied()), "{last:?}");
    let inspect = ctx.inspect(&spec.name)?;
    let path = PathBuf::from(at(&inspect, "LogPath").as_str().context("no log path")?);
    let sibling = |number| PathBuf::from(format!("{}.{number}", path.display()));
    let size = std::fs::metadata(&path).with_context(|| path.display().to_string())?.len();
    ensure!(size < 12_000, "{size} bytes");
    ensure!(sibling(1).exists() && !sibling(2).exists(), "{path:?}");
    Ok(())
}

fn logs_of_none_are_refused(ctx: &Ctx) -> Result<()> {
    let body = serde_json::json!({
        "Image": caisson_tests::engine::IMAGE,
        "Cmd": ["echo", "lost"],
        "Labels": ctx.spec(&[]).labels,
        "HostConfig": {"LogConfig": {"Type": "none"}, "Isolation": ctx.spec(&[]).isolation},
    });
    let answer = ctx.api("POST", "/containers/create", Some(body))?;
    ensure!(answer.status == 201, "{}", answer.message());
    let id = answer.json()?["Id"].as_str().context("no id")?.to_string();
    ctx.start(&id)?;
    ensure!(ctx.wait(&id)? == 0);
    let answer = ctx.api("GET", &format!("/containers/{id}/logs?stdout=1"), None)?;
    ensure!(answer.status == 501 || answer.status == 500, "{answer:?}");
    let message = answer.message();
    ensure!(message.contains("logging driver does not support reading"), "{message}");
    ensure!(at(&ctx.inspect(&id)?, "LogPath") == &Value::from(""));
    Ok(())
}
