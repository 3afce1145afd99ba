//! `cargo xtask install`: the programs and the guest in one directory, where they find each other, with
//! links in `bin` and `sbin`, the systemd unit, manual pages and completions.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{cache, release, root, step};

const PROGRAMS: [&str; 5] =
    ["caisson", "caissond", "caisson-supervisor", "caisson-init", "caisson-fsd"];
const GUEST: [&str; 3] = ["kernel", "initramfs", "version.json"];
/// (link, what it leads to), below the prefix.
const LINKS: [(&str, &str); 2] =
    [("bin/caisson", "../lib/caisson/caisson"), ("sbin/caissond", "../lib/caisson/caissond")];

/// Where things go.
pub struct Place {
    /// What they are below on the machine that runs them, such as `/usr/local`.
    pub prefix: PathBuf,
    /// What stands for that machine's root here, when a package is made.
    pub destination: Option<PathBuf>,
}

/// Installs what `cargo xtask build` has made.
pub fn run(place: &Place) -> Result<()> {
    ensure!(place.prefix.is_absolute(), "--prefix {:?} is not absolute", place.prefix);
    let base = match &place.destination {
        Some(root) => root.join(place.prefix.strip_prefix("/").unwrap_or(&place.prefix)),
        None => place.prefix.clone(),
    };
    copy_programs(&release(), &base)?;
    links(&base)?;
    unit(&place.prefix, &base)?;
    manual(&base.join("share"))?;
    println!("installed below {}", base.display());
    if place.destination.is_none() {
        println!(
            "start the daemon: systemctl daemon-reload && systemctl enable --now caissond\n\
             or without systemd: {}/sbin/caissond",
            place.prefix.display()
        );
    }
    Ok(())
}

fn copy_programs(from: &Path, base: &Path) -> Result<()> {
    let library = base.join("lib/caisson");
    make(&library.join("guest"))?;
    for name in PROGRAMS {
        copy(&from.join(name), &library.join(name), 0o755)?;
    }
    for name in GUEST {
        let name = Path::new("guest").join(name);
        copy(&from.join(&name), &library.join(&name), 0o644)?;
    }
    Ok(())
}

/// Whole, and in place of one that may be running.
fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let content = fs::read(from)
        .with_context(|| format!("read {}: run `cargo xtask build`", from.display()))?;
    cache::put(to, &content)?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))
        .with_context(|| format!("set the mode of {}", to.display()))
}

fn links(base: &Path) -> Result<()> {
    for (link, target) in LINKS {
        let link = base.join(link);
        make(link.parent().context("a link's directory")?)?;
        let fresh = link.with_extension("new");
        // One that an interrupted installation left.
        let _ = fs::remove_file(&fresh);
        symlink(target, &fresh).with_context(|| format!("link {}", fresh.display()))?;
        fs::rename(&fresh, &link).with_context(|| format!("rename to {}", link.display()))?;
    }
    Ok(())
}

fn unit(prefix: &Path, base: &Path) -> Result<()> {
    let path = root().join("packaging/caissond.service");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let text = text.replace("@PREFIX@", &prefix.display().to_string());
    let directory = base.join("lib/systemd/system");
    make(&directory)?;
    cache::put(&directory.join("caissond.service"), text.as_bytes())
}

fn manual(share: &Path) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    let share = std::path::absolute(share)?;
    command.current_dir(root()).args(["run", "--quiet", "--package", "caisson-manual", "--"]);
    step("write manual pages and completions", command.arg(share))
}

fn make(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_links_are_replaced_whole() {
        let (from, base) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(from.path().join("guest")).unwrap();
        let write = |text: &str| {
            PROGRAMS.iter().for_each(|name| fs::write(from.path().join(name), text).unwrap());
            let guest = from.path().join("guest");
            GUEST.iter().for_each(|name| fs::write(guest.join(name), text).unwrap());
        };
        for text in ["first", "second"] {
            write(text);
            copy_programs(from.path(), base.path()).unwrap();
            links(base.path()).unwrap();
            let program = base.path().join("bin/caisson");
            assert_eq!(fs::read_to_string(&program).unwrap(), text);
            assert_eq!(fs::metadata(&program).unwrap().permissions().mode() & 0o777, 0o755);
            let kernel = base.path().join("lib/caisson/guest/kernel");
            assert_eq!(fs::read_to_string(kernel).unwrap(), text);
        }
    }

    #[test]
    fn the_unit_leaves_containers_alone() {
        let base = tempfile::tempdir().unwrap();
        unit(Path::new("/opt/caisson"), base.path()).unwrap();
        let path = base.path().join("lib/systemd/system/caissond.service");
        let text = fs::read_to_string(path).unwrap();
        for line in ["Type=notify", "Delegate=yes", "KillMode=process"] {
            assert!(text.lines().any(|have| have == line), "{line} is missing");
        }
        assert!(text.contains("ExecStart=/opt/caisson/lib/caisson/caissond\n"), "{text}");
    }
}
