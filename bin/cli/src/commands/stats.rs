//! `caisson stats`.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use caisson_api::client::Client;
use clap::Args;
use serde_json::{Value, json};

use crate::each::each_printing;
use crate::failure::{Failure, Outcome, Result};
use crate::format::Listing;
use crate::json::{list, text};
use crate::table::short_id;
use crate::{output, terminal};

mod usage;

/// How often the table is drawn.
const TICK: Duration = Duration::from_millis(500);

const LISTING: Listing = Listing {
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    quiet: "{{.ID}}",
    headings: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
};

/// Display a live stream of container(s) resource usage statistics
///
/// For a hyperv container the numbers are those inside its microVM.
#[derive(Debug, Args)]
#[command(after_help = "Example: caisson stats --no-stream --format json")]
pub struct Stats {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Format output: table, json, a Go template, or table and a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
    /// The containers; all that run, if none is named
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// What the readers tell the one that draws.
enum Message {
    Sample(String, Value),
    /// Its stream has ended.
    Ended(String),
    /// A container was started.
    Started(String),
}

impl Stats {
    pub fn run(&self, client: &Client) -> Outcome {
        let named = !self.containers.is_empty();
        let names = if named { self.containers.clone() } else { self.listed(client)? };
        if self.no_stream {
            return self.once(client, &names);
        }
        for name in &self.containers {
            client.get(&["containers", name, "json"]).send()?;
        }
        let (sender, receiver) = channel();
        if !named {
            watch_starts(client, sender.clone())?;
        }
        names.iter().for_each(|name| follow(client, name, sender.clone()));
        self.draw(client, names, &receiver, sender, !named)
    }

    fn listed(&self, client: &Client) -> Result<Vec<String>> {
        let request = client.get(&["containers", "json"]).query_if("all", self.all);
        let containers: Value = request.send()?.json()?;
        Ok(list(&containers).iter().map(|one| short_id(text(&one["Id"])).to_string()).collect())
    }

    fn once(&self, client: &Client, names: &[String]) -> Outcome {
        let rows = std::sync::Mutex::new(BTreeMap::new());
        let code = each_printing(names, |name| {
            let request = client.get(&["containers", name, "stats"]).query("stream", "0");
            let row = self.row(name, Some(&request.send()?.json()?));
            let place = names.iter().position(|known| known == name);
            rows.lock().map_err(|_| Failure::words("a thread panicked"))?.insert(place, row);
            Ok(None)
        })?;
        let rows = rows.into_inner().map_err(|_| Failure::words("a thread panicked"))?;
        let rows: Vec<Value> = rows.into_values().collect();
        LISTING.print(self.format.as_deref(), false, &rows)?;
        Ok(code)
    }

    /// Draws until nothing is left to be followed.
    fn draw(
        &self,
        client: &Client,
        mut order: Vec<String>,
        messages: &Receiver<Message>,
        sender: Sender<Message>,
        endless: bool,
    ) -> Outcome {
        let mut samples: BTreeMap<String, Option<Value>> =
            order.iter().map(|name| (name.clone(), None)).collect();
        let mut next = Instant::now() + TICK;
        loop {
            match messages.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Message::Sample(name, sample)) => drop(samples.insert(name, Some(sample))),
                Ok(Message::Ended(name)) => {
                    samples.remove(&name);
                    order.retain(|known| *known != name);
                    if order.is_empty() && !endless {
                        return Ok(0);
                    }
                }
                Ok(Message::Started(name)) if !samples.contains_key(&name) => {
                    samples.insert(name.clone(), None);
                    follow(client, &name, sender.clone());
                    order.push(name);
                }
                Ok(Message::Started(_)) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
                Err(RecvTimeoutError::Timeout) => {
                    let row = |name: &String| Some(self.row(name, samples.get(name)?.as_ref()));
                    let rows: Vec<Value> = order.iter().filter_map(row).collect();
                    self.show(&rows)?;
                    next = Instant::now() + TICK;
                }
            }
        }
    }

    fn show(&self, rows: &[Value]) -> Result<()> {
        let text = LISTING.text(self.format.as_deref(), false, rows)?;
        if !terminal::output_is_terminal() {
            return output::bytes(text.as_bytes());
        }
        // Home, and each line without what an earlier one left there, and nothing below.
        let lines = text.replace('\n', "\x1b[K\n");
        output::bytes(format!("\x1b[H{lines}\x1b[J").as_bytes())
    }

    fn row(&self, name: &str, sample: Option<&Value>) -> Value {
        let cut = |id: &str| if self.no_trunc { id.to_string() } else { short_id(id).to_string() };
        match sample {
            Some(sample) => {
                let mut row = usage::row(sample);
                row["Container"] = name.into();
                row["ID"] = cut(text(&sample["id"])).into();
                row
            }
            None => {
                let mut row = json!({ "Container": name, "ID": cut(name), "MemUsage": "-- / --" });
                for key in ["Name", "CPUPerc", "MemPerc", "NetIO", "BlockIO", "PIDs"] {
                    row[key] = "--".into();
                }
                row
            }
        }
    }
}

/// Reads a container's samples in a thread, as long as there are any.
fn follow(client: &Client, name: &str, sender: Sender<Message>) {
    let (client, name) = (client.clone(), name.to_string());
    std::thread::spawn(move || {
        let request = client.get(&["containers", &name, "stats"]).query("stream", "1");
        if let Ok(response) = request.send() {
            for sample in response.values().map_while(|value| value.ok()) {
                // Nobody draws any more.
                if sender.send(Message::Sample(name.clone(), sample)).is_err() {
                    return;
                }
            }
        }
        let _ = sender.send(Message::Ended(name));
    });
}

fn watch_starts(client: &Client, sender: Sender<Message>) -> Result<()> {
    let filters = r#"{"type":{"container":true},"event":{"start":true}}"#;
    let response = client.get(&["events"]).query("filters", filters).send()?;
    std::thread::spawn(move || {
        for event in response.values().map_while(|value| value.ok()) {
            let id = short_id(text(&event["Actor"]["ID"])).to_string();
            if sender.send(Message::Started(id)).is_err() {
                return;
            }
        }
    });
    Ok(())
}
