//! The columns of `ps`, each from what is known of a process.

use std::collections::HashMap;

use caisson_protocol::task::ProcessInfo;
use chrono::{DateTime, Datelike, Local, TimeZone};

/// What the columns show of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Pid,
    Parent,
    User,
    Uid,
    Group,
    Gid,
    Name,
    Command,
    /// CPU use of its whole life in percent, in whole ones, or with one digit.
    WholeCpu,
    Cpu,
    Memory,
    Resident,
    Virtual,
    Terminal,
    Status,
    State,
    Nice,
    /// `[DD-]HH:MM:SS`, and `M:SS`.
    Time,
    BsdTime,
    Elapsed,
    ElapsedSeconds,
    StartTime,
    BsdStart,
    LongStart,
}

/// A column that `ps` knows.
pub struct Known {
    /// The names that it can be asked for with.
    pub names: &'static [&'static str],
    title: &'static str,
    shown: Shown,
}

const fn known(names: &'static [&'static str], title: &'static str, shown: Shown) -> Known {
    Known { names, title, shown }
}

pub const COLUMNS: &[Known] = &[
    known(&["pid", "tgid"], "PID", Shown::Pid),
    known(&["ppid"], "PPID", Shown::Parent),
    known(&["user", "uname"], "USER", Shown::User),
    known(&["euser"], "EUSER", Shown::User),
    known(&["ruser"], "RUSER", Shown::User),
    known(&["uid"], "UID", Shown::Uid),
    known(&["euid"], "EUID", Shown::Uid),
    known(&["ruid"], "RUID", Shown::Uid),
    known(&["group"], "GROUP", Shown::Group),
    known(&["egroup"], "EGROUP", Shown::Group),
    known(&["rgroup"], "RGROUP", Shown::Group),
    known(&["gid"], "GID", Shown::Gid),
    known(&["egid"], "EGID", Shown::Gid),
    known(&["rgid"], "RGID", Shown::Gid),
    known(&["comm", "ucomm"], "COMMAND", Shown::Name),
    known(&["ucmd"], "CMD", Shown::Name),
    known(&["args", "command"], "COMMAND", Shown::Command),
    known(&["cmd"], "CMD", Shown::Command),
    known(&["c"], "C", Shown::WholeCpu),
    known(&["pcpu", "%cpu"], "%CPU", Shown::Cpu),
    known(&["pmem", "%mem"], "%MEM", Shown::Memory),
    known(&["rss", "rsz", "rssize"], "RSS", Shown::Resident),
    known(&["vsz", "vsize"], "VSZ", Shown::Virtual),
    known(&["tty", "tt"], "TT", Shown::Terminal),
    known(&["tname"], "TTY", Shown::Terminal),
    known(&["stat"], "STAT", Shown::Status),
    known(&["s", "state"], "S", Shown::State),
    known(&["ni", "nice"], "NI", Shown::Nice),
    known(&["time", "cputime"], "TIME", Shown::Time),
    known(&["bsdtime"], "TIME", Shown::BsdTime),
    known(&["etime"], "ELAPSED", Shown::Elapsed),
    known(&["etimes"], "ELAPSED", Shown::ElapsedSeconds),
    known(&["stime"], "STIME", Shown::StartTime),
    known(&["start_time"], "START", Shown::StartTime),
    known(&["bsdstart"], "START", Shown::BsdStart),
    known(&["lstart"], "STARTED", Shown::LongStart),
];

/// One of the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column(usize);

/// What the columns need besides the process.
pub struct Host {
    /// Seconds since 1970-01-01 UTC.
    now: i64,
    /// Bytes of memory.
    memory: u64,
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Host {
    pub fn read() -> Self {
        let names = |path| accounts(&std::fs::read_to_string(path).unwrap_or_default());
        Host {
            now: crate::now() / 1_000_000_000,
            memory: crate::system::facts::memory(),
            users: names("/etc/passwd"),
            groups: names("/etc/group"),
        }
    }
}

/// Names by number, of a file such as /etc/passwd; of several, the first.
fn accounts(text: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(id))) = (fields.next(), fields.nth(1).map(str::parse)) {
            names.entry(id).or_insert_with(|| name.to_string());
        }
    }
    names
}

impl Column {
    /// The column of a name.
    pub fn named(name: &str) -> Option<Self> {
        COLUMNS.iter().position(|known| known.names.contains(&name)).map(Column)
    }

