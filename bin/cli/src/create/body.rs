//! From options to what the API takes.

use std::collections::HashMap;

use caisson_api::wire::{
    ContainerCreateBody, HostConfig, HostConfigCgroupnsModeEnum, HostConfigIsolationEnum,
    HostConfigLogConfig, RestartPolicyNameEnum,
};

use super::environment::{environment, labels, pair};
use super::mount::{Volumes, mount, tmpfs};
use super::network::networks;
use super::options::{Isolation, Limits, Options, Security};
use super::port::Ports;
use crate::failure::{Failure, Result};
use crate::terminal;

/// The container: the image and its arguments are `words`.
pub fn body(options: &Options, words: &[String]) -> Result<ContainerCreateBody> {
    let ports = Ports::parse(&options.network.publish, &options.network.expose)?;
    let volumes = Volumes::parse(&options.storage.volume)?;
    let (mode, networking_config) = networks(&options.network)?;
    let (image, arguments) = words.split_first().ok_or_else(|| Failure::words("no image"))?;
    let process = &options.process;
    let attached = Attached::of(options);
    let set = |names: &[String]| {
        let names = names.iter().map(|name| (name.clone(), HashMap::new()));
        some(names.collect::<HashMap<_, _>>())
    };
    Ok(ContainerCreateBody {
        hostname: options.network.hostname.clone(),
        domainname: options.network.domainname.clone(),
        user: process.user.clone(),
        attach_stdin: Some(attached.stdin),
        attach_stdout: Some(attached.stdout),
        attach_stderr: Some(attached.stderr),
        exposed_ports: set(&ports.exposed),
        tty: Some(options.tty),
        open_stdin: Some(options.interactive),
        stdin_once: Some(options.interactive && attached.stdin),
        env: some(environment(&process.env, &process.env_file)?),
        cmd: (!arguments.is_empty()).then(|| arguments.to_vec()),
        image: Some(image.clone()),
        volumes: set(&volumes.anonymous),
        working_dir: process.workdir.clone(),
        entrypoint: process.entrypoint.clone().map(|program| vec![program]),
        mac_address: options.network.mac_address.clone(),
        labels: some(labels(&options.upkeep.label, &options.upkeep.label_file)?),
        stop_signal: process.stop_signal.clone(),
        stop_timeout: process.stop_timeout,
        host_config: Some(host_config(options, volumes.binds, ports, mode)?),
        networking_config,
        ..ContainerCreateBody::default()
    })
}

