//! What a container uses, in the shape of Docker's statistics.
//!
//! The counters are those of the container's cgroup; for hyperv they are counted inside the microVM, whose
//! memory is then the limit of a container that has none of its own. Processor time of the whole host goes
//! with them, of which clients work out a share.

use std::collections::HashMap;

use caisson_api::time::rfc3339;
use caisson_protocol::task::{InterfaceStats, Reply, Request, Stats};

use crate::error::{Error, Kind, Result};
use crate::standby::shape;
use crate::system::facts;
use crate::{Engine, Record, RuntimeType, blocking, wire};

/// What the host has.
#[derive(Debug, Clone, Copy, Default)]
struct Host {
    cpus: u32,
    /// Nanoseconds, of all processors together.
    cpu_time: u64,
    /// Bytes.
    memory: u64,
}

impl Engine {
    /// One sample, and the processor's part of the previous one. All is zero when the container does not run.
    pub async fn stats(
        &self,
        name: &str,
        previous: Option<&wire::ContainerStatsResponse>,
    ) -> Result<wire::ContainerStatsResponse> {
        let container = self.0.containers.get(name)?;
        let stats = match container.look(Record::running) {
            true => match self.task(&container, Request::Stats).await {
                Ok(Reply::Stats(stats)) => Some(stats),
                Ok(_) => {
                    return Err(Error::internal("the supervisor did not answer with counters"));
                }
                // It ended meanwhile.
                Err(error) if error.kind == Kind::Conflict => None,
                Err(_) if !container.look(Record::running) => None,
                Err(error) => return Err(error),
            },
            false => None,
        };
        let record = container.record();
        let Some(stats) = stats else { return Ok(empty(&record)) };
        let host = blocking(|| {
            let (cpus, cpu_time) = facts::cpu_time();
            Host { cpus, cpu_time, memory: facts::memory() }
        })
        .await;
        let zero = empty(&record);
        let previous = previous.unwrap_or(&zero);
        Ok(wire::ContainerStatsResponse {
            read: Some(rfc3339(crate::now())),
            preread: previous.read.clone(),
            precpu_stats: previous.cpu_stats.clone(),
            ..sample(&record, *stats, host)
        })
    }
}

/// What Docker answers when there is nothing to count.
fn empty(record: &Record) -> wire::ContainerStatsResponse {
    wire::ContainerStatsResponse {
        name: Some(format!("/{}", record.name)),
        id: Some(record.id.clone()),
        read: Some(rfc3339(0)),
        preread: Some(rfc3339(0)),
        pids_stats: Some(Default::default()),
        blkio_stats: Some(Default::default()),
        num_procs: Some(0),
        storage_stats: Some(Default::default()),
        cpu_stats: Some(cpu(&Stats::default(), None)),
        precpu_stats: Some(cpu(&Stats::default(), None)),
        memory_stats: Some(Default::default()),
        networks: None,
    }
}

/// Everything but the times and what was before.
fn sample(record: &Record, stats: Stats, host: Host) -> wire::ContainerStatsResponse {
    let own_kernel = record.runtime_type == RuntimeType::Hyperv;
    let memory = if own_kernel { u64::from(shape(record).memory_mib) << 20 } else { host.memory };
    let networks: HashMap<String, wire::ContainerNetworkStats> =
        stats.interfaces.iter().map(|each| (each.name.clone(), network(each))).collect();
    wire::ContainerStatsResponse {
        pids_stats: Some(wire::ContainerPidsStats {
            current: Some(stats.pids),
            limit: Some(stats.pids_limit).filter(|limit| *limit > 0),
        }),
        blkio_stats: Some(block_io(&stats.block_io)),
        cpu_stats: Some(cpu(&stats, Some(host))),
        memory_stats: Some(wire::ContainerMemoryStats {
            usage: Some(stats.memory_usage),
            max_usage: Some(stats.memory_max_usage).filter(|most| *most > 0),
            limit: Some(stats.memory_limit.min(memory)),
            stats: Some(stats.memory_stat.into_iter().collect()),
            ..Default::default()
        }),
        networks: Some(networks).filter(|networks| !networks.is_empty()),
        ..empty(record)
    }
}

