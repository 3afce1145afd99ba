//! What the kernel tells of this host.

use std::collections::HashMap;

/// The kernel's release.
pub(crate) fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The processor's name.
pub(crate) fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map(|(_, name)| name.trim().to_string()).unwrap_or_default()
}

/// The host's name.
pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Bytes of memory.
pub(crate) fn memory() -> u64 {
    memory_total(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

fn memory_total(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

/// Processors that are online, and the time that all of them have been up, nanoseconds.
pub(crate) fn cpu_time() -> (u32, u64) {
    cpu_times(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
}

/// Docker's sum: user, nice, system, idle, iowait, irq and softirq, in ticks of 10 ms.
fn cpu_times(text: &str) -> (u32, u64) {
    let online = text.lines().filter(|line| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    let total = text.lines().find_map(|line| line.strip_prefix("cpu "));
    let ticks: u64 = total
        .iter()
        .flat_map(|line| line.split_whitespace().take(7))
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    (online.count() as u32, ticks * 10_000_000)
}

/// The distribution's name, and its version.
pub(crate) fn distribution() -> (String, String) {
    let text = std::fs::read_to_string("/etc/os-release")
        .or_else(|_| std::fs::read_to_string("/usr/lib/os-release"));
    let fields = os_release(&text.unwrap_or_default());
    let get = |name: &str| fields.get(name).cloned();
    let name = get("PRETTY_NAME").or_else(|| get("NAME")).unwrap_or_else(|| "Linux".into());
    (name, get("VERSION_ID").unwrap_or_default())
}

fn os_release(text: &str) -> HashMap<String, String> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.trim().split_once('=')?;
            let value = value.trim();
            let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
            let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
            Some((name.to_string(), value.to_string()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let stat = "cpu  10 20 30 40 50 60 70 80 90 100\ncpu0 1 2\ncpu1 1 2\nintr 5\ncpufreq 1\n";
        assert_eq!(cpu_times(stat), (2, 280 * 10_000_000));
        assert_eq!(cpu_times(""), (0, 0));
        assert_eq!(memory_total("MemFree: 1 kB\nMemTotal:    2048 kB\n"), 2 << 20);
        assert!(memory() > 0 && cpu_time().1 > 0 && cpu_time().0 > 0);
    }

    #[test]
    fn quotes_are_taken_off() {
        let fields = os_release("NAME=Debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\nX='a b'\n# c\n");
        assert_eq!(fields["NAME"], "Debian");
        assert_eq!(fields["PRETTY_NAME"], "Debian GNU/Linux 12");
        assert_eq!(fields["X"], "a b");
    }
}
