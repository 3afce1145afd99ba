//! Images: made of containers, moved as archives, named and removed.

use anyhow::{Context, Result, ensure};
use bollard::query_parameters::ListImagesOptions;
use caisson_tests::engine::{IMAGE, Spec, refused};
use serde_json::json;

use crate::archive::{Archive, entries};
use crate::cases;
use crate::context::Ctx;

cases! {
    both: [
        a_container_becomes_an_image,
        a_container_is_exported_and_imported,
        an_image_is_saved_and_loaded,
        changes_are_told,
    ],
    bollard: [
        a_commit_takes_changes_and_keeps_the_rest,
        names_are_given_and_taken,
        an_image_in_use_is_not_removed,
        an_image_is_inspected_and_its_history_told,
        unknown_images_are_refused,
        broken_archives_leave_nothing,
        an_image_of_another_machine_is_refused,
        an_image_without_a_command_needs_one,
    ],
}

fn a_container_becomes_an_image(ctx: &Ctx) -> Result<()> {
    let script = "echo kept > /root/kept; rm /etc/group; mkdir -m 700 /root/d; \
        chown 33:34 /root/d; ln -s kept /root/link";
    let mut spec = ctx.named("source", &["sh", "-c", script]);
    spec.env = vec!["WORD=of the source".into()];
    spec.volumes = vec!["/vol".into()];
    ctx.output(&spec)?;
    let image = ctx.image("made");
    let id = ctx.commit(&spec.name, &image)?;
    ensure!(id.starts_with("sha256:"), "{id}");
    ctx.remove(&spec.name, false, true)?;
    let script = "cat /root/link; ls /etc/group; stat -c '%a %u:%g' /root/d; echo $WORD";
    let spec = Spec { image, ..ctx.script(script) };
    let finished = ctx.run(&spec, &[])?;
    ensure!(finished.stdout == "kept\n700 33:34\nof the source\n", "{finished:?}");
    ensure!(finished.stderr.contains("No such file"), "{finished:?}");
    Ok(())
}

fn a_container_is_exported_and_imported(ctx: &Ctx) -> Result<()> {
    let spec = ctx.named("source", &["sh", "-c", "echo mine > /root/mine; rm /etc/group"]);
    ctx.output(&spec)?;
    let archive = ctx.export(&spec.name)?;
    let found = entries(&archive)?;
    ensure!(found.get("root/mine").is_some_and(|entry| entry.content == "mine\n"));
    ensure!(found.contains_key("bin/busybox") && !found.contains_key("etc/group"));
    let image = ctx.image("imported");
    ctx.import(&archive, &image, "env")?;
    let spec = Spec { image, ..ctx.script("cat /root/mine; stat -c %u:%g /data") };
    ensure!(ctx.output(&spec)? == "mine\n33:34\n");
    // Without arguments it runs what it was imported with.
    let output = ctx.output(&Spec { args: Vec::new(), ..spec })?;
    ensure!(output.contains("PATH="), "{output}");
    Ok(())
}

fn an_image_is_saved_and_loaded(ctx: &Ctx) -> Result<()> {
    let spec = ctx.named("source", &["sh", "-c", "echo layer > /root/layer"]);
    ctx.output(&spec)?;
    let (image, second) = (ctx.image("saved"), ctx.image("second"));
    let id = ctx.commit(&spec.name, &image)?;
    ctx.tag(&image, &second)?;
    let archive = ctx.save(&[&image, &second])?;
    ensure!(entries(&archive)?.contains_key("manifest.json"));
    ctx.remove(&spec.name, false, false)?;
    ctx.remove_image(&image)?;
    ctx.remove_image(&second)?;
    let no = refused(ctx.inspect_image(&id))?;
    ensure!(no.message.to_lowercase().contains("no such image"), "{no}");
    ctx.load(&archive)?;
    let loaded = ctx.inspect_image(&second)?;
    ensure!(loaded["Id"] == id.as_str(), "{loaded}, was {id}");
    let images = ctx.images()?;
    ensure!(images.contains(&image) && images.contains(&second), "{images:?}");
    let spec = Spec { image, ..ctx.spec(&["cat", "/root/layer"]) };
    ensure!(ctx.output(&spec)? == "layer\n");
    Ok(())
}

