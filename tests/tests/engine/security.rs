//! Known holes of container runtimes, by number: what an image, a volume or a container's own program could
//! do to the host there.

use std::os::unix::fs::symlink;

use anyhow::{Result, ensure};
use caisson_tests::engine::{Exec, Spec};

use crate::cases;
use crate::context::{Ctx, IDLE};

cases! {
    bollard: [
        cve_2019_5736_the_programs_of_the_host_are_not_reached,
        cve_2024_21626_no_directory_of_the_host_is_entered,
        cve_2025_52565_the_console_is_not_where_a_link_says,
        cve_2025_52881_the_proc_of_the_image_is_not_trusted,
        the_image_cannot_redirect_what_is_mounted,
    ],
    // The reference has this hole: runc before 1.2.8 mounts the link's target.
    caisson: [
        cve_2025_31133_a_masked_path_is_not_what_a_link_says,
    ],
}

fn cve_2019_5736_the_programs_of_the_host_are_not_reached(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle()?;
    // An exec whose program is the one that starts it: what it is then is nothing of the host's.
    let script = "for p in /proc/[0-9]*/exe; do readlink $p; done; \
        ( echo x > /proc/1/exe ) 2> /dev/null && echo written; true";
    let seen = ctx.inside(&id, &["sh", "-c", script])?;
    ensure!(!seen.contains("caisson") && !seen.contains("runc"), "{seen}");
    ensure!(!seen.contains("written"), "{seen}");
    let exec = ctx.exec(&id, &Exec::new(&["/proc/self/exe", "--version"]));
    if let Ok(finished) = exec {
        ensure!(!finished.stdout.contains("caisson"), "{finished:?}");
    }
    ensure!(ctx.inside(&id, &["echo", "fine"])? == "fine\n");
    Ok(())
}

fn cve_2024_21626_no_directory_of_the_host_is_entered(ctx: &Ctx) -> Result<()> {
    // The first descriptors are enough where a guest must boot for each.
    let last = if ctx.kind == caisson_tests::Type::Process { 12 } else { 4 };
    let id = ctx.idle()?;
    for number in 3..=last {
        let path = format!("/proc/self/fd/{number}");
        let mut exec = Exec::new(&["sh", "-c", "pwd; ls ../../.. 2>&1"]);
        exec.workdir = path.clone();
        if let Ok(finished) = ctx.exec(&id, &exec) {
            ensure!(
                finished.code != 0 || !finished.stdout.contains("caisson"),
                "{path}: {finished:?}"
            );
            ensure!(!finished.stdout.contains("home"), "{path}: {finished:?}");
        }
        let mut spec = ctx.script("pwd; ls ../../..");
        spec.workdir = path.clone();
        if let Ok(finished) = ctx.run(&spec, &[]) {
            ensure!(
                finished.code != 0 || !finished.stdout.contains("home"),
                "{path}: {finished:?}"
            );
        }
    }
    Ok(())
}

/// Runs with a hostile directory over `/dev`. Whether it starts or not, `check` sees what it wrote.
fn with_dev(ctx: &Ctx, spec: &mut Spec) -> Result<Option<String>> {
    spec.binds = vec![format!("{}:/dev", ctx.place().display())];
    Ok(ctx.run(spec, &[]).ok().map(|finished| finished.stdout + &finished.stderr))
}

fn cve_2025_31133_a_masked_path_is_not_what_a_link_says(ctx: &Ctx) -> Result<()> {
    // Paths are masked with the null device: here it is a link to something that is not to be written.
    symlink("/proc/sys/kernel/core_pattern", ctx.place().join("null"))?;
    let script = "for p in /proc/kcore /proc/keys /proc/timer_list /proc/latency_stats; do \
        if [ -f $p ] && [ -s $p ]; then head -c 100 $p; fi; done; \
        grep core_pattern /proc/self/mountinfo; echo seen";
    let mut spec = ctx.script(script);
    if let Some(output) = with_dev(ctx, &mut spec)? {
        let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern")?;
        ensure!(!output.contains(pattern.trim()), "{output}");
        ensure!(!output.contains("core_pattern"), "{output}");
    }
    Ok(())
}

