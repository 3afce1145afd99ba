//! `caisson get`: containers and their runtime types.

use caisson_api::client::Client;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::ps::names;
use crate::each::each_printing;
use crate::failure::{Failure, Outcome, Result};
use crate::json::{list, text};
use crate::output;
use crate::table::{align, short_id};

/// How they are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A line each.
    Table,
    /// A block each, a line for each property.
    List,
    /// A JSON array.
    Json,
}

/// Show containers with their state and runtime type
///
/// All containers, running or not, or those that are named.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  caisson get
  caisson get web -o list
  caisson get -o json")]
pub struct Get {
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Table)]
    output: Output,
    /// The containers; all of them, if none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

impl Get {
    pub fn run(&self, client: &Client) -> Outcome {
        let all = self.names.is_empty();
        let names = if all { every(client)? } else { self.names.clone() };
        let rows = std::sync::Mutex::new(Vec::new());
        let code = each_printing(&names, |name| {
            let answer = client.get(&["containers", name, "json"]).send();
            // One that was removed since it was listed is not missed.
            if all && answer.as_ref().is_err_and(|error| error.status() == Some(404)) {
                return Ok(None);
            }
            let row = row(&answer?.json()?);
            let place = names.iter().position(|known| known == name);
            rows.lock().map_err(|_| Failure::words("a thread panicked"))?.push((place, row));
            Ok(None)
        })?;
        let mut rows = rows.into_inner().map_err(|_| Failure::words("a thread panicked"))?;
        rows.sort_by_key(|(place, _)| *place);
        let rows: Vec<Value> = rows.into_iter().map(|(_, row)| row).collect();
        output::bytes(shown(self.output, &rows).as_bytes())?;
        Ok(code)
    }
}

/// The names of all containers.
fn every(client: &Client) -> Result<Vec<String>> {
    let containers: Value = client.get(&["containers", "json"]).query("all", "1").send()?.json()?;
    let name = |container: &Value| match names(container, true) {
        name if name.is_empty() => text(&container["Id"]).to_string(),
        name => name,
    };
    Ok(list(&containers).iter().map(name).collect())
}

fn row(container: &Value) -> Value {
    json!({
        "Name": text(&container["Name"]).trim_start_matches('/'),
        "Id": short_id(text(&container["Id"])),
        "State": container["State"]["Status"],
        "RuntimeType": container["HostConfig"]["Isolation"],
        "Image": container["Config"]["Image"],
    })
}

const COLUMNS: [(&str, &str); 5] = [
    ("Name", "NAME"),
    ("Id", "ID"),
    ("State", "STATE"),
    ("RuntimeType", "RUNTIME TYPE"),
    ("Image", "IMAGE"),
];

fn shown(output: Output, rows: &[Value]) -> String {
    match output {
        Output::Json => format!("{:#}\n", Value::from(rows.to_vec())),
        Output::Table => {
            let heading = COLUMNS.map(|(_, heading)| heading).join("\t");
            let line = |row: &Value| COLUMNS.map(|(key, _)| text(&row[key])).join("\t");
            align(&std::iter::once(heading).chain(rows.iter().map(line)).collect::<Vec<_>>())
        }
        Output::List => {
            let width = COLUMNS.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
            let line = |row: &Value, key: &str| format!("{key:<width$} : {}\n", text(&row[key]));
            let block = |row: &Value| COLUMNS.map(|(key, _)| line(row, key)).concat();
            rows.iter().map(block).collect::<Vec<_>>().join("\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form() {
        let container = json!({
            "Name": "/web", "Id": "0123456789abcdef", "State": { "Status": "running" },
            "HostConfig": { "Isolation": "hyperv" }, "Config": { "Image": "busybox" },
        });
        let rows = [row(&container), row(&json!({ "Name": "/b" }))];
        assert_eq!(
            shown(Output::Table, &rows[..1]),
            "NAME      ID             STATE     RUNTIME TYPE   IMAGE\n\
             web       0123456789ab   running   hyperv         busybox\n"
        );
        assert_eq!(
            shown(Output::List, &rows[..1]),
            "Name        : web\nId          : 0123456789ab\nState       : running\n\
             RuntimeType : hyperv\nImage       : busybox\n"
        );
        assert_eq!(shown(Output::List, &rows).matches("\n\n").count(), 1);
        let json: Value = serde_json::from_str(&shown(Output::Json, &rows)).unwrap();
        assert_eq!(json[0]["RuntimeType"], "hyperv");
    }
}