fn changes_are_told(ctx: &Ctx) -> Result<()> {
    let script = "echo x > /etc/new; rm /etc/group; mkdir /made; echo y > /made/file; \
        chmod 700 /data; echo up; trap 'exit 0' TERM; sleep 600 & wait";
    let id = ctx.start_until(&ctx.script(script), "up")?;
    let check = || {
        let mut changes = ctx.changes(&id)?;
        changes.sort();
        let wanted = ["A /etc/new", "A /made", "A /made/file", "C /data", "C /etc", "D /etc/group"];
        ensure!(changes == wanted, "{changes:?}");
        anyhow::Ok(())
    };
    check()?;
    ctx.stop(&id, Some(60))?;
    check()
}

fn a_commit_takes_changes_and_keeps_the_rest(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.named("source", &["true"]);
    spec.env = vec!["A=1".into()];
    spec.user = "web".into();
    spec.workdir = "/data".into();
    ctx.create(&spec)?;
    let image = ctx.image("made");
    let (repo, tag) = image.split_once(':').context("a tag")?;
    let changes = "CMD%20%5B%22id%22%5D%0AENV%20B%3D2%0ALABEL%20made%3Dyes%0AEXPOSE%2081";
    let path = format!(
        "/commit?container={}&repo={repo}&tag={tag}&comment=why&author=me&changes={changes}",
        spec.name
    );
    let answer = ctx.api("POST", &path, Some(json!({})))?;
    ensure!(answer.status == 201, "{}", answer.message());
    let made = ctx.inspect_image(&image)?;
    let config = &made["Config"];
    ensure!(config["Cmd"] == json!(["id"]) && config["User"] == "web", "{config}");
    ensure!(config["WorkingDir"] == "/data" && config["Labels"]["made"] == "yes", "{config}");
    let env = config["Env"].as_array().context("no environment")?;
    ensure!(env.contains(&json!("A=1")) && env.contains(&json!("B=2")), "{config}");
    ensure!(config["ExposedPorts"]["81/tcp"].is_object(), "{config}");
    ensure!(made["Comment"] == "why" && made["Author"] == "me", "{made}");
    let spec = Spec { image, args: Vec::new(), ..ctx.spec(&[]) };
    ensure!(ctx.output(&spec)?.starts_with("uid=33(web)"));
    let answer = ctx.api("POST", "/commit?container=no-such-container", Some(json!({})))?;
    ensure!(answer.status == 404, "{answer:?}");
    Ok(())
}

/// An image of the case's own: one file more than the shared one.
fn own(ctx: &Ctx, part: &str) -> Result<(String, String)> {
    let id = ctx.create(&ctx.spec(&["true"]))?;
    let archive = Archive::new().file("own", &ctx.name(part))?.finish()?;
    ctx.copy_in(&id, "/root", &archive)?;
    let image = ctx.image(part);
    let made = ctx.commit(&id, &image)?;
    ctx.remove(&id, false, false)?;
    Ok((image, made))
}

