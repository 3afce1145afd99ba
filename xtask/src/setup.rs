//! From a fresh Debian 12 machine to built programs.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{guest, release, root, step, target};

/// A Debian package, and a file that shows it is there.
type Package = (&'static str, &'static str);

/// For the busybox image.
pub const BUSYBOX: Package = ("busybox-static", "/bin/busybox");
/// For the images that are made of Debian's packages.
pub const MMDEBSTRAP: Package = ("mmdebstrap", "/usr/bin/mmdebstrap");

/// For programs, guest, demo and tests.
const PACKAGES: [Package; 15] = [
    ("qemu-system-x86", "/usr/bin/qemu-system-x86_64"),
    ("linux-source-6.12", "/usr/src/linux-source-6.12.tar.xz"),
    BUSYBOX,
    ("nftables", "/usr/sbin/nft"),
    ("iproute2", "/usr/sbin/ip"),
    ("procps", "/usr/bin/pgrep"),
    ("curl", "/usr/bin/curl"),
    ("build-essential", "/usr/bin/make"),
    ("libcap-ng-dev", "/usr/include/cap-ng.h"),
    ("libelf-dev", "/usr/include/gelf.h"),
    ("flex", "/usr/bin/flex"),
    ("bison", "/usr/bin/bison"),
    ("bc", "/usr/bin/bc"),
    ("lz4", "/usr/bin/lz4"),
    ("xz-utils", "/usr/bin/xz"),
];

/// Packages of the programs that run once on a host.
const DYNAMIC: [&str; 3] = ["caisson", "caisson-daemon", "caisson-fsd"];
/// Programs that also run in the guest, or a thousand at a time: linked statically.
const STATIC: [&str; 3] = ["caisson-agent", "caisson-init", "caisson-supervisor"];
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Packages, programs and guest. The kernel is built beside the programs.
pub fn everything() -> Result<()> {
    packages()?;
    let kernel = std::thread::spawn(guest::kernel);
    let built = programs();
    let kernel = kernel.join().map_err(|_| anyhow::anyhow!("the kernel's build panicked"))?;
    built?;
    kernel?;
    guest::build().map(drop)
}

/// Installs the Debian packages that building and running need.
pub fn packages() -> Result<()> {
    packages_for(&PACKAGES)
}

/// Installs those of the packages that are missing.
pub fn packages_for(packages: &[Package]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|(_, shown_by)| !Path::new(shown_by).exists())
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet=2");
        command
    };
    step("apt-get update", apt().arg("update"))?;
    let what = format!("install {}", missing.join(" "));
    step(&what, apt().args(["install", "--yes", "--no-install-recommends"]).args(missing))
}

/// Builds the programs into `target/release`.
pub fn programs() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command.current_dir(root()).args(["build", "--release"]);
    for name in DYNAMIC {
        command.args(["--package", name]);
    }
    step("build the programs", &mut command)?;
    let directory = target().join("static");
    let mut command = Command::new(&cargo);
    command
        .current_dir(root())
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_TARGET_DIR", &directory)
        .args(["build", "--release", "--target", TRIPLE]);
    for name in STATIC {
        command.args(["--package", name]);
    }
    step("build the static programs", &mut command)?;
    for name in STATIC {
        let from = directory.join(TRIPLE).join("release").join(name);
        let to = release().join(name);
        // A running program's file cannot be written, but it can be replaced.
        let fresh = to.with_extension("new");
        std::fs::copy(&from, &fresh).with_context(|| format!("copy {}", from.display()))?;
        std::fs::rename(&fresh, &to).with_context(|| format!("replace {}", to.display()))?;
    }
    Ok(())
}
