//! `GET /info`.

use std::time::Duration;

use caisson_api::time::rfc3339;
use caisson_launch::cgroup::{Hierarchy, hierarchies};
use caisson_protocol::supervisor::Accelerator;

use super::{facts, host, version};
use crate::error::Doing;
use crate::record::Status;
use crate::{Engine, Result, RuntimeType, blocking, wire};

/// How long an answer waits for a probe that is under way.
const PROBE: Duration = Duration::from_secs(2);

impl Engine {
    /// What this engine has, and what its host can do.
    pub async fn info(&self) -> Result<wire::SystemInfo> {
        let hyperv = self.hyperv_told().await;
        let engine = self.clone();
        blocking(move || engine.info_now(hyperv)).await
    }

    /// What hyperv containers run on, in one word and in a sentence that warns.
    async fn hyperv_told(&self) -> (&'static str, Option<String>) {
        if let Err(error) = self.hyperv_present() {
            return ("none", Some(format!("WARNING: {error}")));
        }
        // A task of its own: the probe is not cut off when it takes longer.
        let engine = self.clone();
        let probing = tokio::spawn(async move { engine.hyperv_ready().await.is_ok() });
        let _ = tokio::time::timeout(PROBE, probing).await;
        match self.verdict_known() {
            None => ("unknown", Some("WARNING: hyperv: this host is still being probed".into())),
            Some(verdict) if verdict.accelerator == Accelerator::Kvm => ("kvm", None),
            Some(verdict) => {
                let emulated = host::EMULATED;
                let text = format!("WARNING: hyperv containers are {emulated} ({})", verdict.why);
                ("emulation", Some(text))
            }
        }
    }

    fn info_now(&self, (accelerator, warning): (&str, Option<String>)) -> Result<wire::SystemInfo> {
        let settings = &self.0.settings;
        let (mut running, mut paused, mut stopped) = (0, 0, 0);
        for container in self.0.containers.all() {
            container.look(|record| match record.state.status {
                Status::Running if record.state.paused => paused += 1,
                Status::Running | Status::Restarting => running += 1,
                _ => stopped += 1,
            });
        }
        let (system, system_version) = facts::distribution();
        let hierarchies = hierarchies().doing(|| "read the cgroup mounts")?;
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let info = wire::SystemInfo {
            id: Some(self.engine_id()?),
            containers: Some(running + paused + stopped),
            containers_running: Some(running),
            containers_paused: Some(paused),
            containers_stopped: Some(stopped),
            images: Some(self.0.images.list().len() as i64),
            driver: Some("overlay2".into()),
            driver_status: Some(driver_status(&settings.data_root, self.standby_count())),
            docker_root_dir: Some(settings.data_root.display().to_string()),
            plugins: Some(plugins()),
            ipv4_forwarding: Some(forwards()),
            debug: Some(tracing::enabled!(tracing::Level::DEBUG)),
            nfd: std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as i64),
            n_goroutines: Some(0),
            system_time: Some(rfc3339(crate::now())),
            logging_driver: Some("json-file".into()),
            n_events_listener: Some(self.0.events.listeners() as i64),
            kernel_version: Some(facts::kernel()),
            operating_system: Some(system),
            os_version: Some(system_version),
            os_type: Some("linux".into()),
            architecture: Some(std::env::consts::ARCH.into()),
            ncpu: Some(i64::from(facts::cpu_time().0)),
            mem_total: Some(i64::try_from(facts::memory()).unwrap_or(i64::MAX)),
            index_server_address: Some("https://index.docker.io/v1/".into()),
            registry_config: Some(registries()),
            http_proxy: Some(variable("HTTP_PROXY")),
            https_proxy: Some(variable("HTTPS_PROXY")),
            no_proxy: Some(variable("NO_PROXY")),
            name: Some(facts::hostname()),
            labels: Some(Vec::new()),
            experimental_build: Some(false),
            server_version: Some(version::VERSION.into()),
            runtimes: Some([("caisson".into(), runtime())].into()),
            default_runtime: Some("caisson".into()),
            swarm: Some(no_swarm()),
            live_restore_enabled: Some(true),
            isolation: Some(match settings.default_type {
                RuntimeType::Process => wire::SystemInfoIsolationEnum::PROCESS,
                RuntimeType::Hyperv => wire::SystemInfoIsolationEnum::HYPERV,
            }),
            init_binary: Some("caisson-init".into()),
            containerd_commit: Some(Default::default()),
            runc_commit: Some(Default::default()),
            init_commit: Some(wire::Commit { id: Some(version::VERSION.into()) }),
            security_options: Some(vec![
                "name=seccomp,profile=builtin".into(),
                format!("name=hyperv,accelerator={accelerator}"),
            ]),
            warnings: warning.map(|warning| vec![warning]),
            ..Default::default()
        };
        Ok(with_limits(info, &hierarchies))
    }

    /// A number of this data root's own that stays the same, in the form of a UUID. Made when the engine is
    /// opened.
    pub(super) fn engine_id(&self) -> Result<String> {
        let root = &self.0.settings.data_root;
        let path = root.join("engine-id");
        if let Ok(known) = std::fs::read_to_string(&path)
            && known.trim().len() == 36
        {
            return Ok(known.trim().into());
        }
        let digits = crate::volume::random_name()?;
        let id = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| &digits[range]).join("-");
        let what = || format!("write {}", path.display());
        let fresh = tempfile::NamedTempFile::new_in(root).doing(what)?;
        std::fs::write(fresh.path(), &id).doing(what)?;
        fresh.persist(&path).map_err(|error| error.error).doing(what)?;
        Ok(id)
    }
}

