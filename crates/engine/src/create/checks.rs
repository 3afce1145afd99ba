//! What is refused before a container is made, in Docker's words where it has some.

use std::collections::HashMap;

use crate::error::{Error, Kind, Result};
use crate::wire::{self, HostConfig, RestartPolicyNameEnum as Policy};

/// Refuses what the client asked for and that excludes each other; what the image says plays no part.
pub fn conflicts(body: &wire::ContainerCreateBody, host: &HostConfig) -> Result<()> {
    let named = !body.hostname.as_deref().unwrap_or_default().is_empty();
    let shared = host.network_mode.as_deref().is_some_and(|mode| mode.starts_with("container:"));
    let conflict = |what: &str| Err(Error::invalid(format!("conflicting options: {what}")));
    if shared && named {
        return conflict("hostname and the network mode");
    }
    if shared && body.exposed_ports.as_ref().is_some_and(|ports| !ports.is_empty()) {
        return conflict("port exposing and the container type network mode");
    }
    if host.uts_mode.as_deref() == Some("host") && named {
        return conflict("hostname and the UTS mode");
    }
    Ok(())
}

/// Checks everything, and fills in what follows from what is given.
pub fn all(
    config: &wire::ContainerConfig,
    host: &mut HostConfig,
    warnings: &mut Vec<String>,
) -> Result<()> {
    super::limits::check(host, warnings)?;
    restart(host)?;
    log(host)?;
    modes(host)?;
    unsupported(host)?;
    of_process(config, warnings)?;
    for name in config.exposed_ports.iter().flatten().map(|(port, _)| port) {
        exposed(name)?;
    }
    if host.network_mode.as_deref() == Some("host")
        && host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty())
    {
        warnings.push("Published ports are discarded when using host network mode".into());
    }
    for (names, what) in [(&host.cap_add, "CapAdd"), (&host.cap_drop, "CapDrop")] {
        for name in names.iter().flatten() {
            crate::spec::capability(name)
                .map_err(|error| error.doing(format!("invalid {what}")))?;
        }
    }
    crate::spec::Security::parse(host.security_opt.as_deref().unwrap_or_default())?;
    crate::spec::rlimits(host)?;
    crate::spec::devices_checked(host)?;
    sysctls(host)?;
    if host.shm_size.unwrap_or_default() < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    Ok(())
}

/// What the container's process is started with.
fn of_process(config: &wire::ContainerConfig, warnings: &mut Vec<String>) -> Result<()> {
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
    /// The most that the kernel takes (sethostname(2)).
    const NAME: usize = 64;
    for (name, what) in [(&config.hostname, "hostname"), (&config.domainname, "domain name")] {
        let name = name.as_deref().unwrap_or_default();
        let bad = |c: char| c.is_whitespace() || c.is_control();
        if name.len() > NAME || name.contains(bad) {
            return Err(Error::invalid(format!(
                "invalid {what} {name:?}: it has at most {NAME} bytes and no white space"
            )));
        }
    }
    let check = config.healthcheck.as_ref();
    if let Some(check) = check {
        health(check)?;
    }
    let test = check.and_then(|check| check.test.as_deref()).unwrap_or_default();
    if test.first().is_some_and(|first| !first.is_empty() && first != "NONE") {
        warnings.push("Health checks are not run yet.".into());
    }
    Ok(())
}

fn health(check: &wire::HealthConfig) -> Result<()> {
    /// A millisecond.
    const LEAST: i64 = 1_000_000;
    for (value, what) in [
        (check.interval, "Interval"),
        (check.timeout, "Timeout"),
        (check.start_period, "StartPeriod"),
        (check.start_interval, "StartInterval"),
    ] {
        if value.is_some_and(|value| value != 0 && value < LEAST) {
            return Err(Error::invalid(format!("{what} in Healthcheck cannot be less than 1ms")));
        }
    }
    if check.retries.is_some_and(|retries| retries < 0) {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    Ok(())
}

/// Kernel parameters that a namespace of the container has for itself.
fn sysctls(host: &HostConfig) -> Result<()> {
    const OF_IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let is_host = |mode: &Option<String>| mode.as_deref() == Some("host");
    for (name, value) in host.sysctls.iter().flatten() {
        let ipc = OF_IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue.");
        let net = name.starts_with("net.");
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let why = if !name.bytes().all(plain) || !(ipc || net) {
            "only those of a container's own namespaces are: net.*, fs.mqueue.*, kernel.msg*, kernel.sem, kernel.shm*"
        } else if net && is_host(&host.network_mode) {
            "it is the host's in host network mode"
        } else if ipc && is_host(&host.ipc_mode) {
            "it is the host's in host IPC mode"
        } else if value.contains('\0') {
            "its value has a zero byte"
        } else {
            continue;
        };
        return Err(Error::invalid(format!("sysctl '{name}' is not allowed: {why}")));
    }
    Ok(())
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
        other if other.starts_with("container:") => {
            return unsupported(format!(
                "IPC mode {other:?} is not supported: use private or host"
            ));
        }
        other => return Err(Error::invalid(format!("invalid IPC mode: {other}"))),
    }
    match given(&host.pid_mode).as_str() {
        "" | "host" => {}
        mode if mode.strip_prefix("container:").is_some_and(|name| !name.is_empty()) => {}
        other => return Err(Error::invalid(format!("invalid PID mode: {other}"))),
    }
    match given(&host.uts_mode).as_str() {
        "" | "host" => {}
        other => return Err(Error::invalid(format!("invalid UTS mode: {other:?}"))),
    }
    match given(&host.userns_mode).as_str() {
        "" | "host" => {}
        other => return Err(Error::invalid(format!("invalid USER mode: {other:?}"))),
    }
    let parent = given(&host.cgroup_parent);
    if parent.contains('\0') || parent.split('/').any(|part| matches!(part, "." | "..")) {
        return Err(Error::invalid(format!("invalid cgroup parent: {parent:?}")));
    }
    Ok(())
}

