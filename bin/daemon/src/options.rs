//! What the daemon is told: dockerd's flags where they exist, and a file with the same names.
//!
//! A setting is given in one place: one that is given by a flag and in the file is an error, as in dockerd.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use caisson_engine::{RuntimeType, Settings};
use clap::{Args, Parser};
use serde::Deserialize;

const DEFAULT_FILE: &str = "/etc/caisson/daemon.json";
const DEFAULT_HOST: &str = "unix:///run/caisson.sock";

/// Serves the Docker Engine API over containers that are processes of this host, or alone in microVMs.
#[derive(Debug, Parser)]
#[command(name = "caissond", version)]
pub struct Flags {
    /// The file with settings; it need not exist unless it is named [default: /etc/caisson/daemon.json].
    #[arg(long, value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// Serve TCP on loopback addresses: whoever can reach it is root here.
    #[arg(long)]
    insecure_loopback: bool,
    /// Log what is of use when looking for a fault.
    #[arg(short = 'D', long)]
    debug: bool,
    #[command(flatten)]
    given: Given,
}

/// What may be given by a flag or in the file.
#[derive(Debug, Default, Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Given {
    /// Where to listen: unix:///PATH, tcp://127.0.0.1:PORT or fd:// (repeatable)
    /// [default: unix:///run/caisson.sock].
    #[arg(short = 'H', long = "host", value_name = "ADDRESS")]
    #[serde(default)]
    hosts: Vec<String>,
    /// What must survive a reboot: images, containers, volumes [default: /var/lib/caisson].
    #[arg(long, value_name = "DIR")]
    data_root: Option<PathBuf>,
    /// What need not survive it [default: /run/caisson].
    #[arg(long, value_name = "DIR")]
    exec_root: Option<PathBuf>,
    /// The file for this process's id [default: /run/caissond.pid].
    #[arg(short, long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// debug, info, warn, error or fatal [default: info].
    #[arg(short, long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// The cgroup that containers are below when they do not say [default: /caisson].
    #[arg(long, value_name = "CGROUP")]
    cgroup_parent: Option<String>,
    /// The runtime type of containers that do not say: process or hyperv [default: process].
    #[arg(long, value_name = "TYPE")]
    default_runtime_type: Option<String>,
    /// Where the nano guest's kernel and initramfs are [default: `guest` beside the programs].
    #[arg(long, value_name = "DIR")]
    guest_dir: Option<PathBuf>,
    /// How many booted guests wait for a start, once a hyperv container has been started [default: 1].
    #[arg(long, value_name = "N")]
    standby: Option<usize>,
    /// The group that may use the sockets [default: caisson, if there is one].
    #[arg(short = 'G', long, value_name = "GROUP")]
    group: Option<String>,
}

/// What is settled.
#[derive(Debug)]
pub struct Options {
    pub hosts: Vec<String>,
    pub insecure_loopback: bool,
    pub pidfile: PathBuf,
    pub log_level: tracing::Level,
    pub group: Option<String>,
    pub settings: Settings,
}

/// Joins flags, the file and the defaults. `programs` is where the other programs are.
pub fn settle(flags: Flags, programs: PathBuf) -> Result<Options> {
    let file = match &flags.config_file {
        Some(path) => read(path, true)?,
        None => read(Path::new(DEFAULT_FILE), false)?,
    };
    let name = flags.config_file.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
    refuse_twice(&flags.given, &file, name)?;
    let flag = flags.given;
    let hosts = if flag.hosts.is_empty() { file.hosts } else { flag.hosts };
    let level = flag.log_level.or(file.log_level);
    let kind = flag.default_runtime_type.or(file.default_runtime_type);
    let default_type = kind.map_or(Ok(RuntimeType::Process), |kind| kind.parse())?;
    let settings = Settings {
        data_root: absolute(flag.data_root.or(file.data_root), "/var/lib/caisson")?,
        exec_root: absolute(flag.exec_root.or(file.exec_root), "/run/caisson")?,
        guest_dir: match flag.guest_dir.or(file.guest_dir) {
            Some(directory) => absolute(Some(directory), "")?,
            None => programs.join("guest"),
        },
        programs,
        default_type,
        cgroup_parent: flag
            .cgroup_parent
            .or(file.cgroup_parent)
            .unwrap_or_else(|| "/caisson".into()),
        standby: flag.standby.or(file.standby).unwrap_or(1),
    };
    Ok(Options {
        hosts: if hosts.is_empty() { vec![DEFAULT_HOST.into()] } else { hosts },
        insecure_loopback: flags.insecure_loopback,
        pidfile: absolute(flag.pidfile.or(file.pidfile), "/run/caissond.pid")?,
        log_level: log_level(level.as_deref(), flags.debug)?,
        group: flag.group.or(file.group),
        settings,
    })
}

