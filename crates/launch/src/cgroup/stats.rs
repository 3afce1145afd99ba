//! Counters of a cgroup in the units of the stats API.

use caisson_protocol::task::Stats;

use super::{Cgroup, flat, number};

/// Nanoseconds in one clock tick of /proc and cpuacct.stat.
const TICK: u64 = 10_000_000;

pub fn read(cgroup: &Cgroup) -> Stats {
    let mut stats = Stats { memory_limit: u64::MAX, ..Stats::default() };
    cpu(cgroup, &mut stats);
    memory(cgroup, &mut stats);
    stats.pids = cgroup.pids().len() as u64;
    if let Some((directory, _)) = cgroup.of("pids") {
        stats.pids = number(&directory.join("pids.current")).unwrap_or(stats.pids);
        stats.pids_limit = number(&directory.join("pids.max")).unwrap_or(0);
    }
    stats.oom_kills = cgroup.oom_kills();
    stats
}

fn cpu(cgroup: &Cgroup, stats: &mut Stats) {
    if let Some((directory, false)) = cgroup.of("cpuacct") {
        stats.cpu_total = number(&directory.join("cpuacct.usage")).unwrap_or(0);
        let split = flat(&directory.join("cpuacct.stat"));
        stats.cpu_user = split.get("user").copied().unwrap_or(0) * TICK;
        stats.cpu_system = split.get("system").copied().unwrap_or(0) * TICK;
    }
    let Some((directory, v2)) = cgroup.of("cpu") else { return };
    let counters = flat(&directory.join("cpu.stat"));
    let get = |name: &str| counters.get(name).copied().unwrap_or(0);
    if v2 {
        stats.cpu_total = get("usage_usec") * 1000;
        stats.cpu_user = get("user_usec") * 1000;
        stats.cpu_system = get("system_usec") * 1000;
        stats.throttling = (get("nr_periods"), get("nr_throttled"), get("throttled_usec") * 1000);
    } else {
        stats.throttling = (get("nr_periods"), get("nr_throttled"), get("throttled_time"));
    }
}

fn memory(cgroup: &Cgroup, stats: &mut Stats) {
    let Some((directory, v2)) = cgroup.of("memory") else { return };
    let files = if v2 {
        ["memory.current", "memory.peak", "memory.max"]
    } else {
        ["memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.limit_in_bytes"]
    };
    stats.memory_usage = number(&directory.join(files[0])).unwrap_or(0);
    stats.memory_max_usage = number(&directory.join(files[1])).unwrap_or(0);
    // v1 says "no limit" as the largest page-aligned number.
    let limit = number(&directory.join(files[2])).filter(|limit| *limit < i64::MAX as u64 - 4096);
    stats.memory_limit = limit.unwrap_or(u64::MAX);
    stats.memory_stat = flat(&directory.join("memory.stat"));
}
