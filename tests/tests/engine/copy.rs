//! Files in and out of containers, the hostile ones too.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use caisson_tests::engine::{Exec, refused};
use tar::EntryType;

use crate::archive::{Archive, entries};
use crate::cases;
use crate::context::Ctx;

cases! {
    both: [
        files_go_in_and_come_out,
        directories_are_copied_whole,
        cve_2018_15664_a_link_does_not_lead_out,
    ],
    bollard: [
        a_stopped_containers_files_are_copied,
        volumes_and_binds_are_copied_into,
        what_is_read_only_stays_so,
        missing_paths_are_named,
        a_path_is_described,
        hostile_archives_stay_inside,
        cve_2018_15664_a_racing_link_does_not_lead_out,
        cve_2019_14271_no_code_of_the_container_is_loaded,
    ],
    docker_cli: [
        the_command_line_copies_files_and_directories,
    ],
}

fn files_go_in_and_come_out(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle()?;
    let archive = Archive::new().file("one", "from outside\n")?.finish()?;
    ctx.copy_in(&id, "/root", &archive)?;
    let seen = ctx.inside(&id, &["sh", "-c", "cat /root/one; stat -c '%a %u:%g %Y' /root/one"])?;
    ensure!(seen == "from outside\n640 33:34 1000000000\n", "{seen}");
    ctx.inside(&id, &["sh", "-c", "echo changed > /root/one; chmod 604 /root/one"])?;
    let found = entries(&ctx.copy_out(&id, "/root/one")?)?;
    let one = found.get("one").with_context(|| format!("{found:?}"))?;
    ensure!(found.len() == 1 && one.content == "changed\n", "{found:?}");
    ensure!(one.mode == 0o604 && one.owner == (33, 34), "{found:?}");
    Ok(())
}

fn directories_are_copied_whole(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle()?;
    let archive = Archive::new()
        .directory("tree")?
        .file("tree/a", "a")?
        .directory("tree/sub")?
        .file("tree/sub/b", "b")?
        .symlink("tree/link", "sub/b")?
        .symlink("tree/far", "/etc/passwd")?
        .hard_link("tree/same", "tree/a")?
        .finish()?;
    ctx.copy_in(&id, "/", &archive)?;
    let seen = ctx.inside(&id, &["sh", "-c", "cd /tree; cat a sub/b link same; readlink far"])?;
    ensure!(seen == "abba/etc/passwd\n", "{seen}");
    let found = entries(&ctx.copy_out(&id, "/tree")?)?;
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    let wanted = ["tree", "tree/a", "tree/far", "tree/link", "tree/same", "tree/sub", "tree/sub/b"];
    ensure!(names == wanted, "{names:?}");
    ensure!(found["tree/far"].kind == EntryType::Symlink, "{found:?}");
    ensure!(found["tree/far"].link == "/etc/passwd", "{found:?}");
    ensure!(found["tree/sub/b"].content == "b", "{found:?}");
    Ok(())
}

fn a_stopped_containers_files_are_copied(ctx: &Ctx) -> Result<()> {
    let id = ctx.create(&ctx.script("cat /root/one; echo out > /root/two"))?;
    ctx.copy_in(&id, "/root", &Archive::new().file("one", "early\n")?.finish()?)?;
    let mut session = ctx.bollard.attach(&id, false, None)?;
    ctx.start(&id)?;
    session.finish()?;
    ctx.wait(&id)?;
    ensure!(session.stdout == "early\n", "{:?}", session.stderr);
    let found = entries(&ctx.copy_out(&id, "/root/two")?)?;
    ensure!(found["two"].content == "out\n", "{found:?}");
    let found = entries(&ctx.copy_out(&id, "/etc/passwd")?)?;
    ensure!(found["passwd"].content.starts_with("root:"), "{found:?}");
    Ok(())
}