fn read(path: &Path, needed: bool) -> Result<Given> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !needed => {
            return Ok(Given::default());
        }
        Err(error) => {
            return Err(error)
                .with_context(|| format!("read the configuration file {}", path.display()));
        }
    };
    serde_json::from_slice(&text)
        .with_context(|| format!("unable to configure the daemon with file {}", path.display()))
}

fn refuse_twice(flags: &Given, file: &Given, path: &Path) -> Result<()> {
    let twice = [
        ("hosts", !flags.hosts.is_empty() && !file.hosts.is_empty()),
        ("data-root", flags.data_root.is_some() && file.data_root.is_some()),
        ("exec-root", flags.exec_root.is_some() && file.exec_root.is_some()),
        ("pidfile", flags.pidfile.is_some() && file.pidfile.is_some()),
        ("log-level", flags.log_level.is_some() && file.log_level.is_some()),
        ("cgroup-parent", flags.cgroup_parent.is_some() && file.cgroup_parent.is_some()),
        (
            "default-runtime-type",
            flags.default_runtime_type.is_some() && file.default_runtime_type.is_some(),
        ),
        ("guest-dir", flags.guest_dir.is_some() && file.guest_dir.is_some()),
        ("standby", flags.standby.is_some() && file.standby.is_some()),
        ("group", flags.group.is_some() && file.group.is_some()),
    ];
    let twice: Vec<&str> =
        twice.iter().filter(|(_, twice)| *twice).map(|(name, _)| *name).collect();
    if !twice.is_empty() {
        bail!(
            "unable to configure the daemon with file {}: the following directives are specified both as a flag and in the configuration file: {}",
            path.display(),
            twice.join(", ")
        );
    }
    Ok(())
}

fn absolute(path: Option<PathBuf>, default: &str) -> Result<PathBuf> {
    let path = path.unwrap_or_else(|| default.into());
    std::path::absolute(&path).with_context(|| format!("find out where {:?} is", path))
}

fn log_level(level: Option<&str>, debug: bool) -> Result<tracing::Level> {
    match level {
        _ if debug => Ok(tracing::Level::DEBUG),
        None | Some("info") => Ok(tracing::Level::INFO),
        Some("trace") => Ok(tracing::Level::TRACE),
        Some("debug") => Ok(tracing::Level::DEBUG),
        Some("warn") => Ok(tracing::Level::WARN),
        Some("error" | "fatal") => Ok(tracing::Level::ERROR),
        Some(other) => {
            bail!("invalid log level {other:?}: it is debug, info, warn, error or fatal")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(arguments: &[&str], file: Option<&str>) -> Result<Options> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("daemon.json");
        std::fs::write(&path, file.unwrap_or("{}"))?;
        let path = path.to_str().unwrap();
        let arguments =
            ["caissond", "--config-file", path].into_iter().chain(arguments.iter().copied());
        settle(Flags::try_parse_from(arguments)?, "/programs".into())
    }

    #[test]
    fn flags_the_file_and_defaults_are_joined() {
        let options = settled(
            &[
                "-H",
                "unix:///a",
                "--host",
                "tcp://127.0.0.1:1",
                "--data-root",
                "/d",
                "--standby",
                "2",
            ],
            Some(r#"{"exec-root":"/e","log-level":"warn","default-runtime-type":"hyperv"}"#),
        )
        .unwrap();
        assert_eq!(options.hosts, ["unix:///a", "tcp://127.0.0.1:1"]);
        assert_eq!(options.log_level, tracing::Level::WARN);
        let settings = options.settings;
        assert_eq!((settings.data_root, settings.exec_root), ("/d".into(), "/e".into()));
        assert_eq!(settings.default_type, RuntimeType::Hyperv);
        assert_eq!((settings.standby, settings.guest_dir), (2, "/programs/guest".into()));
        assert_eq!(options.pidfile, Path::new("/run/caissond.pid"));
    }

    #[test]
    fn a_setting_given_twice_is_refused() {
        let error = settled(
            &["-H", "unix:///a", "--data-root", "/d"],
            Some(r#"{"hosts":["unix:///b"],"data-root":"/e"}"#),
        );
        let text = format!("{:#}", error.unwrap_err());
        assert!(
            text.contains("both as a flag and in the configuration file: hosts, data-root"),
            "{text}"
        );
    }

    #[test]
    fn unknown_settings_and_words_are_refused() {
        for (arguments, file, word) in [
            (vec![], Some(r#"{"data-rot":"/e"}"#), "data-rot"),
            (vec![], Some("{"), "daemon.json"),
            (vec!["-l", "loud"], None, "loud"),
            (vec!["--default-runtime-type", "vm"], None, "vm"),
        ] {
            let text = format!("{:#}", settled(&arguments, file).unwrap_err());
            assert!(text.contains(word), "{text}");
        }
    }
}
