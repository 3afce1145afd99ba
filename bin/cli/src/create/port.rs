//! `--publish` and `--expose`.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use caisson_api::wire::PortBinding;

use crate::failure::{Failure, Result};

/// Where each of a container's ports is published.
pub type Bindings = HashMap<String, Option<Vec<PortBinding>>>;

/// What `--publish` and `--expose` say together.
#[derive(Debug, Default, PartialEq)]
pub struct Ports {
    /// `80/tcp` and so on.
    pub exposed: Vec<String>,
    pub bindings: Bindings,
}

/// First and last.
type Range = (u16, u16);

impl Ports {
    pub fn parse(publish: &[String], expose: &[String]) -> Result<Self> {
        let mut ports = Ports::default();
        for text in publish {
            ports.publish(text)?;
        }
        for text in expose {
            if text.contains(':') {
                return Err(Failure::words(format!("invalid port format for --expose: {text}")));
            }
            let (range, protocol) = protocol(text)?;
            let (first, last) = range_of(range).ok_or_else(|| {
                Failure::words(format!("invalid range format for --expose: {text}"))
            })?;
            ports.exposed.extend((first..=last).map(|port| format!("{port}/{protocol}")));
        }
        ports.exposed.sort();
        ports.exposed.dedup();
        Ok(ports)
    }

    /// `[[IP:]HOST:]CONTAINER[/PROTOCOL]` with ports or ranges, or `target=80,published=8080`.
    fn publish(&mut self, text: &str) -> Result<()> {
        if text.contains('=') {
            return self.publish_fields(text);
        }
        let (rest, protocol) = protocol(text)?;
        let (rest, container) = rest.rsplit_once(':').unwrap_or(("", rest));
        let (ip, host) = match rest.rsplit_once(':') {
            Some((ip, host)) => (ip, host),
            None => ("", rest),
        };
        let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
        if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
            return Err(Failure::words(format!("invalid IP address: {ip}")));
        }
        if container.is_empty() {
            return Err(Failure::words(format!("no port specified: {text}<empty>")));
        }
        let wrong = |what, value| Failure::words(format!("invalid {what}: {value}"));
        let inside = range_of(container).ok_or_else(|| wrong("containerPort", container))?;
        let outside = match host {
            "" => None,
            host => Some(range_of(host).ok_or_else(|| wrong("hostPort", host))?),
        };
        self.bind(ip, outside, inside, protocol).ok_or_else(|| {
            Failure::words(format!(
                "invalid ranges specified for container and host Ports: {container} and {host}"
            ))
        })
    }

    fn publish_fields(&mut self, text: &str) -> Result<()> {
        let mut fields = BTreeMap::new();
        for field in text.split(',') {
            let (name, value) = field
                .split_once('=')
                .ok_or_else(|| Failure::words(format!("invalid field: {field}")))?;
            match name {
                "target" | "published" | "protocol" | "mode" => fields.insert(name, value),
                _ => return Err(Failure::words(format!("invalid field key: {name}"))),
            };
        }
        let number = |name: &str| match fields.get(name) {
            None => Ok(None),
            Some(value) => value.parse::<u16>().map(Some).map_err(|_| {
                Failure::words(format!("invalid {name} port ({value}): value must be an integer"))
            }),
        };
        let target = number("target")?
            .ok_or_else(|| Failure::words(format!("missing port target in {text}")))?;
        let published = number("published")?.filter(|port| *port != 0);
        let protocol = known_protocol(fields.get("protocol").copied().unwrap_or("tcp"))?;
        let outside = published.map(|port| (port, port));
        self.bind("", outside, (target, target), protocol)
            .ok_or_else(|| Failure::words(format!("invalid port: {text}")))
    }

    /// Nothing if the ranges do not fit.
    fn bind(&mut self, ip: &str, host: Option<Range>, inside: Range, protocol: &str) -> Option<()> {
        let count = inside.1 - inside.0;
        if let Some(host) = host
            && host.1 - host.0 != count
            && count != 0
        {
            return None;
        }
        for offset in 0..=count {
            let key = format!("{}/{protocol}", inside.0 + offset);
            let host_port = match host {
                None => String::new(),
                // One port of the container, any of a range of the host's.
                Some((first, last)) if count == 0 && first != last => format!("{first}-{last}"),
                Some((first, _)) => (first + offset).to_string(),
            };
            let binding = PortBinding { host_ip: Some(ip.into()), host_port: Some(host_port) };
            self.exposed.push(key.clone());
            self.bindings.entry(key).or_default().get_or_insert_default().push(binding);
        }
        Some(())
    }
}

