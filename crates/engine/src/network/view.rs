//! Networks as the API shows them.

use std::collections::HashMap;

use caisson_api::filters::{Filters, Invalid};
use caisson_api::time::rfc3339;

use super::state::Recorded;
use crate::inspect::mac_text;
use crate::{Engine, Result, wire};

impl Engine {
    /// The networks that filters leave.
    pub async fn networks(&self, filters: &Filters) -> Result<Vec<wire::Network>> {
        filters.check(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
        let dangling = if filters.contains("dangling") {
            Some(filters.flag("dangling", false)?)
        } else {
            None
        };
        for kind in filters.get("type") {
            if !matches!(kind, "builtin" | "custom") {
                return Err(Invalid::value("type", kind, "it is builtin or custom").into());
            }
        }
        let state = self.0.networks.state();
        let wanted = state.0.iter().filter(|network| {
            let unused = network.active.is_empty() && !network.recorded.predefined();
            dangling.is_none_or(|dangling| dangling == unused)
                && matches(&network.recorded, filters)
        });
        Ok(wanted.map(|network| shown(&network.recorded)).collect())
    }

    /// A network, with the containers that use it.
    pub async fn network(&self, name: &str) -> Result<wire::Network> {
        let (recorded, active) = {
            let state = self.0.networks.state();
            let network = state.find(name)?;
            (network.recorded.clone(), network.active.clone())
        };
        let mut network = shown(&recorded);
        let containers = active.iter().filter_map(|id| {
            let container = self.0.containers.get(id).ok()?;
            let record = container.record();
            let endpoint =
                record.networks.iter().find(|endpoint| endpoint.network == recorded.id)?;
            let prefix = recorded.bridge.as_ref().map(|bridge| bridge.subnet.1);
            let address = endpoint.address.zip(prefix);
            let shown = wire::NetworkContainer {
                name: Some(record.name.clone()),
                endpoint_id: Some(endpoint.endpoint_id.clone()),
                mac_address: Some(address.map_or(String::new(), |_| mac_text(endpoint.mac))),
                ipv4_address: Some(
                    address
                        .map_or(String::new(), |(address, prefix)| format!("{address}/{prefix}")),
                ),
                ipv6_address: Some(String::new()),
            };
            Some((record.id.clone(), shown))
        });
        network.containers = Some(containers.collect());
        Ok(network)
    }
}

fn matches(network: &Recorded, filters: &Filters) -> bool {
    let kind = if network.predefined() { "builtin" } else { "custom" };
    filters.matches("name", &network.name)
        && filters.matches("id", &network.id)
        && filters.exact("driver", network.driver.name())
        && filters.exact("scope", "local")
        && filters.exact("type", kind)
        && filters.labels(&network.labels)
}

/// Without its containers.
fn shown(network: &Recorded) -> wire::Network {
    let config = network.bridge.as_ref().map(|bridge| {
        let subnet = |(address, prefix)| format!("{address}/{prefix}");
        let reserved: HashMap<_, _> =
            bridge.reserved.iter().map(|(name, to)| (name.clone(), to.to_string())).collect();
        vec![wire::IpamConfig {
            subnet: Some(subnet(bridge.subnet)),
            ip_range: bridge.range.map(subnet),
            gateway: Some(bridge.gateway.to_string()),
            auxiliary_addresses: Some(reserved).filter(|reserved| !reserved.is_empty()),
        }]
    });
    wire::Network {
        name: Some(network.name.clone()),
        id: Some(network.id.clone()),
        created: Some(rfc3339(network.created)),
        scope: Some("local".into()),
        driver: Some(network.driver.name().into()),
        enable_ipv4: Some(true),
        enable_ipv6: Some(false),
        ipam: Some(wire::Ipam { driver: Some("default".into()), config, options: None }),
        internal: Some(network.internal),
        attachable: Some(network.attachable),
        ingress: Some(false),
        config_from: Some(wire::ConfigReference { network: Some(String::new()) }),
        config_only: Some(false),
        containers: Some(HashMap::new()),
        options: Some(options(network)),
        labels: Some(network.labels.clone()),
        peers: None,
    }
}

/// Those it was made with; those of the default network say how it is.
fn options(network: &Recorded) -> HashMap<String, String> {
    let Some(bridge) = network.bridge.as_ref().filter(|_| network.predefined()) else {
        return network.options.clone();
    };
    let mtu = bridge.mtu.to_string();
    [
        ("bridge.default_bridge", "true"),
        ("bridge.enable_icc", "true"),
        ("bridge.enable_ip_masquerade", "true"),
        ("bridge.host_binding_ipv4", "0.0.0.0"),
        ("bridge.name", &bridge.interface),
        ("driver.mtu", &mtu),
    ]
    .into_iter()
    .map(|(name, value)| (format!("com.docker.network.{name}"), value.to_string()))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::network;
    use super::*;

    #[test]
    fn a_network_is_shown_as_docker_does() {
        let mut one = network('a', "bridge", 0);
        let body = serde_json::to_value(shown(&one)).unwrap();
        let expected = serde_json::json!({
            "Name": "bridge", "Id": "a".repeat(64), "Created": "1970-01-01T00:00:01Z",
            "Scope": "local", "Driver": "bridge", "EnableIPv4": true, "EnableIPv6": false,
            "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.9.0.0/29", "Gateway": "10.9.0.1"}]},
            "Internal": false, "Attachable": false, "Ingress": false,
            "ConfigFrom": {"Network": ""}, "ConfigOnly": false, "Containers": {},
            "Options": {
                "com.docker.network.bridge.default_bridge": "true",
                "com.docker.network.bridge.enable_icc": "true",
                "com.docker.network.bridge.enable_ip_masquerade": "true",
                "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
                "com.docker.network.bridge.name": "csbaaaaaaaaaaaa",
                "com.docker.network.driver.mtu": "1500",
            },
            "Labels": {},
        });
        assert_eq!(body, expected);
        one.name = "n1".into();
        assert_eq!(shown(&one).options, Some(HashMap::new()));
    }

    #[test]
    fn networks_are_filtered() {
        let mut one = network('a', "net-one", 0);
        one.labels.insert("tier".into(), "front".into());
        for (text, expected) in [
            (r#"{"name":["one"]}"#, true),
            (r#"{"name":["two"]}"#, false),
            (r#"{"id":["aaaa"]}"#, true),
            (r#"{"driver":["host"]}"#, false),
            (r#"{"type":["custom"]}"#, true),
            (r#"{"type":["builtin"]}"#, false),
            (r#"{"label":["tier=front"]}"#, true),
            (r#"{"label":["tier=back"]}"#, false),
            (r#"{"scope":["swarm"]}"#, false),
        ] {
            assert_eq!(matches(&one, &Filters::parse(text).unwrap()), expected, "{text}");
        }
    }
}
