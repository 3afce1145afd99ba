//! Limits that cannot be, for a creation and for an update.

use crate::error::{Error, Kind, Result};
use crate::wire::HostConfig;

/// The least memory that a limit may be.
const LEAST_MEMORY: i64 = 6 << 20;

/// Checks limits, and fills in what follows from them.
pub(crate) fn check(host: &mut HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    memory(host, warnings)?;
    cpu(host)?;
    sets(host, &online("cpu"), &online("node"))?;
    devices(host)?;
    let score = host.oom_score_adj.unwrap_or_default();
    if !(-1000..=1000).contains(&score) {
        return Err(Error::invalid(format!(
            "Invalid value {score}, range for oom score adj is [-1000, 1000]"
        )));
    }
    Ok(())
}

fn memory(host: &mut HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    let invalid = |text: &str| Err(Error::invalid(text));
    let number = |value: Option<i64>| value.unwrap_or_default();
    let (memory, swap) = (number(host.memory), number(host.memory_swap));
    if memory != 0 && memory < LEAST_MEMORY {
        return invalid("Minimum memory limit allowed is 6MB");
    }
    if swap > 0 && memory == 0 {
        return invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
    if memory > 0 && swap > 0 && swap < memory {
        return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if swap < -1 {
        return Err(Error::invalid(format!(
            "invalid memory-swap {swap}: it is a number of bytes, or -1 for no limit"
        )));
    }
    let reservation = number(host.memory_reservation);
    if reservation != 0 && reservation < LEAST_MEMORY {
        return invalid("Minimum memory reservation allowed is 6MB");
    }
    if memory > 0 && reservation > memory {
        return invalid(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        );
    }
    if memory > 0 && swap == 0 {
        // As much swap as memory, as Docker.
        host.memory_swap = Some(memory.saturating_mul(2));
    }
    if let Some(swappiness) = host.memory_swappiness.take() {
        if !(0..=100).contains(&swappiness) {
            return Err(Error::invalid(format!(
                "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
            )));
        }
        warnings.push("Memory swappiness is not supported. Memory swappiness discarded.".into());
    }
    if host.oom_kill_disable == Some(true) {
        warnings.push("OomKillDisable is not supported. OomKillDisable discarded.".into());
        host.oom_kill_disable = None;
    }
    Ok(())
}

fn cpu(host: &HostConfig) -> Result<()> {
    let invalid = |text: &str| Err(Error::invalid(text));
    let number = |value: Option<i64>| value.unwrap_or_default();
    let nano = number(host.nano_cpus);
    if nano > 0 && number(host.cpu_period) > 0 {
        return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if nano > 0 && number(host.cpu_quota) > 0 {
        return invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    let most = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as i64;
    if nano < 0 || nano > most * 1_000_000_000 {
        return Err(Error::invalid(format!(
            "range of CPUs is from 0.01 to {most}.00, as there are only {most} CPUs available"
        )));
    }
    if nano > 0 && nano < 10_000_000 {
        return Err(Error::invalid(format!(
            "range of CPUs is from 0.01 to {most}.00, and {} is less",
            nano as f64 / 1e9
        )));
    }
    let period = number(host.cpu_period);
    if period != 0 && !(1000..=1_000_000).contains(&period) {
        return invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    let quota = number(host.cpu_quota);
    if quota > 0 && quota < 1000 {
        return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if number(host.cpu_shares) < 0 {
        return invalid("invalid CPU shares: they cannot be less than 0");
    }
    if number(host.cpu_realtime_period) != 0 || number(host.cpu_realtime_runtime) != 0 {
        return Err(Error::new(
            Kind::Unsupported,
            "realtime scheduling (--cpu-rt-period, --cpu-rt-runtime) is not supported: use --cpus or --cpu-shares",
        ));
    }
    Ok(())
}

fn devices(host: &HostConfig) -> Result<()> {
    if let Some(weight) = host.blkio_weight.filter(|weight| *weight != 0)
        && !(10..=1000).contains(&weight)
    {
        return Err(Error::invalid("Range of blkio weight is from 10 to 1000"));
    }
    let some = |list: bool, flag: &str| match list {
        true => Err(Error::new(
            Kind::Unsupported,
            format!(
                "limits of single block devices ({flag}) are not supported: use --blkio-weight"
            ),
        )),
        false => Ok(()),
    };
    let used = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|list| !list.is_empty());
    some(
        host.blkio_weight_device.as_ref().is_some_and(|list| !list.is_empty()),
        "--blkio-weight-device",
    )?;
    some(used(&host.blkio_device_read_bps), "--device-read-bps")?;
    some(used(&host.blkio_device_write_bps), "--device-write-bps")?;
    some(used(&host.blkio_device_read_iops), "--device-read-iops")?;
    some(used(&host.blkio_device_write_iops), "--device-write-iops")?;
    if host.io_maximum_bandwidth.unwrap_or_default() != 0
        || host.io_maximum_iops.unwrap_or_default() != 0
    {
        return Err(Error::invalid(
            "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps",
        ));
    }
    Ok(())
}

/// The CPUs or memory nodes that this host has, such as `0-3`.
fn online(what: &str) -> String {
    let path = format!("/sys/devices/system/{what}/online");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let text = text.trim();
    if text.is_empty() { "0".into() } else { text.into() }
}

fn sets(host: &HostConfig, cpus: &str, nodes: &str) -> Result<()> {
    for (given, there, word, what) in [
        (&host.cpuset_cpus, cpus, "cpus", "CPUs"),
        (&host.cpuset_mems, nodes, "mems", "memory nodes"),
    ] {
        let Some(text) = given.as_deref().filter(|text| !text.is_empty()) else { continue };
        let Some(wanted) = ranges(text) else {
            return Err(Error::invalid(format!(
                "Invalid value {text} for cpuset {word}: it is a list such as 0-2,4"
            )));
        };
        let has = ranges(there).unwrap_or_default();
        let inside = |(first, last): &(u32, u32)| {
            (*first..=*last).all(|number| has.iter().any(|(a, z)| (a..=z).contains(&&number)))
        };
        if !wanted.iter().all(inside) {
            return Err(Error::invalid(format!(
                "Requested {what} are not available - requested {text}, available: {there}"
            )));
        }
    }
    Ok(())
}

/// Reads a list such as `0-2,4`.
fn ranges(text: &str) -> Option<Vec<(u32, u32)>> {
    /// More than any kernel is built for.
    const MOST: u32 = 8191;
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last && last <= MOST).then_some((first, last))
    };
    text.split(',').map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    fn refused(change: impl FnOnce(&mut HostConfig)) -> String {
        let mut host = HostConfig::default();
        change(&mut host);
        check(&mut host, &mut Vec::new()).unwrap_err().message
    }

    #[test]
    fn what_cannot_be_is_named() {
        assert!(refused(|h| h.memory = Some(1 << 20)).contains("6MB"));
        assert!(refused(|h| h.memory_swap = Some(64 << 20)).contains("always set the Memory"));
        assert!(
            refused(|h| (h.memory, h.memory_swap) = (Some(64 << 20), Some(32 << 20)))
                .contains("larger than memory limit")
        );
        assert!(refused(|h| h.nano_cpus = Some(1 << 50)).starts_with("range of CPUs"));
        assert!(refused(|h| h.nano_cpus = Some(1)).starts_with("range of CPUs"));
        assert!(
            refused(|h| (h.nano_cpus, h.cpu_quota) = (Some(500_000_000), Some(50_000)))
                .contains("CPU Quota")
        );
        assert!(refused(|h| h.blkio_weight = Some(5)).contains("10 to 1000"));
        assert!(refused(|h| h.oom_score_adj = Some(2000)).contains("2000"));
        assert!(refused(|h| h.cpu_shares = Some(-5)).contains("shares"));
        let device = wire::ThrottleDevice { path: Some("/dev/sda".into()), rate: Some(1) };
        assert!(
            refused(|h| h.blkio_device_read_bps = Some(vec![device])).contains("--device-read-bps")
        );
    }

    #[test]
    fn sets_are_of_what_there_is() {
        let host = |cpus: &str| HostConfig { cpuset_cpus: Some(cpus.into()), ..Default::default() };
        assert!(sets(&host("0-2,5"), "0-3,5", "0").is_ok());
        let error = sets(&host("0,4"), "0-3", "0").unwrap_err();
        assert_eq!(
            error.message,
            "Requested CPUs are not available - requested 0,4, available: 0-3"
        );
        for bad in ["x", "2-1", "0-", "0,,1", "0-99999999"] {
            assert!(sets(&host(bad), "0-3", "0").unwrap_err().message.contains("Invalid"), "{bad}");
        }
        let mems = HostConfig { cpuset_mems: Some("1".into()), ..Default::default() };
        assert!(sets(&mems, "0", "0").unwrap_err().message.contains("memory nodes"));
    }

    #[test]
    fn a_memory_limit_has_as_much_swap() {
        let mut host = HostConfig { memory: Some(64 << 20), ..Default::default() };
        let mut warnings = Vec::new();
        host.memory_swappiness = Some(60);
        check(&mut host, &mut warnings).unwrap();
        assert_eq!(host.memory_swap, Some(128 << 20));
        assert!(host.memory_swappiness.is_none() && warnings[0].contains("swappiness"));
    }
}