    /// Its usual title.
    pub fn title(self) -> &'static str {
        COLUMNS[self.0].title
    }

    /// What it shows of a process.
    pub fn of(self, process: &ProcessInfo, host: &Host) -> String {
        let seconds = process.cpu_ms / 1000;
        let age = host.now.saturating_sub(process.started).max(0) as u64;
        // In thousandths of one processor.
        let use_of_cpu = process.cpu_ms / age.max(1);
        match COLUMNS[self.0].shown {
            Shown::Pid => process.pid.to_string(),
            Shown::Parent => process.parent.to_string(),
            Shown::User if !process.user.is_empty() => name(&process.user),
            Shown::User => account(&host.users, process.uid),
            Shown::Uid => process.uid.to_string(),
            Shown::Group => account(&host.groups, process.gid),
            Shown::Gid => process.gid.to_string(),
            Shown::Name => process.name.clone(),
            Shown::Command => process.command.clone(),
            Shown::WholeCpu => (use_of_cpu / 10).min(99).to_string(),
            Shown::Cpu => format!("{}.{}", use_of_cpu / 10, use_of_cpu % 10),
            Shown::Memory => {
                let share = process.memory.1.saturating_mul(1024 * 1000) / host.memory.max(1);
                format!("{}.{}", share / 10, share % 10)
            }
            Shown::Resident => process.memory.1.to_string(),
            Shown::Virtual => process.memory.0.to_string(),
            Shown::Terminal => process.terminal.clone(),
            Shown::Status => match process.nice {
                ..0 => format!("{}<", process.state),
                0 => process.state.clone(),
                _ => format!("{}N", process.state),
            },
            Shown::State => process.state.clone(),
            Shown::Nice => process.nice.to_string(),
            Shown::Time => clock(seconds, true),
            Shown::BsdTime => format!("{}:{:02}", seconds / 60, seconds % 60),
            Shown::Elapsed => clock(age, false),
            Shown::ElapsedSeconds => age.to_string(),
            Shown::StartTime => start(process.started, host.now, |then, now| {
                match (then.year() == now.year(), then.ordinal() == now.ordinal()) {
                    (false, _) => "%Y",
                    (_, false) => "%b%d",
                    _ => "%H:%M",
                }
            }),
            Shown::BsdStart => start(process.started, host.now, |then, now| {
                if (*now - then).num_hours() < 24 { "%H:%M" } else { "%b%d" }
            }),
            Shown::LongStart => start(process.started, host.now, |_, _| "%a %b %e %H:%M:%S %Y"),
        }
    }
}

fn account(names: &HashMap<u32, String>, id: u32) -> String {
    names.get(&id).map_or_else(|| id.to_string(), |known| name(known))
}

/// At most eight characters, as `ps` cuts names.
fn name(full: &str) -> String {
    if full.chars().count() <= 8 {
        return full.into();
    }
    full.chars().take(7).chain(['+']).collect()
}

/// `[DD-]HH:MM:SS`; hours that are zero may be left out.
fn clock(seconds: u64, hours_too: bool) -> String {
    let (days, hours) = (seconds / 86400, seconds / 3600 % 24);
    let rest = format!("{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) if !hours_too => rest,
        (0, _) => format!("{hours:02}:{rest}"),
        _ => format!("{days}-{hours:02}:{rest}"),
    }
}

/// A start in local time, in the format that is chosen by it and now.
fn start(
    started: i64,
    now: i64,
    format: impl Fn(&DateTime<Local>, &DateTime<Local>) -> &'static str,
) -> String {
    let local = |seconds| Local.timestamp_opt(seconds, 0).single();
    match (local(started), local(now)) {
        (Some(then), Some(now)) => then.format(format(&then, &now)).to_string(),
        _ => "?".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            now: 1_700_000_000,
            memory: 1 << 30,
            users: accounts(
                "root:x:0:0:root:/root:/bin/sh\nother:x:0:0::/:\nsystemd-network:x:998:1::/:\n",
            ),
            groups: accounts("root:x:0:\nadm:x:4:a,b\n"),
        }
    }

    fn process() -> ProcessInfo {
        ProcessInfo {
            pid: 42,
            parent: 7,
            uid: 998,
            gid: 4,
            state: "S".into(),
            terminal: "?".into(),
            started: 1_700_000_000 - 100,
            cpu_ms: 61_500,
            memory: (4096, 10 << 10),
            nice: 5,
            name: "sleep".into(),
            command: "sleep 300".into(),
            ..Default::default()
        }
    }

    #[test]
    fn every_column_shows_what_ps_would() {
        let cases = [
            ("pid", "42"),
            ("ppid", "7"),
            ("user", "systemd+"),
            ("uid", "998"),
            ("group", "adm"),
            ("comm", "sleep"),
            ("args", "sleep 300"),
            ("c", "61"),
            ("pcpu", "61.5"),
            ("pmem", "0.9"),
            ("rss", "10240"),
            ("vsz", "4096"),
            ("stat", "SN"),
            ("time", "00:01:01"),
            ("bsdtime", "1:01"),
            ("etime", "01:40"),
            ("etimes", "100"),
        ];
        for (name, expected) in cases {
            assert_eq!(Column::named(name).unwrap().of(&process(), &host()), expected, "{name}");
        }
        assert!(Column::named("nothing").is_none());
    }

    #[test]
    fn names_and_times_have_their_forms() {
        assert_eq!(host().users[&0], "root");
        assert_eq!(account(&host().users, 12345), "12345");
        assert_eq!(clock(90_061, true), "1-01:01:01");
        assert_eq!(clock(3_661, false), "01:01:01");
        let shown = |name: &str, started| {
            let process = ProcessInfo { started, ..process() };
            Column::named(name).unwrap().of(&process, &host())
        };
        assert_eq!(shown("stime", 1_600_000_000), "2020");
        assert_eq!(shown("bsdstart", 1_700_000_000 - 5 * 86400).len(), 5);
        assert!(shown("bsdstart", 1_700_000_000 - 60).contains(':'));
        assert!(shown("stime", i64::MAX).contains('?'));
    }

    #[test]
    fn a_guests_numbers_do_no_harm() {
        let wild = ProcessInfo {
            started: i64::MIN,
            cpu_ms: u64::MAX,
            memory: (u64::MAX, u64::MAX),
            ..process()
        };
        for column in (0..COLUMNS.len()).map(Column) {
            column.of(&wild, &host());
        }
    }
}
