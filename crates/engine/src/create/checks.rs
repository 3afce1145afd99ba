//! What is refused before a container is made, in Docker's words where it has some.

use std::collections::HashMap;

use crate::error::{Error, Kind, Result};
use crate::wire::{self, HostConfig, RestartPolicyNameEnum as Policy};

/// The least memory that a limit may be.
const LEAST_MEMORY: i64 = 6 << 20;

/// Checks everything, and fills in what follows from what is given.
pub fn all(
    config: &wire::ContainerConfig,
    host: &mut HostConfig,
    warnings: &mut Vec<String>,
) -> Result<()> {
    resources_checked(host, warnings)?;
    restart(host)?;
    log(host)?;
    modes(host)?;
    ports(config, host)?;
    if let Some(signal) = config.stop_signal.as_deref().filter(|signal| !signal.is_empty()) {
        crate::kill::signal(signal)?;
    }
    if let Some(directory) = config.working_dir.as_deref().filter(|path| !path.is_empty())
        && !directory.starts_with('/')
    {
        return Err(Error::invalid(format!(
            "the working directory '{directory}' is invalid, it needs to be an absolute path"
        )));
    }
    if config
        .healthcheck
        .as_ref()
        .and_then(|check| check.test.as_ref())
        .is_some_and(|test| test.first().is_some_and(|first| !first.is_empty() && first != "NONE"))
    {
        warnings.push("Health checks are not run yet.".into());
    }
    for name in host.cap_add.iter().chain(&host.cap_drop).flatten() {
        crate::spec::capability(name)?;
    }
    crate::spec::Security::parse(host.security_opt.as_deref().unwrap_or_default())?;
    crate::spec::rlimits(host)?;
    for name in host.sysctls.iter().flatten().map(|(name, _)| name) {
        if !(name.starts_with("net.")
            || name.starts_with("kernel.")
            || name.starts_with("fs.mqueue."))
        {
            return Err(Error::invalid(format!("sysctl '{name}' is not allowed")));
        }
    }
    if host.shm_size.unwrap_or_default() < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    Ok(())
}

