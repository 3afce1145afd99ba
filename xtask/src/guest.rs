//! Puts the nano guest together: a kernel from Debian's source with `nano/kernel.config`, and an
//! initramfs with the agent, the init program and nothing else.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cache::{self, digest, put};
use crate::{release, root, step};
use anyhow::{Context, Result, ensure};

const SOURCE: &str = "/usr/src/linux-source-6.12.tar.xz";
/// Most that kernel and initramfs may take together, bytes.
const BUDGET: u64 = 10 << 20;

/// Builds the guest into `target/release/guest`; its directory.
pub fn build() -> Result<PathBuf> {
    let cached = kernel()?;
    let directory = release().join("guest");
    fs::create_dir_all(&directory)?;
    let initramfs = initramfs()?;
    put(&directory.join("initramfs"), &initramfs)?;
    let kernel = fs::read(&cached).with_context(|| format!("read {}", cached.display()))?;
    put(&directory.join("kernel"), &kernel)?;
    let size = (kernel.len() + initramfs.len()) as u64;
    ensure!(size <= BUDGET, "the guest takes {size} bytes, more than its budget of {BUDGET}");
    let version = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "kernel": digest(&kernel),
        "initramfs": digest(&initramfs),
    });
    put(&directory.join("version.json"), version.to_string().as_bytes())?;
    eprintln!(
        "    nano guest: kernel {:.1} MB, initramfs {:.1} MB",
        kernel.len() as f64 / 1e6,
        initramfs.len() as f64 / 1e6
    );
    Ok(directory)
}

/// The kernel for the committed configuration, built once and cached outside the checkout.
pub fn kernel() -> Result<PathBuf> {
    let fragment = root().join("nano/kernel.config");
    let config = fs::read(&fragment).with_context(|| format!("read {}", fragment.display()))?;
    let source = fs::metadata(SOURCE).with_context(|| format!("find {SOURCE}"))?;
    let version = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Version}", "linux-source-6.12"])
        .output()
        .context("ask dpkg-query for the kernel's version")?
        .stdout;
    let compiler = Command::new("gcc").arg("--version").output().context("run gcc")?.stdout;
    let key = [&config[..], &version, &source.len().to_le_bytes(), &compiler].concat();
    let cache = cache::directory("kernel")?.join(&digest(&key)[..16]);
    let image = cache.join("bzImage");
    if image.exists() {
        return Ok(image);
    }
    let work = cache.with_extension("building");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&work)?;
    compile(&work, &fragment)?;
    fs::create_dir_all(&cache)?;
    let built = work.join("arch/x86/boot/bzImage");
    put(&image, &fs::read(&built).with_context(|| format!("read {}", built.display()))?)?;
    fs::remove_dir_all(&work)?;
    Ok(image)
}

fn compile(work: &Path, fragment: &Path) -> Result<()> {
    let mut command = Command::new("tar");
    command.args(["--extract", "--strip-components=1", "--file", SOURCE, "--directory"]).arg(work);
    step("unpack the kernel's source", &mut command)?;
    let make = |targets: &[&str]| {
        let mut command = Command::new("make");
        command.current_dir(work).args(targets).stdout(Stdio::null());
        command
    };
    step("configure the kernel", &mut make(&["allnoconfig"]))?;
    let mut command = Command::new("scripts/kconfig/merge_config.sh");
    command.current_dir(work).args(["-m", ".config"]).arg(fragment).stdout(Stdio::null());
    step("merge nano/kernel.config", &mut command)?;
    step("settle the kernel's configuration", &mut make(&["olddefconfig"]))?;
    honoured(&fs::read_to_string(fragment)?, &fs::read_to_string(work.join(".config"))?)?;
    let jobs = std::thread::available_parallelism().map_or(2, usize::from);
    let jobs = format!("--jobs={jobs}");
    step("build the guest's kernel (about 5 minutes, once)", &mut make(&[&jobs, "bzImage"]))
}

/// Every option of the fragment must be what the fragment says.
fn honoured(fragment: &str, config: &str) -> Result<()> {
    let set = |name: &str| config.lines().any(|line| line.starts_with(&format!("{name}=")));
    let mut ignored = Vec::new();
    for line in fragment.lines() {
        if let Some(name) =
            line.strip_prefix("# CONFIG_").and_then(|l| l.strip_suffix(" is not set"))
        {
            if set(&format!("CONFIG_{name}")) {
                ignored.push(line);
            }
        } else if line.starts_with("CONFIG_") && !config.lines().any(|have| have == line) {
            ignored.push(line);
        }
    }
    ensure!(ignored.is_empty(), "the kernel does not honour: {}", ignored.join(", "));
    Ok(())
}

fn initramfs() -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in ["dev", "proc", "sys", "run"] {
        archive.add(directory, 0o040_755, (0, 0), &[]);
    }
    // The kernel opens it for process 1 before /dev is mounted.
    archive.add("dev/console", 0o020_600, (5, 1), &[]);
    for (name, program) in [("init", "caisson-agent"), ("caisson-init", "caisson-init")] {
        let path = release().join(program);
        let data = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        archive.add(name, 0o100_755, (0, 0), &data);
    }
    compress(&archive.finish())
}

/// The kernel takes lz4 in its legacy frame only.
fn compress(data: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new("lz4")
        .args(["-l", "-9", "-c", "-q"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("run lz4")?;
    let mut input = child.stdin.take().context("lz4's input")?;
    let output = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(data));
        child.wait_with_output()
    })?;
    ensure!(output.status.success(), "lz4 ended with {}", output.status);
    Ok(output.stdout)
}

/// A cpio archive in the "newc" format (linux: Documentation/driver-api/early-userspace), the same bytes
/// for the same content.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.inode += 1;
        let links = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
        let fields = [
            self.inode,
            mode,
            0,
            0,
            links,
            0,
            data.len() as u32,
            0,
            0,
            device.0,
            device.1,
            name.len() as u32 + 1,
            0,
        ];
        self.bytes.extend(b"070701");
        fields.iter().for_each(|field| self.bytes.extend(format!("{field:08x}").bytes()));
        self.bytes.extend(name.bytes().chain([0]));
        self.pad();
        self.bytes.extend(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_the_kernel_drops_is_named() {
        let fragment = "CONFIG_A=y\n# CONFIG_B is not set\n# a word\nCONFIG_C=y\n";
        honoured(fragment, "CONFIG_A=y\nCONFIG_C=y\n").unwrap();
        let error = honoured(fragment, "CONFIG_A=y\nCONFIG_B=y\n").unwrap_err().to_string();
        assert!(error.contains("CONFIG_B") && error.contains("CONFIG_C") && !error.contains("_A"));
    }

    #[test]
    fn the_archive_is_padded_and_ends() {
        let mut archive = Archive::default();
        archive.add("init", 0o100_755, (0, 0), b"abc");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.starts_with(b"070701") && bytes.windows(10).any(|w| w == b"TRAILER!!!"));
    }
}