/// Which of the streams the container is attached to.
#[derive(Debug, Clone, Copy)]
pub struct Attached {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

impl Attached {
    /// What `--attach` says; without it everything, the input if it is kept open.
    pub fn of(options: &Options) -> Self {
        let all = options.attach.is_empty();
        let has = |name: &str| options.attach.iter().any(|given| given.eq_ignore_ascii_case(name));
        Self {
            stdin: if all { options.interactive } else { has("stdin") },
            stdout: all || has("stdout"),
            stderr: all || has("stderr"),
        }
    }
}

/// Nothing rather than something empty.
fn some<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

fn host_config(
    options: &Options,
    binds: Vec<String>,
    ports: Ports,
    mode: String,
) -> Result<HostConfig> {
    let (network, storage) = (&options.network, &options.storage);
    let restart = options.upkeep.restart.clone();
    let restarts = restart.as_ref().and_then(|policy| policy.name);
    if options.rm && restarts.is_some_and(|name| name != RestartPolicyNameEnum::NO) {
        return Err(Failure::words("conflicting options: cannot specify both --restart and --rm"));
    }
    let mut config = HostConfig {
        isolation: options.isolation.map(|isolation| match isolation {
            Isolation::Default => HostConfigIsolationEnum::DEFAULT,
            Isolation::Process => HostConfigIsolationEnum::PROCESS,
            Isolation::Hyperv => HostConfigIsolationEnum::HYPERV,
        }),
        binds: some(binds),
        mounts: some(storage.mount.iter().map(|text| mount(text)).collect::<Result<_>>()?),
        tmpfs: some(tmpfs(&storage.tmpfs)),
        volumes_from: some(storage.volumes_from.clone()),
        volume_driver: storage.volume_driver.clone(),
        readonly_rootfs: Some(storage.read_only),
        shm_size: storage.shm_size,
        storage_opt: some(pairs("storage-opt", &storage.storage_opt)?),
        container_id_file: options.cidfile.as_ref().map(|file| file.display().to_string()),
        network_mode: Some(mode),
        port_bindings: some(ports.bindings),
        publish_all_ports: Some(network.publish_all),
        dns: some(network.dns.clone()),
        dns_search: some(network.dns_search.clone()),
        dns_options: some(network.dns_option.clone()),
        extra_hosts: some(extra_hosts(&network.add_host)?),
        links: some(network.link.clone()),
        auto_remove: Some(options.rm),
        init: options.process.init.then_some(true),
        group_add: some(options.process.group_add.clone()),
        restart_policy: restart,
        annotations: some(pairs("annotation", &options.upkeep.annotation)?),
        log_config: log_config(&options.upkeep.log_driver, &options.upkeep.log_opt)?,
        runtime: options.upkeep.runtime.clone(),
        console_size: if options.tty { terminal::console_size() } else { None },
        ..HostConfig::default()
    };
    set_limits(&options.limits, &mut config);
    set_security(&options.security, &mut config)?;
    Ok(config)
}

fn log_config(driver: &Option<String>, options: &[String]) -> Result<Option<HostConfigLogConfig>> {
    let config = some(pairs("log-opt", options)?);
    if driver.is_none() && config.is_none() {
        return Ok(None);
    }
    Ok(Some(HostConfigLogConfig { typ: driver.clone(), config }))
}

fn set_limits(limits: &Limits, config: &mut HostConfig) {
    config.memory = limits.memory;
    config.memory_swap = limits.memory_swap;
    config.memory_reservation = limits.memory_reservation;
    config.memory_swappiness = limits.memory_swappiness;
    config.nano_cpus = limits.cpus;
    config.cpu_shares = limits.cpu_shares;
    config.cpuset_cpus.clone_from(&limits.cpuset_cpus);
    config.cpuset_mems.clone_from(&limits.cpuset_mems);
    config.cpu_period = limits.cpu_period;
    config.cpu_quota = limits.cpu_quota;
    config.blkio_weight = limits.blkio_weight;
    config.pids_limit = limits.pids_limit;
    config.ulimits = some(limits.ulimit.clone());
    config.oom_score_adj = limits.oom_score_adj;
    config.oom_kill_disable = limits.oom_kill_disable.then_some(true);
    config.cgroup_parent.clone_from(&limits.cgroup_parent);
}

fn set_security(security: &Security, config: &mut HostConfig) -> Result<()> {
    let (options, open_system) = security_options(&security.security_opt)?;
    config.security_opt = some(options);
    if open_system {
        config.masked_paths = Some(Vec::new());
        config.readonly_paths = Some(Vec::new());
    }
    config.cap_add = some(security.cap_add.clone());
    config.cap_drop = some(security.cap_drop.clone());
    config.privileged = Some(security.privileged);
    config.devices = some(security.device.clone());
    config.device_cgroup_rules = some(security.device_cgroup_rule.clone());
    config.sysctls = some(pairs("sysctl", &security.sysctl)?);
    config.pid_mode.clone_from(&security.pid);
    config.ipc_mode.clone_from(&security.ipc);
    config.uts_mode.clone_from(&security.uts);
    config.userns_mode.clone_from(&security.userns);
    config.cgroupns_mode = security.cgroupns.as_deref().map(|mode| match mode {
        "host" => HostConfigCgroupnsModeEnum::HOST,
        _ => HostConfigCgroupnsModeEnum::PRIVATE,
    });
    Ok(())
}

/// Profiles are sent along, not their paths; and whether `/proc` and `/sys` are left open.
fn security_options(given: &[String]) -> Result<(Vec<String>, bool)> {
    let mut open_system = false;
    let mut options = Vec::new();
    for text in given {
        let (key, value) = match text.split_once('=').or_else(|| text.split_once(':')) {
            Some(pair) => pair,
            None if text == "no-new-privileges" => (text.as_str(), ""),
            None => return Err(Failure::words(format!("invalid --security-opt: {text:?}"))),
        };
        match (key, value) {
            ("systempaths", "unconfined") => open_system = true,
            ("seccomp", file) if !matches!(file, "unconfined" | "builtin" | "") => {
                let what = format!("opening seccomp profile ({file}) failed");
                let profile = std::fs::read(file).map_err(Failure::io(what))?;
                let profile: serde_json::Value =
                    serde_json::from_slice(&profile).map_err(|error| {
                        Failure::words(format!(
                            "compacting json for seccomp profile ({file}) failed: {error}"
                        ))
                    })?;
                options.push(format!("seccomp={profile}"));
            }
            _ => options.push(text.clone()),
        }
    }
    Ok((options, open_system))
}

/// `KEY=VALUE`s; the value may not be left out.
pub fn pairs(option: &str, given: &[String]) -> Result<HashMap<String, String>> {
    let split = |text: &String| match text.contains('=') {
        true => Ok(pair(text)),
        false => Err(Failure::words(format!("invalid --{option}: {text:?}: must be KEY=VALUE"))),
    };
    given.iter().map(split).collect()
}

fn extra_hosts(given: &[String]) -> Result<Vec<String>> {
    let one = |text: &String| {
        let (name, address) = text
            .split_once('=')
            .or_else(|| text.split_once(':'))
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Failure::words(format!("bad format for add-host: {text:?}")))?;
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        if bare != "host-gateway" && bare.parse::<std::net::IpAddr>().is_err() {
            return Err(Failure::words(format!("invalid IP address in add-host: {address:?}")));
        }
        Ok(format!("{name}:{bare}"))
    };
    given.iter().map(one).collect()
}

#[cfg(test)]
mod tests;