fn protocol(text: &str) -> Result<(&str, &str)> {
    match text.split_once('/') {
        None => Ok((text, "tcp")),
        Some((rest, name)) => Ok((rest, known_protocol(name)?)),
    }
}

fn known_protocol(name: &str) -> Result<&'static str> {
    let known = ["tcp", "udp", "sctp"].into_iter().find(|known| known.eq_ignore_ascii_case(name));
    known.ok_or_else(|| Failure::words(format!("invalid proto: {name}")))
}

fn range_of(text: &str) -> Option<Range> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last != 0).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(text: &str) -> Vec<(String, String, String)> {
        let ports = Ports::parse(&[text.into()], &[]).unwrap();
        let mut all: Vec<_> = ports
            .bindings
            .into_iter()
            .flat_map(|(key, bindings)| {
                bindings.into_iter().flatten().map(move |binding| {
                    let (ip, port) = (binding.host_ip.unwrap(), binding.host_port.unwrap());
                    (key.clone(), ip, port)
                })
            })
            .collect();
        all.sort();
        all
    }

    fn one(text: &str) -> (String, String, String) {
        let all = published(text);
        assert_eq!(all.len(), 1, "{text}: {all:?}");
        all.into_iter().next().unwrap()
    }

    #[test]
    fn every_form_of_publish() {
        let cases = [
            ("80", "80/tcp", "", ""),
            ("8080:80", "80/tcp", "", "8080"),
            ("127.0.0.1:8080:80", "80/tcp", "127.0.0.1", "8080"),
            ("127.0.0.1::80", "80/tcp", "127.0.0.1", ""),
            ("[::1]:8080:80/UDP", "80/udp", "::1", "8080"),
            ("53:53/udp", "53/udp", "", "53"),
            ("8000-8010:80", "80/tcp", "", "8000-8010"),
            ("target=80,published=8080,protocol=udp", "80/udp", "", "8080"),
        ];
        for (text, key, ip, port) in cases {
            assert_eq!(one(text), (key.into(), ip.into(), port.into()), "{text}");
        }
        let range = published("9000-9001:80-81");
        let range: Vec<_> = range.iter().map(|(key, _, port)| (&key[..], &port[..])).collect();
        assert_eq!(range, [("80/tcp", "9000"), ("81/tcp", "9001")]);
    }

    #[test]
    fn wrong_ports_are_named() {
        let cases = [
            ("x", "invalid containerPort: x"),
            ("70000", "invalid containerPort: 70000"),
            ("x:80", "invalid hostPort: x"),
            ("1.2.3:80:80", "invalid IP address: 1.2.3"),
            ("80/foo", "invalid proto: foo"),
            ("81-80", "invalid containerPort: 81-80"),
            ("target=x", "invalid target port (x): value must be an integer"),
        ];
        for (text, words) in cases {
            let error = Ports::parse(&[text.into()], &[]).unwrap_err().sentence();
            assert_eq!(error, words);
        }
        assert!(Ports::parse(&["1-3:80-81".into()], &[]).is_err());
        assert!(Ports::parse(&[":".into()], &[]).is_err());
    }

    #[test]
    fn exposed_ports_are_listed_once() {
        let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        let ports = Ports::parse(&words(&["80:80"]), &words(&["80", "90-91/udp"])).unwrap();
        assert_eq!(ports.exposed, ["80/tcp", "90/udp", "91/udp"]);
        assert_eq!(ports.bindings.len(), 1);
        assert!(Ports::parse(&[], &words(&["1:2"])).is_err());
    }
}