/// What Docker has and this engine has not.
fn unsupported(host: &HostConfig) -> Result<()> {
    let unsupported = |what: String| Err(Error::new(Kind::Unsupported, what));
    if host.links.as_ref().is_some_and(|links| !links.is_empty()) {
        return unsupported("links are not supported: put the containers into a network".into());
    }
    if host.device_requests.as_ref().is_some_and(|requests| !requests.is_empty()) {
        return unsupported("device requests (--gpus) are not supported".into());
    }
    if host.storage_opt.as_ref().is_some_and(|options| !options.is_empty()) {
        return unsupported("storage options (--storage-opt) are not supported".into());
    }
    let driver = host.volume_driver.as_deref().unwrap_or_default();
    if !matches!(driver, "" | "local") {
        return Err(Error::invalid(format!(
            "error looking up volume plugin {driver}: plugin {driver:?} not found: volumes are local"
        )));
    }
    let runtime = host.runtime.as_deref().unwrap_or_default();
    if !matches!(runtime, "" | "caisson" | "runc" | "io.containerd.runc.v2") {
        return Err(Error::invalid(format!(
            "unknown or invalid runtime name: {runtime}: choose the runtime type with --isolation"
        )));
    }
    Ok(())
}

/// Checks a port that is only told of: sctp too.
fn exposed(name: &str) -> Result<()> {
    container_port(name.strip_suffix("/sctp").unwrap_or(name)).map(drop)
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

/// Refuses an image whose programs cannot run here.
pub fn platform(name: &str, image: &serde_json::Value) -> Result<()> {
    let text = |field: &str| image.get(field).and_then(|value| value.as_str()).unwrap_or_default();
    let own = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let (os, architecture) = (text("os"), text("architecture"));
    if matches!(os, "" | "linux") && (architecture.is_empty() || architecture == own) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the image {name} is for the platform {os}/{architecture}, and this host runs linux/{own}"
    )))
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
        assert!(refused(|h| h.pid_mode = Some("container:".into())).contains("PID mode"));
        assert!(refused(|h| h.ipc_mode = Some("container:x".into())).contains("container:x"));
        assert!(refused(|h| h.ipc_mode = Some("mine".into())).contains("invalid IPC mode: mine"));
        assert!(refused(|h| h.cap_add = Some(vec!["FLY".into()])).contains("FLY"));
        assert!(
            refused(|h| h.sysctls = Some([("kernel.core_pattern".into(), "x".into())].into()))
                .contains("kernel.core_pattern")
        );
        assert!(
            refused(|h| {
                h.network_mode = Some("host".into());
                h.sysctls = Some([("net.ipv4.ip_forward".into(), "1".into())].into());
            })
            .contains("host network mode")
        );
        assert!(refused(|h| h.volume_driver = Some("nfs".into())).contains("nfs"));
        assert!(refused(|h| h.cgroup_parent = Some("/a/../b".into())).contains("/a/../b"));
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
    fn what_excludes_each_other_is_refused() {
        let host = |network: &str, uts: &str| HostConfig {
            network_mode: Some(network.into()),
            uts_mode: Some(uts.into()),
            ..Default::default()
        };
        let body = wire::ContainerCreateBody { hostname: Some("x".into()), ..Default::default() };
        for (host, what) in [(host("container:a", ""), "network"), (host("bridge", "host"), "UTS")]
        {
            assert!(conflicts(&body, &host).unwrap_err().message.contains(what));
            assert!(conflicts(&wire::ContainerCreateBody::default(), &host).is_ok());
        }
        assert!(conflicts(&body, &host("host", "")).is_ok());
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
