//! How published ports are shown.

use serde_json::Value;

use crate::json::{number, text};

/// A run of ports that are published under their own numbers, or not at all.
struct Group {
    ip: String,
    protocol: String,
    first: i64,
    last: i64,
}

impl Group {
    fn shown(&self) -> String {
        let range = match self.first == self.last {
            true => self.first.to_string(),
            false => format!("{}-{}", self.first, self.last),
        };
        match self.ip.as_str() {
            "" => format!("{range}/{}", self.protocol),
            ip => format!("{}->{range}/{}", joined(ip, &range), self.protocol),
        }
    }
}

/// As `ps` shows a container's ports: `0.0.0.0:8080->80/tcp`, runs of ports as ranges.
pub fn displayed(ports: &[Value]) -> String {
    let mut ports: Vec<_> = ports
        .iter()
        .map(|port| {
            let (inside, outside) = (number(&port["PrivatePort"]), number(&port["PublicPort"]));
            (inside, text(&port["IP"]), outside, text(&port["Type"]))
        })
        .collect();
    ports.sort();
    let (mut shown, mut mapped) = (Vec::new(), Vec::new());
    let mut groups: Vec<Group> = Vec::new();
    for (inside, ip, outside, protocol) in ports {
        if !ip.is_empty() && outside != inside {
            let host = joined(ip, &outside.to_string());
            mapped.push(format!("{host}->{inside}/{protocol}"));
            continue;
        }
        let group = groups.iter_mut().find(|group| group.ip == ip && group.protocol == protocol);
        let (ip, protocol) = (ip.to_string(), protocol.to_string());
        let new = Group { ip, protocol, first: inside, last: inside };
        match group {
            None => groups.push(new),
            Some(group) if inside == group.last + 1 => group.last = inside,
            Some(group) => {
                shown.push(group.shown());
                *group = new;
            }
        }
    }
    shown.extend(groups.iter().map(Group::shown));
    shown.extend(mapped);
    shown.join(", ")
}

/// An address and a port; an IPv6 address in brackets.
pub fn joined(ip: &str, port: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn port(ip: &str, outside: u16, inside: u16) -> Value {
        json!({ "IP": ip, "PublicPort": outside, "PrivatePort": inside, "Type": "tcp" })
    }

    #[test]
    fn ports_as_docker_shows_them() {
        assert_eq!(displayed(&[]), "");
        assert_eq!(displayed(&[port("", 0, 80)]), "80/tcp");
        let both = [port("::", 8080, 80), port("0.0.0.0", 8080, 80)];
        assert_eq!(displayed(&both), "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp");
        let range = [port("", 0, 80), port("", 0, 81), port("", 0, 90), port("0.0.0.0", 70, 70)];
        assert_eq!(displayed(&range), "80-81/tcp, 0.0.0.0:70->70/tcp, 90/tcp");
    }
}
