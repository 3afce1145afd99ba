//! Times that the user writes, for the daemon; and the daemon's, for the user.

use std::time::{SystemTime, UNIX_EPOCH};

use caisson_api::time::parse_time;
use caisson_api::words::human_duration;
use chrono::{DateTime, Local};

use crate::failure::{Failure, Result};

/// Nanoseconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// A time in any of the notations, as the seconds with a fraction that every daemon reads. Relative times
/// count from here.
pub fn for_daemon(text: Option<&str>, option: &str) -> Result<Option<String>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let time = parse_time(text, now())
        .map_err(|error| Failure::words(format!("invalid value for {option:?}: {error}")))?;
    Ok(Some(seconds(time)))
}

fn seconds(time: i64) -> String {
    let (whole, part) = (time.div_euclid(1_000_000_000), time.rem_euclid(1_000_000_000));
    format!("{whole}.{part:09}")
}

/// `3 minutes ago`, from seconds since 1970.
pub fn ago(seconds: i64) -> String {
    format!("{} ago", human_duration(now().saturating_sub(seconds.saturating_mul(1_000_000_000))))
}

/// `2006-01-02 15:04:05 -0700 MST` in local time, from seconds since 1970.
pub fn local(seconds: i64) -> String {
    match DateTime::from_timestamp(seconds, 0) {
        Some(time) => words(time.with_timezone(&Local)),
        None => seconds.to_string(),
    }
}

fn words(time: DateTime<Local>) -> String {
    let zone = time.format("%z").to_string();
    let name = if zone == "+0000" { "UTC".to_string() } else { zone.clone() };
    format!("{} {zone} {name}", time.format("%Y-%m-%d %H:%M:%S"))
}

/// RFC 3339 with nine digits in local time, as events show it.
pub fn precise(nanoseconds: i64) -> String {
    let time = DateTime::from_timestamp_nanos(nanoseconds).with_timezone(&Local);
    let text = time.format("%Y-%m-%dT%H:%M:%S%.9f%:z").to_string();
    match text.strip_suffix("+00:00") {
        Some(text) => format!("{text}Z"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_for_the_daemon_are_seconds() {
        assert_eq!(for_daemon(Some("1.5"), "since").unwrap().as_deref(), Some("1.500000000"));
        let text = for_daemon(Some("2006-01-02T15:04:05Z"), "since").unwrap();
        assert_eq!(text.as_deref(), Some("1136214245.000000000"));
        assert_eq!(for_daemon(None, "since").unwrap(), None);
        let error = for_daemon(Some("x"), "until").unwrap_err().sentence();
        assert_eq!(
            error,
            "invalid value for \"until\": failed to parse value as time or duration: \"x\""
        );
        assert_eq!(seconds(-1), "-1.999999999");
    }

    #[test]
    fn ages_in_words() {
        assert_eq!(ago(now() / 1_000_000_000 - 180), "3 minutes ago");
    }
}
