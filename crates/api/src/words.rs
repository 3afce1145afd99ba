//! Docker's words for durations and sizes (`docker/go-units`), and the sizes it reads.

/// A duration in words, such as `About a minute`; nanoseconds, below zero counts as zero.
pub fn human_duration(nanoseconds: i64) -> String {
    let seconds = nanoseconds.max(0) / 1_000_000_000;
    let minutes = seconds / 60;
    // To the nearest hour.
    let hours = (seconds + 1800) / 3600;
    match seconds {
        0 => return "Less than a second".into(),
        1 => return "1 second".into(),
        2..60 => return format!("{seconds} seconds"),
        _ => {}
    }
    match (minutes, hours) {
        (1, _) => "About a minute".into(),
        (..60, _) => format!("{minutes} minutes"),
        (_, 1) => "About an hour".into(),
        (_, ..48) => format!("{hours} hours"),
        (_, ..336) => format!("{} days", hours / 24),
        (_, ..1440) => format!("{} weeks", hours / 24 / 7),
        (_, ..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// A size by thousands, three digits: `1.23MB`.
pub fn decimal_size(bytes: u64) -> String {
    size(bytes, 1000.0, 3, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// As [`decimal_size`], four digits: `1.234MB`.
pub fn precise_size(bytes: u64) -> String {
    size(bytes, 1000.0, 4, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// A size by 1024, four digits: `1.205MiB`.
pub fn binary_size(bytes: u64) -> String {
    size(bytes, 1024.0, 4, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

fn size(bytes: u64, base: f64, digits: usize, units: &[&str]) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let shown = |value: f64| {
        let whole = (value.max(1.0).log10().floor() as usize) + 1;
        let text = format!("{value:.*}", digits.saturating_sub(whole));
        match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
            false => text,
        }
    };
    let text = shown(value);
    // What is rounded up to the next unit is shown in it.
    match text.parse::<f64>() {
        Ok(rounded) if rounded >= base && unit + 1 < units.len() => format!("1{}", units[unit + 1]),
        _ => format!("{text}{}", units[unit]),
    }
}

/// A size that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    #[error("invalid size: '{0}'")]
    Size(String),
    #[error("invalid suffix: '{0}'")]
    Suffix(String),
}

/// Reads a size in bytes by 1024: `512m`, `1.5GiB`, `100`, `64 kb`.
pub fn parse_size(text: &str) -> Result<i64, SizeError> {
    let wrong = || SizeError::Size(text.into());
    let last =
        text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(wrong)?;
    let number = text[..=last].strip_suffix(' ').unwrap_or(&text[..=last]);
    let suffix = &text[last + 1..];
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(wrong());
    }
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bad = || SizeError::Suffix(suffix.into());
    let lower = suffix.to_ascii_lowercase();
    let power = match lower.strip_suffix("ib").or(lower.strip_suffix('b')).unwrap_or(&lower) {
        // No unit has `ib` alone.
        "" if lower == "ib" => return Err(bad()),
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(bad()),
    };
    let bytes = number * 1024_f64.powi(power);
    if !bytes.is_finite() || bytes >= i64::MAX as f64 {
        return Err(wrong());
    }
    Ok(bytes as i64)
}

/// A program and its arguments in one line, as `docker ps` shows them: those with blanks in single quotes.
pub fn command_line(args: &[String]) -> String {
    let quoted = |(index, arg): (usize, &String)| match index > 0 && arg.contains(' ') {
        true => format!("'{arg}'"),
        false => arg.clone(),
    };
    args.iter().enumerate().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_dockers_words() {
        const HOUR: i64 = 3600;
        const DAY: i64 = 24 * HOUR;
        let cases = [
            (-5, "Less than a second"),
            (0, "Less than a second"),
            (1, "1 second"),
            (45, "45 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (3 * 60, "3 minutes"),
            (35 * 60 + 59, "35 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 45 * 60, "2 hours"),
            (3 * HOUR + 59 * 60, "4 hours"),
            (47 * HOUR, "47 hours"),
            (2 * DAY, "2 days"),
            (13 * DAY, "13 days"),
            (15 * DAY, "2 weeks"),
            (35 * DAY, "5 weeks"),
            (75 * DAY, "2 months"),
            (365 * DAY, "12 months"),
            (2 * 365 * DAY, "2 years"),
            (i64::MAX / 1_000_000_000, "292 years"),
        ];
        for (seconds, words) in cases {
            assert_eq!(human_duration(seconds * 1_000_000_000), words, "{seconds}");
        }
        assert_eq!(human_duration(999_999_999), "Less than a second");
    }

    #[test]
    fn sizes_in_dockers_words() {
        let cases = [
            (0, "0B", "0B"),
            (999, "999B", "999B"),
            (1000, "1kB", "1000B"),
            (1024, "1.02kB", "1KiB"),
            (1_234_567, "1.23MB", "1.177MiB"),
            (2_084_939, "2.08MB", "1.988MiB"),
            (999_999, "1MB", "976.6KiB"),
            (104_857_600, "105MB", "100MiB"),
            (25_276_510_208, "25.3GB", "23.54GiB"),
            (u64::MAX, "18.4EB", "16EiB"),
        ];
        for (bytes, decimal, binary) in cases {
            assert_eq!(
                (decimal_size(bytes).as_str(), binary_size(bytes).as_str()),
                (decimal, binary)
            );
        }
    }

    #[test]
    fn precise_sizes_have_one_digit_more() {
        assert_eq!(precise_size(1_981_824), "1.982MB");
        assert_eq!(precise_size(0), "0B");
    }

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        const K: i64 = 1024;
        let cases = [
            ("32", 32),
            ("32b", 32),
            ("32k", 32 * K),
            ("32K", 32 * K),
            ("32kb", 32 * K),
            ("32 kb", 32 * K),
            ("32KiB", 32 * K),
            ("512m", 512 * K * K),
            ("1.5g", 3 * K * K * K / 2),
            ("2tb", 2 * K * K * K * K),
            ("0", 0),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "hello", "-32", "1.2.3", " 32 ", "32m b", "99999999999p"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        let error = parse_size("32bb").unwrap_err().to_string();
        assert_eq!(error, "invalid suffix: 'bb'");
        assert_eq!(parse_size("hello").unwrap_err().to_string(), "invalid size: 'hello'");
        assert!(parse_size("32ib").is_err() && parse_size("32mm").is_err());
    }

    #[test]
    fn commands_are_quoted_where_they_have_blanks() {
        let args = ["sh", "-c", "echo up; sleep 600"].map(String::from);
        assert_eq!(command_line(&args), "sh -c 'echo up; sleep 600'");
        assert_eq!(command_line(&args[..1]), "sh");
        assert_eq!(command_line(&[]), "");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,12}", like in "[0-9. kKmMgGtTpPiIbB]{0,12}") {
            let _ = parse_size(&text);
            if let Ok(bytes) = parse_size(&like) {
                proptest::prop_assert!(bytes >= 0);
            }
        }

        #[test]
        fn sizes_are_short(bytes: u64) {
            proptest::prop_assert!(decimal_size(bytes).len() <= 6);
            proptest::prop_assert!(binary_size(bytes).len() <= 8);
        }
    }
}
