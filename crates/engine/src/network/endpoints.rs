//! What a new container asks of the networks, checked as far as it can be before it starts.
//!
//! As with Docker a network need not exist yet when a container is created: that is found out when it
//! starts.

use std::collections::BTreeMap;

use super::state::{predefined, wanted_address, wanted_mac};
use super::{files, ports};
use crate::record::EndpointRecord;
use crate::volume::random_name;
use crate::{Engine, Error, Result, wire};

/// Where a container's interfaces are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode<'a> {
    /// In the host's network namespace.
    Host,
    /// In that of another container.
    Container(&'a str),
    /// In its own, with a first network of this name.
    Own(&'a str),
}

impl<'a> Mode<'a> {
    pub fn of(host: &'a wire::HostConfig) -> Self {
        match host.network_mode.as_deref().unwrap_or_default() {
            "" | "default" => Mode::Own("bridge"),
            "host" => Mode::Host,
            name => match name.strip_prefix("container:") {
                Some(other) => Mode::Container(other),
                None => Mode::Own(name),
            },
        }
    }
}

impl Engine {
    /// The endpoints that a new container asks for, without addresses.
    pub(crate) fn endpoints_new(
        &self,
        id: &str,
        host: &wire::HostConfig,
        networking: Option<&wire::NetworkingConfig>,
    ) -> Result<Vec<EndpointRecord>> {
        files::check(host)?;
        ports::check(host)?;
        let given = asked(networking).into_iter();
        let mut given: BTreeMap<_, _> =
            given.map(|(name, settings)| (self.network_named(&name), settings)).collect();
        let first = match Mode::of(host) {
            Mode::Container(other) => {
                // Some clients say it again as the name of a network.
                given.retain(|name, _| !name.starts_with("container:"));
                refuse_others(&given)?;
                refuse_shared(host)?;
                if other.is_empty() {
                    return Err(Error::invalid(
                        "Invalid network mode: invalid container format container:<name|id>",
                    ));
                }
                let own = id.starts_with(other) && other.len() >= 12;
                return if own { Err(own_namespace()) } else { Ok(Vec::new()) };
            }
            Mode::Host => "host",
            Mode::Own(name) => name,
        };
        let first = &self.network_named(first);
        let settings = given.remove(first).unwrap_or_default();
        if matches!(first.as_str(), "host" | "none") {
            refuse_others(&given)?;
        }
        let mut endpoints = vec![self.endpoint_new(first, settings)?];
        for (name, settings) in given {
            if matches!(name.as_str(), "host" | "none") {
                return Err(Error::invalid(CONFLICT));
            }
            endpoints.push(self.endpoint_new(&name, settings)?);
        }
        Ok(endpoints)
    }

    /// The name of the network that a name or an id is of; the same text if there is none.
    fn network_named(&self, name: &str) -> String {
        let state = self.0.networks.state();
        state.find(name).map_or(name.into(), |network| network.recorded.name.clone())
    }

    /// An endpoint in a network, without an address.
    pub(super) fn endpoint_new(
        &self,
        name: &str,
        mut settings: wire::EndpointSettings,
    ) -> Result<EndpointRecord> {
        // What a client found out by `inspect` and sends back.
        settings = wire::EndpointSettings {
            ipam_config: settings.ipam_config,
            links: settings.links,
            mac_address: settings.mac_address,
            aliases: settings.aliases,
            driver_opts: settings.driver_opts,
            gw_priority: settings.gw_priority,
            ..Default::default()
        };
        let state = self.0.networks.state();
        let network = state.find(name).ok().map(|network| &network.recorded);
        let network_name = network.map_or(name, |network| network.name.as_str());
        let mut endpoint = EndpointRecord {
            network: network.map_or(String::new(), |network| network.id.clone()),
            network_name: network_name.into(),
            endpoint_id: random_name()?,
            address: None,
            mac: [0; 6],
            aliases: settings.aliases.clone().unwrap_or_default(),
            settings,
        };
        let refuse = |error: Error| Error {
            message: format!(
                "invalid config for network {network_name}: invalid endpoint settings:\n{error}"
            ),
            ..error
        };
        check_settings(&endpoint).map_err(refuse)?;
        if let (Some(network), Some(address)) = (network, wanted_address(&endpoint)?) {
            network.check_address(address).map_err(refuse)?;
        }
        endpoint.mac = wanted_mac(&endpoint)?.unwrap_or_default();
        Ok(endpoint)
    }
}

const CONFLICT: &str =
    "conflicting options: cannot attach both user-defined and non-user-defined network-modes";

pub(super) fn own_namespace() -> Error {
    Error::invalid("cannot join own network namespace")
}

/// The settings by network; `default` is what old clients call `bridge`.
fn asked(networking: Option<&wire::NetworkingConfig>) -> BTreeMap<String, wire::EndpointSettings> {
    let given = networking.and_then(|networking| networking.endpoints_config.clone());
    let named = |(name, settings): (String, _)| {
        (if name == "default" { "bridge".into() } else { name }, settings)
    };
    given.into_iter().flatten().map(named).collect()
}

fn refuse_others(given: &BTreeMap<String, wire::EndpointSettings>) -> Result<()> {
    if given.is_empty() { Ok(()) } else { Err(Error::invalid(CONFLICT)) }
}

/// What cannot go with another container's network.
fn refuse_shared(host: &wire::HostConfig) -> Result<()> {
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let ports = host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty());
    let what = if ports || host.publish_all_ports == Some(true) {
        "port publishing and the container type network mode"
    } else if some(&host.dns) {
        "dns and the network mode"
    } else if some(&host.extra_hosts) {
        "custom host-to-IP mapping and the network mode"
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("conflicting options: {what}")))
}