fn names_are_given_and_taken(ctx: &Ctx) -> Result<()> {
    let (image, id) = own(ctx, "first")?;
    let other = ctx.image("other");
    ctx.tag(&image, &other)?;
    ensure!(ctx.inspect_image(&other)?["Id"] == id.as_str());
    // By its id it is not removed while it has several names.
    let no = refused(ctx.remove_image(&id))?;
    ensure!(no.status == Some(409) && no.message.contains("must be forced"), "{no}");
    ctx.remove_image(&image)?;
    let no = refused(ctx.inspect_image(&image))?;
    ensure!(no.status == Some(404) && no.message.contains("No such image"), "{no}");
    ensure!(ctx.inspect_image(&other)?["Id"] == id.as_str());
    // A name moves to another image.
    let (second, second_id) = own(ctx, "second")?;
    ctx.tag(&second, &other)?;
    ensure!(ctx.inspect_image(&other)?["Id"] == second_id.as_str());
    let nameless = ctx.inspect_image(&id)?;
    ensure!(nameless["RepoTags"].as_array().is_none_or(Vec::is_empty), "{nameless}");
    let short = id.trim_start_matches("sha256:").get(..12).context("a short id")?;
    ctx.remove_image(short)?;
    let no = refused(ctx.tag("no-such-image:1", "x:1"))?;
    ensure!(no.status == Some(404), "{no}");
    for bad in ["UPPER:1", "a:b:c", "x:%2e%2e%2fetc"] {
        let (repo, tag) = bad.split_once(':').context("a tag")?;
        let path = format!("/images/{IMAGE}/tag?repo={repo}&tag={tag}");
        let answer = ctx.api("POST", &path, None)?;
        ensure!(answer.status == 400 || ctx.reference, "{bad}: {answer:?}");
        ensure!(answer.status >= 400, "{bad}: {answer:?}");
    }
    Ok(())
}

fn an_image_in_use_is_not_removed(ctx: &Ctx) -> Result<()> {
    let (image, id) = own(ctx, "used")?;
    let mut spec = ctx.script(crate::context::IDLE);
    spec.image = image.clone();
    let user = ctx.start_until(&spec, "up")?;
    let no = refused(ctx.remove_image(&image))?;
    ensure!(no.status == Some(409), "{no}");
    let running = ["is using its referenced image", "is being used by running"];
    ensure!(running.iter().any(|words| no.message.contains(words)), "{no}");
    ctx.stop(&user, Some(60))?;
    let no = refused(ctx.remove_image(&image))?;
    ensure!(no.status == Some(409), "{no}");
    ctx.remove(&user, false, false)?;
    ctx.remove_image(&image)?;
    ensure!(refused(ctx.inspect_image(&id))?.status == Some(404));
    Ok(())
}

fn an_image_is_inspected_and_its_history_told(ctx: &Ctx) -> Result<()> {
    let (image, id) = own(ctx, "known")?;
    let inspect = ctx.inspect_image(&image)?;
    ensure!(inspect["Os"] == "linux" && inspect["Architecture"] == "amd64", "{inspect}");
    ensure!(inspect["RepoTags"] == json!([image]), "{inspect}");
    let layers = inspect["RootFS"]["Layers"].as_array().context("no layers")?;
    ensure!(layers.len() == 2 && inspect["RootFS"]["Type"] == "layers", "{inspect}");
    ensure!(inspect["Size"].as_i64().is_some_and(|size| size > 100_000), "{inspect}");
    let history = ctx.bollard.call(ctx.bollard.docker().image_history(&image))?;
    ensure!(history.len() == 2 && history[0].id == id, "{history:?}");
    let base = ctx.inspect_image(IMAGE)?;
    ensure!(base["RootFS"]["Layers"][0] == layers[0], "{inspect}");
    let listed = |filter: &str, value: &str| {
        let filters = [(filter.to_string(), vec![value.to_string()])].into();
        let options = ListImagesOptions { filters: Some(filters), ..ListImagesOptions::default() };
        let images = ctx.bollard.call(ctx.bollard.docker().list_images(Some(options)))?;
        anyhow::Ok(images.into_iter().map(|image| image.id).collect::<Vec<_>>())
    };
    ensure!(listed("reference", &image)? == std::slice::from_ref(&id));
    ensure!(listed("reference", "no-such-*")?.is_empty());
    ensure!(!listed("dangling", "true")?.contains(&id));
    Ok(())
}

