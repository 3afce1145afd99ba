//! The processes of a container, from /proc.

use std::fs;

use caisson_protocol::task::ProcessInfo;

/// Reads every process of `pids` that still exists.
pub fn list(pids: &[i32]) -> Vec<ProcessInfo> {
    let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    pids.iter().filter_map(|pid| read(*pid, boot.unwrap_or(0))).collect()
}

fn read(pid: i32, boot: i64) -> Option<ProcessInfo> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    parse(pid, &stat, &status, &command, boot)
}

fn parse(pid: i32, stat: &str, status: &str, command: &[u8], boot: i64) -> Option<ProcessInfo> {
    // The name may contain spaces and parentheses: fields start after the last one.
    let (left, right) = stat.rsplit_once(')')?;
    let name = left.split_once('(')?.1.to_string();
    let fields: Vec<&str> = right.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|f| f.parse::<i64>().ok());
    let id = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u32>().ok()
    };
    let words: Vec<_> = command
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let command = if words.is_empty() { format!("[{name}]") } else { words.join(" ") };
    let terminal = match field(7)? {
        0 => "?".to_string(),
        device => {
            let (major, minor) =
                ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
            if (136..144).contains(&major) {
                format!("pts/{}", minor + (major - 136) * 256)
            } else {
                format!("{major}:{minor}")
            }
        }
    };
    Some(ProcessInfo {
        pid,
        parent: field(4)? as i32,
        uid: id("Uid:")?,
        gid: id("Gid:")?,
        user: String::new(),
        state: fields.first()?.to_string(),
        terminal,
        started: boot + field(22)? / 100,
        cpu_ms: ((field(14)? + field(15)?) * 10) as u64,
        memory: ((field(23)? / 1024) as u64, (field(24)? * 4) as u64),
        nice: field(19)? as i32,
        name,
        command,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat = "7 (a) b) S 1 7 7 34817 7 0 0 0 0 0 12 3 0 0 20 0 1 0 500 4096000 250 0";
        let status = "Name:\ta) b\nUid:\t33\t33\t33\t33\nGid:\t34\t34\t34\t34\n";
        let info = parse(7, stat, status, b"sh\0-c\0x\0", 1000).unwrap();
        assert_eq!((info.name.as_str(), info.parent, info.uid), ("a) b", 1, 33));
        assert_eq!((info.started, info.cpu_ms, info.memory), (1005, 150, (4000, 1000)));
        assert_eq!((info.command.as_str(), info.terminal.as_str()), ("sh -c x", "pts/1"));
    }
}
