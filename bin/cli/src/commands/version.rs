//! `caisson version`.

use caisson_api::client::Client;
use clap::Args;
use serde_json::{Value, json};

use crate::failure::Outcome;
use crate::json::{list, text};
use crate::{format, output};

/// Show the version of this program and of the daemon
#[derive(Debug, Args)]
pub struct Version {
    /// Format output: json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Version {
    pub fn run(&self, client: &Client) -> Outcome {
        let own = json!({
            "Version": env!("CARGO_PKG_VERSION"),
            "Os": std::env::consts::OS,
            "Arch": architecture(),
        });
        let asked = client.get(&["version"]).send().and_then(|answer| answer.json::<Value>());
        let (server, failure) = match asked {
            Ok(server) => (Some(server), None),
            Err(error) => (None, Some(error)),
        };
        match self.format.as_deref() {
            None => output::bytes(words(&own, server.as_ref()).as_bytes())?,
            Some(template) => {
                let both = json!({ "Client": own, "Server": server });
                let template = if template == "json" { "{{json .}}" } else { template };
                output::line(format::render(template, &both)?)?;
            }
        }
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(0),
        }
    }
}

/// As the API names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn words(own: &Value, server: Option<&Value>) -> String {
    let line = |indent: usize, name: &str, value: &str| {
        format!("{:indent$}{:<width$}{value}\n", "", format!("{name}:"), width = 20 - indent)
    };
    let place = |of: &Value| format!("{}/{}", text(&of["Os"]), text(&of["Arch"]));
    let mut words = "Client:\n".to_string();
    words += &line(1, "Version", text(&own["Version"]));
    words += &line(1, "OS/Arch", &place(own));
    let Some(server) = server else { return words };
    let platform = text(&server["Platform"]["Name"]);
    words += &format!("\nServer:{}{platform}\n", if platform.is_empty() { "" } else { " " });
    for component in list(&server["Components"]) {
        let details = &component["Details"];
        words += &format!(" {}:\n", text(&component["Name"]));
        words += &line(2, "Version", text(&component["Version"]));
        match (text(&details["ApiVersion"]), text(&details["MinAPIVersion"])) {
            ("", _) => {}
            (version, least) => {
                words += &line(2, "API version", &format!("{version} (minimum version {least})"));
            }
        }
        for (name, key) in [("Git commit", "GitCommit"), ("Built", "BuildTime")] {
            match text(&details[key]) {
                "" => {}
                value => words += &line(2, name, value),
            }
        }
        if details["Os"].is_string() {
            words += &line(2, "OS/Arch", &place(details));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides() {
        let own = json!({ "Version": "1.2.3", "Os": "linux", "Arch": "amd64" });
        let server = json!({
            "Platform": { "Name": "Caisson" },
            "Components": [{
                "Name": "Engine", "Version": "4.5.6",
                "Details": { "ApiVersion": "1.51", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64" },
            }],
        });
        let text = words(&own, Some(&server));
        assert_eq!(
            text,
            "Client:\n Version:           1.2.3\n OS/Arch:           linux/amd64\n\n\
             Server: Caisson\n Engine:\n  Version:          4.5.6\n  \
             API version:      1.51 (minimum version 1.24)\n  OS/Arch:          linux/amd64\n"
        );
        assert!(!words(&own, None).contains("Server"));
    }
}
