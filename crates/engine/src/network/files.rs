//! `hosts`, `hostname` and `resolv.conf` of a container, which are mounted into it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::endpoints::Mode;
use crate::error::Doing;
use crate::{Container, Engine, Error, Record, Result, wire};

const HOSTS: &str = "127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";
const HOST_RESOLV_CONF: &str = "/etc/resolv.conf";
/// What systemd-resolved asks, when the host's own file only leads to it.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
/// Bytes of a `hosts` file that is still read.
const LARGEST: u64 = 1 << 20;
/// What an extra host says for the host's own address.
const HOST_GATEWAY: &str = "host-gateway";

impl Engine {
    /// Writes `hosts`, `hostname` and `resolv.conf` of a container.
    pub(crate) fn network_files(&self, container: &Container, record: &Record) -> Result<()> {
        let host_config = &record.host_config;
        let mode = Mode::of(host_config);
        if let Mode::Container(other) = mode {
            let other = self.0.containers.get(other)?;
            for name in ["hosts", "hostname", "resolv.conf"] {
                let text = read_bounded(&other.places.file(name))?;
                put(&container.places.file(name), text.as_bytes())?;
            }
            return Ok(());
        }
        let gateway = {
            let state = self.0.networks.state();
            let network = state.find("bridge").ok();
            network.and_then(|network| network.recorded.bridge.as_ref()).map(|b| b.gateway)
        };
        let mut hosts = match mode {
            Mode::Host => std::fs::read_to_string("/etc/hosts").unwrap_or_else(|_| HOSTS.into()),
            _ => HOSTS.into(),
        };
        for (name, address) in extra_hosts(host_config, gateway)? {
            let _ = writeln!(hosts, "{address}\t{name}");
        }
        let names = own_names(record);
        for address in record.networks.iter().filter_map(|endpoint| endpoint.address) {
            let _ = writeln!(hosts, "{address}\t{names}");
        }
        put(&container.places.file("hosts"), hosts.as_bytes())?;
        put(&container.places.file("hostname"), format!("{}\n", hostname(record)).as_bytes())?;
        self.write_resolv_conf(container, record)
    }

    /// Writes `resolv.conf` alone: it follows from the networks that a container is in.
    pub(super) fn write_resolv_conf(&self, container: &Container, record: &Record) -> Result<()> {
        let in_host = Mode::of(&record.host_config) == Mode::Host;
        let mut host_config = record.host_config.clone();
        if let Some(resolver) = self.resolver_of(&record.networks) {
            // It asks the container's own in its turn.
            host_config.dns = Some(vec![resolver.to_string()]);
            let options = host_config.dns_options.get_or_insert_default();
            if !options.iter().any(|option| option.starts_with("ndots:")) {
                options.push("ndots:0".into());
            }
        }
        let text = resolv_conf(&host_config, &host_resolv_conf(), in_host);
        put(&container.places.file("resolv.conf"), text.as_bytes())
    }
}

/// Refuses what [`Engine::network_files`] could not write.
pub(super) fn check(host: &wire::HostConfig) -> Result<()> {
    extra_hosts(host, None)?;
    let given = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    for server in given(&host.dns) {
        if server.parse::<IpAddr>().is_err() {
            return Err(Error::invalid(format!("bad dns server: {server} is not an IP address")));
        }
    }
    for word in [given(&host.dns_search), given(&host.dns_options)].concat() {
        if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(Error::invalid(format!(
                "bad dns search domain or option {word:?}: it has spaces or is empty"
            )));
        }
    }
    Ok(())
}

/// Names and addresses of `HostConfig.ExtraHosts`; without a gateway `host-gateway` is left out.
fn extra_hosts(
    host: &wire::HostConfig,
    gateway: Option<Ipv4Addr>,
) -> Result<Vec<(String, IpAddr)>> {
    let mut hosts = Vec::new();
    for entry in host.extra_hosts.iter().flatten() {
        let refuse = || Error::invalid(format!("bad format for add-host: {entry:?}"));
        let (name, address) = entry.split_once(':').ok_or_else(refuse)?;
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(refuse());
        }
        if address == HOST_GATEWAY {
            hosts.extend(gateway.map(|gateway| (name.to_string(), gateway.into())));
            continue;
        }
        let bare = address.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let address = bare
            .unwrap_or(address)
            .parse()
            .map_err(|_| Error::invalid(format!("invalid IP address in add-host: {address:?}")))?;
        hosts.push((name.to_string(), address));
    }
    Ok(hosts)
}

fn hostname(record: &Record) -> String {
    let given = record.config.hostname.as_deref().unwrap_or_default();
    match (given, Mode::of(&record.host_config)) {
        ("", Mode::Host) => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        ("", _) => record.short().into(),
        (given, _) => given.into(),
    }
}

/// The name with its domain first, as it is written beside the container's address.
pub(super) fn own_names(record: &Record) -> String {
    let name = hostname(record);
    match record.config.domainname.as_deref().unwrap_or_default() {
        "" => match name.split_once('.') {
            Some((short, _)) => format!("{name} {short}"),
            None => name,
        },
        domain => format!("{name}.{domain} {name}"),
    }
}

/// What says which name servers the host asks.
pub(super) fn host_resolv_conf() -> String {
    let text = std::fs::read_to_string(HOST_RESOLV_CONF).unwrap_or_default();
    let servers: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("nameserver")).collect();
    if servers.len() == 1 && servers[0].trim() == "127.0.0.53" {
        return std::fs::read_to_string(RESOLVED).unwrap_or(text);
    }
    text
}

