//! What a container, an exec or a look at the logs is asked to be; each client says it in its own way.

use std::collections::HashMap;

use anyhow::{Result, bail};
use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, ExecConfig, HostConfig,
    HostConfigIsolationEnum, HostConfigLogConfig, NetworkingConfig, PortBinding, ResourcesUlimits,
    RestartPolicy, RestartPolicyNameEnum,
};

/// A published port; a host port of 0 is one that the engine chooses.
#[derive(Debug, Clone, Copy)]
pub struct Port {
    pub container: u16,
    pub host: u16,
}

/// The options of `docker create` that the cases use.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    pub name: String,
    pub image: String,
    pub args: Vec<String>,
    /// `process`, `hyperv`, or empty for what the engine takes.
    pub isolation: String,
    /// One word, as the command line has it.
    pub entrypoint: Option<String>,
    pub env: Vec<String>,
    pub labels: HashMap<String, String>,
    pub user: String,
    pub groups: Vec<String>,
    pub workdir: String,
    pub hostname: String,
    pub tty: bool,
    pub stdin: bool,
    /// `SOURCE:TARGET[:MODE]`, where the source is a path or a volume's name.
    pub binds: Vec<String>,
    /// Paths of anonymous volumes.
    pub volumes: Vec<String>,
    /// Containers whose volumes and binds it has too.
    pub volumes_from: Vec<String>,
    /// `PATH[:OPTIONS]`.
    pub tmpfs: Vec<String>,
    pub read_only: bool,
    pub ports: Vec<Port>,
    pub network: String,
    /// Its address in a network of one's own.
    pub ip: String,
    pub init: bool,
    pub auto_remove: bool,
    pub privileged: bool,
    /// Bytes, of memory and of memory and swap together.
    pub memory: Option<i64>,
    pub nano_cpus: Option<i64>,
    pub pids: Option<i64>,
    /// Name, soft and hard limit.
    pub ulimits: Vec<(String, i64, i64)>,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    /// Such as `on-failure:2`.
    pub restart: String,
    pub stop_signal: String,
    pub stop_timeout: Option<i64>,
    /// Options of the json-file log, such as `max-size` and `10k`.
    pub log: Vec<(String, String)>,
}

/// A process to run in a container.
#[derive(Debug, Clone, Default)]
pub struct Exec {
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub user: String,
    pub workdir: String,
    /// Its whole input, when it has one.
    pub stdin: Option<Vec<u8>>,
}

/// Which part of the logs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Logs {
    pub follow: bool,
    pub timestamps: bool,
    /// The last so many lines.
    pub tail: Option<u32>,
    /// Seconds since 1970.
    pub since: Option<i64>,
    pub until: Option<i64>,
}

impl Exec {
    pub fn new(args: &[&str]) -> Self {
        Exec { args: owned(args), ..Exec::default() }
    }

    pub(super) fn config(&self) -> ExecConfig {
        ExecConfig {
            attach_stdin: Some(self.stdin.is_some()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(self.args.clone()),
            env: Some(self.env.clone()),
            user: given(&self.user),
            working_dir: given(&self.workdir),
            ..ExecConfig::default()
        }
    }

    pub(super) fn flags(&self) -> Vec<String> {
        let mut flags = Flags::default();
        flags.switch("--interactive", self.stdin.is_some());
        flags.each("--env", &self.env);
        flags.given("--user", &self.user);
        flags.given("--workdir", &self.workdir);
        flags.0
    }
}

pub(crate) fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_string())
}

impl Spec {
    /// The name and the number of a restart policy.
    fn policy(&self) -> Result<Option<RestartPolicy>> {
        let (name, count) = self.restart.split_once(':').unwrap_or((&self.restart, "0"));
        let name = match name {
            "" => return Ok(None),
            "no" => RestartPolicyNameEnum::NO,
            "always" => RestartPolicyNameEnum::ALWAYS,
            "unless-stopped" => RestartPolicyNameEnum::UNLESS_STOPPED,
            "on-failure" => RestartPolicyNameEnum::ON_FAILURE,
            other => bail!("no restart policy {other:?}"),
        };
        Ok(Some(RestartPolicy { name: Some(name), maximum_retry_count: Some(count.parse()?) }))
    }

    /// As the API takes it.
    pub fn body(&self) -> Result<ContainerCreateBody> {
        let attached = !self.auto_remove;
        let key = |port: &Port| format!("{}/tcp", port.container);
        let set = |paths: Vec<String>| paths.into_iter().map(|path| (path, HashMap::new()));
        Ok(ContainerCreateBody {
            image: Some(self.image.clone()),
            cmd: Some(self.args.clone()),
            entrypoint: self.entrypoint.clone().map(|word| vec![word]),
            env: Some(self.env.clone()),
            labels: Some(self.labels.clone()),
            user: given(&self.user),
            working_dir: given(&self.workdir),
            hostname: given(&self.hostname),
            tty: Some(self.tty),
            open_stdin: Some(self.stdin),
            stdin_once: Some(self.stdin),
            attach_stdin: Some(self.stdin && attached),
            attach_stdout: Some(attached),
            attach_stderr: Some(attached),
            volumes: Some(set(self.volumes.clone()).collect()),
            exposed_ports: Some(set(self.ports.iter().map(key).collect()).collect()),
            stop_signal: given(&self.stop_signal),
            stop_timeout: self.stop_timeout,
            networking_config: self.networking(),
            host_config: Some(self.host_config()?),
            ..ContainerCreateBody::default()
        })
    }

