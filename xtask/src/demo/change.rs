//! A running container changes its type and stays the same container.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::Demo;
use super::types::milliseconds;

/// What must stay as it is.
const KEPT: [(&str, &str); 6] = [
    ("id", "/Id"),
    ("name", "/Name"),
    ("image", "/Image"),
    ("address", "/NetworkSettings/Networks/bridge/IPAddress"),
    ("MAC address", "/NetworkSettings/Networks/bridge/MacAddress"),
    ("published port", "/NetworkSettings/Ports/80~1tcp"),
];

impl Demo {
    /// There and back again.
    pub fn change(&mut self) -> Result<()> {
        self.session.title("An existing container changes its type, and loses nothing");
        self.write("process")?;
        let before = self.inspect("web")?;
        for kind in ["hyperv", "process"] {
            let said = self.session.caisson(&["set", "web", "--runtime-type", kind])?;
            self.session.remark(&milliseconds(said.took));
            self.summary.set("changed to it, while running", kind, milliseconds(said.took));
            let table = self.session.caisson(&["get", "web"])?;
            ensure!(table.stdout.contains(kind), "web is no {kind} container: {}", table.stdout);
            let now = self.inspect("web")?;
            differences(&before, &now)?;
            let kernel = self.session.caisson(&["exec", "web", "uname", "-r"])?;
            ensure!(self.summary.is("kernel inside", kind, kernel.text()), "another kernel");
            self.write(kind)?;
        }
        let diary = self.fetch("web", "/diary.txt")?;
        ensure!(diary.lines().count() == 3, "the file has not kept its lines: {diary}");
        let volume = self.session.caisson(&["exec", "web", "cat", "/srv/diary.txt"])?.stdout;
        ensure!(volume == diary, "the volume has other lines: {volume}");
        let kept: Vec<_> = KEPT.iter().map(|(name, _)| *name).collect();
        self.session.remark(&format!("kept: files, volume, {}", kept.join(", ")));
        Ok(())
    }

    /// Adds a line to a file of the container's own layer and to one of its volume.
    fn write(&self, kind: &str) -> Result<()> {
        let script = format!(
            "echo written as {kind} on $(uname -r) | tee -a /var/www/html/diary.txt >> /srv/diary.txt"
        );
        self.session.caisson(&["exec", "web", "sh", "-c", &script]).map(drop)
    }
}

fn differences(before: &Value, now: &Value) -> Result<()> {
    for (name, pointer) in KEPT {
        let (old, new) = (before.pointer(pointer), now.pointer(pointer));
        ensure!(old.is_some() && old == new, "its {name} was {old:?} and is {new:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_changed_address_is_seen() {
        let container = |address: &str| {
            json!({
                "Id": "1", "Name": "/web", "Image": "2",
                "NetworkSettings": {
                    "Networks": { "bridge": { "IPAddress": address, "MacAddress": "3" } },
                    "Ports": { "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "4" }] },
                },
            })
        };
        differences(&container("172.20.0.2"), &container("172.20.0.2")).unwrap();
        let error = differences(&container("172.20.0.2"), &container("172.20.0.3"));
        assert!(error.unwrap_err().to_string().contains("its address was"));
    }
}
