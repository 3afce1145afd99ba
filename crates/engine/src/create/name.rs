//! Names of containers.

use crate::error::{Doing, Error, Result};

const FIRST: [&str; 40] = [
    "able", "amber", "apt", "bold", "brave", "brisk", "calm", "clear", "crisp", "deep", "dry",
    "eager", "early", "fair", "firm", "fleet", "fresh", "glad", "grand", "keen", "kind", "light",
    "lucid", "mild", "neat", "noble", "plain", "prime", "proud", "quick", "quiet", "rapid",
    "sharp", "snug", "solid", "sound", "stable", "steady", "swift", "warm",
];

/// What stands in or under water.
const SECOND: [&str; 40] = [
    "anchor",
    "arch",
    "barge",
    "basin",
    "beacon",
    "bollard",
    "breakwater",
    "bridge",
    "buoy",
    "cable",
    "canal",
    "cofferdam",
    "cove",
    "crane",
    "dam",
    "delta",
    "dike",
    "dock",
    "dredge",
    "ferry",
    "fjord",
    "gantry",
    "groyne",
    "harbour",
    "hull",
    "jetty",
    "keel",
    "levee",
    "lock",
    "mole",
    "mooring",
    "pier",
    "pile",
    "pontoon",
    "port",
    "quay",
    "reef",
    "sluice",
    "weir",
    "wharf",
];

/// A name that nobody thought of.
pub fn random(attempt: u32) -> Result<String> {
    let mut bytes = [0; 3];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .doing(|| "ask the kernel for random bytes")?;
    let pick = |words: &[&'static str; 40], byte: u8| words[usize::from(byte) % words.len()];
    let name = format!("{}_{}", pick(&FIRST, bytes[0]), pick(&SECOND, bytes[1]));
    // Once the likely ones are taken, a number makes more.
    Ok(if attempt < 4 { name } else { format!("{name}{}", bytes[2]) })
}

/// Refuses what is no container's name.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|first| first.is_ascii_alphanumeric());
    if first && name.len() > 1 && name.len() <= 255 && bytes.all(allowed) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["web", "a1", "A_b.c-d"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "-ab", "a/b", "a b", "../x", "é1"] {
            assert!(check_name(bad).unwrap_err().message.contains("only [a-zA-Z0-9]"), "{bad}");
        }
        for attempt in [0, 9] {
            assert!(check_name(&random(attempt).unwrap()).is_ok());
        }
    }
}
