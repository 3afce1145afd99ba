//! Binds and volumes.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};
use bollard::models::VolumeCreateOptions;
use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions};
use caisson_tests::engine::{at, refused};
use serde_json::json;

use crate::cases;
use crate::context::Ctx;

cases! {
    both: [
        binds_are_shared_and_read_only_ones_refuse,
        a_named_volume_outlives_its_containers,
        a_new_volume_has_what_the_image_has_there,
        removing_with_volumes_spares_named_ones,
    ],
    bollard: [
        a_missing_source_of_a_bind_is_made_or_refused,
        volumes_come_from_another_container,
        a_volume_in_use_is_not_removed,
        two_running_containers_share_a_volume,
        a_volume_is_made_listed_and_removed,
        hostile_volume_names_are_refused,
        mounts_are_inspected_as_given,
    ],
}

fn binds_are_shared_and_read_only_ones_refuse(ctx: &Ctx) -> Result<()> {
    let place = ctx.place();
    fs::write(place.join("in"), "from the host\n")?;
    let script = "cat /both/in; echo from inside > /both/out; echo x > /ro/x; cat /one; \
        chown 33:34 /both/out; echo more >> /one";
    let mut spec = ctx.script(script);
    let path = place.display();
    spec.binds = vec![format!("{path}:/both"), format!("{path}:/ro:ro"), format!("{path}/in:/one")];
    let finished = ctx.run(&spec, &[])?;
    ensure!(finished.code == 0, "{finished:?}");
    ensure!(finished.stdout.matches("from the host\n").count() == 2, "{finished:?}");
    ensure!(finished.stderr.contains("Read-only file system"), "{finished:?}");
    ensure!(fs::read_to_string(place.join("out"))? == "from inside\n");
    ensure!(fs::read_to_string(place.join("in"))? == "from the host\nmore\n");
    let owner = fs::metadata(place.join("out"))?;
    ensure!((owner.uid(), owner.gid()) == (33, 34), "{owner:?}");
    ensure!(!place.join("x").exists());
    Ok(())
}

fn a_missing_source_of_a_bind_is_made_or_refused(ctx: &Ctx) -> Result<()> {
    let missing = ctx.place().join("missing");
    let mut spec = ctx.script("touch /made/here");
    spec.binds = vec![format!("{}:/made", missing.display())];
    ctx.output(&spec)?;
    ensure!(missing.join("here").exists());
    // The other way to ask for a bind does not make it.
    let mount = json!({"Type": "bind", "Source": ctx.place().join("none"), "Target": "/x"});
    let body =
        json!({"Image": spec.image, "Labels": spec.labels, "HostConfig": {"Mounts": [mount]}});
    let answer = ctx.api("POST", "/containers/create", Some(body))?;
    ensure!(answer.status == 400, "{answer:?}");
    ensure!(answer.message().contains("bind source path does not exist"), "{}", answer.message());
    ensure!(!ctx.place().join("none").exists());
    for (bind, wanted) in [("relative/path:/x", "relative/path"), ("/:/", "/")] {
        spec.binds = vec![bind.into()];
        let no = refused(ctx.create(&spec))?;
        ensure!(no.message.contains(wanted), "{bind}: {no}");
        ensure!(no.status == Some(400) || ctx.reference, "{bind}: {no}");
    }
    Ok(())
}

fn a_named_volume_outlives_its_containers(ctx: &Ctx) -> Result<()> {
    let volume = ctx.name("kept");
    let mut spec = ctx.named("first", &["sh", "-c", "echo one > /vol/file; chmod 640 /vol/file"]);
    spec.binds = vec![format!("{volume}:/vol")];
    ctx.output(&spec)?;
    ctx.remove(&spec.name, false, true)?;
    let mut spec = ctx.script("cat /vol/file; ls -l /vol/file; echo x > /vol/file");
    spec.binds = vec![format!("{volume}:/vol:ro")];
    let finished = ctx.run(&spec, &[])?;
    ensure!(finished.stdout.starts_with("one\n-rw-r-----"), "{finished:?}");
    ensure!(finished.stderr.contains("Read-only file system"), "{finished:?}");
    let found = ctx.bollard.call(ctx.bollard.docker().inspect_volume(&volume))?;
    let file = std::path::Path::new(&found.mountpoint).join("file");
    ensure!(fs::read_to_string(&file).with_context(|| file.display().to_string())? == "one\n");
    Ok(())
}

