//! Limits.

use caisson_bundle::oci;

use crate::wire::HostConfig;

/// One CPU's time in the units of a quota, for the default period.
const PERIOD: i64 = 100_000;

/// The limits that a host configuration names; also what an update applies.
pub(crate) fn resources(host: &HostConfig) -> oci::LinuxResources {
    let given = |value: Option<i64>| value.filter(|value| *value != 0);
    let mut resources = oci::LinuxResources::default();
    resources.set_devices(None);
    let mut memory = oci::LinuxMemory::default();
    memory
        .set_limit(given(host.memory))
        .set_swap(given(host.memory_swap))
        .set_reservation(given(host.memory_reservation));
    resources.set_memory(Some(memory));
    let mut cpu = oci::LinuxCpu::default();
    cpu.set_shares(given(host.cpu_shares).map(|shares| shares as u64))
        .set_period(given(host.cpu_period).map(|period| period as u64))
        .set_quota(given(host.cpu_quota))
        .set_cpus(host.cpuset_cpus.clone().filter(|text| !text.is_empty()))
        .set_mems(host.cpuset_mems.clone().filter(|text| !text.is_empty()));
    if let Some(nano) = given(host.nano_cpus) {
        cpu.set_period(Some(PERIOD as u64)).set_quota(Some(nano / (1_000_000_000 / PERIOD)));
    }
    resources.set_cpu(Some(cpu));
    if let Some(limit) = host.pids_limit {
        let mut pids = oci::LinuxPids::default();
        // Zero is no limit, which takes an earlier one away.
        pids.set_limit(if limit > 0 { limit } else { -1 });
        resources.set_pids(Some(pids));
    }
    if let Some(weight) = host.blkio_weight.filter(|weight| *weight != 0) {
        let mut io = oci::LinuxBlockIo::default();
        io.set_weight(Some(weight));
        resources.set_block_io(Some(io));
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_become_a_quota() {
        let host = HostConfig { nano_cpus: Some(1_500_000_000), ..Default::default() };
        let limits = resources(&host);
        let cpu = limits.cpu().as_ref().unwrap();
        assert_eq!((cpu.quota(), cpu.period()), (Some(150_000), Some(100_000)));
        assert!(limits.pids().is_none());
    }

    #[test]
    fn limits_are_those_of_the_configuration() {
        let host = HostConfig {
            memory: Some(64 << 20),
            memory_swap: Some(-1),
            cpu_shares: Some(512),
            cpuset_cpus: Some("0-1".into()),
            pids_limit: Some(0),
            blkio_weight: Some(300),
            ..Default::default()
        };
        let limits = resources(&host);
        let memory = limits.memory().as_ref().unwrap();
        assert_eq!((memory.limit(), memory.swap()), (Some(64 << 20), Some(-1)));
        let cpu = limits.cpu().as_ref().unwrap();
        assert_eq!((cpu.shares(), cpu.cpus().as_deref()), (Some(512), Some("0-1")));
        assert_eq!(limits.pids().as_ref().unwrap().limit(), -1);
        assert_eq!(limits.block_io().as_ref().unwrap().weight(), Some(300));
        assert!(limits.devices().is_none());
    }
}
