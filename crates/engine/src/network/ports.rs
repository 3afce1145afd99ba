//! Published ports: what a container asks for, the sockets that keep them on this host, and the
//! firewall's part.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use caisson_net::{Port, Protocol, bound_port, reserve};
use caisson_protocol::supervisor::Published;

use super::Ports;
use super::endpoints::Mode;
use super::up::gateway_of;
use crate::error::{Doing, chain};
use crate::record::{BoundPort, EndpointRecord};
use crate::{Engine, Error, Kind, Record, Result, blocking, wire};

/// A port that is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    /// Such as `80/tcp`.
    name: String,
    protocol: Protocol,
    container: u16,
    /// As given; empty is every address.
    host_ip: String,
    address: Option<IpAddr>,
    /// The first and the last of those that may be taken; 0: any free one.
    host: (u16, u16),
    /// The one that is taken if it is free: a change of type keeps what was chosen before.
    kept: Option<u16>,
}

impl Engine {
    /// Reserves the published ports of a container and leads them to it.
    pub(crate) async fn ports_publish(&self, record: &Record) -> Result<Ports> {
        let mut wanted = wanted(&record.host_config, record.config.exposed_ports.as_ref())?;
        keep(&mut wanted, &record.state.kept_ports);
        let Some((endpoint, target)) = self.target(record) else { return Ok(Ports::default()) };
        if wanted.is_empty() {
            return Ok(Ports::default());
        }
        let refuse = |error: Error| {
            error.doing(format!(
                "driver failed programming external connectivity on endpoint {} ({})",
                record.name, endpoint.endpoint_id
            ))
        };
        // Dropped sockets give their ports back.
        let reserved = blocking(move || reserve_all(&wanted, target)).await.map_err(refuse)?;
        let ports: Vec<Port> = reserved.iter().map(|(_, port, _)| *port).collect();
        let published = self.0.networks.opened()?.firewall.publish(&ports).await;
        published.map_err(|error| refuse(error.into()))?;
        self.0.networks.published().insert(record.id.clone(), ports);
        let mut result = Ports::default();
        for (bound, port, socket) in reserved {
            let (address, number) = port.container;
            let target = SocketAddr::new(address.into(), number);
            let published = Published { protocol: port.protocol.to_string(), target };
            result.bound.push(bound);
            result.sockets.push((published, socket));
        }
        Ok(result)
    }

    /// Takes a running container over from an earlier daemon: its networks are used, and the ports that
    /// were bound lead to it.
    pub(crate) async fn ports_restore(&self, record: &Record) -> Result<()> {
        {
            let mut state = self.0.networks.state();
            for endpoint in &record.networks {
                if let Some(network) = state.get_mut(&endpoint.network) {
                    network.active.insert(record.id.clone());
                }
            }
        }
        let Some((_, target)) = self.target(record) else { return Ok(()) };
        let bound = record.state.ports.iter();
        let ports: Vec<_> = bound.filter_map(|bound| port_of(bound, target)).collect();
        if ports.is_empty() {
            return Ok(());
        }
        self.0.networks.opened()?.firewall.publish(&ports).await?;
        self.0.networks.published().insert(record.id.clone(), ports);
        Ok(())
    }

    /// Takes them back, wherever they lead.
    pub(crate) async fn ports_unpublish(&self, record: &Record) -> Result<()> {
        let ports = self.0.networks.published().remove(&record.id);
        if let Some(ports) = ports {
            self.0.networks.opened()?.firewall.unpublish(&ports).await?;
        }
        Ok(())
    }

    /// Where published ports lead: the endpoint that leads outside, and its address.
    fn target(&self, record: &Record) -> Option<(EndpointRecord, Ipv4Addr)> {
        if !matches!(Mode::of(&record.host_config), Mode::Own(_)) {
            return None;
        }
        let mut state = self.0.networks.state();
        let networks: Vec<_> = record
            .networks
            .iter()
            .filter_map(|endpoint| {
                let network = state.of_endpoint(endpoint).ok()?;
                let address = network.address_of(&endpoint.endpoint_id).or(endpoint.address);
                Some((endpoint, network.recorded.clone(), address))
            })
            .collect();
        let id = gateway_of(networks.iter().map(|(endpoint, network, _)| (*endpoint, network)))?;
        let (endpoint, _, address) =
            networks.into_iter().find(|(endpoint, ..)| endpoint.endpoint_id == id)?;
        Some((endpoint.clone(), address?))
    }
}

/// Refuses what cannot be published.
pub(super) fn check(host: &wire::HostConfig) -> Result<()> {
    wanted(host, None).map(drop)
}

type Exposed = std::collections::HashMap<String, std::collections::HashMap<(), ()>>;

