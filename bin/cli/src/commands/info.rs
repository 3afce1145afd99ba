//! `caisson info`.

use caisson_api::client::Client;
use caisson_api::words::binary_size;
use clap::Args;
use serde_json::Value;

use crate::failure::Outcome;
use crate::json::{flag, list, number, size, text, texts};
use crate::{format, output};

/// Display system-wide information
#[derive(Debug, Args)]
pub struct Info {
    /// Format output: json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Info {
    pub fn run(&self, client: &Client) -> Outcome {
        let mut info: Value = client.get(&["info"]).send()?.json()?;
        let own = serde_json::json!({ "Version": env!("CARGO_PKG_VERSION") });
        match self.format.as_deref() {
            None => {
                output::line(words(&info, &client.address().to_string()))?;
                for warning in texts(&info["Warnings"]) {
                    output::note(warning);
                }
            }
            Some(template) => {
                if let Some(info) = info.as_object_mut() {
                    info.insert("ClientInfo".into(), own);
                }
                let template = if template == "json" { "{{json .}}" } else { template };
                output::line(format::render(template, &info)?)?;
            }
        }
        Ok(0)
    }
}

fn words(info: &Value, address: &str) -> String {
    let mut lines = vec![
        "Client:".to_string(),
        format!(" Version:    {}", env!("CARGO_PKG_VERSION")),
        format!(" Daemon:     {address}"),
        String::new(),
        "Server:".to_string(),
    ];
    for (name, key) in [
        ("Containers", "Containers"),
        (" Running", "ContainersRunning"),
        (" Paused", "ContainersPaused"),
        (" Stopped", "ContainersStopped"),
        ("Images", "Images"),
    ] {
        lines.push(format!(" {name}: {}", number(&info[key])));
    }
    let mut tell = |name: &str, value: &str| {
        if !value.is_empty() {
            lines.push(format!(" {name}: {value}"));
        }
    };
    tell("Server Version", text(&info["ServerVersion"]));
    tell("Storage Driver", text(&info["Driver"]));
    for pair in list(&info["DriverStatus"]) {
        if let [name, value] = texts(pair).as_slice() {
            tell(&format!(" {name}"), value);
        }
    }
    tell("Logging Driver", text(&info["LoggingDriver"]));
    tell("Cgroup Driver", text(&info["CgroupDriver"]));
    tell("Cgroup Version", text(&info["CgroupVersion"]));
    tell("Default Runtime Type", text(&info["Isolation"]));
    let runtimes = info["Runtimes"].as_object().into_iter().flatten();
    tell("Runtimes", &runtimes.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" "));
    tell("Default Runtime", text(&info["DefaultRuntime"]));
    tell("Security Options", &texts(&info["SecurityOptions"]).join(" "));
    tell("Kernel Version", text(&info["KernelVersion"]));
    tell("Operating System", text(&info["OperatingSystem"]));
    tell("OSType", text(&info["OSType"]));
    tell("Architecture", text(&info["Architecture"]));
    tell("CPUs", &number(&info["NCPU"]).to_string());
    tell("Total Memory", &binary_size(size(&info["MemTotal"])));
    tell("Name", text(&info["Name"]));
    tell("ID", text(&info["ID"]));
    tell("Data Root", text(&info["DockerRootDir"]));
    tell("Debug Mode", &flag(&info["Debug"]).to_string());
    tell("Labels", &texts(&info["Labels"]).join(" "));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_told() {
        let info = serde_json::json!({
            "Containers": 2, "ContainersRunning": 1, "ServerVersion": "0.1.0", "NCPU": 2,
            "MemTotal": 25_276_510_208_u64, "DriverStatus": [["Backing", "ext4"]], "Name": "",
        });
        let text = words(&info, "unix:///x");
        for line in [
            " Daemon:     unix:///x",
            " Containers: 2",
            "  Running: 1",
            " Server Version: 0.1.0",
            "  Backing: ext4",
            " Total Memory: 23.54GiB",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}: {text}");
        }
        assert!(!text.contains("Name:"));
    }
}
