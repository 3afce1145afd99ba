//! One image under both types: the same commands, another kernel, other things on the host.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Demo, TYPES, isolation};
use crate::memory;
use crate::session::line;

/// How often a start is timed.
const TIMES: usize = 5;

impl Demo {
    /// The same commands for both types, side by side.
    pub fn types(&mut self) -> Result<()> {
        self.session.title("The same image, the same command, two runtime types");
        let host = self.session.show("uname", &["-r"])?.text().to_string();
        for kind in TYPES {
            let words = [&["run", "--rm"], isolation(kind), &["busybox", "uname", "-r"]].concat();
            let kernel = self.session.caisson(&words)?.text().to_string();
            ensure!((kernel == host) == (kind == "process"), "{kind}: the kernel is {kernel}");
            self.summary.set("kernel inside", kind, kernel);
        }
        self.long_running()?;
        self.seen_by_the_host()?;
        self.start_times()
    }

    /// Starts one of each type, and looks into both.
    fn long_running(&mut self) -> Result<()> {
        for (kind, seconds) in [("process", "4711"), ("hyperv", "4712")] {
            let name = kind;
            let words =
                [&["run", "-d", "--name", name], isolation(kind), &["busybox", "sleep", seconds]];
            self.session.caisson(&words.concat())?;
        }
        self.session.caisson(&["get"])?;
        for kind in TYPES {
            let format = "{{.HostConfig.Isolation}} {{.Image}}";
            let said = self.session.caisson(&["inspect", "-f", format, kind])?;
            let Some((isolation, image)) = said.text().split_once(' ') else {
                anyhow::bail!("inspect said {}", said.stdout);
            };
            ensure!(isolation == kind, "{kind} is {isolation}");
            self.summary.set("image", kind, image.chars().take(19).collect());
            let kernel = self.session.caisson(&["exec", kind, "uname", "-r"])?;
            ensure!(self.summary.is("kernel inside", kind, kernel.text()), "exec is elsewhere");
        }
        ensure!(self.summary.same("image"), "the images differ");
        Ok(())
    }

    /// A process container's processes are the host's; a hyperv container's are not to be seen.
    fn seen_by_the_host(&mut self) -> Result<()> {
        self.session.title("What the host sees of them");
        for (kind, command) in [("process", "sleep 4711"), ("hyperv", "sleep 4712")] {
            self.session.caisson(&["top", kind])?;
            let found = self.session.show("pgrep", &["-afx", command])?.stdout;
            if found.is_empty() {
                self.session.remark("nothing");
            }
            let pid = self.inspect(kind)?["State"]["Pid"].to_string();
            let seen: Vec<_> = found.lines().filter_map(|line| line.split(' ').next()).collect();
            let expected = if kind == "process" { vec![pid.as_str()] } else { vec![] };
            ensure!(seen == expected, "{kind}: the host sees {seen:?}, inspect says {pid}");
            self.summary.set("its processes on the host", kind, seen.len().to_string());
        }
        self.session.caisson(&["vm", "list"])?;
        self.session.remark("a hyperv container is a container, not a machine to manage");
        for kind in TYPES {
            let pid = self.inspect(kind)?["State"]["Pid"].as_i64().context("a pid")?;
            let memory = memory::of(pid as i32)?;
            let mebibytes = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
            self.summary.set("memory on the host", kind, mebibytes(memory.all));
            self.summary.set("  of it its supervisor", kind, mebibytes(memory.supervisor));
        }
        Ok(())
    }

    fn start_times(&mut self) -> Result<()> {
        self.session.title("How long a start takes");
        for kind in TYPES {
            let words = [&["run", "--rm"], isolation(kind), &["busybox", "true"]].concat();
            let mut times = Vec::new();
            for _ in 0..TIMES {
                times.push(self.session.silent(&words)?.took);
            }
            times.sort();
            self.session.typed(&line("caisson", &words));
            let list: Vec<_> = times.iter().map(|time| milliseconds(*time)).collect();
            self.session.remark(&format!("{TIMES} times, sorted: {}", list.join(", ")));
            self.summary.set("run --rm, median", kind, milliseconds(times[TIMES / 2]));
        }
        Ok(())
    }

    /// nginx under both types, its port published.
    pub fn web(&mut self) -> Result<()> {
        self.session.title("A published port, both types");
        for (kind, name) in [("process", "web"), ("hyperv", "web-hyperv")] {
            let words = [
                &["run", "-d", "--name", name, "-p", "127.0.0.1::80", "-v"][..],
                &[&format!("{name}:/srv")],
                isolation(kind),
                &["nginx"],
            ];
            self.session.caisson(&words.concat())?;
            self.session.following(&["logs", "-f", name])?.until("start worker process")?;
            self.session.caisson(&["port", name])?;
            let url = format!("http://{}/", self.address(name)?);
            let format = "%{http_code} from %{url_effective}: %{size_download} bytes\\n";
            let words = ["-sS", "--max-time", "60", "-o", "/dev/null", "-w", format, &url];
            let said = self.session.show("curl", &words)?;
            ensure!(said.text().starts_with("200 "), "nginx as {kind} answered {}", said.stdout);
            self.summary.set("nginx answers", kind, "200".into());
        }
        Ok(())
    }
}

/// A time as one reads it.
pub fn milliseconds(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}