/// What a container asks for, in the order of its ports.
fn wanted(host: &wire::HostConfig, exposed: Option<&Exposed>) -> Result<Vec<Wanted>> {
    let mut bindings: BTreeMap<(u16, String), Vec<wire::PortBinding>> = BTreeMap::new();
    for (name, given) in host.port_bindings.iter().flatten() {
        let (protocol, number) = container_port(name)?;
        let given = given.clone().unwrap_or_default();
        bindings.entry((number, protocol.to_string())).or_default().extend(given);
    }
    if host.publish_all_ports == Some(true) {
        for name in exposed.into_iter().flat_map(|exposed| exposed.keys()) {
            let (protocol, number) = container_port(name)?;
            let given = bindings.entry((number, protocol.to_string())).or_default();
            if given.is_empty() {
                given.push(wire::PortBinding::default());
            }
        }
    }
    let mut wanted = Vec::new();
    for ((container, protocol), given) in bindings {
        let name = format!("{container}/{protocol}");
        for binding in given {
            let (protocol, container) = container_port(&name)?;
            let host_ip = binding.host_ip.unwrap_or_default();
            let address =
                (!host_ip.is_empty()).then(|| host_ip.parse()).transpose().map_err(|_| {
                    Error::invalid(format!("invalid IP address in port mapping: {host_ip}"))
                })?;
            let host = host_range(&binding.host_port.unwrap_or_default())?;
            let name = name.clone();
            wanted.push(Wanted { name, protocol, container, host_ip, address, host, kept: None });
        }
    }
    Ok(wanted)
}

/// Where any port will do, or any of a range, the one that was bound before is the first choice.
fn keep(wanted: &mut [Wanted], bound: &[BoundPort]) {
    let mut bound = bound.to_vec();
    for one in wanted {
        let may = |number: u16| one.host == (0, 0) || (one.host.0..=one.host.1).contains(&number);
        let same = |port: &BoundPort| {
            port.container == one.name && port.host_ip == one.host_ip && may(port.host_port)
        };
        if let Some(place) = bound.iter().position(same) {
            one.kept = Some(bound.remove(place).host_port);
        }
    }
}

/// `80`, `80/tcp`, `53/udp`.
fn container_port(name: &str) -> Result<(Protocol, u16)> {
    let (number, protocol) = name.split_once('/').unwrap_or((name, "tcp"));
    let number = number
        .parse()
        .ok()
        .filter(|number| *number != 0)
        .ok_or_else(|| Error::invalid(format!("invalid port specification: {name:?}")))?;
    match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Ok((Protocol::Tcp, number)),
        "udp" => Ok((Protocol::Udp, number)),
        "sctp" => Err(Error::new(
            Kind::Unsupported,
            format!("cannot publish {name}: sctp is not supported, tcp and udp are"),
        )),
        _ => Err(Error::invalid(format!("invalid proto: {protocol}"))),
    }
}

