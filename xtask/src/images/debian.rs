//! A root file system of Debian's packages, by mmdebstrap, from the host's own apt sources.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::recipe::{Recipe, Root};
use crate::step;

/// What of a package is of no use in a container. Licences stay.
const LEAVE_OUT: [&str; 5] = [
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/info/*",
    "path-include=/usr/share/doc/*/copyright",
];

/// apt's settings that are about reaching its sources.
const REACHING: [&str; 6] = [
    "Acquire::http::",
    "Acquire::https::",
    "Acquire::Check-",
    "Acquire::Retries",
    "Acquire::ForceIPv4",
    "Acquire::ForceIPv6",
];

/// This host's suite, such as `bookworm`.
pub fn suite() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    codename(&text).context("/etc/os-release has no VERSION_CODENAME: images are made on Debian")
}

fn codename(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    let value = value.trim_matches('"');
    (!value.is_empty()).then(|| value.to_string())
}

/// Makes the recipe's layer as a tar file, with `work` as scratch.
pub fn layer(recipe: &Recipe, suite: &str, work: &Path, layer: &Path) -> Result<()> {
    let Root::Debian { packages, files, script } = &recipe.root else {
        anyhow::bail!("{} is not made of Debian's packages", recipe.name);
    };
    let settings = work.join("apt.conf");
    fs::write(&settings, reaching()?)?;
    let overlay = work.join("files");
    for (path, mode, content) in *files {
        let path = overlay.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().context("a file's directory")?)?;
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
    }
    let mut command = Command::new("mmdebstrap");
    command.args(["--variant=essential", "--format=tar", "--skip=output/dev"]);
    command.arg(format!("--include={}", packages.join(",")));
    command.args(LEAVE_OUT.iter().map(|option| format!("--dpkgopt={option}")));
    command.arg(format!("--aptopt={}", settings.display()));
    // The files go in without their directories' modes: those are the packages'.
    let copy = format!(
        "tar --create --directory '{}' --no-recursion $(cd '{}' && find . -type f) | \
         tar --extract --no-overwrite-dir --owner=0 --group=0 --directory \"$1\"",
        overlay.display(),
        overlay.display()
    );
    for hook in [copy.as_str(), &format!("chroot \"$1\" sh -ec '{script}'"), CLEAN] {
        command.arg(format!("--customize-hook={hook}"));
    }
    command.arg(suite).arg(layer).args(sources(suite)?);
    step(&format!("install {} and what they need", packages.join(", ")), &mut command)
}

/// Where the packages came from is this host's affair, and logs are nobody's.
const CLEAN: &str = "rm -rf \"$1\"/etc/apt/sources.list \"$1\"/etc/apt/sources.list.d/* \
                     \"$1\"/etc/apt/apt.conf.d/99mmdebstrap \"$1\"/var/log/*.log \
                     \"$1\"/var/log/apt \"$1\"/run/*";

/// The host's lists of sources that know the suite, whichever mirror they name.
fn sources(suite: &str) -> Result<Vec<PathBuf>> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let listed = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    files.extend(listed.map(|entry| entry.path()));
    files.sort();
    files.retain(|path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let text = fs::read_to_string(path).unwrap_or_default();
        matches!(extension, Some("list" | "sources")) && offers(&text, suite)
    });
    ensure!(
        !files.is_empty(),
        "no file of /etc/apt/sources.list.d or /etc/apt/sources.list has packages of {suite}"
    );
    Ok(files)
}

/// Whether a list of sources, in either of apt's formats, has something of the suite.
fn offers(text: &str, suite: &str) -> bool {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.flat_map(str::split_whitespace).any(|word| word == suite)
}

/// apt's settings of this host that its sources need: proxies and the like.
fn reaching() -> Result<String> {
    let output = Command::new("apt-config").arg("dump").output().context("run apt-config")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter(|line| REACHING.iter().any(|name| line.starts_with(name)));
    Ok(lines.map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suite_is_read_as_the_shell_would() {
        assert_eq!(codename("ID=debian\nVERSION_CODENAME=bookworm\n").as_deref(), Some("bookworm"));
        assert_eq!(codename("VERSION_CODENAME=\"trixie\"").as_deref(), Some("trixie"));
        assert_eq!(codename("ID=debian\n"), None);
    }

    #[test]
    fn sources_of_other_suites_are_left_out() {
        let deb822 = "Types: deb\nURIs: http://mirror/debian\nSuites: bookworm bookworm-updates\n";
        assert!(offers(deb822, "bookworm"));
        assert!(offers("deb [signed-by=/k] http://mirror bookworm main", "bookworm"));
        assert!(!offers(
            "deb http://mirror sid main\n# deb http://mirror bookworm main",
            "bookworm"
        ));
        assert!(!offers("deb http://mirror tool-bookworm main", "bookworm"));
    }
}
