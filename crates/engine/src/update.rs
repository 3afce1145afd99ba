//! Limits and the restart policy change, of a running container at once.

use std::sync::Arc;

use caisson_protocol::task::Request;

use crate::create::{policy_of, resources_checked};
use crate::error::{Error, Result};
use crate::spec::resources;
use crate::standby::shape;
use crate::stop::refuse_doomed;
use crate::supervisor::Shape;
use crate::wire::{self, HostConfig};
use crate::{Container, Engine, Record, RuntimeType};

impl Engine {
    /// Changes what the body names and leaves the rest; what the user should know.
    pub async fn update(&self, name: &str, body: wire::ContainerUpdateBody) -> Result<Vec<String>> {
        let container = self.0.containers.get(name)?;
        let _busy = container.busy.lock().await;
        refuse_doomed(&container)?;
        let before = container.record();
        let cannot = |error: Error| error.doing(format!("Cannot update container {}", before.id));
        let mut warnings = Vec::new();
        let host = changed(&before.host_config, body, &mut warnings).map_err(cannot)?;
        self.apply(&container, &before, &host).await.map_err(cannot)?;
        if let Err(error) = container.change(|record| record.host_config = host.clone()) {
            self.take_back(&container, &before).await;
            return Err(cannot(error));
        }
        self.tell_container(&container.record(), "update", &[]);
        Ok(warnings)
    }

    /// Applies new limits to the processes that run; all of them or none.
    async fn apply(
        &self,
        container: &Arc<Container>,
        before: &Record,
        host: &HostConfig,
    ) -> Result<()> {
        if !before.running() {
            return Ok(());
        }
        let after = Record { host_config: host.clone(), ..before.clone() };
        if before.runtime_type == RuntimeType::Hyperv {
            fits_guest(shape(before), shape(&after))?;
        }
        let limits = resources(host);
        if limits == resources(&before.host_config) {
            return Ok(());
        }
        let applied = self.task(container, Request::Update(Box::new(limits))).await;
        if applied.is_err() {
            self.take_back(container, before).await;
        }
        applied.map(drop)
    }

    /// Applies the limits again that were before. What fails here is logged: the first failure is told.
    async fn take_back(&self, container: &Arc<Container>, before: &Record) {
        if !before.running() {
            return;
        }
        let limits = resources(&explicit(&before.host_config));
        if let Err(error) = self.task(container, Request::Update(Box::new(limits))).await {
            tracing::warn!("container {}: its limits before the update: {error}", before.id);
        }
    }
}

/// The same limits, with what is not limited said too: an update may have limited it.
fn explicit(host: &HostConfig) -> HostConfig {
    let or = |value: Option<i64>, none: i64| value.filter(|value| *value != 0).or(Some(none));
    let mut all = host.clone();
    all.memory = or(host.memory, -1);
    all.memory_swap = or(host.memory_swap, -1);
    all.cpu_shares = or(host.cpu_shares, 1024);
    all.pids_limit = or(host.pids_limit, 0);
    if host.nano_cpus.unwrap_or_default() == 0 {
        all.cpu_quota = or(host.cpu_quota, -1);
    }
    all
}

/// Refuses a limit that a running guest has no room for.
fn fits_guest(has: Shape, needs: Shape) -> Result<()> {
    let refuse = |limit: &str, has: String| {
        Err(Error::conflict(format!(
            "{limit} needs more than its guest has, which was started with {has} and does not grow while it runs: stop it, update it and start it again"
        )))
    };
    if needs.memory_mib > has.memory_mib {
        return refuse("this memory limit", format!("{} MiB of memory", has.memory_mib));
    }
    if needs.vcpus > has.vcpus {
        let plural = if has.vcpus == 1 { "" } else { "s" };
        return refuse("this number of CPUs", format!("{} CPU{plural}", has.vcpus));
    }
    Ok(())
}

