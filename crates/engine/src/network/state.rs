//! The networks that exist: how they are recorded, and which endpoint has which address.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::path::Path;

use caisson_net::{Addresses, Bridge, mac_of};
use serde::{Deserialize, Serialize};

use crate::containers::write;
use crate::error::Doing;
use crate::record::EndpointRecord;
use crate::{Error, Kind, Result};

/// An address and the length of its network's prefix.
pub(super) type Subnet = (Ipv4Addr, u8);

/// What makes a network's packets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Driver {
    Bridge,
    /// The host's own interfaces.
    Host,
    /// Nothing but loopback.
    Null,
}

impl Driver {
    pub fn name(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Host => "host",
            Driver::Null => "null",
        }
    }
}

/// A network as it is in `networks.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Recorded {
    /// 64 hexadecimal digits.
    pub id: String,
    pub name: String,
    pub driver: Driver,
    pub internal: bool,
    pub attachable: bool,
    pub labels: HashMap<String, String>,
    pub options: HashMap<String, String>,
    /// Nanoseconds since 1970-01-01 UTC.
    pub created: i64,
    /// Of a network of the driver `bridge`.
    pub bridge: Option<BridgeRecord>,
}

/// The bridge of a network and the addresses in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct BridgeRecord {
    pub interface: String,
    pub subnet: Subnet,
    pub gateway: Ipv4Addr,
    /// Where addresses are given from; `None`: all of the subnet.
    pub range: Option<Subnet>,
    /// Addresses that are somebody else's, by what they are for.
    pub reserved: BTreeMap<String, Ipv4Addr>,
    pub mtu: u32,
}

impl Recorded {
    /// Whether it is one of those that are always there.
    pub fn predefined(&self) -> bool {
        predefined(&self.name)
    }

    /// The bridge as the host has it.
    pub fn host_bridge(&self) -> Option<Bridge> {
        self.bridge.as_ref().map(|bridge| Bridge {
            name: bridge.interface.clone(),
            subnet: bridge.subnet,
            gateway: bridge.gateway,
            internal: self.internal,
            mtu: bridge.mtu,
        })
    }
}

pub(super) fn predefined(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none")
}

/// A network that exists.
#[derive(Debug)]
pub(super) struct Network {
    pub recorded: Recorded,
    addresses: Option<Addresses>,
    /// Addresses by endpoint: kept from an endpoint's first start until its container is removed.
    holders: HashMap<String, Ipv4Addr>,
    /// Ids of the containers that use it now.
    pub active: BTreeSet<String>,
}

impl Network {
    pub fn new(recorded: Recorded) -> Self {
        let addresses = recorded.bridge.as_ref().map(|bridge| {
            let mut addresses = Addresses::new(bridge.subnet, bridge.gateway);
            if let Some(range) = bridge.range {
                addresses.give_from(range);
            }
            for address in bridge.reserved.values() {
                // The gateway among them is taken anyway.
                let _ = addresses.claim(*address);
            }
            addresses
        });
        Network { recorded, addresses, holders: HashMap::new(), active: BTreeSet::new() }
    }

    /// The address of an endpoint.
    pub fn address_of(&self, endpoint: &str) -> Option<Ipv4Addr> {
        self.holders.get(endpoint).copied()
    }

    /// Takes the address that a recorded endpoint has.
    pub fn restore(&mut self, endpoint: &EndpointRecord) -> Result<()> {
        if let (Some(addresses), Some(address)) = (&mut self.addresses, endpoint.address) {
            addresses.claim(address)?;
            self.holders.insert(endpoint.endpoint_id.clone(), address);
        }
        Ok(())
    }