fn cve_2025_52565_the_console_is_not_where_a_link_says(ctx: &Ctx) -> Result<()> {
    for name in ["console", "ptmx", "pts"] {
        let _ = std::fs::remove_file(ctx.place().join(name));
        symlink("/proc/sys/kernel/core_pattern", ctx.place().join(name))?;
    }
    let mut spec = ctx.script("grep -c core_pattern /proc/self/mountinfo; echo seen");
    spec.tty = true;
    if let Some(output) = with_dev(ctx, &mut spec)? {
        ensure!(!output.contains("seen") || output.starts_with('0'), "{output}");
    }
    Ok(())
}

/// The shared image with some of its directories replaced by links.
fn image(ctx: &Ctx, part: &str, links: &[(&str, &str)]) -> Result<String> {
    let place = tempfile::tempdir()?;
    let rootfs = caisson_tests::busybox(place.path())?;
    for (name, target) in links {
        // It may not be in the image at all.
        let _ = std::fs::remove_dir(rootfs.join(name));
        symlink(target, rootfs.join(name))?;
    }
    let mut archive = tar::Builder::new(Vec::new());
    archive.follow_symlinks(false);
    archive.append_dir_all(".", &rootfs)?;
    let image = ctx.image(part);
    ctx.import(&archive.into_inner()?, &image, "sh")?;
    Ok(image)
}

fn cve_2025_52881_the_proc_of_the_image_is_not_trusted(ctx: &Ctx) -> Result<()> {
    // What the runtime writes to /proc must not end in a file that the image or a mount put there.
    let mut spec = ctx.script("ls /evil; grep ' /proc ' /proc/mounts; echo seen");
    spec.image = image(ctx, "proc", &[("proc", "/evil")])?;
    let host = ctx.place().join("proc");
    std::fs::create_dir_all(host.join("self/attr"))?;
    for name in ["self/attr/exec", "self/oom_score_adj", "self/setgroups"] {
        std::fs::write(host.join(name), "")?;
    }
    spec.binds = vec![format!("{}:/evil", host.display())];
    // Refused, or a real /proc.
    let _ = ctx.run(&spec, &[]);
    for name in ["self/attr/exec", "self/oom_score_adj", "self/setgroups"] {
        ensure!(std::fs::read(host.join(name))?.is_empty(), "{name} was written");
    }
    // A mount over /proc itself is refused, or is not what is written to.
    let mut spec = ctx.script(IDLE);
    spec.binds = vec![format!("{}:/proc", host.display())];
    let started = ctx.create(&spec).and_then(|id| ctx.start(&id));
    ensure!(started.is_err(), "a bind over /proc was accepted");
    for name in ["self/attr/exec", "self/oom_score_adj", "self/setgroups"] {
        ensure!(std::fs::read(host.join(name))?.is_empty(), "{name} was written");
    }
    Ok(())
}

fn the_image_cannot_redirect_what_is_mounted(ctx: &Ctx) -> Result<()> {
    let host = ctx.place().join("secret");
    std::fs::create_dir(&host)?;
    // The image's targets of mounts are links to a directory of the host.
    let target = host.display().to_string();
    let links = ["data", "vol", "dev"].map(|name| (name, target.as_str()));
    let mut spec = ctx.script("echo x > /data/x; echo y > /vol/y; echo seen");
    spec.image = image(ctx, "links", &links)?;
    spec.volumes = vec!["/vol".into()];
    spec.tmpfs = vec!["/data".into()];
    let _ = ctx.run(&spec, &[]);
    let left: Vec<_> = std::fs::read_dir(&host)?.flatten().map(|entry| entry.path()).collect();
    ensure!(left.is_empty(), "{left:?}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains(&*host.to_string_lossy()), "mounted at {host:?}");
    Ok(())
}