/// The configuration with what the body names; zero and nothing leave a field as it is.
fn changed(
    before: &HostConfig,
    body: wire::ContainerUpdateBody,
    warnings: &mut Vec<String>,
) -> Result<HostConfig> {
    let mut host = before.clone();
    let set = |field: &mut Option<i64>, value: Option<i64>| {
        if let Some(value) = value.filter(|value| *value != 0) {
            *field = Some(value);
        }
    };
    let (memory, swap) = (body.memory.unwrap_or_default(), body.memory_swap.unwrap_or_default());
    let swap_before = before.memory_swap.unwrap_or_default();
    if memory > 0 && swap == 0 && swap_before > 0 && memory > swap_before {
        return Err(Error::conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    set(&mut host.memory, body.memory);
    set(&mut host.memory_swap, body.memory_swap);
    set(&mut host.memory_reservation, body.memory_reservation);
    set(&mut host.cpu_shares, body.cpu_shares);
    // Zero is no limit here, as is less.
    host.pids_limit = body.pids_limit.map(|limit| limit.max(0)).or(host.pids_limit);
    if body.nano_cpus.is_some_and(|nano| nano != 0) {
        for (value, what) in [(before.cpu_period, "Period"), (before.cpu_quota, "Quota")] {
            if value.unwrap_or_default() > 0 {
                return Err(Error::conflict(format!(
                    "Conflicting options: Nano CPUs cannot be updated as CPU {what} has already been set"
                )));
            }
        }
        host.nano_cpus = body.nano_cpus;
    }
    for (given, what) in [(body.cpu_period, "Period"), (body.cpu_quota, "Quota")] {
        if given.is_some_and(|value| value > 0) && before.nano_cpus.unwrap_or_default() > 0 {
            return Err(Error::conflict(format!(
                "Conflicting options: CPU {what} cannot be updated as NanoCPUs has already been set"
            )));
        }
    }
    set(&mut host.cpu_period, body.cpu_period);
    set(&mut host.cpu_quota, body.cpu_quota);
    for (field, value) in
        [(&mut host.cpuset_cpus, body.cpuset_cpus), (&mut host.cpuset_mems, body.cpuset_mems)]
    {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            *field = Some(value);
        }
    }
    if let Some(weight) = body.blkio_weight.filter(|weight| *weight != 0) {
        host.blkio_weight = Some(weight);
    }
    if let Some(policy) = body
        .restart_policy
        .filter(|policy| !matches!(policy.name, None | Some(wire::RestartPolicyNameEnum::EMPTY)))
    {
        policy_of(Some(&policy))?;
        if before.auto_remove == Some(true) && policy.name != Some(wire::RestartPolicyNameEnum::NO)
        {
            return Err(Error::conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            ));
        }
        host.restart_policy = Some(policy);
    }
    resources_checked(&mut host, warnings)?;
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(before: &HostConfig, body: wire::ContainerUpdateBody) -> Result<HostConfig> {
        changed(before, body, &mut Vec::new())
    }

    #[test]
    fn what_is_not_named_stays() {
        let before = HostConfig {
            memory: Some(64 << 20),
            memory_swap: Some(128 << 20),
            pids_limit: Some(10),
            ..Default::default()
        };
        let body = wire::ContainerUpdateBody { memory: Some(32 << 20), ..Default::default() };
        let after = update(&before, body).unwrap();
        assert_eq!((after.memory, after.pids_limit), (Some(32 << 20), Some(10)));
        let body = wire::ContainerUpdateBody { memory: Some(256 << 20), ..Default::default() };
        assert!(update(&before, body).unwrap_err().message.contains("memoryswap"));
    }

    #[test]
    fn policies_are_checked() {
        use wire::RestartPolicyNameEnum as Policy;
        let policy = |name, most| wire::ContainerUpdateBody {
            restart_policy: Some(wire::RestartPolicy {
                name: Some(name),
                maximum_retry_count: Some(most),
            }),
            ..Default::default()
        };
        let before = HostConfig { auto_remove: Some(true), ..Default::default() };
        assert!(update(&before, policy(Policy::ALWAYS, 0)).is_err());
        assert!(update(&HostConfig::default(), policy(Policy::ALWAYS, 2)).is_err());
        let after = update(&HostConfig::default(), policy(Policy::ON_FAILURE, 2)).unwrap();
        assert_eq!(after.restart_policy.unwrap().maximum_retry_count, Some(2));
    }

    #[test]
    fn no_limit_of_processes_is_zero_or_less() {
        let before = HostConfig { pids_limit: Some(10), ..Default::default() };
        for (given, after) in
            [(None, Some(10)), (Some(0), Some(0)), (Some(-1), Some(0)), (Some(5), Some(5))]
        {
            let body = wire::ContainerUpdateBody { pids_limit: given, ..Default::default() };
            assert_eq!(update(&before, body).unwrap().pids_limit, after);
        }
    }

    #[test]
    fn cpus_and_their_quota_exclude_each_other() {
        let quota = HostConfig { cpu_quota: Some(50_000), ..Default::default() };
        let body = wire::ContainerUpdateBody { nano_cpus: Some(500_000_000), ..Default::default() };
        let error = update(&quota, body).unwrap_err();
        assert!(error.kind == crate::Kind::Conflict && error.message.contains("CPU Quota"));
        let nano = HostConfig { nano_cpus: Some(500_000_000), ..Default::default() };
        let body = wire::ContainerUpdateBody { cpu_period: Some(50_000), ..Default::default() };
        assert!(update(&nano, body).unwrap_err().message.contains("CPU Period"));
    }

    #[test]
    fn what_was_not_limited_is_said_when_an_update_is_taken_back() {
        let before = HostConfig { memory: Some(64 << 20), ..Default::default() };
        let limits = resources(&explicit(&before));
        let memory = limits.memory().as_ref().unwrap();
        assert_eq!((memory.limit(), memory.swap()), (Some(64 << 20), Some(-1)));
        assert_eq!(limits.cpu().as_ref().unwrap().quota(), Some(-1));
        assert_eq!(limits.pids().as_ref().unwrap().limit(), -1);
    }

    #[test]
    fn a_guest_does_not_grow() {
        let shape = |memory_mib, vcpus| Shape { memory_mib, vcpus };
        assert!(fits_guest(shape(512, 2), shape(256, 1)).is_ok());
        assert!(fits_guest(shape(512, 1), shape(2112, 1)).unwrap_err().message.contains("512 MiB"));
        assert!(fits_guest(shape(512, 1), shape(512, 2)).unwrap_err().message.contains("1 CPU "));
    }
}
