//! What a sample of `stats` says in words.

use caisson_api::words::{binary_size, decimal_size};
use serde_json::{Value, json};

use crate::json::{list, size, text};

/// The row of a sample, but for the container's id.
pub fn row(sample: &Value) -> Value {
    let used = memory_used(&sample["memory_stats"]);
    let limit = size(&sample["memory_stats"]["limit"]);
    let memory = if limit == 0 { 0.0 } else { used as f64 / limit as f64 * 100.0 };
    let (received, sent) = network(sample);
    let (read, written) = block(sample);
    json!({
        "Name": text(&sample["name"]).trim_start_matches('/'),
        "CPUPerc": format!("{:.2}%", cpu(sample)),
        "MemUsage": format!("{} / {}", binary_size(used), binary_size(limit)),
        "MemPerc": format!("{memory:.2}%"),
        "NetIO": format!("{} / {}", decimal_size(received), decimal_size(sent)),
        "BlockIO": format!("{} / {}", decimal_size(read), decimal_size(written)),
        "PIDs": size(&sample["pids_stats"]["current"]).to_string(),
    })
}

/// Percent of one CPU since the sample before.
fn cpu(sample: &Value) -> f64 {
    let (now, before) = (&sample["cpu_stats"], &sample["precpu_stats"]);
    let used = |stats: &Value| size(&stats["cpu_usage"]["total_usage"]) as f64;
    let system = |stats: &Value| size(&stats["system_cpu_usage"]) as f64;
    let (own, all) = (used(now) - used(before), system(now) - system(before));
    let cpus = match size(&now["online_cpus"]) {
        0 => list(&now["cpu_usage"]["percpu_usage"]).len() as u64,
        count => count,
    };
    if own > 0.0 && all > 0.0 { own / all * cpus as f64 * 100.0 } else { 0.0 }
}

/// Without what the kernel can take back at once.
fn memory_used(memory: &Value) -> u64 {
    let usage = size(&memory["usage"]);
    let cached = ["total_inactive_file", "inactive_file"]
        .iter()
        .find_map(|key| memory["stats"][*key].as_u64());
    cached.filter(|cached| *cached < usage).map_or(usage, |cached| usage - cached)
}

fn network(sample: &Value) -> (u64, u64) {
    let networks = sample["networks"].as_object().into_iter().flatten();
    networks.fold((0, 0), |(received, sent), (_, network)| {
        (received + size(&network["rx_bytes"]), sent + size(&network["tx_bytes"]))
    })
}

fn block(sample: &Value) -> (u64, u64) {
    let entries = list(&sample["blkio_stats"]["io_service_bytes_recursive"]);
    entries.iter().fold((0, 0), |(read, written), entry| match text(&entry["op"]).chars().next() {
        Some('r' | 'R') => (read + size(&entry["value"]), written),
        Some('w' | 'W') => (read, written + size(&entry["value"])),
        _ => (read, written),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_in_words() {
        let sample = json!({
            "name": "/web",
            "cpu_stats": {
                "cpu_usage": { "total_usage": 300 }, "system_cpu_usage": 2000, "online_cpus": 2,
            },
            "precpu_stats": { "cpu_usage": { "total_usage": 100 }, "system_cpu_usage": 1000 },
            "memory_stats": {
                "usage": 3_145_728, "limit": 104_857_600, "stats": { "inactive_file": 1_048_576 },
            },
            "networks": { "eth0": { "rx_bytes": 1000, "tx_bytes": 5 } },
            "blkio_stats": { "io_service_bytes_recursive": [
                { "op": "read", "value": 10 }, { "op": "Write", "value": 20 },
            ] },
            "pids_stats": { "current": 3 },
        });
        let row = row(&sample);
        assert_eq!(row["CPUPerc"], "40.00%");
        assert_eq!(row["MemUsage"], "2MiB / 100MiB");
        assert_eq!(row["MemPerc"], "2.00%");
        assert_eq!((&row["NetIO"], &row["BlockIO"]), (&json!("1kB / 5B"), &json!("10B / 20B")));
        assert_eq!((&row["Name"], &row["PIDs"]), (&json!("web"), &json!("3")));
        assert_eq!(super::row(&json!({}))["CPUPerc"], "0.00%");
    }
}
