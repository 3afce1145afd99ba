//! Options of a tmpfs.

use crate::error::{Error, Result};

/// Words without a value.
const FLAGS: [&str; 13] = [
    "async",
    "defaults",
    "dev",
    "exec",
    "noatime",
    "nodev",
    "noexec",
    "nosuid",
    "relatime",
    "ro",
    "rw",
    "strictatime",
    "suid",
];

/// Refuses an option that the mount would fail with.
pub fn check(options: &[String]) -> Result<()> {
    for option in options {
        let good = match option.split_once('=') {
            None => FLAGS.contains(&option.as_str()),
            Some((name, value)) => is_value(name, value),
        };
        if !good {
            return Err(Error::invalid(format!("invalid tmpfs option {option:?}")));
        }
    }
    Ok(())
}

fn is_value(name: &str, value: &str) -> bool {
    let sized = |units: &[char]| {
        let number = value.strip_suffix(units).unwrap_or(value);
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    match name {
        "size" => sized(&['k', 'K', 'm', 'M', 'g', 'G', '%']),
        "nr_blocks" | "nr_inodes" => sized(&['k', 'K', 'm', 'M', 'g', 'G']),
        "mode" => u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777),
        "uid" | "gid" => value.parse::<u32>().is_ok(),
        "mpol" => !value.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_a_tmpfs() {
        let check = |option: &str| check(&[option.to_string()]);
        for good in ["size=64m", "size=50%", "mode=1777", "uid=1000", "exec", "ro", "nr_inodes=1k"]
        {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["size=", "size=big", "mode=9", "uid=-1", "fast", "source=/etc", "size"] {
            assert!(check(bad).unwrap_err().message.contains(bad), "{bad}");
        }
    }
}
