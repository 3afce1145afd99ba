//! One record of a log: read from its JSON, chosen, and written as the client wants it.

use std::borrow::Cow;
use std::collections::HashMap;

use caisson_api::time::{parse_rfc3339, rfc3339_fixed};
use serde::Deserialize;

use super::LogOptions;
use crate::record::Record;

/// How every record begins; it cannot be inside one, where quotes are escaped.
const BEGIN: &[u8] = b"{\"log\":\"";

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

/// What is wanted of each record.
#[derive(Debug, Default)]
pub struct Wanted {
    stdout: bool,
    stderr: bool,
    since: Option<i64>,
    until: Option<i64>,
    timestamps: bool,
    /// What `details` puts in front.
    details: Option<String>,
    /// Without headers.
    raw: bool,
}

/// Whether more records may be wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    Go,
    /// This one and all later ones are past `until`.
    Past,
}

impl Wanted {
    pub fn new(options: &LogOptions, record: &Record) -> Self {
        Wanted {
            stdout: options.stdout,
            stderr: options.stderr,
            since: options.since,
            until: options.until,
            timestamps: options.timestamps,
            details: options.details.then(|| details(record)),
            raw: record.tty(),
        }
    }

    /// Adds what is wanted of one line of the file to the text. What is no record is left out.
    pub fn add(&self, line: &[u8], text: &mut Vec<u8>) -> After {
        let Some(line) = parse(line) else { return After::Go };
        let timed = self.timestamps || self.since.is_some() || self.until.is_some();
        let time = if timed { parse_rfc3339(&line.time).unwrap_or_default() } else { 0 };
        if self.until.is_some_and(|until| time > until) {
            return After::Past;
        }
        let stderr = line.stream == "stderr";
        let chosen = if stderr { self.stderr } else { self.stdout };
        if !chosen || self.since.is_some_and(|since| time < since) {
            return After::Go;
        }
        let start = text.len();
        if !self.raw {
            text.extend([if stderr { 2 } else { 1 }, 0, 0, 0, 0, 0, 0, 0]);
        }
        let body = text.len();
        if self.timestamps {
            text.extend(rfc3339_fixed(time).bytes());
            text.push(b' ');
        }
        if let Some(details) = &self.details {
            text.extend(details.bytes());
            text.push(b' ');
        }
        text.extend(line.log.bytes());
        if !self.raw {
            // Shorter than a line of the file can be.
            let length = (text.len() - body) as u32;
            text[start + 4..body].copy_from_slice(&length.to_be_bytes());
        }
        After::Go
    }
}

fn parse(line: &[u8]) -> Option<Line<'_>> {
    serde_json::from_slice(line).ok().or_else(|| {
        // A writer was killed in the middle of a record: the next one follows it on the same line.
        let start = line.windows(BEGIN.len()).rposition(|window| window == BEGIN)?;
        serde_json::from_slice(&line[start..]).ok()
    })
}

/// The labels and variables that the options `labels` and `env` of the log name, as Docker writes them.
fn details(record: &Record) -> String {
    let options = record.host_config.log_config.as_ref().and_then(|config| config.config.as_ref());
    let names = |option: &str| -> Vec<String> {
        let names = options.and_then(|options| options.get(option));
        names.map(|names| names.split(',').map(String::from).collect()).unwrap_or_default()
    };
    let empty = HashMap::new();
    let labels = record.config.labels.as_ref().unwrap_or(&empty);
    let variables = record.config.env.iter().flatten().filter_map(|pair| pair.split_once('='));
    let variables: HashMap<&str, &str> = variables.collect();
    let labels = names("labels").into_iter().filter_map(|name| {
        let value = labels.get(&name)?.clone();
        Some((name, value))
    });
    let variables = names("env").into_iter().filter_map(|name| {
        let value = variables.get(name.as_str())?.to_string();
        Some((name, value))
    });
    let mut pairs: Vec<String> = labels
        .chain(variables)
        .map(|(name, value)| format!("{}={}", escaped(&name), escaped(&value)))
        .collect();
    pairs.sort();
    pairs.join(",")
}

/// As in a URL's query.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            b' ' => escaped.push('+'),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::tests::record;

    const TIME: &str = "2026-01-02T03:04:05.5Z";

    fn wanted(change: impl FnOnce(&mut LogOptions)) -> Wanted {
        let mut options = LogOptions { stdout: true, stderr: true, ..LogOptions::default() };
        change(&mut options);
        Wanted::new(&options, &record('a', "web", 1))
    }

    fn shown(wanted: &Wanted, line: &str) -> Vec<u8> {
        let mut text = Vec::new();
        wanted.add(line.as_bytes(), &mut text);
        text
    }

    #[test]
    fn a_record_gets_a_header_a_time_and_details() {
        let line = format!(r#"{{"log":"a\u003cb\n","stream":"stderr","time":"{TIME}"}}"#);
        assert_eq!(shown(&wanted(|_| {}), &line), b"\x02\0\0\0\0\0\0\x04a<b\n");
        let full = wanted(|options| (options.timestamps, options.details) = (true, true));
        let text = b"2026-01-02T03:04:05.500000000Z  a<b\n";
        let mut expected = vec![2, 0, 0, 0, 0, 0, 0, text.len() as u8];
        expected.extend(text);
        assert_eq!(shown(&full, &line), expected);
        assert_eq!(shown(&wanted(|options| options.stderr = false), &line), b"");
        let raw = Wanted { raw: true, ..wanted(|_| {}) };
        assert_eq!(shown(&raw, &line), b"a<b\n");
    }

    #[test]
    fn times_choose() {
        let line = format!(r#"{{"log":"x\n","stream":"stdout","time":"{TIME}"}}"#);
        let time = parse_rfc3339(TIME).unwrap();
        assert_eq!(shown(&wanted(|options| options.since = Some(time + 1)), &line), b"");
        assert!(!shown(&wanted(|options| options.since = Some(time)), &line).is_empty());
        let mut text = Vec::new();
        let early = wanted(|options| options.until = Some(time - 1));
        assert_eq!(early.add(line.as_bytes(), &mut text), After::Past);
        assert!(text.is_empty());
        let exact = wanted(|options| options.until = Some(time));
        assert_eq!(exact.add(line.as_bytes(), &mut text), After::Go);
        assert!(!text.is_empty());
    }

    #[test]
    fn a_record_after_a_torn_one_is_not_lost() {
        let raw = Wanted { raw: true, ..wanted(|_| {}) };
        let whole = format!(r#"{{"log":"whole\n","stream":"stdout","time":"{TIME}"}}"#);
        assert_eq!(shown(&raw, &format!(r#"{{"log":"to\"rn{whole}"#)), b"whole\n");
        assert_eq!(shown(&raw, "no record at all"), b"");
    }

    #[test]
    fn details_are_what_the_log_options_name() {
        let mut one = record('a', "web", 1);
        one.config.labels = Some([("tier".into(), "a b".into()), ("x".into(), "y".into())].into());
        one.config.env = Some(vec!["A=1,2".into(), "B=2".into()]);
        assert_eq!(details(&one), "");
        let options = [("labels".into(), "tier,none".into()), ("env".into(), "A".into())];
        one.host_config.log_config = Some(crate::wire::HostConfigLogConfig {
            typ: Some("json-file".into()),
            config: Some(options.into()),
        });
        assert_eq!(details(&one), "A=1%2C2,tier=a+b");
    }
}
