//! What Docker fills in where the client says nothing, or says it in another way: `inspect` shows the result,
//! and the spec is made of it.

use caisson_bundle::defaults;

use crate::wire::{self, HostConfig};

/// Bytes of `/dev/shm`.
const SHM_SIZE: i64 = 64 << 20;

/// Completes a new container's configuration.
pub fn complete(host: &mut HostConfig) {
    let nothing = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    if nothing(&host.network_mode) || host.network_mode.as_deref() == Some("default") {
        host.network_mode = Some("bridge".into());
    }
    if nothing(&host.ipc_mode) {
        host.ipc_mode = Some("private".into());
    }
    if !matches!(host.cgroupns_mode, Some(mode) if mode != wire::HostConfigCgroupnsModeEnum::EMPTY)
    {
        host.cgroupns_mode = Some(wire::HostConfigCgroupnsModeEnum::PRIVATE);
    }
    host.shm_size = host.shm_size.filter(|size| *size != 0).or(Some(SHM_SIZE));
    // The command line's words for "not given".
    host.memory_swappiness = host.memory_swappiness.filter(|value| *value != -1);
    host.pids_limit = host.pids_limit.filter(|limit| *limit > 0);
    host.cpu_shares =
        host.cpu_shares.map(|shares| if shares > 0 { shares.clamp(2, 262_144) } else { shares });
    let log = host.log_config.get_or_insert_default();
    if nothing(&log.typ) {
        log.typ = Some("json-file".into());
    }
    log.config.get_or_insert_default();
    let policy = host.restart_policy.get_or_insert_default();
    if matches!(policy.name, None | Some(wire::RestartPolicyNameEnum::EMPTY)) {
        policy.name = Some(wire::RestartPolicyNameEnum::NO);
    }
    policy.maximum_retry_count.get_or_insert_default();
    if host.privileged != Some(true) {
        let spec = defaults::spec(&[]);
        let linux = spec.linux().clone().unwrap_or_default();
        let own = |paths: &Option<Vec<String>>| paths.clone();
        host.masked_paths = host.masked_paths.take().or_else(|| own(linux.masked_paths()));
        host.readonly_paths = host.readonly_paths.take().or_else(|| own(linux.readonly_paths()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_given_is_dockers_default() {
        let mut host = HostConfig {
            memory_swappiness: Some(-1),
            pids_limit: Some(0),
            shm_size: Some(0),
            network_mode: Some("default".into()),
            cgroupns_mode: Some(wire::HostConfigCgroupnsModeEnum::EMPTY),
            ..Default::default()
        };
        complete(&mut host);
        assert_eq!((host.memory_swappiness, host.pids_limit), (None, None));
        assert_eq!(host.shm_size, Some(64 << 20));
        assert_eq!(host.network_mode.as_deref(), Some("bridge"));
        assert_eq!(host.cgroupns_mode, Some(wire::HostConfigCgroupnsModeEnum::PRIVATE));
        assert_eq!(host.restart_policy.unwrap().name, Some(wire::RestartPolicyNameEnum::NO));
        assert!(host.masked_paths.unwrap().contains(&"/proc/kcore".to_string()));
        assert_eq!(host.log_config.unwrap().typ.as_deref(), Some("json-file"));
    }

    #[test]
    fn paths_that_were_given_stay() {
        let mut host = HostConfig { masked_paths: Some(Vec::new()), ..Default::default() };
        complete(&mut host);
        assert_eq!(host.masked_paths, Some(Vec::new()));
        let mut host = HostConfig { privileged: Some(true), ..Default::default() };
        complete(&mut host);
        assert_eq!(host.masked_paths, None);
    }
}