fn unknown_images_are_refused(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.named("none", &["true"]);
    spec.image = "no-such-image:1".into();
    let no = refused(ctx.create(&spec))?;
    ensure!(no.status == Some(404), "{no}");
    ensure!(no.message.contains("No such image: no-such-image:1"), "{no}");
    ensure!(ctx.own()?.is_empty());
    let no = refused(ctx.remove_image("no-such-image:1"))?;
    ensure!(no.status == Some(404), "{no}");
    spec.image = "Not A Name".into();
    let no = refused(ctx.create(&spec))?;
    ensure!(no.status == Some(400) && no.message.contains("invalid reference format"), "{no}");
    Ok(())
}

fn broken_archives_leave_nothing(ctx: &Ctx) -> Result<()> {
    let text = "this is not an archive ".repeat(100);
    ensure!(refused(ctx.load(text.as_bytes())).is_ok());
    let manifest = r#"[{"Config":"none.json","RepoTags":["x:1"],"Layers":["none.tar"]}]"#;
    let archive = Archive::new().file("manifest.json", manifest)?.finish()?;
    let _ = refused(ctx.load(&archive))?;
    let good = ctx.save(&[IMAGE])?;
    let _ = refused(ctx.load(&good[..good.len() / 2]))?;
    let after = ctx.images()?;
    ensure!(!after.contains(&"x:1".to_string()), "{after:?}");
    Ok(())
}

fn an_image_of_another_machine_is_refused(ctx: &Ctx) -> Result<()> {
    let image = ctx.image("foreign");
    let (name, tag) = image.split_once(':').context("a tag")?;
    let layer = Archive::new().file("program", "not for this machine\n")?.finish()?;
    let path = ctx.place().join("layer.tar");
    std::fs::write(&path, &layer)?;
    let sum = std::process::Command::new("sha256sum").arg(&path).output()?;
    let sum = String::from_utf8(sum.stdout)?.split(' ').next().unwrap_or_default().to_string();
    let config = json!({
        "architecture": "arm64",
        "os": "linux",
        "config": {"Cmd": ["/program"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]},
        "history": [{"created_by": "test"}],
    });
    let manifest = json!([{
        "Config": "config.json",
        "RepoTags": [format!("{name}:{tag}")],
        "Layers": ["layer/layer.tar"],
    }]);
    let archive = Archive::new()
        .file("manifest.json", &manifest.to_string())?
        .file("config.json", &config.to_string())?
        .directory("layer")?
        .file("layer/layer.tar", &String::from_utf8(layer)?)?
        .finish()?;
    let mut spec = ctx.spec(&[]);
    spec.image = image;
    let no = refused(ctx.load(&archive).and_then(|()| {
        let id = ctx.create(&spec)?;
        ctx.start(&id)
    }))?;
    // Docker finds out when it cannot be executed.
    ensure!(no.message.contains("arm64") || ctx.reference, "{no}");
    Ok(())
}

fn an_image_without_a_command_needs_one(ctx: &Ctx) -> Result<()> {
    let image = ctx.image("bare");
    let (repo, tag) = image.split_once(':').context("a tag")?;
    let place = tempfile::tempdir()?;
    let archive = caisson_tests::busybox_archive(place.path())?;
    let options = bollard::query_parameters::CreateImageOptions {
        from_src: Some("-".into()),
        repo: Some(repo.into()),
        tag: Some(tag.into()),
        ..Default::default()
    };
    let body = bollard::body_full(archive.into());
    let stream = ctx.bollard.docker().create_image(Some(options), Some(body), None);
    ctx.bollard.call(async {
        use futures_util::TryStreamExt;
        stream.try_collect::<Vec<_>>().await
    })?;
    let spec = Spec { image: image.clone(), ..ctx.spec(&[]) };
    let no = refused(ctx.create(&spec))?;
    ensure!(
        no.status == Some(400) && no.message.to_lowercase().contains("no command specified"),
        "{no}"
    );
    ensure!(ctx.output(&Spec { image, ..ctx.spec(&["echo", "fine"]) })? == "fine\n");
    Ok(())
}
