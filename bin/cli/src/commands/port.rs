//! `caisson port`.

use caisson_api::client::Client;
use clap::Args;
use serde_json::Value;

use crate::failure::{Failure, Outcome};
use crate::json::{list, text};
use crate::output;
use crate::ports::joined;

/// List port mappings or a specific mapping for the container
#[derive(Debug, Args)]
pub struct Port {
    /// The container
    container: String,
    /// Only this port of the container
    #[arg(value_name = "PRIVATE_PORT[/PROTO]")]
    port: Option<String>,
}

impl Port {
    pub fn run(&self, client: &Client) -> Outcome {
        let request = client.get(&["containers", &self.container, "json"]);
        let container: Value = request.send()?.json()?;
        let ports = &container["NetworkSettings"]["Ports"];
        let bound = |bindings: &Value| -> Vec<String> {
            let joined =
                |binding: &Value| joined(text(&binding["HostIp"]), text(&binding["HostPort"]));
            list(bindings).iter().map(joined).collect()
        };
        let Some(wanted) = &self.port else {
            let mut lines: Vec<String> = Vec::new();
            for (port, bindings) in ports.as_object().into_iter().flatten() {
                lines.extend(bound(bindings).into_iter().map(|host| format!("{port} -> {host}")));
            }
            lines.iter().try_for_each(output::line)?;
            return Ok(0);
        };
        let key = if wanted.contains('/') { wanted.clone() } else { format!("{wanted}/tcp") };
        let hosts = bound(&ports[key.to_ascii_lowercase()]);
        if hosts.is_empty() {
            let name = &self.container;
            let text = format!("no public port '{wanted}' published for {name}");
            return Err(Failure::words(text));
        }
        hosts.iter().try_for_each(output::line)?;
        Ok(0)
    }
}
