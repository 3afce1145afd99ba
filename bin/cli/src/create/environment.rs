//! `--env`, `--env-file`, `--label` and `--label-file`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// What this program's own environment says of a variable.
type Own<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variables of the files, then those given one by one. A name alone takes the value of this program's
/// environment, or is left out when it has none.
pub fn environment(given: &[String], files: &[PathBuf]) -> Result<Vec<String>> {
    collect(given, files, &|name| std::env::var(name).ok())
}

fn collect(given: &[String], files: &[PathBuf], own: Own<'_>) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        for line in lines(file, "env")? {
            all.extend(variable(&line, own));
        }
    }
    for text in given {
        if text.is_empty() || text.starts_with('=') {
            return Err(Failure::words(format!("invalid environment variable: {text}")));
        }
        all.extend(variable(text, own));
    }
    Ok(all)
}

fn variable(text: &str, own: Own<'_>) -> Option<String> {
    match text.contains('=') {
        true => Some(text.to_string()),
        false => own(text).map(|value| format!("{text}={value}")),
    }
}

/// The labels of the files, then those given one by one; a name alone has an empty value.
pub fn labels(given: &[String], files: &[PathBuf]) -> Result<HashMap<String, String>> {
    let mut all = Vec::new();
    for file in files {
        all.extend(lines(file, "label")?);
    }
    all.extend(given.iter().cloned());
    Ok(all.iter().map(|text| pair(text)).collect())
}

/// `key=value`; the value may be left out.
pub fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_string(), value.to_string())
}

/// A file's lines, without comments and empty ones.
fn lines(file: &Path, kind: &str) -> Result<Vec<String>> {
    let shown = file.display();
    let bytes = std::fs::read(file).map_err(Failure::io(format!("read {shown}")))?;
    let wrong = |why: String| Failure::words(format!("invalid {kind} file ({shown}): {why}"));
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        wrong(format!("invalid utf8 bytes at line {line}"))
    })?;
    let mut lines = Vec::new();
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() {
            return Err(wrong(format!("no variable name on line '{line}'")));
        }
        if name.contains(char::is_whitespace) {
            return Err(wrong(format!("variable '{name}' contains whitespaces")));
        }
        lines.push(line.to_string());
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/home/me".to_string())
    }

    #[test]
    fn files_come_first_and_names_take_this_environments_values() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("env");
        std::fs::write(&file, "\u{feff}# comment\n\n  A=1\nHOME\nGONE\nB=x y # z\r\n").unwrap();
        let given = ["HOME", "GONE", "C="].map(String::from);
        let all = collect(&given, &[file], &own).unwrap();
        assert_eq!(all, ["A=1", "HOME=/home/me", "B=x y # z", "HOME=/home/me", "C="]);
    }

    #[test]
    fn wrong_files_are_named() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("env");
        for (text, why) in [
            (&b"A B=1"[..], "variable 'A B' contains whitespaces"),
            (b"=1", "no variable name on line '=1'"),
            (b"A=1\nB=\xff", "invalid utf8 bytes at line 2"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = collect(&[], std::slice::from_ref(&file), &own).unwrap_err().sentence();
            assert_eq!(error, format!("invalid env file ({}): {why}", file.display()));
        }
        let error = collect(&[], &["/nonexistent".into()], &own).unwrap_err().sentence();
        assert!(error.starts_with("read /nonexistent: No such file"), "{error}");
        assert!(collect(&["=x".into()], &[], &own).is_err());
    }

    #[test]
    fn labels_may_have_no_value() {
        let given = ["a=b=c", "d", "a=e"].map(String::from);
        let labels = labels(&given, &[]).unwrap();
        assert_eq!(labels.len(), 2);
        assert_eq!((labels["a"].as_str(), labels["d"].as_str()), ("e", ""));
    }
}
