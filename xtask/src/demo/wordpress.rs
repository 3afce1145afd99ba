//! A real application under both types: WordPress, PHP and MariaDB in one container.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::{Demo, TYPES, isolation};

impl Demo {
    pub fn wordpress(&mut self) -> Result<()> {
        self.session.title("WordPress, to its first page");
        for kind in TYPES {
            let name = format!("wordpress-{kind}");
            let begun = Instant::now();
            let words = [
                &["run", "-d", "--name", &name, "-p", "127.0.0.1::80"],
                isolation(kind),
                &["wordpress"],
            ];
            self.session.caisson(&words.concat())?;
            self.session.following(&["logs", "-f", &name])?.until("ready on port 80")?;
            let url = format!("http://{}/", self.address(&name)?);
            let format = "%{http_code}, %{size_download} bytes, %{time_total} s\\n";
            let words = ["-sS", "--max-time", "120", "-o", "/dev/null", "-w", format, &url];
            let said = self.session.show("curl", &words)?;
            let took = begun.elapsed().as_secs_f64();
            ensure!(said.text().starts_with("200,"), "WordPress answered {}", said.stdout);
            self.session.remark(&format!("{took:.1} s from the command to the page"));
            self.summary.set("WordPress's first page", kind, format!("{took:.1} s"));
            let said = self.session.caisson(&["stop", "-t", "60", &name])?;
            ensure!(said.took.as_secs() < 60, "WordPress did not stop by itself");
            let code = self.inspect(&name)?["State"]["ExitCode"].clone();
            ensure!(code == 0, "WordPress ended with {code}");
        }
        Ok(())
    }
}
