//! `caisson events`.

use caisson_api::client::Client;
use clap::Args;
use serde_json::Value;

use crate::failure::Outcome;
use crate::filter::filters;
use crate::json::{number, text};
use crate::{format, output, time};

/// Get real time events from the server
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  caisson events --filter type=container --filter event=die
  caisson events --since 1h --until 0s --format json")]
pub struct Events {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format output: json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show all events created since timestamp
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Stream events until this timestamp
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Events {
    pub fn run(&self, client: &Client) -> Outcome {
        let since = time::for_daemon(self.since.as_deref(), "since")?;
        let until = time::for_daemon(self.until.as_deref(), "until")?;
        let request = client.get(&["events"]);
        let request = request
            .query_some("since", since.as_deref())
            .query_some("until", until.as_deref())
            .query_some("filters", filters(&self.filter)?.as_deref());
        for event in request.send()?.values() {
            let event = event?;
            output::line(match self.format.as_deref() {
                None => words(&event),
                Some("json") => event.to_string(),
                Some(template) => format::render(template, &event)?,
            })?;
        }
        Ok(0)
    }
}

/// `TIME TYPE ACTION ID (key=value, …)`.
fn words(event: &Value) -> String {
    let at = match number(&event["timeNano"]) {
        0 => number(&event["time"]).saturating_mul(1_000_000_000),
        nanoseconds => nanoseconds,
    };
    let actor = &event["Actor"];
    let attributes = actor["Attributes"].as_object().into_iter().flatten();
    let attributes: Vec<String> =
        attributes.map(|(key, value)| format!("{key}={}", text(value))).collect();
    let suffix = match attributes.as_slice() {
        [] => String::new(),
        attributes => format!(" ({})", attributes.join(", ")),
    };
    let (kind, action, id) = (text(&event["Type"]), text(&event["Action"]), text(&actor["ID"]));
    format!("{} {kind} {action} {id}{suffix}", time::precise(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_in_words() {
        let event = json!({
            "Type": "container", "Action": "die", "time": 1, "timeNano": 1_000_000_002_i64,
            "Actor": { "ID": "abc", "Attributes": { "name": "web", "exitCode": "0" } },
        });
        let text = words(&event);
        assert!(text.contains("01.000000002"), "{text}");
        assert!(text.ends_with(" container die abc (exitCode=0, name=web)"), "{text}");
    }
}