/// Empty, `8080` or `8000-8010`.
fn host_range(text: &str) -> Result<(u16, u16)> {
    let refuse = || Error::invalid(format!("invalid port specification: {text:?}"));
    if text.is_empty() {
        return Ok((0, 0));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let first = first.parse().map_err(|_| refuse())?;
    let last = last.parse().map_err(|_| refuse())?;
    if first > last || first == 0 && last != 0 {
        return Err(refuse());
    }
    Ok((first, last))
}

/// All of them, or none.
fn reserve_all(wanted: &[Wanted], target: Ipv4Addr) -> Result<Vec<(BoundPort, Port, OwnedFd)>> {
    let mut reserved = Vec::new();
    for one in wanted {
        let mut refused = None;
        let (first, last) = one.host;
        for number in one.kept.into_iter().chain(first..=last) {
            let mut port = Port {
                protocol: one.protocol,
                host: (one.address, number),
                container: (target, one.container),
            };
            match reserve(&port) {
                Ok(socket) => {
                    let number = bound_port(&socket).doing(|| "find out which port is free")?;
                    port.host.1 = number;
                    let bound = BoundPort {
                        container: one.name.clone(),
                        host_ip: one.host_ip.clone(),
                        host_port: number,
                    };
                    reserved.push((bound, port, socket));
                    refused = None;
                    break;
                }
                Err(error) => refused = Some(error),
            }
        }
        if let Some(error) = refused {
            return Err(if first == last {
                Error::internal(chain(&error))
            } else {
                let shown = one.address.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
                Error::internal(format!(
                    "Bind for {shown} failed: all ports of {first}-{last} are already allocated"
                ))
            });
        }
    }
    Ok(reserved)
}

/// A bound port as the firewall has it.
fn port_of(bound: &BoundPort, target: Ipv4Addr) -> Option<Port> {
    let (protocol, number) = container_port(&bound.container).ok()?;
    let address = match bound.host_ip.as_str() {
        "" => None,
        text => Some(text.parse().ok()?),
    };
    Some(Port { protocol, host: (address, bound.host_port), container: (target, number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(ip: &str, port: &str) -> wire::PortBinding {
        wire::PortBinding { host_ip: Some(ip.into()), host_port: Some(port.into()) }
    }

    fn host(ports: &[(&str, &[wire::PortBinding])]) -> wire::HostConfig {
        let bindings = ports.iter().map(|(name, list)| (name.to_string(), Some(list.to_vec())));
        wire::HostConfig { port_bindings: Some(bindings.collect()), ..Default::default() }
    }

    fn shown(wanted: &[Wanted]) -> Vec<String> {
        let show = |one: &Wanted| format!("{} {} {:?}", one.name, one.host_ip, one.host);
        wanted.iter().map(show).collect()
    }

    #[test]
    fn ports_are_read_as_dockers() {
        let given = host(&[
            ("80", &[binding("", "8080"), binding("127.0.0.1", "")]),
            ("53/UDP", &[binding("::1", "8000-8010")]),
            ("443/tcp", &[]),
        ]);
        let wanted_ports = wanted(&given, None).unwrap();
        assert_eq!(
            shown(&wanted_ports),
            ["53/udp ::1 (8000, 8010)", "80/tcp  (8080, 8080)", "80/tcp 127.0.0.1 (0, 0)"]
        );
        let all = wire::HostConfig { publish_all_ports: Some(true), ..given };
        let exposed: Exposed =
            ["80/tcp", "443/tcp", "9/udp"].map(|name| (name.into(), Default::default())).into();
        let wanted_ports = wanted(&all, Some(&exposed)).unwrap();
        assert_eq!(wanted_ports.len(), 5);
        assert!(shown(&wanted_ports).contains(&"443/tcp  (0, 0)".into()));
        assert_eq!(shown(&wanted_ports)[0], "9/udp  (0, 0)");
    }

    #[test]
    fn ports_that_cannot_be_are_named() {
        for (name, ip, port, text) in [
            ("x/tcp", "", "1", "invalid port specification: \"x/tcp\""),
            ("0/tcp", "", "1", "invalid port specification: \"0/tcp\""),
            ("80/icmp", "", "1", "invalid proto: icmp"),
            ("80/sctp", "", "1", "cannot publish 80/sctp: sctp is not supported, tcp and udp are"),
            ("80/tcp", "1.2.3", "1", "invalid IP address in port mapping: 1.2.3"),
            ("80/tcp", "", "70000", "invalid port specification: \"70000\""),
            ("80/tcp", "", "9-8", "invalid port specification: \"9-8\""),
            ("80/tcp", "", "0-8", "invalid port specification: \"0-8\""),
        ] {
            let error = check(&host(&[(name, &[binding(ip, port)])])).unwrap_err();
            assert_eq!(error.message, text);
        }
    }

    #[test]
    fn ports_that_were_bound_are_taken_again_where_one_may_choose() {
        let given = host(&[
            ("80", &[binding("127.0.0.1", ""), binding("127.0.0.1", "")]),
            ("81", &[binding("", "8000-8010")]),
            ("82", &[binding("", "9000")]),
        ]);
        let bound = |container: &str, host_ip: &str, host_port| BoundPort {
            container: container.into(),
            host_ip: host_ip.into(),
            host_port,
        };
        let mut wanted = wanted(&given, None).unwrap();
        let before = [
            bound("80/tcp", "127.0.0.1", 41000),
            bound("80/tcp", "127.0.0.1", 41001),
            bound("81/tcp", "", 8020),
            bound("82/tcp", "", 9000),
        ];
        keep(&mut wanted, &before);
        let kept: Vec<_> = wanted.iter().map(|one| one.kept).collect();
        assert_eq!(kept, [Some(41000), Some(41001), None, Some(9000)]);

        // One that is taken by now is no reason to fail.
        let local = IpAddr::from([127, 0, 0, 1]);
        let one = |kept| Wanted { address: Some(local), kept, ..wanted[0].clone() };
        let held = reserve_all(&[one(None)], [172, 17, 0, 2].into()).unwrap();
        let number = held[0].0.host_port;
        let other = reserve_all(&[one(Some(number))], [172, 17, 0, 2].into()).unwrap();
        assert_ne!(other[0].0.host_port, number);
        drop(held);
        let again = reserve_all(&[one(Some(number))], [172, 17, 0, 2].into()).unwrap();
        assert_eq!(again[0].0.host_port, number);
    }

    #[test]
    fn of_a_range_the_first_free_port_is_taken_and_all_or_none() {
        let target = [172, 17, 0, 2].into();
        let local = Some(IpAddr::from([127, 0, 0, 1]));
        let one = |host: (u16, u16)| Wanted {
            name: "80/tcp".into(),
            protocol: Protocol::Tcp,
            container: 80,
            host_ip: "127.0.0.1".into(),
            address: local,
            host,
            kept: None,
        };
        let held = reserve_all(&[one((0, 0))], target).unwrap();
        let number = held[0].0.host_port;
        assert_ne!(number, 0);
        assert_eq!(held[0].1.container, (target, 80));
        let refused = reserve_all(&[one((0, 0)), one((number, number))], target).unwrap_err();
        assert_eq!(
            refused.message,
            format!("Bind for 127.0.0.1:{number} failed: port is already allocated")
        );
        let range = one((number, number.saturating_add(20)));
        if number < 65_000 {
            let next = reserve_all(std::slice::from_ref(&range), target).unwrap();
            assert!(next[0].0.host_port > number);
        }
        assert_eq!(port_of(&held[0].0, target), Some(held[0].1));
    }
}