fn volumes_and_binds_are_copied_into(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.script(crate::context::IDLE);
    let place = ctx.place().display();
    spec.binds = vec![format!("{}:/vol", ctx.name("vol")), format!("{place}:/host/deep")];
    let id = ctx.create(&spec)?;
    // Stopped first, then running.
    for name in ["early", "late"] {
        let archive = Archive::new().file(name, "in")?.finish()?;
        ctx.copy_in(&id, "/vol", &archive)?;
        ctx.copy_in(&id, "/host/deep", &archive)?;
        ensure!(std::fs::read_to_string(ctx.place().join(name))? == "in");
        let found = entries(&ctx.copy_out(&id, &format!("/vol/{name}"))?)?;
        ensure!(found[name].content == "in", "{found:?}");
        let found = entries(&ctx.copy_out(&id, &format!("/host/deep/{name}"))?)?;
        ensure!(found[name].content == "in", "{found:?}");
        if name == "early" {
            let mut session = ctx.bollard.attach(&id, false, None)?;
            ctx.start(&id)?;
            session.until("up")?;
        }
        let path = format!("/vol/{name}");
        ensure!(ctx.inside(&id, &["cat", &path])? == "in");
    }
    Ok(())
}

fn what_is_read_only_stays_so(ctx: &Ctx) -> Result<()> {
    let archive = Archive::new().file("x", "x")?.finish()?;
    let mut spec = ctx.script("true");
    spec.read_only = true;
    spec.volumes = vec!["/vol".into()];
    let id = ctx.create(&spec)?;
    let no = refused(ctx.copy_in(&id, "/root", &archive))?;
    ensure!(no.message.contains("marked read-only"), "{no}");
    // A volume of it may be written.
    ctx.copy_in(&id, "/vol", &archive)?;
    let mut spec = ctx.script("true");
    spec.binds = vec![format!("{}:/host:ro", ctx.place().display())];
    let id = ctx.create(&spec)?;
    let no = refused(ctx.copy_in(&id, "/host", &archive))?;
    ensure!(no.message.contains("marked read-only"), "{no}");
    ensure!(!ctx.place().join("x").exists());
    Ok(())
}

fn missing_paths_are_named(ctx: &Ctx) -> Result<()> {
    let id = ctx.create(&ctx.spec(&["true"]))?;
    let archive = Archive::new().file("x", "x")?.finish()?;
    let no = refused(ctx.copy_out(&id, "/no/such/file"))?;
    ensure!(no.status == Some(404), "{no}");
    ensure!(no.message.contains("Could not find the file /no/such/file in container"), "{no}");
    let no = refused(ctx.copy_in(&id, "/no/such/place", &archive))?;
    ensure!(no.status == Some(404) && no.message.contains("/no/such/place"), "{no}");
    let no = refused(ctx.copy_in(&id, "/etc/passwd", &archive))?;
    ensure!(no.message.contains("not a directory"), "{no}");
    let no = refused(ctx.copy_in(&id, "/root", b"this is no archive, however long it may be"))?;
    ensure!(no.status.is_some_and(|status| status >= 400), "{no}");
    let no = refused(ctx.copy_out("no-such-container", "/etc"))?;
    ensure!(no.status == Some(404), "{no}");
    Ok(())
}