/// What can be limited, by the controllers that there are.
fn with_limits(info: wire::SystemInfo, hierarchies: &[Hierarchy]) -> wire::SystemInfo {
    let of = |controller: &str| {
        let has = |known: &&Hierarchy| known.controllers.iter().any(|name| name == controller);
        hierarchies.iter().find(has)
    };
    let has = |controller: &str| Some(of(controller).is_some());
    let old = of("memory").or(hierarchies.first()).is_some_and(|known| known.version == 1);
    let exists = |file: &str| of("memory").is_some_and(|known| known.mount.join(file).exists());
    wire::SystemInfo {
        cgroup_driver: Some(wire::SystemInfoCgroupDriverEnum::CGROUPFS),
        cgroup_version: Some(match old {
            true => wire::SystemInfoCgroupVersionEnum::_1,
            false => wire::SystemInfoCgroupVersionEnum::_2,
        }),
        memory_limit: has("memory"),
        swap_limit: Some(match old {
            true => exists("memory.memsw.limit_in_bytes"),
            false => of("memory").is_some(),
        }),
        cpu_cfs_period: has("cpu"),
        cpu_cfs_quota: has("cpu"),
        cpu_shares: has("cpu"),
        cpu_set: has("cpuset"),
        pids_limit: has("pids"),
        oom_kill_disable: Some(old && exists("memory.oom_control")),
        ..info
    }
}

fn driver_status(data_root: &std::path::Path, guests: usize) -> Vec<Vec<String>> {
    let kind = rustix::fs::statfs(data_root).map(|status| status.f_type as u64);
    let backing = match kind {
        Ok(0xef53) => "extfs",
        Ok(0x5846_5342) => "xfs",
        Ok(0x9123_683e) => "btrfs",
        Ok(0x0102_1994) => "tmpfs",
        Ok(0x2fc1_2fc1) => "zfs",
        Ok(0xf2f5_2010) => "f2fs",
        _ => "unknown",
    };
    let guests = guests.to_string();
    let lines = [
        ("Backing Filesystem", backing),
        ("Supports d_type", "true"),
        ("userxattr", "false"),
        ("Guests on standby", &guests),
    ];
    lines.map(|(name, value)| vec![name.into(), value.into()]).into()
}

fn plugins() -> wire::PluginsInfo {
    let words = |words: &[&str]| Some(words.iter().map(|word| word.to_string()).collect());
    wire::PluginsInfo {
        volume: words(&["local"]),
        network: words(&["bridge", "host", "null"]),
        authorization: None,
        log: words(&["json-file", "none"]),
    }
}

fn forwards() -> bool {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward");
    text.is_ok_and(|text| text.trim() == "1")
}

fn registries() -> wire::RegistryServiceConfig {
    let hub = wire::IndexInfo {
        name: Some("docker.io".into()),
        mirrors: Some(Vec::new()),
        secure: Some(true),
        official: Some(true),
    };
    wire::RegistryServiceConfig {
        insecure_registry_cidrs: Some(vec!["::1/128".into(), "127.0.0.0/8".into()]),
        index_configs: Some([("docker.io".into(), hub)].into()),
        mirrors: None,
    }
}

fn runtime() -> wire::Runtime {
    wire::Runtime { path: Some("caisson-init".into()), ..Default::default() }
}

fn no_swarm() -> wire::SwarmInfo {
    wire::SwarmInfo {
        node_id: Some(String::new()),
        node_addr: Some(String::new()),
        local_node_state: Some(wire::LocalNodeState::INACTIVE),
        control_available: Some(false),
        error: Some(String::new()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(version: u8, controllers: &[&str]) -> Hierarchy {
        Hierarchy {
            version,
            mount: "/nowhere".into(),
            controllers: controllers.iter().map(|name| name.to_string()).collect(),
        }
    }

    #[test]
    fn limits_are_those_of_the_controllers() {
        let shown = |hierarchies: &[Hierarchy]| {
            let info = with_limits(wire::SystemInfo::default(), hierarchies);
            serde_json::to_value(info).unwrap()
        };
        let old = shown(&[hierarchy(1, &["memory"]), hierarchy(1, &["cpu"]), hierarchy(2, &[])]);
        assert_eq!((&old["CgroupVersion"], &old["MemoryLimit"]), (&"1".into(), &true.into()));
        assert_eq!((&old["PidsLimit"], &old["SwapLimit"]), (&false.into(), &false.into()));
        let new = shown(&[hierarchy(2, &["cpu", "memory", "pids"])]);
        assert_eq!((&new["CgroupVersion"], &new["SwapLimit"]), (&"2".into(), &true.into()));
        assert_eq!((&new["CPUSet"], &new["OomKillDisable"]), (&false.into(), &false.into()));
        assert_eq!(shown(&[])["MemoryLimit"], false);
    }
}