    /// Makes the endpoint one of this network, with an address: the one it has, the one it asks for, or
    /// the next free one.
    pub fn hold(&mut self, endpoint: &mut EndpointRecord) -> Result<()> {
        let same = endpoint.network == self.recorded.id;
        endpoint.network.clone_from(&self.recorded.id);
        endpoint.network_name.clone_from(&self.recorded.name);
        let Some(addresses) = &mut self.addresses else {
            endpoint.address = None;
            return Ok(());
        };
        let address = match self.holders.get(&endpoint.endpoint_id) {
            Some(held) => *held,
            None => {
                let before = endpoint.address.filter(|_| same);
                let kept = before.filter(|address| addresses.claim(*address).is_ok());
                match (kept, wanted_address(endpoint)?) {
                    (Some(kept), _) => kept,
                    (None, Some(wanted)) => {
                        addresses.claim(wanted).map_err(refused_address)?;
                        wanted
                    }
                    (None, None) => addresses.allocate().ok_or_else(|| self.recorded.full())?,
                }
            }
        };
        self.holders.insert(endpoint.endpoint_id.clone(), address);
        endpoint.address = Some(address);
        endpoint.mac = wanted_mac(endpoint)?.unwrap_or_else(|| mac_of(address));
        Ok(())
    }

    /// Gives an endpoint's address back.
    pub fn release(&mut self, endpoint: &str) {
        if let (Some(address), Some(addresses)) =
            (self.holders.remove(endpoint), &mut self.addresses)
        {
            addresses.release(address);
        }
    }
}

impl Recorded {
    fn full(&self) -> Error {
        Error::internal(format!(
            "no available IPv4 addresses on this network's address pools: {} ({})",
            self.name, self.id
        ))
    }

    /// Refuses a static address that no container can have here.
    pub fn check_address(&self, address: Ipv4Addr) -> Result<()> {
        let inside = self.bridge.as_ref().is_some_and(|bridge| {
            caisson_net::overlaps(bridge.subnet, (address, 32)) && address != bridge.gateway
        });
        if inside {
            return Ok(());
        }
        Err(Error::invalid(format!("no configured subnet contains IP address {address}")))
    }
}

fn refused_address(error: caisson_net::Error) -> Error {
    match error {
        caisson_net::Error::AddressTaken(address) => {
            Error::new(Kind::Forbidden, format!("Address already in use: {address}"))
        }
        other => other.into(),
    }
}

/// The address that an endpoint's settings ask for.
pub(super) fn wanted_address(endpoint: &EndpointRecord) -> Result<Option<Ipv4Addr>> {
    let given = endpoint.settings.ipam_config.as_ref();
    let given = given.and_then(|given| given.ipv4_address.as_deref()).unwrap_or_default();
    if given.is_empty() {
        return Ok(None);
    }
    let parsed = given.parse().map(Some);
    parsed.map_err(|_| Error::invalid(format!("invalid IPv4 address: {given}")))
}

/// The hardware address that an endpoint's settings ask for.
pub(super) fn wanted_mac(endpoint: &EndpointRecord) -> Result<Option<[u8; 6]>> {
    let given = endpoint.settings.mac_address.as_deref().unwrap_or_default();
    if given.is_empty() {
        return Ok(None);
    }
    let refuse = || Error::invalid(format!("invalid MAC address: {given}"));
    let mut mac = [0; 6];
    let mut parts = given.split([':', '-']);
    for byte in &mut mac {
        let digits =
            |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let part = parts.next().filter(digits).ok_or_else(refuse)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
    }
    // Groups of hosts, and nobody.
    if parts.next().is_some() || mac[0] & 1 == 1 || mac == [0; 6] {
        return Err(refuse());
    }
    Ok(Some(mac))
}

/// All networks, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct State(pub Vec<Network>);

impl State {
    /// The network of an id, a name, or the unambiguous beginning of an id.
    pub fn find(&self, name: &str) -> Result<&Network> {
        let named = |network: &&Network| network.recorded.name == name;
        let known = self.0.iter().find(|network| network.recorded.id == name);
        if let Some(network) = known.or_else(|| self.0.iter().find(named)) {
            return Ok(network);
        }
        let begins = |network: &&Network| !name.is_empty() && network.recorded.id.starts_with(name);
        let found: Vec<_> = self.0.iter().filter(begins).collect();
        match found.as_slice() {
            [network] => Ok(network),
            [] => Err(Error::not_found(format!("network {name} not found"))),
            _ => Err(Error::invalid(format!(
                "network {name} is ambiguous ({} matches found on ID prefix)",
                found.len()
            ))),
        }
    }