fn a_path_is_described(ctx: &Ctx) -> Result<()> {
    let id = ctx.create(&ctx.spec(&["true"]))?;
    let archive = Archive::new().file("one", "12345")?.symlink("link", "one")?.finish()?;
    ctx.copy_in(&id, "/root", &archive)?;
    let stat = |path: &str| {
        let answer = ctx.api("HEAD", &format!("/containers/{id}/archive?path={path}"), None)?;
        ensure!(answer.status == 200, "{answer:?}");
        let header = answer.header("x-docker-container-path-stat").context("no header")?;
        anyhow::Ok(serde_json::from_slice::<serde_json::Value>(&decode(header)?)?)
    };
    let one = stat("/root/one")?;
    ensure!(one["name"] == "one" && one["size"] == 5 && one["mode"] == 0o640, "{one}");
    ensure!(one["linkTarget"] == "", "{one}");
    let mtime = one["mtime"].as_str().unwrap_or_default();
    ensure!(mtime.starts_with("2001-09-09T01:46:40Z"), "{one}");
    let link = stat("/root/link")?;
    // Go's bit for links.
    ensure!(link["mode"].as_u64().is_some_and(|mode| mode & (1 << 27) != 0), "{link}");
    ensure!(link["linkTarget"] == "/root/one", "{link}");
    let directory = stat("/root")?;
    ensure!(directory["mode"].as_u64().is_some_and(|mode| mode & (1 << 31) != 0), "{directory}");
    Ok(())
}

/// Base64, as the header has it.
fn decode(text: &str) -> Result<Vec<u8>> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for byte in text.trim_end_matches('=').bytes() {
        let value = alphabet.iter().position(|known| *known == byte).context("no base64")?;
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Ok(bytes)
}

/// Everything in a directory of the host that a container must not reach.
fn untouched(place: &Path) -> Result<()> {
    let names: Vec<_> =
        std::fs::read_dir(place)?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(names == ["secret"], "{names:?}");
    ensure!(std::fs::read_to_string(place.join("secret"))? == "secret");
    Ok(())
}

fn cve_2018_15664_a_link_does_not_lead_out(ctx: &Ctx) -> Result<()> {
    let host = ctx.place().display().to_string();
    std::fs::write(ctx.place().join("secret"), "secret")?;
    let id = ctx.idle()?;
    // The link's target is a directory of the host, and none in the container.
    ctx.inside(&id, &["ln", "-s", &host, "/link"])?;
    let archive = Archive::new().file("evil", "evil")?.finish()?;
    refused(ctx.copy_in(&id, "/link", &archive))?;
    refused(ctx.copy_out(&id, "/link/secret"))?;
    untouched(ctx.place())?;
    // Once the container has that directory itself, it is the one that is meant.
    ctx.inside(&id, &["mkdir", "-p", &host])?;
    ctx.copy_in(&id, "/link", &archive)?;
    ensure!(ctx.inside(&id, &["cat", &format!("{host}/evil")])? == "evil");
    untouched(ctx.place())
}

fn cve_2018_15664_a_racing_link_does_not_lead_out(ctx: &Ctx) -> Result<()> {
    std::fs::write(ctx.place().join("secret"), "secret")?;
    let host = ctx.place().display();
    let script = format!(
        "mkdir /dir; ln -s {host} /link; echo up; \
         while :; do mv /dir /swap; mv /link /dir; mv /dir /link; mv /swap /dir; done"
    );
    let id = ctx.start_until(&ctx.script(&script), "up")?;
    let archive = Archive::new().file("evil", "evil")?.finish()?;
    for _ in 0..50 {
        // Either it finds the directory or it does not: outside is what it never finds.
        let _ = ctx.copy_in(&id, "/dir", &archive);
        if let Ok(found) = ctx.copy_out(&id, "/dir/secret") {
            anyhow::bail!("the host's file came out: {:?}", entries(&found)?);
        }
    }
    ctx.kill(&id, "KILL")?;
    untouched(ctx.place())
}

