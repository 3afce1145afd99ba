//! Times and durations in the notations of Docker's API: Unix seconds with a fraction, RFC 3339 with parts
//! left out, Go's durations.
//!
//! Times here are nanoseconds since 1970-01-01 UTC, durations nanoseconds.

use chrono::{DateTime, Local, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};

const SECOND: i64 = 1_000_000_000;
const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3600 * SECOND),
];

/// A time or duration that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("failed to parse value as time or duration: {0:?}")]
    Time(String),
    #[error("time: invalid duration {0:?}")]
    Duration(String),
}

/// Reads a time: a duration counts back from `now`; Unix seconds may have up to nine digits of fraction; a
/// date may leave out its time, the time its seconds or minutes, and without a zone it is local.
pub fn parse_time(text: &str, now: i64) -> Result<i64, Error> {
    let wrong = || Error::Time(text.into());
    if text != "0"
        && let Ok(duration) = parse_duration(text)
    {
        return now.checked_sub(duration).ok_or_else(wrong);
    }
    match unix_time(text) {
        Some(time) => Ok(time),
        None => date_time(text).ok_or_else(wrong),
    }
}

fn unix_time(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: i64 = format!("{fraction:0<9}").parse().ok()?;
    let (digits, sign) = match seconds.strip_prefix('-') {
        Some(digits) => (digits, -1),
        None => (seconds, 1),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = digits.parse().ok()?;
    seconds.checked_mul(SECOND)?.checked_add(nanoseconds)?.checked_mul(sign)
}

fn date_time(text: &str) -> Option<i64> {
    let (date, clock) = match text.split_once('T') {
        Some((date, clock)) => (date, Some(clock)),
        None => (text, None),
    };
    // The zone follows the clock, or the date when there is no clock.
    let (date, clock, zone) = match clock {
        Some(clock) => {
            let end = clock.find(['Z', 'z', '+', '-']).unwrap_or(clock.len());
            (date, &clock[..end], &clock[end..])
        }
        None => {
            let end = date.find(['Z', 'z', '+']).unwrap_or_else(|| {
                date.match_indices('-').nth(2).map_or(date.len(), |(index, _)| index)
            });
            (&date[..end], "00", &date[end..])
        }
    };
    let date = NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()?;
    let clock = match clock.matches(':').count() {
        0 => format!("{clock}:00:00"),
        1 => format!("{clock}:00"),
        _ => clock.to_string(),
    };
    let clock = NaiveTime::parse_from_str(&clock, "%H:%M:%S%.f").ok()?;
    in_zone(date.and_time(clock), zone)?.timestamp_nanos_opt()
}

fn in_zone(time: NaiveDateTime, zone: &str) -> Option<DateTime<Utc>> {
    match zone {
        "" => Some(Local.from_local_datetime(&time).earliest()?.with_timezone(&Utc)),
        "Z" | "z" => Some(time.and_utc()),
        _ => {
            let text = format!("{}{zone}", time.format("%Y-%m-%dT%H:%M:%S%.f"));
            Some(DateTime::parse_from_rfc3339(&text).ok()?.with_timezone(&Utc))
        }
    }
}

/// RFC 3339 with nanoseconds, trailing zeros left out (Go's `RFC3339Nano`); 0 is Go's zero time.
pub fn rfc3339(time: i64) -> String {
    if time == 0 {
        return "0001-01-01T00:00:00Z".into();
    }
    let text = DateTime::from_timestamp_nanos(time).format("%Y-%m-%dT%H:%M:%S%.9f").to_string();
    format!("{}Z", text.trim_end_matches('0').trim_end_matches('.'))
}

/// RFC 3339 with all nine digits, as in front of log lines.
pub fn rfc3339_fixed(time: i64) -> String {
    DateTime::from_timestamp_nanos(time).format("%Y-%m-%dT%H:%M:%S%.9fZ").to_string()
}

/// RFC 3339 to the second.
pub fn rfc3339_seconds(time: i64) -> String {
    DateTime::from_timestamp_nanos(time).format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Reads what [`rfc3339`] writes.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text).ok()?.timestamp_nanos_opt()
}

/// Reads a duration as Go does (`time.ParseDuration`): `1h30m`, `-1.5s`, `0`.
pub fn parse_duration(text: &str) -> Result<i64, Error> {
    let wrong = || Error::Duration(text.into());
    let (mut rest, negative) = match text.as_bytes() {
        [b'-', ..] => (&text[1..], true),
        [b'+', ..] => (&text[1..], false),
        _ => (text, false),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| c != '.' && !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(end);
        let end = tail.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let unit = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
        total += amount(number, unit).ok_or_else(wrong)?;
        if total > i128::from(i64::MAX) + i128::from(negative) {
            return Err(wrong());
        }
        rest = tail;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| wrong())
}

/// A decimal number of units, in nanoseconds.
fn amount(number: &str, unit: i64) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let whole = i128::from(whole) * i128::from(unit);
    if fraction.is_empty() {
        return Some(whole);
    }
    // Digits beyond the sixteenth are below a nanosecond for every unit.
    let digits = &fraction[..fraction.len().min(16)];
    let part = digits.parse::<i128>().ok()? * i128::from(unit) / 10_i128.pow(digits.len() as u32);
    Some(whole + part)
}