/// The host's, with what the container has of its own in its place.
fn resolv_conf(host: &wire::HostConfig, host_text: &str, in_host: bool) -> String {
    let base = if in_host { host_text.to_string() } else { caisson_net::resolv_conf(host_text) };
    let list = |list: &Option<Vec<String>>| list.clone().filter(|list| !list.is_empty());
    let own = [
        ("nameserver", list(&host.dns)),
        ("search", list(&host.dns_search)),
        ("options", list(&host.dns_options)),
    ];
    let replaced = |line: &&str| {
        let word = line.split_ascii_whitespace().next().unwrap_or_default();
        let word = if word == "domain" { "search" } else { word };
        own.iter().any(|(name, list)| *name == word && list.is_some())
    };
    let mut text = String::new();
    for line in base.lines().filter(|line| !replaced(line)) {
        let _ = writeln!(text, "{line}");
    }
    for (name, list) in &own {
        let list = list.clone().unwrap_or_default();
        match *name {
            "nameserver" => {
                for server in list {
                    let _ = writeln!(text, "nameserver {server}");
                }
            }
            // The one domain `.` is none.
            _ if list.is_empty() || list == ["."] => {}
            _ => {
                let _ = writeln!(text, "{name} {}", list.join(" "));
            }
        }
    }
    text
}

/// A file that a container may have changed: not more of it than such files ever are.
pub(super) fn read_bounded(path: &Path) -> Result<String> {
    use std::io::Read;
    let what = || format!("read {}", path.display());
    let mut text = Vec::new();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path);
    file.doing(what)?.take(LARGEST + 1).read_to_end(&mut text).doing(what)?;
    if text.len() as u64 > LARGEST {
        return Err(Error::internal(format!("{} has more than {LARGEST} bytes", path.display())));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Writes a file in place: whoever has it mounted sees the new text.
pub(super) fn put(path: &Path, text: &[u8]) -> Result<()> {
    let what = || format!("write {}", path.display());
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .doing(what)?;
    file.write_all(text).doing(what)?;
    // Whatever the daemon's umask is.
    file.set_permissions(std::fs::Permissions::from_mode(0o644)).doing(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::tests::record;

    fn words(list: &[&str]) -> Option<Vec<String>> {
        Some(list.iter().map(|word| word.to_string()).collect())
    }

    #[test]
    fn extra_hosts_are_read_as_dockers() {
        let host = wire::HostConfig {
            extra_hosts: words(&["db:10.0.0.9", "six:::1", "seven:[fd00::7]", "out:host-gateway"]),
            ..Default::default()
        };
        let hosts = extra_hosts(&host, Some([172, 17, 0, 1].into())).unwrap();
        let shown: Vec<_> = hosts.iter().map(|(name, to)| format!("{name} {to}")).collect();
        assert_eq!(shown, ["db 10.0.0.9", "six ::1", "seven fd00::7", "out 172.17.0.1"]);
        for (wrong, text) in [
            ("db", "bad format for add-host: \"db\""),
            (":10.0.0.1", "bad format for add-host: \":10.0.0.1\""),
            ("a\nb:10.0.0.1", "bad format for add-host: \"a\\nb:10.0.0.1\""),
            ("db:10.0.0.x", "invalid IP address in add-host: \"10.0.0.x\""),
        ] {
            let host = wire::HostConfig { extra_hosts: words(&[wrong]), ..Default::default() };
            assert_eq!(check(&host).unwrap_err().message, text);
        }
    }

    #[test]
    fn name_servers_of_its_own_take_the_place_of_the_hosts() {
        let text = "nameserver 10.0.0.2\nsearch lan\noptions edns0\n";
        let host = wire::HostConfig {
            dns: words(&["1.1.1.1", "9.9.9.9"]),
            dns_search: words(&["."]),
            ..Default::default()
        };
        assert_eq!(
            resolv_conf(&host, text, false),
            "options edns0\nnameserver 1.1.1.1\nnameserver 9.9.9.9\n"
        );
        assert_eq!(resolv_conf(&Default::default(), text, false), text);
        let local = "nameserver 127.0.0.1\n";
        assert_eq!(resolv_conf(&Default::default(), local, true), local);
        let host = wire::HostConfig { dns: words(&["x\nsearch y"]), ..Default::default() };
        assert!(check(&host).is_err());
        let host = wire::HostConfig { dns_search: words(&["a b"]), ..Default::default() };
        assert!(check(&host).is_err());
    }

    #[test]
    fn a_container_is_called_by_its_short_id_or_as_it_was_told() {
        let mut one = record('a', "web", 100);
        assert_eq!(own_names(&one), "aaaaaaaaaaaa");
        one.config.hostname = Some("db".into());
        assert_eq!(own_names(&one), "db");
        one.config.domainname = Some("example.test".into());
        assert_eq!(own_names(&one), "db.example.test db");
        one.config.domainname = None;
        one.config.hostname = Some("db.example.test".into());
        assert_eq!(own_names(&one), "db.example.test db");
    }

    #[test]
    fn a_file_is_written_in_place_and_not_through_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        put(&path, b"a longer text").unwrap();
        let inode = std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap());
        put(&path, b"short").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
        assert_eq!(std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap()), inode);
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(put(&link, b"x").is_err());
    }
}
