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
    stats.block_io = block_io(cgroup).unwrap_or_default();
    stats
}

/// What was read from and written to each block device, as far as the kernel counts it.
fn block_io(cgroup: &Cgroup) -> Option<Vec<(u64, u64, u64, u64)>> {
    let (directory, v2) = cgroup.of("io").or_else(|| cgroup.of("blkio"))?;
    let file = if v2 { "io.stat" } else { "blkio.throttle.io_service_bytes_recursive" };
    Some(devices(&std::fs::read_to_string(directory.join(file)).ok()?))
}

/// Reads v2's `8:0 rbytes=1 wbytes=2 …` and v1's `8:0 Read 1`, `8:0 Write 2`.
fn devices(text: &str) -> Vec<(u64, u64, u64, u64)> {
    let mut found = std::collections::BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let number = fields.next().and_then(|field| field.split_once(':'));
        let Some((Ok(major), Ok(minor))) = number.map(|(a, b)| (a.parse(), b.parse())) else {
            continue;
        };
        let (read, written) = found.entry((major, minor)).or_insert((0, 0));
        let fields: Vec<&str> = fields.collect();
        match fields.as_slice() {
            ["Read", bytes] => *read = bytes.parse().unwrap_or(0),
            ["Write", bytes] => *written = bytes.parse().unwrap_or(0),
            fields => {
                let of = |key: &str| fields.iter().find_map(|field| field.strip_prefix(key));
                *read = of("rbytes=").and_then(|b| b.parse().ok()).unwrap_or(*read);
                *written = of("wbytes=").and_then(|b| b.parse().ok()).unwrap_or(*written);
            }
        }
    }
    found
        .into_iter()
        .map(|((major, minor), (read, written))| (major, minor, read, written))
        .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_count_by_device() {
        let v2 = "253:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n7:1 \n";
        assert_eq!(devices(v2), [(7, 1, 0, 0), (253, 0, 10, 20)]);
        let v1 = "8:16 Read 30\n8:16 Write 40\n8:16 Sync 1\n8:16 Total 70\nTotal 70\n";
        assert_eq!(devices(v1), [(8, 16, 30, 40)]);
        assert_eq!(devices("nonsense\n"), []);
    }
}
