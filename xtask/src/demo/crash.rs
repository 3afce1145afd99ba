//! The daemon is killed; the containers do not notice.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::{Demo, TYPES, daemon_line};

/// One of each type that serves a page.
const WEB: [&str; 2] = ["web", "web-hyperv"];

impl Demo {
    pub fn crash(&mut self) -> Result<()> {
        self.session.title("The daemon is killed while containers of both types run");
        let addresses = [self.address(WEB[0])?, self.address(WEB[1])?];
        self.session.typed(&format!("kill -9 {}", self.daemon.pid()?));
        self.daemon.crash()?;
        let said = self.session.show("caisson", &["ps"])?;
        ensure!(!said.success, "a daemon answers that was killed");
        for address in &addresses {
            let url = format!("http://{address}/?while-no-daemon-runs");
            let format = "%{http_code}\\n";
            let words = ["-sS", "--max-time", "60", "-o", "/dev/null", "-w", format, &url];
            let said = self.session.show("curl", &words)?;
            ensure!(said.text() == "200", "{url} was not served: {}{}", said.stdout, said.stderr);
        }
        let begun = Instant::now();
        self.session.typed(&daemon_line(&self.daemon));
        self.daemon.again()?;
        self.session.remark(&format!("ready after {:.0} ms", begun.elapsed().as_secs_f64() * 1e3));
        self.session.caisson(&["ps"])?;
        for (kind, name) in TYPES.into_iter().zip(WEB) {
            let kernel = self.session.caisson(&["exec", name, "uname", "-r"])?;
            ensure!(self.summary.is("kernel inside", kind, kernel.text()), "{name} is elsewhere");
            let log = self.session.silent(&["logs", name])?.stdout;
            ensure!(log.contains("while-no-daemon-runs"), "{name}'s log has a gap: {log}");
            self.summary.set("outlived a killed daemon", kind, "yes".into());
        }
        self.session.remark("both logs have the requests that came while no daemon ran");
        Ok(())
    }
}