fn a_new_volume_has_what_the_image_has_there(ctx: &Ctx) -> Result<()> {
    // /data belongs to 33:34 in the image, /etc has files.
    let mut spec = ctx.script("stat -c %u:%g /data; cat /etc/group; ls /bare");
    spec.volumes = vec!["/data".into()];
    spec.binds = vec![format!("{}:/etc", ctx.name("full")), format!("{}:/bare", ctx.name("bare"))];
    let output = ctx.output(&spec)?;
    ensure!(output.starts_with("33:34\n"), "{output}");
    ensure!(output.ends_with("log:x:4:web\n"), "{output}");
    Ok(())
}

fn removing_with_volumes_spares_named_ones(ctx: &Ctx) -> Result<()> {
    let named = ctx.name("named");
    let mut spec = ctx.named("gone", &["true"]);
    spec.volumes = vec!["/nameless".into()];
    spec.binds = vec![format!("{named}:/named")];
    ctx.create(&spec)?;
    let inspect = ctx.inspect(&spec.name)?;
    let mounts = at(&inspect, "Mounts").as_array().context("no mounts")?.clone();
    let nameless = mounts.iter().find(|mount| mount["Destination"] == "/nameless");
    let nameless = nameless.and_then(|mount| mount["Name"].as_str()).context("no volume")?;
    ctx.remove(&spec.name, false, true)?;
    let docker = ctx.bollard.docker();
    ensure!(ctx.bollard.call(docker.inspect_volume(nameless)).is_err(), "{nameless} is left");
    ctx.bollard.call(docker.inspect_volume(&named))?;
    Ok(())
}

fn volumes_come_from_another_container(ctx: &Ctx) -> Result<()> {
    let mut first = ctx.named("first", &["sh", "-c", "echo mine > /vol/file"]);
    first.volumes = vec!["/vol".into()];
    first.binds = vec![format!("{}:/host", ctx.place().display())];
    ctx.output(&first)?;
    let mut spec = ctx.script("cat /vol/file; echo x > /host/x");
    spec.volumes_from = vec![first.name.clone()];
    ensure!(ctx.output(&spec)? == "mine\n");
    ensure!(ctx.place().join("x").exists());
    spec.volumes_from = vec![format!("{}:ro", first.name)];
    let finished = ctx.run(&spec, &[])?;
    ensure!(finished.stderr.contains("Read-only file system"), "{finished:?}");
    spec.volumes_from = vec!["no-such-container".into()];
    let no = refused(ctx.create(&spec))?;
    ensure!(no.message.to_lowercase().contains("no such container"), "{no}");
    Ok(())
}

fn a_volume_in_use_is_not_removed(ctx: &Ctx) -> Result<()> {
    let volume = ctx.name("used");
    let mut spec = ctx.named("user", &["true"]);
    spec.binds = vec![format!("{volume}:/vol")];
    ctx.create(&spec)?;
    let docker = ctx.bollard.docker();
    let remove = |force| {
        let options = RemoveVolumeOptions { force };
        ctx.bollard.call(docker.remove_volume(&volume, Some(options)))
    };
    let no = refused(remove(false))?;
    ensure!(no.status == Some(409) && no.message.contains("volume is in use"), "{no}");
    ctx.remove(&spec.name, false, false)?;
    remove(false)?;
    let no = refused(remove(false))?;
    ensure!(no.status == Some(404), "{no}");
    remove(true)
}