    fn networking(&self) -> Option<NetworkingConfig> {
        let own = !matches!(self.network.as_str(), "" | "none" | "host" | "bridge" | "default")
            && !self.network.starts_with("container:");
        let address =
            EndpointIpamConfig { ipv4_address: given(&self.ip), ..EndpointIpamConfig::default() };
        let endpoint = EndpointSettings {
            ipam_config: given(&self.ip).map(|_| address),
            ..EndpointSettings::default()
        };
        let endpoints = HashMap::from([(self.network.clone(), endpoint)]);
        own.then_some(NetworkingConfig { endpoints_config: Some(endpoints) })
    }

    fn host_config(&self) -> Result<HostConfig> {
        let isolation = match self.isolation.as_str() {
            "" => None,
            "process" => Some(HostConfigIsolationEnum::PROCESS),
            "hyperv" => Some(HostConfigIsolationEnum::HYPERV),
            other => bail!("no isolation {other:?}"),
        };
        let binding = |port: &Port| {
            let host_port = if port.host == 0 { String::new() } else { port.host.to_string() };
            let binding =
                PortBinding { host_ip: Some("127.0.0.1".into()), host_port: Some(host_port) };
            (format!("{}/tcp", port.container), Some(vec![binding]))
        };
        let tmpfs = |text: &String| {
            let (path, options) = text.split_once(':').unwrap_or((text, ""));
            (path.to_string(), options.to_string())
        };
        let log = (!self.log.is_empty()).then(|| HostConfigLogConfig {
            typ: Some("json-file".into()),
            config: Some(self.log.iter().cloned().collect()),
        });
        let limit = |(name, soft, hard): &(String, i64, i64)| ResourcesUlimits {
            name: Some(name.clone()),
            soft: Some(*soft),
            hard: Some(*hard),
        };
        Ok(HostConfig {
            isolation,
            group_add: Some(self.groups.clone()),
            binds: Some(self.binds.clone()),
            volumes_from: Some(self.volumes_from.clone()),
            tmpfs: Some(self.tmpfs.iter().map(tmpfs).collect()),
            readonly_rootfs: Some(self.read_only),
            port_bindings: Some(self.ports.iter().map(binding).collect()),
            network_mode: given(&self.network),
            init: self.init.then_some(true),
            auto_remove: Some(self.auto_remove),
            privileged: Some(self.privileged),
            memory: self.memory,
            memory_swap: self.memory,
            nano_cpus: self.nano_cpus,
            pids_limit: self.pids,
            ulimits: Some(self.ulimits.iter().map(limit).collect()),
            cap_add: Some(self.cap_add.clone()),
            cap_drop: Some(self.cap_drop.clone()),
            restart_policy: self.policy()?,
            log_config: log,
            ..HostConfig::default()
        })
    }

    /// As the command line takes it: the options, the image and the command.
    pub(super) fn command_line(&self) -> Vec<String> {
        let mut flags = Flags::default();
        flags.given("--name", &self.name);
        flags.given("--isolation", &self.isolation);
        flags.given("--user", &self.user);
        flags.given("--workdir", &self.workdir);
        flags.given("--hostname", &self.hostname);
        flags.given("--network", &self.network);
        flags.given("--restart", &self.restart);
        flags.given("--stop-signal", &self.stop_signal);
        flags.each("--entrypoint", self.entrypoint.as_slice());
        flags.each("--env", &self.env);
        flags.each("--group-add", &self.groups);
        flags.each("--volume", &self.binds);
        flags.each("--volume", &self.volumes);
        flags.each("--volumes-from", &self.volumes_from);
        flags.each("--tmpfs", &self.tmpfs);
        flags.given("--ip", &self.ip);
        let options: Vec<_> = self.log.iter().map(|(k, v)| format!("{k}={v}")).collect();
        flags.each("--log-opt", &options);
        flags.each("--cap-add", &self.cap_add);
        flags.each("--cap-drop", &self.cap_drop);
        let labels: Vec<_> = self.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        flags.each("--label", &labels);
        let ports = self.ports.iter().map(|port| match port.host {
            0 => format!("127.0.0.1::{}", port.container),
            host => format!("127.0.0.1:{host}:{}", port.container),
        });
        flags.each("--publish", &ports.collect::<Vec<_>>());
        let limits = self.ulimits.iter().map(|(name, soft, hard)| format!("{name}={soft}:{hard}"));
        flags.each("--ulimit", &limits.collect::<Vec<_>>());
        for (flag, on) in [
            ("--tty", self.tty),
            ("--interactive", self.stdin),
            ("--read-only", self.read_only),
            ("--init", self.init),
            ("--rm", self.auto_remove),
            ("--privileged", self.privileged),
        ] {
            flags.switch(flag, on);
        }
        let bytes = self.memory.map(|bytes| format!("{bytes}b"));
        flags.each("--memory", bytes.as_slice());
        flags.each("--memory-swap", bytes.as_slice());
        let cpus = self.nano_cpus.map(|cpus| format!("{:.3}", cpus as f64 / 1e9));
        flags.each("--cpus", cpus.as_slice());
        flags.each("--pids-limit", self.pids.map(|pids| pids.to_string()).as_slice());
        flags.each("--stop-timeout", self.stop_timeout.map(|s| s.to_string()).as_slice());
        flags.0.push(self.image.clone());
        flags.0.extend(self.args.iter().cloned());
        flags.0
    }
}

#[derive(Default)]
struct Flags(Vec<String>);

impl Flags {
    fn switch(&mut self, flag: &str, on: bool) {
        if on {
            self.0.push(flag.into());
        }
    }

    fn given(&mut self, flag: &str, value: &str) {
        if !value.is_empty() {
            self.0.push(format!("{flag}={value}"));
        }
    }

    fn each(&mut self, flag: &str, values: &[String]) {
        self.0.extend(values.iter().map(|value| format!("{flag}={value}")));
    }
}