/// What no network of that name can do.
fn check_settings(endpoint: &EndpointRecord) -> Result<()> {
    let ipam = endpoint.settings.ipam_config.as_ref();
    let address = wanted_address(endpoint)?;
    wanted_mac(endpoint)?;
    if ipam.and_then(|ipam| ipam.ipv6_address.as_deref()).is_some_and(|text| !text.is_empty()) {
        return Err(Error::invalid("IPv6 addresses are not supported: networks are IPv4"));
    }
    if ipam.and_then(|ipam| ipam.link_local_ips.as_ref()).is_some_and(|list| !list.is_empty()) {
        return Err(Error::invalid("link-local addresses are not supported"));
    }
    if !predefined(&endpoint.network_name) {
        return Ok(());
    }
    if address.is_some() {
        return Err(Error::invalid(
            "user specified IP address is supported on user defined networks only",
        ));
    }
    if !endpoint.aliases.is_empty() {
        return Err(Error::invalid(
            "network-scoped aliases are only supported for user-defined networks",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::endpoint;
    use super::*;

    fn host(mode: &str) -> wire::HostConfig {
        wire::HostConfig { network_mode: Some(mode.into()), ..Default::default() }
    }

    #[test]
    fn modes_are_dockers() {
        for (text, mode) in [
            ("", Mode::Own("bridge")),
            ("default", Mode::Own("bridge")),
            ("none", Mode::Own("none")),
            ("host", Mode::Host),
            ("container:web", Mode::Container("web")),
            ("n1", Mode::Own("n1")),
        ] {
            assert_eq!(Mode::of(&host(text)), mode, "{text:?}");
        }
    }

    #[test]
    fn the_default_network_gives_addresses_itself() {
        let mut one = endpoint('e', "bridge");
        check_settings(&one).unwrap();
        one.aliases = vec!["db".into()];
        let refused = check_settings(&one).unwrap_err();
        assert!(refused.message.starts_with("network-scoped aliases"), "{refused}");
        one.network_name = "n1".into();
        check_settings(&one).unwrap();
        let mut ipam = wire::EndpointIpamConfig {
            ipv4_address: Some("10.0.0.9".into()),
            ..Default::default()
        };
        one.settings.ipam_config = Some(ipam.clone());
        check_settings(&one).unwrap();
        one.network_name = "bridge".into();
        assert_eq!(
            check_settings(&one).unwrap_err().message,
            "user specified IP address is supported on user defined networks only"
        );
        one.network_name = "n1".into();
        ipam.ipv6_address = Some("fd00::2".into());
        one.settings.ipam_config = Some(ipam);
        assert!(check_settings(&one).is_err());
    }

    #[test]
    fn a_shared_network_has_no_ports_or_names_of_its_own() {
        let mut shared = host("container:web");
        refuse_shared(&shared).unwrap();
        shared.publish_all_ports = Some(true);
        assert_eq!(
            refuse_shared(&shared).unwrap_err().message,
            "conflicting options: port publishing and the container type network mode"
        );
        shared.publish_all_ports = None;
        shared.dns = Some(vec!["10.0.0.1".into()]);
        assert!(refuse_shared(&shared).is_err());
    }
}