/// Limits, also those of an update.
pub(crate) fn resources_checked(host: &mut HostConfig, warnings: &mut Vec<String>) -> Result<()> {
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
    let nano = number(host.nano_cpus);
    if nano != 0 && (number(host.cpu_period) != 0 || number(host.cpu_quota) != 0) {
        return invalid(
            "Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set.",
        );
    }
    let most = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as i64;
    if nano < 0 || nano > most * 1_000_000_000 {
        return Err(Error::invalid(format!(
            "range of CPUs is from 0.01 to {most}.00, as there are only {most} CPUs available"
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
    for (value, what) in [(&host.cpuset_cpus, "cpus"), (&host.cpuset_mems, "mems")] {
        if let Some(text) = value.as_deref().filter(|text| !text.is_empty())
            && !is_set(text, if what == "cpus" { most } else { 1 })
        {
            return Err(Error::invalid(format!(
                "Requested CPUs are not available - requested {text}, available: 0-{}",
                most - 1
            )));
        }
    }
    if let Some(weight) = host.blkio_weight.filter(|weight| *weight != 0)
        && !(10..=1000).contains(&weight)
    {
        return invalid("Range of blkio weight is from 10 to 1000");
    }
    if host.oom_kill_disable == Some(true) {
        warnings.push("OomKillDisable is not supported and is ignored.".into());
    }
    let score = number(host.oom_score_adj);
    if !(-1000..=1000).contains(&score) {
        return Err(Error::invalid(format!(
            "Invalid value {score}, range for oom score adj is [-1000, 1000]"
        )));
    }
    Ok(())
}

/// A list such as `0-2,4` of numbers below `end`.
fn is_set(text: &str, end: i64) -> bool {
    text.split(',').all(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.trim().parse::<i64>(), last.trim().parse::<i64>()) {
            (Ok(first), Ok(last)) => 0 <= first && first <= last && last < end,
            _ => false,
        }
    })
}

fn restart(host: &HostConfig) -> Result<()> {
    let policy = host.restart_policy.as_ref();
    policy_of(policy)?;
    let name = policy.and_then(|policy| policy.name);
    if host.auto_remove == Some(true) && !matches!(name, None | Some(Policy::EMPTY | Policy::NO)) {
        return Err(Error::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    Ok(())
}

/// Checks a restart policy, also that of an update.
pub(crate) fn policy_of(policy: Option<&wire::RestartPolicy>) -> Result<()> {
    let Some(policy) = policy else { return Ok(()) };
    let most = policy.maximum_retry_count.unwrap_or_default();
    match policy.name {
        Some(Policy::ON_FAILURE) if most < 0 => {
            Err(Error::invalid("invalid restart policy: maximum retry count cannot be negative"))
        }
        Some(Policy::ON_FAILURE) => Ok(()),
        _ if most != 0 => Err(Error::invalid(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        )),
        _ => Ok(()),
    }
}

fn log(host: &HostConfig) -> Result<()> {
    let Some(log) = &host.log_config else { return Ok(()) };
    let driver = log.typ.as_deref().unwrap_or_default();
    if !matches!(driver, "" | "json-file" | "none") {
        return Err(Error::invalid(format!(
            "logger: no log driver named '{driver}' is registered: take json-file or none"
        )));
    }
    let options: &HashMap<String, String> = match &log.config {
        Some(options) => options,
        None => return Ok(()),
    };
    let mut limited = false;
    for (name, value) in options {
        let bad = || Error::invalid(format!("invalid value for log opt {name}: {value:?}"));
        match name.as_str() {
            "max-size" => {
                limited = true;
                caisson_api::words::parse_size(value)
                    .ok()
                    .filter(|size| *size > 0)
                    .ok_or_else(bad)?;
            }
            "max-file" => {
                value.parse::<u32>().ok().filter(|count| *count > 0).ok_or_else(bad)?;
            }
            "labels" | "env" | "tag" | "labels-regex" | "env-regex" | "compress" | "mode"
            | "max-buffer-size" => {}
            _ => {
                return Err(Error::invalid(format!(
                    "unknown log opt '{name}' for json-file log driver"
                )));
            }
        }
    }
    if !limited && options.get("max-file").is_some_and(|count| count != "1") {
        return Err(Error::invalid(
            "max-file cannot be set when max-size is not: give max-size too",
        ));
    }
    Ok(())
}

fn modes(host: &HostConfig) -> Result<()> {
    let given = |mode: &Option<String>| mode.clone().unwrap_or_default();
    let unsupported = |what: String| Err(Error::new(Kind::Unsupported, what));
    match given(&host.ipc_mode).as_str() {
        "" | "none" | "private" | "shareable" | "host" => {}
        other => {
            return unsupported(format!(
                "IPC mode {other:?} is not supported: use private or host"
            ));
        }
    }
    match given(&host.pid_mode).as_str() {
        "" | "host" => {}
        other => {
            return unsupported(format!("PID mode {other:?} is not supported: use none or host"));
        }
    }
    match given(&host.uts_mode).as_str() {
        "" | "host" => {}
        other => return Err(Error::invalid(format!("invalid UTS mode: {other:?}"))),
    }
    match given(&host.userns_mode).as_str() {
        "" | "host" => {}
        other => return Err(Error::invalid(format!("invalid USER mode: {other:?}"))),
    }
    if host.links.as_ref().is_some_and(|links| !links.is_empty()) {
        return unsupported("links are not supported: put the containers into a network".into());
    }
    if host.device_requests.as_ref().is_some_and(|requests| !requests.is_empty()) {
        return unsupported("device requests (--gpus) are not supported".into());
    }
    if host.storage_opt.as_ref().is_some_and(|options| !options.is_empty()) {
        return unsupported("storage options are not supported".into());
    }
    let runtime = given(&host.runtime);
    if !matches!(runtime.as_str(), "" | "caisson" | "runc" | "io.containerd.runc.v2") {
        return Err(Error::invalid(format!(
            "unknown or invalid runtime name: {runtime}: choose the runtime type with --isolation"
        )));
    }
    Ok(())
}

fn ports(config: &wire::ContainerConfig, host: &HostConfig) -> Result<()> {
    let exposed = config.exposed_ports.iter().flatten().map(|(port, _)| port);
    for port in exposed.chain(host.port_bindings.iter().flatten().map(|(port, _)| port)) {
        container_port(port)?;
    }
    for binding in host.port_bindings.iter().flatten().flat_map(|(_, list)| list.iter().flatten()) {
        let ip = binding.host_ip.as_deref().unwrap_or_default();
        if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
            return Err(Error::invalid(format!("invalid IP address: {ip}")));
        }
        let number = binding.host_port.as_deref().unwrap_or_default();
        let (first, last) = number.split_once('-').unwrap_or((number, number));
        let port = |text: &str| text.is_empty() || text.parse::<u16>().is_ok();
        if !port(first) || !port(last) {
            return Err(Error::invalid(format!("invalid port specification: {number:?}")));
        }
    }
    Ok(())
}

/// Reads `80/tcp`; without a protocol it is tcp.
pub(crate) fn container_port(text: &str) -> Result<(u16, &str)> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let invalid = || Error::invalid(format!("invalid port specification: {text:?}"));
    let number = number.parse::<u16>().ok().filter(|number| *number > 0).ok_or_else(invalid)?;
    match protocol {
        "tcp" | "udp" => Ok((number, protocol)),
        _ => Err(Error::invalid(format!("invalid proto: {protocol}: it is tcp or udp"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut HostConfig)) -> String {
        let mut host = HostConfig::default();
        change(&mut host);
        let config = wire::ContainerConfig::default();
        all(&config, &mut host, &mut Vec::new()).unwrap_err().message
    }

    #[test]
    fn what_cannot_be_is_named() {
        assert!(refused(|h| h.memory = Some(1 << 20)).contains("6MB"));
        assert!(refused(|h| h.nano_cpus = Some(1 << 50)).starts_with("range of CPUs"));
        assert!(refused(|h| h.cpuset_cpus = Some("0,9999".into())).contains("requested 0,9999"));
        assert!(refused(|h| h.pid_mode = Some("container:x".into())).contains("container:x"));
        assert!(refused(|h| h.cap_add = Some(vec!["FLY".into()])).contains("FLY"));
        assert!(refused(|h| h.links = Some(vec!["a:b".into()])).contains("links"));
        let log = |name: &str, value: &str| wire::HostConfigLogConfig {
            typ: Some("json-file".into()),
            config: Some(HashMap::from([(name.to_string(), value.to_string())])),
        };
        assert!(refused(|h| h.log_config = Some(log("max-size", "big"))).contains("big"));
        assert!(refused(|h| h.log_config = Some(log("speed", "1"))).contains("speed"));
        assert!(refused(|h| h.log_config = Some(log("max-file", "3"))).contains("max-size"));
        assert!(
            refused(|h| {
                h.auto_remove = Some(true);
                h.restart_policy = Some(wire::RestartPolicy {
                    name: Some(Policy::ALWAYS),
                    maximum_retry_count: None,
                });
            })
            .contains("AutoRemove")
        );
    }

    #[test]
    fn a_memory_limit_has_as_much_swap() {
        let mut host = HostConfig { memory: Some(64 << 20), ..Default::default() };
        all(&wire::ContainerConfig::default(), &mut host, &mut Vec::new()).unwrap();
        assert_eq!(host.memory_swap, Some(128 << 20));
    }

    #[test]
    fn ports_are_read() {
        assert_eq!(container_port("80/tcp").unwrap(), (80, "tcp"));
        assert_eq!(container_port("53/udp").unwrap(), (53, "udp"));
        assert_eq!(container_port("8080").unwrap(), (8080, "tcp"));
        for bad in ["0/tcp", "x", "80/sctp", "70000/tcp", ""] {
            assert!(container_port(bad).is_err(), "{bad}");
        }
    }
}
