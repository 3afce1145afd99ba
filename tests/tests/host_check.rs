//! `caisson host check` tells the truth about this machine, whatever it is.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use caisson_tests::programs;

#[test]
fn the_check_shows_what_it_says() -> Result<()> {
    let begun = Instant::now();
    let output = Command::new(programs()?.join("caisson"))
        .args(["host", "check", "--format", "json"])
        .output()
        .context("run caisson host check")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(begun.elapsed() < Duration::from_secs(40), "it took {:?}", begun.elapsed());
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
    let find = |item: &str| {
        let found = findings.iter().find(|finding| finding["item"] == item);
        found.with_context(|| format!("no finding about {item}: {findings:?}"))
    };
    let emulated = find("hyperv emulated")?;
    let evidence = emulated["evidence"].as_str().unwrap_or_default();
    ensure!(emulated["verdict"] == "partly", "{emulated}");
    ensure!(
        evidence.contains("-nano") && evidence.contains("not a security boundary"),
        "{emulated}"
    );
    let kvm = find("hyperv by kvm")?;
    let said_hello = kvm["evidence"].as_str().unwrap_or_default().contains("said hello");
    ensure!((kvm["verdict"] == "yes") == said_hello, "{kvm}");
    for item in ["cgroups", "overlay", "tun", "vsock", "nftables", "capabilities"] {
        find(item)?;
    }
    Ok(())
}

#[test]
fn a_missing_guest_is_named_with_its_remedy() -> Result<()> {
    let output = Command::new(programs()?.join("caisson"))
        .args(["host", "check", "--guest-dir", "/nowhere"])
        .output()
        .context("run caisson host check")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("/nowhere/kernel does not exist -> "), "{text}");
    ensure!(text.contains("cargo xtask guest"), "{text}");
    Ok(())
}
