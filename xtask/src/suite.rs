//! Every test, and a closing line that counts them.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::{release, root};

/// Fewest tests that a whole run has; fewer means that some were lost.
const AT_LEAST: usize = 700;

/// Tests of which any may be skipped, and what for: nothing else may.
const SKIPPABLE: &str = "docker-cli::";

/// What the harness has counted.
#[derive(Debug, Default, PartialEq)]
struct Count {
    passed: usize,
    failed: usize,
    ignored: usize,
    /// Names of those that were skipped.
    skipped: Vec<String>,
}

pub fn run() -> Result<()> {
    let begun = Instant::now();
    eprintln!("==> run the tests");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut child = Command::new(cargo)
        .current_dir(root())
        .args(["test", "--workspace", "--no-fail-fast", "--", "--test-threads=2"])
        .env("CAISSON_PROGRAMS", release())
        .stdout(Stdio::piped())
        .spawn()
        .context("start cargo test")?;
    let mut count = Count::default();
    let output = child.stdout.take().context("the tests' output")?;
    for line in BufReader::new(output).lines() {
        let line = line.context("read the tests' output")?;
        println!("{line}");
        count.add(&line);
    }
    let status = child.wait().context("wait for cargo test")?;
    println!(
        "caisson: {} tests passed, {} failed, {} skipped, in {:.0} s",
        count.passed,
        count.failed,
        count.ignored,
        begun.elapsed().as_secs_f64()
    );
    ensure!(status.success() && count.failed == 0, "tests failed");
    count.justified(caisson_tests::engine::Cli::is_installed())?;
    ensure!(
        count.passed >= AT_LEAST,
        "only {} tests ran, at least {AT_LEAST} should",
        count.passed
    );
    Ok(())
}

impl Count {
    /// Takes in a line such as `test result: ok. 3 passed; 0 failed; 0 ignored; …`.
    fn add(&mut self, line: &str) {
        if let Some(name) = skipped(line) {
            self.skipped.push(name.to_string());
        }
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        for part in counts.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (words.next(), words.next()) else { continue };
            let Ok(number) = number.parse::<usize>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    /// Only what needs the docker command line may be skipped, and only where that is not installed.
    fn justified(&self, docker: bool) -> Result<()> {
        let may = |name: &String| !docker && name.starts_with(SKIPPABLE);
        let wrong: Vec<_> = self.skipped.iter().filter(|name| !may(name)).cloned().collect();
        ensure!(wrong.is_empty(), "no reason to skip {}", wrong.join(", "));
        ensure!(
            self.skipped.len() == self.ignored,
            "{} tests were skipped, but {} were named",
            self.ignored,
            self.skipped.len()
        );
        if !self.skipped.is_empty() {
            println!(
                "caisson: {} tests through the docker command line were skipped: it is not installed",
                self.skipped.len()
            );
        }
        Ok(())
    }
}

/// The name in a line such as `test docker-cli::process::run ... ignored`.
fn skipped(line: &str) -> Option<&str> {
    let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    result.starts_with("ignored").then(|| name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_add_up() {
        let mut count = Count::default();
        count.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        count.add("test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured");
        count.add("test of something ... ok");
        assert_eq!(count, Count { passed: 5, failed: 4, ignored: 1, skipped: Vec::new() });
    }

    #[test]
    fn only_the_docker_clients_tests_may_be_skipped() {
        let mut count = Count::default();
        count.add("test docker-cli::process::run ... ignored");
        count.add("test result: ok. 3 passed; 0 failed; 1 ignored");
        count.justified(false).unwrap();
        assert!(count.justified(true).is_err());
        count.add("test bollard::process::run      ... ignored, not today");
        let error = count.justified(false).unwrap_err().to_string();
        assert!(error.ends_with("skip bollard::process::run"), "{error}");
    }

    #[test]
    fn a_skipped_test_without_a_name_is_seen() {
        let mut count = Count::default();
        count.add("test result: ok. 3 passed; 0 failed; 1 ignored");
        assert!(count.justified(false).is_err());
    }
}
