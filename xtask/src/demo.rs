//! The demo: the same images under both runtime types, by the same commands; what the difference is; a
//! container that changes its type and stays the same; a daemon that is killed while containers run.
//!
//! Every command is really run as it is shown, against a daemon of the demo's own, and what is claimed is
//! checked: the demo fails if anything is not as it says.

mod change;
mod crash;
mod summary;
mod types;
mod wordpress;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use caisson_tests::engine::{Daemon, Options, request};
use serde_json::Value;

use crate::session::Session;
use crate::{images, release, setup};
use summary::Summary;

/// Both, in the order in which they are shown.
const TYPES: [&str; 2] = ["process", "hyperv"];

/// What the demo works with.
struct Demo {
    session: Session,
    daemon: Daemon,
    summary: Summary,
}

/// Sets everything up and runs it; WordPress takes a minute of it.
pub fn run(wordpress: bool, build: bool) -> Result<()> {
    let archives = set_up(wordpress, build)?;
    // SAFETY: no other thread runs any more that could read the environment.
    unsafe { std::env::set_var("CAISSON_PROGRAMS", release()) };
    let begun = Instant::now();
    let mut demo = Demo::start()?;
    demo.load(&archives)?;
    demo.types()?;
    demo.web()?;
    demo.change()?;
    demo.crash()?;
    if wordpress {
        demo.wordpress()?;
    }
    demo.clean()?;
    demo.summary.print();
    demo.warnings()?;
    println!("\nall as stated, in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Programs, guest and images; the images are made beside the programs.
fn set_up(wordpress: bool, build: bool) -> Result<Vec<PathBuf>> {
    setup::packages()?;
    setup::packages_for(&[setup::MMDEBSTRAP])?;
    let names: &[&str] =
        if wordpress { &["busybox", "nginx", "wordpress"] } else { &["busybox", "nginx"] };
    std::thread::scope(|scope| {
        let made = scope.spawn(|| names.iter().map(|name| images::archive(name)).collect());
        let built = if build { setup::everything() } else { Ok(()) };
        let made = made.join().map_err(|_| anyhow::anyhow!("making the images panicked"))?;
        built?;
        made
    })
}

impl Demo {
    fn start() -> Result<Self> {
        let begun = Instant::now();
        let daemon = Daemon::start_empty(Options { standby: 1, ..Options::default() })?;
        let took = begun.elapsed();
        let session = Session::new(&release(), &daemon.socket())?;
        session.title("A daemon of the demo's own");
        session.typed(&daemon_line(&daemon));
        session.remark(&format!("ready after {:.0} ms", took.as_secs_f64() * 1e3));
        session.typed(&format!("export CAISSON_HOST=unix://{}", daemon.socket().display()));
        Ok(Demo { session, daemon, summary: Summary::default() })
    }

    fn load(&self, archives: &[PathBuf]) -> Result<()> {
        self.session.title("Images from files: nothing is asked of a registry");
        for path in archives {
            let path = path.to_str().context("an archive's path")?;
            let said = self.session.caisson(&["load", "-i", path])?;
            self.session.remark(&format!("{:.1} s", said.took.as_secs_f64()));
        }
        self.session.caisson(&["images"]).map(drop)
    }

    fn clean(&self) -> Result<()> {
        let names = self.session.silent(&["ps", "-a", "-q"])?.stdout;
        let names: Vec<&str> = names.split_whitespace().collect();
        if !names.is_empty() {
            self.session.silent(&[&["rm", "-f"], &names[..]].concat())?;
        }
        Ok(())
    }

    /// What the daemon warns of, such as a sandbox that is no security boundary.
    fn warnings(&self) -> Result<()> {
        let info = request(&self.daemon.socket(), "GET", "/info", None)?.json()?;
        for warning in info["Warnings"].as_array().into_iter().flatten() {
            println!("\n{}", warning.as_str().unwrap_or_default());
        }
        Ok(())
    }

    /// Everything that `inspect` tells of a container.
    fn inspect(&self, name: &str) -> Result<Value> {
        let text = self.session.silent(&["inspect", name])?.stdout;
        let list: Value = serde_json::from_str(&text).context("inspect's answer")?;
        Ok(list[0].clone())
    }

    /// Where a container's port 80 is reached, such as `127.0.0.1:49153`.
    fn address(&self, name: &str) -> Result<String> {
        let text = self.session.silent(&["port", name, "80/tcp"])?.stdout;
        let first = text.lines().next().context("no published port")?;
        Ok(first.trim().to_string())
    }

    /// Fetches a page of a container as one would; what it says.
    fn fetch(&self, name: &str, path: &str) -> Result<String> {
        let url = format!("http://{}{path}", self.address(name)?);
        let said = self.session.show("curl", &["-sSf", "--max-time", "60", &url])?;
        anyhow::ensure!(said.success, "{url} was not served: {}", said.stderr);
        Ok(said.stdout)
    }
}

fn daemon_line(daemon: &Daemon) -> String {
    format!(
        "caissond --data-root {} --exec-root {} -H unix://{} --standby 1 &",
        daemon.data_root().display(),
        daemon.exec_root().display(),
        daemon.socket().display()
    )
}

/// The option that asks for a type; none is needed for the default.
fn isolation(kind: &str) -> &[&str] {
    if kind == "hyperv" { &["--isolation", "hyperv"] } else { &[] }
}