    pub fn get_mut(&mut self, id: &str) -> Option<&mut Network> {
        self.0.iter_mut().find(|network| network.recorded.id == id)
    }

    /// The network of an endpoint: one of the same name if its own has been removed and made again.
    pub fn of_endpoint(&mut self, endpoint: &EndpointRecord) -> Result<&mut Network> {
        let known = self.0.iter().any(|network| network.recorded.id == endpoint.network);
        let wanted = if known { &endpoint.network } else { &endpoint.network_name };
        let id = self.find(wanted)?.recorded.id.clone();
        self.get_mut(&id).ok_or_else(|| Error::not_found(format!("network {wanted} not found")))
    }

    /// The bridges that the host has for them.
    pub fn bridges(&self) -> Vec<Bridge> {
        self.0.iter().filter_map(|network| network.recorded.host_bridge()).collect()
    }

    pub fn subnets(&self) -> Vec<Subnet> {
        self.bridges().iter().map(|bridge| bridge.subnet).collect()
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        let recorded: Vec<_> = self.0.iter().map(|network| &network.recorded).collect();
        write(path, &recorded)
    }

    /// What is recorded; nothing if there is no record yet.
    pub fn load(path: &Path) -> Result<Self> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(error).doing(|| format!("read {}", path.display())),
        };
        let recorded: Vec<Recorded> = serde_json::from_slice(&text)
            .map_err(std::io::Error::from)
            .doing(|| format!("read {}", path.display()))?;
        Ok(State(recorded.into_iter().map(Network::new).collect()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::wire;

    pub fn network(id: char, name: &str, third: u8) -> Recorded {
        Recorded {
            id: id.to_string().repeat(64),
            name: name.into(),
            driver: Driver::Bridge,
            internal: false,
            attachable: false,
            labels: HashMap::new(),
            options: HashMap::new(),
            created: 1_000_000_000,
            bridge: Some(BridgeRecord {
                interface: format!("csb{}", id.to_string().repeat(12)),
                subnet: (Ipv4Addr::new(10, 9, third, 0), 29),
                gateway: Ipv4Addr::new(10, 9, third, 1),
                range: None,
                reserved: BTreeMap::new(),
                mtu: 1500,
            }),
        }
    }

    pub fn endpoint(id: char, network: &str) -> EndpointRecord {
        EndpointRecord {
            network: String::new(),
            network_name: network.into(),
            endpoint_id: id.to_string().repeat(64),
            address: None,
            mac: [0; 6],
            aliases: Vec::new(),
            settings: wire::EndpointSettings::default(),
        }
    }

    fn asking(id: char, address: &str) -> EndpointRecord {
        let ipam =
            wire::EndpointIpamConfig { ipv4_address: Some(address.into()), ..Default::default() };
        let mut endpoint = endpoint(id, "n1");
        endpoint.settings.ipam_config = Some(ipam);
        endpoint
    }

    #[test]
    fn an_endpoint_keeps_its_address_until_it_is_released() {
        let mut one = Network::new(network('a', "n1", 0));
        let mut endpoint = endpoint('e', "n1");
        one.hold(&mut endpoint).unwrap();
        let first = endpoint.address.unwrap();
        assert_eq!(first.to_string(), "10.9.0.2");
        assert_eq!(endpoint.mac, [2, 0x42, 10, 9, 0, 2]);
        assert_eq!(endpoint.network, one.recorded.id);
        one.hold(&mut endpoint).unwrap();
        assert_eq!(endpoint.address, Some(first));
        one.release(&endpoint.endpoint_id);
        // Back from a record: the same again.
        let mut two = Network::new(network('a', "n1", 0));
        two.restore(&endpoint).unwrap();
        two.hold(&mut endpoint).unwrap();
        assert_eq!(endpoint.address, Some(first));
        // A network made again: an address of it.
        let mut other = Network::new(network('b', "n1", 1));
        other.hold(&mut endpoint).unwrap();
        assert_eq!(endpoint.address.unwrap().to_string(), "10.9.1.2");
        assert_eq!(endpoint.mac, [2, 0x42, 10, 9, 1, 2]);
    }

    #[test]
    fn an_address_asked_for_is_given_once() {
        let mut one = Network::new(network('a', "n1", 0));
        let mut first = asking('e', "10.9.0.4");
        one.hold(&mut first).unwrap();
        assert_eq!(first.address.unwrap().to_string(), "10.9.0.4");
        let refused = one.hold(&mut asking('f', "10.9.0.4")).unwrap_err();
        assert_eq!(
            (refused.kind, refused.message.as_str()),
            (Kind::Forbidden, "Address already in use: 10.9.0.4")
        );
        assert_eq!(one.hold(&mut asking('f', "10.9.1.4")).unwrap_err().kind, Kind::Invalid);
        assert_eq!(one.hold(&mut asking('f', "x")).unwrap_err().kind, Kind::Invalid);
        for id in ['1', '2', '3', '4'] {
            one.hold(&mut endpoint(id, "n1")).unwrap();
        }
        let full = one.hold(&mut endpoint('5', "n1")).unwrap_err();
        assert!(full.message.starts_with("no available IPv4 addresses"), "{full}");
    }

    #[test]
    fn a_hardware_address_is_a_hosts() {
        let mut endpoint = endpoint('e', "n1");
        for (text, mac) in [
            ("02:42:ac:11:00:09", Some([2, 0x42, 0xac, 0x11, 0, 9])),
            ("02-42-AC-11-00-09", Some([2, 0x42, 0xac, 0x11, 0, 9])),
            ("01:00:5e:00:00:01", None),
            ("00:00:00:00:00:00", None),
            ("02:42:ac:11:00", None),
            ("02:42:ac:11:00:09:01", None),
            ("02:42:ac:11:00:+9", None),
        ] {
            endpoint.settings.mac_address = Some(text.into());
            assert_eq!(wanted_mac(&endpoint).ok().flatten(), mac, "{text}");
        }
    }

    #[test]
    fn networks_are_found_as_dockers_are() {
        let mut ids = network('a', "other", 1);
        ids.id.replace_range(63.., "b");
        let state = State(vec![
            Network::new(network('a', "n1", 0)),
            Network::new(ids),
            Network::new(network('c', "aaa", 2)),
        ]);
        assert_eq!(state.find("n1").unwrap().recorded.name, "n1");
        assert_eq!(state.find("aaa").unwrap().recorded.name, "aaa", "a name goes first");
        assert_eq!(state.find("cc").unwrap().recorded.name, "aaa");
        assert_eq!(state.find(&"a".repeat(64)).unwrap().recorded.name, "n1");
        assert_eq!(
            state.find("aa").unwrap_err().message,
            "network aa is ambiguous (2 matches found on ID prefix)"
        );
        for missing in ["", "n2"] {
            let error = state.find(missing).unwrap_err();
            assert_eq!(
                (error.kind, error.message),
                (Kind::NotFound, format!("network {missing} not found"))
            );
        }
    }

    #[test]
    fn what_is_recorded_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("networks.json");
        assert!(State::load(&path).unwrap().0.is_empty());
        let state = State(vec![Network::new(network('a', "n1", 0))]);
        state.save(&path).unwrap();
        let read = State::load(&path).unwrap();
        assert_eq!(read.0[0].recorded, state.0[0].recorded);
        std::fs::write(&path, "[{").unwrap();
        assert!(State::load(&path).unwrap_err().message.contains("networks.json"));
    }
}