fn two_running_containers_share_a_volume(ctx: &Ctx) -> Result<()> {
    let volume = format!("{}:/vol", ctx.name("shared"));
    let one = ctx.idle_with(|spec| spec.binds = vec![volume.clone()])?;
    let two = ctx.idle_with(|spec| {
        // The other one is of the other type, where there are two.
        if !ctx.reference {
            spec.isolation = "process".into();
        }
        spec.binds = vec![volume.clone()];
    })?;
    ctx.inside(&one, &["sh", "-c", "echo one > /vol/a; mkdir /vol/d; mv /vol/a /vol/d/b"])?;
    ensure!(ctx.inside(&two, &["cat", "/vol/d/b"])? == "one\n");
    ctx.inside(&two, &["sh", "-c", "echo two > /vol/d/new; mv /vol/d/new /vol/d/b"])?;
    let read = "until [ \"$(cat /vol/d/b)\" = two ]; do :; done; ls /vol/d";
    ensure!(ctx.inside(&one, &["sh", "-c", read])? == "b\n");
    Ok(())
}

fn a_volume_is_made_listed_and_removed(ctx: &Ctx) -> Result<()> {
    let docker = ctx.bollard.docker();
    let name = ctx.name("made");
    let request = || VolumeCreateOptions {
        name: Some(name.clone()),
        labels: Some([ctx.label()].into()),
        ..VolumeCreateOptions::default()
    };
    let made = ctx.bollard.call(docker.create_volume(request()))?;
    ensure!(made.driver == "local" && made.name == name, "{made:?}");
    // The same again is the same volume.
    let again = ctx.bollard.call(docker.create_volume(request()))?;
    ensure!(again.mountpoint == made.mountpoint, "{again:?}");
    let (key, value) = ctx.label();
    let list = |filter: String| {
        let filters = [("label".to_string(), vec![filter])].into();
        let options = ListVolumesOptions { filters: Some(filters) };
        let volumes = ctx.bollard.call(docker.list_volumes(Some(options)))?.volumes;
        anyhow::Ok(volumes.unwrap_or_default().into_iter().map(|v| v.name).collect::<Vec<_>>())
    };
    ensure!(list(format!("{key}={value}"))? == std::slice::from_ref(&name));
    ensure!(list(format!("{key}=other"))?.is_empty());
    ctx.bollard.call(docker.remove_volume(&name, None::<RemoveVolumeOptions>))?;
    let no = refused(ctx.bollard.call(docker.inspect_volume(&name)))?;
    ensure!(no.status == Some(404) && no.message.contains("no such volume"), "{no}");
    Ok(())
}

fn hostile_volume_names_are_refused(ctx: &Ctx) -> Result<()> {
    for name in ["..", "a/b", ".hidden", "x\u{0}y", "-dash"] {
        let answer = ctx.api("POST", "/volumes/create", Some(json!({"Name": name})))?;
        ensure!(answer.status == 400, "{name:?}: {answer:?}");
    }
    let answer = ctx.api("DELETE", "/volumes/..%2f..%2fetc", None)?;
    ensure!(answer.status >= 300, "{answer:?}");
    Ok(())
}

fn mounts_are_inspected_as_given(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.named("mounted", &["true"]);
    let volume = ctx.name("vol");
    spec.binds = vec![format!("{}:/host:ro", ctx.place().display()), format!("{volume}:/vol")];
    ctx.create(&spec)?;
    let inspect = ctx.inspect(&spec.name)?;
    let mounts = at(&inspect, "Mounts").as_array().context("no mounts")?;
    let of = |target: &str| mounts.iter().find(|mount| mount["Destination"] == target);
    let bind = of("/host").context("no bind")?;
    ensure!(bind["Type"] == "bind" && bind["RW"] == false, "{bind}");
    ensure!(bind["Source"] == ctx.place().display().to_string(), "{bind}");
    ensure!(bind["Mode"] == "ro", "{bind}");
    let named = of("/vol").context("no volume")?;
    ensure!(named["Type"] == "volume" && named["RW"] == true, "{named}");
    ensure!(named["Name"] == volume.as_str() && named["Driver"] == "local", "{named}");
    ensure!(ctx.names(&[&format!("volume={volume}")])? == [spec.name.clone()]);
    Ok(())
}