fn hostile_archives_stay_inside(ctx: &Ctx) -> Result<()> {
    std::fs::write(ctx.place().join("secret"), "secret")?;
    let id = ctx.create(&ctx.spec(&["true"]))?;
    let host = ctx.place().display().to_string();
    let up = format!("{}{}", "../".repeat(12), host.trim_start_matches('/'));
    let archives = [
        Archive::new().file(&format!("{up}/evil"), "evil")?,
        Archive::new().file(&format!("{host}/evil"), "evil")?,
        Archive::new().symlink("out", &host)?.file("out/evil", "evil")?,
        Archive::new().symlink("out", &up)?.file("out/evil", "evil")?,
        Archive::new().hard_link("linked", &format!("{host}/secret"))?.file("linked", "evil")?,
        Archive::new().hard_link("linked", &format!("{up}/secret"))?.file("linked", "evil")?,
        Archive::new().symlink("a", "/")?.symlink("a/b", &host)?.file("a/b/evil", "evil")?,
    ];
    for (number, archive) in archives.into_iter().enumerate() {
        // Refused or contained: both are fine.
        let _ = ctx.copy_in(&id, "/root", &archive.finish()?);
        untouched(ctx.place()).with_context(|| format!("archive {number}"))?;
    }
    Ok(())
}

fn cve_2019_14271_no_code_of_the_container_is_loaded(ctx: &Ctx) -> Result<()> {
    // A library that leaves a mark where it is loaded, under the names that the C library looks for.
    let source = ctx.place().join("mark.c");
    let library = ctx.place().join("mark.so");
    let mark = ctx.place().join("mark");
    let code = format!(
        "#include <fcntl.h>\n__attribute__((constructor)) static void mark(void) {{\n\
         open(\"{}\", O_CREAT | O_WRONLY, 0600); open(\"/mark\", O_CREAT | O_WRONLY, 0600); }}\n",
        mark.display()
    );
    std::fs::write(&source, code)?;
    let compiled = std::process::Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status()
        .context("run cc")?;
    ensure!(compiled.success(), "{compiled}");
    let mut spec = ctx.script(crate::context::IDLE);
    spec.binds = vec![format!("{}:/from:ro", ctx.place().display())];
    let id = ctx.start_until(&spec, "up")?;
    let script = "for d in /lib /usr/lib /lib/x86_64-linux-gnu /usr/lib/x86_64-linux-gnu; do \
        mkdir -p $d; for n in files compat dns systemd; do cp /from/mark.so $d/libnss_$n.so.2; \
        done; done; echo 'passwd: files compat systemd' > /etc/nsswitch.conf";
    ctx.inside(&id, &["sh", "-c", script])?;
    ctx.copy_in(&id, "/root", &Archive::new().file("one", "one")?.finish()?)?;
    entries(&ctx.copy_out(&id, "/etc")?)?;
    ensure!(!mark.exists(), "a library of the container was loaded");
    let exec = ctx.exec(&id, &Exec::new(&["ls", "/mark"]))?;
    ensure!(exec.code != 0, "a library of the container was loaded: {exec:?}");
    Ok(())
}

fn the_command_line_copies_files_and_directories(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle()?;
    let here = |name: &str| ctx.place().join(name).display().to_string();
    std::fs::create_dir_all(here("tree/sub"))?;
    std::fs::write(here("tree/sub/file"), "deep\n")?;
    std::fs::write(here("one"), "one\n")?;
    let cli = ctx.cli()?;
    cli.text(&["cp", &here("one"), &format!("{id}:/root/renamed")])?;
    cli.text(&["cp", &here("tree"), &format!("{id}:/root")])?;
    cli.text(&["cp", &format!("{}/.", here("tree")), &format!("{id}:/root/flat")])?;
    let script = "cat /root/renamed /root/tree/sub/file /root/flat/sub/file";
    ensure!(ctx.inside(&id, &["sh", "-c", script])? == "one\ndeep\ndeep\n");
    cli.text(&["cp", &format!("{id}:/root/tree"), &here("back")])?;
    ensure!(std::fs::read_to_string(here("back/sub/file"))? == "deep\n");
    cli.text(&["cp", &format!("{id}:/root/renamed"), &here("single")])?;
    ensure!(std::fs::read_to_string(here("single"))? == "one\n");
    let no = cli.text(&["cp", &format!("{id}:/none"), &here("none")]);
    ensure!(refused(no)?.message.contains("Could not find the file /none"));
    Ok(())
}
