//! Numbers and small notations of `run` and `update`: sizes, cpus, ulimits, restart policies, devices.

use caisson_api::wire::{
    DeviceMapping, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum as Policy,
};
use caisson_api::words::parse_size;

/// A size in bytes, such as `512m`.
pub fn size(text: &str) -> Result<i64, String> {
    parse_size(text).map_err(|error| error.to_string())
}

/// As [`size`], or -1 for no limit.
pub fn size_or_unlimited(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { size(text) }
}

/// CPUs as a decimal number, in billionths.
pub fn cpus(text: &str) -> Result<i64, String> {
    let wrong = || format!("failed to parse {text} as a rational number");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return Err(wrong());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err("value is too precise".into());
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
    let part: i64 = format!("{fraction:0<9}").parse().map_err(|_| wrong())?;
    whole.checked_mul(1_000_000_000).and_then(|whole| whole.checked_add(part)).ok_or_else(wrong)
}

const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `NAME=SOFT[:HARD]`; -1 is no limit.
pub fn ulimit(text: &str) -> Result<ResourcesUlimits, String> {
    let (name, values) = text.split_once('=').ok_or(format!("invalid ulimit argument: {text}"))?;
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| {
        text.parse::<i64>()
            .ok()
            .filter(|value| *value >= -1)
            .ok_or(format!("invalid ulimit value: {text}"))
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard != -1 && (soft > hard || soft == -1) {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        ));
    }
    Ok(ResourcesUlimits { name: Some(name.into()), soft: Some(soft), hard: Some(hard) })
}

/// `no`, `always`, `unless-stopped` or `on-failure[:COUNT]`.
pub fn restart(text: &str) -> Result<RestartPolicy, String> {
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name, Some(count)),
        None => (text, None),
    };
    let policy = match name {
        "" | "no" => Policy::NO,
        "always" => Policy::ALWAYS,
        "unless-stopped" => Policy::UNLESS_STOPPED,
        "on-failure" => Policy::ON_FAILURE,
        _ => {
            return Err(format!(
                "invalid restart policy: {name}: use no, always, unless-stopped or on-failure[:COUNT]"
            ));
        }
    };
    if count.is_some() && policy != Policy::ON_FAILURE {
        return Err(format!("invalid restart policy: {name} takes no maximum retry count"));
    }
    let count = count.unwrap_or("0").parse::<i64>().ok().filter(|count| *count >= 0).ok_or(
        "invalid restart policy format: maximum retry count must be an integer".to_string(),
    )?;
    Ok(RestartPolicy { name: Some(policy), maximum_retry_count: Some(count) })
}

/// `HOST[:CONTAINER][:PERMISSIONS]`.
pub fn device(text: &str) -> Result<DeviceMapping, String> {
    let is_mode = |text: &str| !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, inside, mode) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, mode] if is_mode(mode) => (*host, *host, *mode),
        [host, inside] => (*host, *inside, "rwm"),
        [host, inside, mode] if is_mode(mode) => (*host, *inside, *mode),
        _ => return Err(format!("invalid device specification: {text}")),
    };
    if host.is_empty() || !inside.starts_with('/') {
        return Err(format!("{text} is not an absolute path"));
    }
    Ok(DeviceMapping {
        path_on_host: Some(host.into()),
        path_in_container: Some(inside.into()),
        cgroup_permissions: Some(mode.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_exact() {
        assert_eq!(cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(cpus(".25"), Ok(250_000_000));
        assert_eq!(cpus("2."), Ok(2_000_000_000));
        assert_eq!(cpus("0.0000000010"), Ok(1));
        assert_eq!(cpus("0.0000000001"), Err("value is too precise".into()));
        for text in ["", ".", "-1", "1e3", "x", "99999999999999"] {
            assert_eq!(cpus(text), Err(format!("failed to parse {text} as a rational number")));
        }
    }

    #[test]
    fn ulimits() {
        let limit = ulimit("nofile=1024:2048").unwrap();
        assert_eq!((limit.soft, limit.hard), (Some(1024), Some(2048)));
        let limit = ulimit("core=0").unwrap();
        assert_eq!((limit.soft, limit.hard), (Some(0), Some(0)));
        assert_eq!(ulimit("memlock=-1:-1").unwrap().hard, Some(-1));
        assert_eq!(ulimit("x=1").unwrap_err(), "invalid ulimit type: x");
        assert_eq!(ulimit("nofile").unwrap_err(), "invalid ulimit argument: nofile");
        assert!(ulimit("nofile=5:3").unwrap_err().ends_with("hard limit: 5 > 3"));
        assert!(ulimit("nofile=-1:3").is_err() && ulimit("nofile=a").is_err());
    }

    #[test]
    fn restart_policies() {
        let policy = restart("on-failure:3").unwrap();
        assert_eq!((policy.name, policy.maximum_retry_count), (Some(Policy::ON_FAILURE), Some(3)));
        assert_eq!(restart("always").unwrap().name, Some(Policy::ALWAYS));
        for wrong in ["sometimes", "on-failure:x", "on-failure:-1", "always:3"] {
            assert!(restart(wrong).unwrap_err().starts_with("invalid restart policy"), "{wrong}");
        }
    }

    #[test]
    fn devices() {
        let parts = |text: &str| {
            let device = device(text).unwrap();
            let all = [device.path_on_host, device.path_in_container, device.cgroup_permissions];
            all.map(Option::unwrap).join(" ")
        };
        assert_eq!(parts("/dev/fuse"), "/dev/fuse /dev/fuse rwm");
        assert_eq!(parts("/dev/a:/dev/b"), "/dev/a /dev/b rwm");
        assert_eq!(parts("/dev/a:r"), "/dev/a /dev/a r");
        assert_eq!(parts("/dev/a:/dev/b:rw"), "/dev/a /dev/b rw");
        assert!(device("/dev/a:/dev/b:x").is_err() && device("/dev/a:b").is_err());
    }

    #[test]
    fn sizes_may_be_unlimited() {
        assert_eq!(size_or_unlimited("-1"), Ok(-1));
        assert_eq!(size_or_unlimited("1g"), Ok(1 << 30));
        assert_eq!(size("4x"), Err("invalid suffix: 'x'".into()));
    }
}
