//! Medians, spread and ratios as a table, and its place in docs/performance.md.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use crate::cache;

const BEGIN: &str = "<!-- written by `cargo xtask bench --write` -->";
const END: &str = "<!-- end of what it writes -->";

/// What was measured of one thing.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub const fn new() -> Self {
        Samples(Vec::new())
    }

    pub fn one(value: f64) -> Self {
        Samples(vec![value])
    }

    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    fn sorted(&self) -> Vec<f64> {
        let mut values = self.0.clone();
        values.sort_by(f64::total_cmp);
        values
    }

    /// The value in the middle; of an even number the lower one.
    pub fn median(&self) -> f64 {
        let values = self.sorted();
        values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
    }

    /// `median (least to most)`.
    fn shown(&self, unit: &str) -> String {
        let values = self.sorted();
        let (Some(least), Some(most)) = (values.first(), values.last()) else {
            return String::new();
        };
        match values.len() {
            1 => format!("{} {unit}", number(*least)),
            _ => {
                let (least, most) = (number(*least), number(*most));
                format!("{} {unit} ({least} to {most})", number(self.median()))
            }
        }
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Samples(values.into_iter().collect())
    }
}

/// Three digits that mean something.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// A line of the table.
#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    pub unit: &'static str,
    /// What it must reach.
    pub budget: &'static str,
    pub own: Samples,
    pub peer: Option<Samples>,
}

#[derive(Debug)]
pub struct Report {
    machine: String,
    peer: Option<String>,
    rounds: usize,
    rows: Vec<Row>,
}

impl Report {
    pub fn new(peer: Option<String>, rounds: usize) -> Result<Self> {
        Ok(Report { machine: machine()?, peer, rounds, rows: Vec::new() })
    }

    /// Adds a line, and says it.
    pub fn add(&mut self, row: Row) {
        let peer = row.peer.as_ref().map_or_else(String::new, |peer| {
            format!("; {}: {}", self.peer.as_deref().unwrap_or("peer"), peer.shown(row.unit))
        });
        eprintln!("    {}: {}{peer}", row.name, row.own.shown(row.unit));
        self.rows.push(row);
    }

    /// The table in Markdown.
    pub fn table(&self) -> String {
        let date = chrono::Utc::now().format("%Y-%m-%d");
        let mut text =
            format!("Measured {date} on {}. {} starts each.\n\n", self.machine, self.rounds);
        let peer = self.peer.as_deref().unwrap_or("Docker (not installed)");
        let _ = writeln!(text, "| | Caisson | {peer} | ratio | must reach |");
        text.push_str("| --- | --- | --- | --- | --- |\n");
        for row in &self.rows {
            let other = row.peer.as_ref().map_or_else(|| "-".into(), |peer| peer.shown(row.unit));
            let ratio = row.peer.as_ref().map_or_else(
                || "-".into(),
                |peer| format!("{:.2}", row.own.median() / peer.median()),
            );
            let own = row.own.shown(row.unit);
            let _ = writeln!(text, "| {} | {own} | {other} | {ratio} | {} |", row.name, row.budget);
        }
        text
    }
}

/// What kind of machine this is, in a few words.
fn machine() -> Result<String> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let memory = std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: f64 =
        total.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_string();
    Ok(format!(
        "a machine with {cpus} processors, {:.0} GB of memory, kernel {release}, load {load} at the beginning",
        kib / 1e6
    ))
}

/// Puts the table between the marks of a page.
pub fn write_into(path: &Path, table: &str) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let text = replaced(&text, table)
        .with_context(|| format!("{} has no place for the table", path.display()))?;
    cache::put(path, text.as_bytes())
}

fn replaced(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spread() {
        let samples: Samples = [30.0, 10.0, 200.0].into_iter().collect();
        assert_eq!(samples.median(), 30.0);
        assert_eq!(samples.shown("ms"), "30.0 ms (10.0 to 200)");
        assert_eq!(Samples::one(1.234).shown("MB"), "1.23 MB");
        assert_eq!(Samples::default().shown("ms"), "");
    }

    #[test]
    fn a_table_has_ratios_where_there_is_a_peer() {
        let mut report = Report::new(Some("Docker 20.10".into()), 3).unwrap();
        let peer = Some(Samples::one(400.0));
        let own = Samples::one(100.0);
        report.add(Row { name: "start", unit: "ms", budget: "0.3 x", own: own.clone(), peer });
        report.add(Row { name: "guest", unit: "MB", budget: "", own, peer: None });
        let table = report.table();
        assert!(table.contains("| start | 100 ms | 400 ms | 0.25 | 0.3 x |"), "{table}");
        assert!(table.contains("| guest | 100 MB | - | - |  |"), "{table}");
    }

    #[test]
    fn the_table_goes_between_its_marks() {
        let page = format!("# Title\n{BEGIN}\nold\n{END}\nmore\n");
        let new = replaced(&page, "table\n").unwrap();
        assert!(new.starts_with("# Title\n") && new.ends_with("\nmore\n"));
        assert!(new.contains("table") && !new.contains("old"));
        assert_eq!(replaced("# Title\n", "table"), None);
    }
}