/// A duration as Go prints it (`Duration.String`): `1h30m0s`, `1.5s`, `10ms`, `0s`.
pub fn format_duration(duration: i64) -> String {
    let size = duration.unsigned_abs();
    let sign = if duration < 0 { "-" } else { "" };
    let decimal = |value: u64, unit: u64| {
        let digits = unit.ilog10() as usize;
        let text = format!("{}.{:0digits$}", value / unit, value % unit);
        if digits == 0 {
            value.to_string()
        } else {
            text.trim_end_matches('0').trim_end_matches('.').into()
        }
    };
    match size {
        0 => "0s".into(),
        1..1_000 => format!("{sign}{size}ns"),
        1_000..1_000_000 => format!("{sign}{}\u{b5}s", decimal(size, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(size, 1_000_000)),
        _ => {
            let minutes = size / (60 * SECOND as u64);
            let seconds = decimal(size % (60 * SECOND as u64), SECOND as u64);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let cases = [
            ("0", 0),
            ("10m", 600 * SECOND),
            ("1h30m", 5400 * SECOND),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.s", SECOND),
            ("-2ms", -2_000_000),
            ("+7ns", 7),
            ("3\u{b5}s", 3_000),
            ("3us", 3_000),
            ("2562047h47m16.854775807s", i64::MAX),
            ("-2562047h47m16.854775808s", i64::MIN),
            ("0.000000000999s", 0),
            ("0.3333333333333333333h", 1_200 * SECOND - 1),
        ];
        for (text, nanoseconds) in cases {
            assert_eq!(parse_duration(text), Ok(nanoseconds), "{text}");
        }
        for text in
            ["", "1", "-", "s", ".s", "1x", "1.2.3s", "1 s", "2562047h48m", "9999999999999h", "é"]
        {
            let error = parse_duration(text).unwrap_err().to_string();
            assert_eq!(error, format!("time: invalid duration {text:?}"));
        }
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (5 * 3600 * SECOND + 367_001_000_000, "5h6m7.001s"),
            (-SECOND, "-1s"),
            (3600 * SECOND, "1h0m0s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ];
        for (duration, text) in cases {
            assert_eq!(format_duration(duration), text);
        }
    }

    #[test]
    fn times_are_read_in_every_notation() {
        let now = 2_000 * SECOND;
        let utc = |text: &str| parse_rfc3339(text).unwrap();
        let cases = [
            ("0", 0),
            ("1136073600", 1_136_073_600 * SECOND),
            ("1136073600.000000001", 1_136_073_600 * SECOND + 1),
            ("1136073600.1", 1_136_073_600 * SECOND + 100_000_000),
            ("10m", now - 600 * SECOND),
            ("2006-01-02T15:04:05.999999999Z", utc("2006-01-02T15:04:05.999999999Z")),
            ("2006-01-02T15:04:05+02:00", utc("2006-01-02T13:04:05Z")),
            ("2006-01-02T15:04:05-02:00", utc("2006-01-02T17:04:05Z")),
            ("2006-01-02T15:04Z", utc("2006-01-02T15:04:00Z")),
            ("2006-01-02T15Z", utc("2006-01-02T15:00:00Z")),
            ("2006-01-02Z", utc("2006-01-02T00:00:00Z")),
            ("2006-01-02-05:00", utc("2006-01-02T05:00:00Z")),
        ];
        for (text, time) in cases {
            assert_eq!(parse_time(text, now), Ok(time), "{text}");
        }
        let local = Local.with_ymd_and_hms(2006, 1, 2, 15, 4, 5).unwrap();
        assert_eq!(parse_time("2006-01-02T15:04:05", now), Ok(local.timestamp() * SECOND));
        for text in [
            "",
            "x",
            "2006-13-02",
            "2006-01-02T25",
            "1.2.3",
            "99999999999999999999",
            "1.0000000001",
        ] {
            let error = parse_time(text, now).unwrap_err().to_string();
            assert_eq!(error, format!("failed to parse value as time or duration: {text:?}"));
        }
    }

    #[test]
    fn times_are_printed_as_go_prints_them() {
        assert_eq!(rfc3339(0), "0001-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_700_000_000 * SECOND), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339(1_700_000_000 * SECOND + 120_000_000), "2023-11-14T22:13:20.12Z");
        assert_eq!(rfc3339_fixed(1_700_000_000 * SECOND), "2023-11-14T22:13:20.000000000Z");
        assert_eq!(rfc3339_seconds(1_700_000_000 * SECOND + 1), "2023-11-14T22:13:20Z");
    }

    proptest::proptest! {
        #[test]
        fn printed_durations_are_read_back(duration: i64) {
            proptest::prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn printed_times_are_read_back(time in 1_i64..) {
            proptest::prop_assert_eq!(parse_rfc3339(&rfc3339(time)), Some(time));
            proptest::prop_assert_eq!(parse_time(&rfc3339_fixed(time), 0), Ok(time));
        }

        #[test]
        fn nothing_panics(text in ".{0,24}", like in "[0-9hmsunT:Z+.-]{0,24}") {
            let _ = (parse_time(&text, 0), parse_time(&like, i64::MIN), parse_duration(&like));
        }
    }
}