fn cpu(stats: &Stats, host: Option<Host>) -> wire::ContainerCpuStats {
    wire::ContainerCpuStats {
        cpu_usage: Some(wire::ContainerCpuUsage {
            total_usage: Some(stats.cpu_total),
            percpu_usage: None,
            usage_in_kernelmode: Some(stats.cpu_system),
            usage_in_usermode: Some(stats.cpu_user),
        }),
        system_cpu_usage: host.map(|host| host.cpu_time),
        online_cpus: host.map(|host| host.cpus),
        throttling_data: Some(wire::ContainerThrottlingData {
            periods: Some(stats.throttling.0),
            throttled_periods: Some(stats.throttling.1),
            throttled_time: Some(stats.throttling.2),
        }),
    }
}

fn block_io(devices: &[(u64, u64, u64, u64)]) -> wire::ContainerBlkioStats {
    let entry = |major, minor, op: &str, value| wire::ContainerBlkioStatEntry {
        major: Some(major),
        minor: Some(minor),
        op: Some(op.into()),
        value: Some(value),
    };
    let bytes = devices.iter().flat_map(|(major, minor, read, written)| {
        [entry(*major, *minor, "read", *read), entry(*major, *minor, "write", *written)]
    });
    wire::ContainerBlkioStats {
        io_service_bytes_recursive: Some(bytes.collect()),
        ..Default::default()
    }
}

fn network(interface: &InterfaceStats) -> wire::ContainerNetworkStats {
    let [rx_bytes, rx_packets, rx_errors, rx_dropped] = interface.received.map(Some);
    let [tx_bytes, tx_packets, tx_errors, tx_dropped] = interface.sent.map(Some);
    wire::ContainerNetworkStats {
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_dropped,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::tests::record;
    use serde_json::json;

    const HOST: Host = Host { cpus: 4, cpu_time: 1_000, memory: 8 << 30 };

    #[test]
    fn counters_get_dockers_names() {
        let stats = Stats {
            cpu_total: 30,
            cpu_user: 20,
            cpu_system: 10,
            throttling: (1, 2, 3),
            memory_usage: 5 << 20,
            memory_limit: u64::MAX,
            memory_stat: [("inactive_file".into(), 7)].into(),
            pids: 2,
            block_io: vec![(8, 0, 100, 200)],
            interfaces: vec![InterfaceStats {
                name: "eth0".into(),
                received: [1, 2, 3, 4],
                sent: [5, 6, 7, 8],
            }],
            ..Default::default()
        };
        let shown = serde_json::to_value(sample(&record('a', "web", 1), stats, HOST)).unwrap();
        assert_eq!(shown["name"], "/web");
        assert_eq!(
            shown["cpu_stats"],
            json!({
                "cpu_usage": {"total_usage": 30, "usage_in_kernelmode": 10, "usage_in_usermode": 20},
                "system_cpu_usage": 1_000,
                "online_cpus": 4,
                "throttling_data": {"periods": 1, "throttled_periods": 2, "throttled_time": 3},
            })
        );
        assert_eq!(
            shown["memory_stats"],
            json!({"usage": 5 << 20, "limit": 8_u64 << 30, "stats": {"inactive_file": 7}})
        );
        assert_eq!(shown["pids_stats"], json!({"current": 2}));
        assert_eq!(
            shown["blkio_stats"]["io_service_bytes_recursive"],
            json!([
                {"major": 8, "minor": 0, "op": "read", "value": 100},
                {"major": 8, "minor": 0, "op": "write", "value": 200},
            ])
        );
        assert_eq!(shown["networks"]["eth0"]["tx_dropped"], 8);
        assert_eq!(shown["networks"]["eth0"]["rx_packets"], 2);
    }

    #[test]
    fn the_smaller_limit_counts() {
        let mut one = record('a', "web", 1);
        let limit = |one: &Record, memory_limit| {
            let stats = Stats { memory_limit, ..Default::default() };
            sample(one, stats, HOST).memory_stats.unwrap().limit.unwrap()
        };
        assert_eq!(limit(&one, 64 << 20), 64 << 20);
        assert_eq!(limit(&one, u64::MAX), 8 << 30);
        one.runtime_type = RuntimeType::Hyperv;
        assert_eq!(limit(&one, u64::MAX), 512 << 20);
    }

    #[test]
    fn what_does_not_run_has_zeros() {
        let shown = serde_json::to_value(empty(&record('a', "web", 1))).unwrap();
        assert_eq!(shown["read"], "0001-01-01T00:00:00Z");
        assert_eq!(shown["cpu_stats"]["cpu_usage"]["total_usage"], 0);
        assert_eq!(shown["memory_stats"], json!({}));
        assert!(shown.get("networks").is_none());
    }
}
