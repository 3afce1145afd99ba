//! `caisson network`.

use caisson_api::client::Client;
use caisson_api::wire::{EndpointIpamConfig, EndpointSettings};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::inspect::{InspectOne, Kind};
use super::prune::Prune;
use crate::create::{pair, pairs};
use crate::each::each;
use crate::failure::{Failure, Outcome, Result};
use crate::filter::filters;
use crate::format::Listing;
use crate::json::{self, text};
use crate::output;
use crate::table::short_id;

/// Manage networks
#[derive(Debug, Args)]
pub struct Network {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Connect(Box<Connect>),
    Create(Box<Create>),
    Disconnect(Disconnect),
    /// Display detailed information on one or more networks
    Inspect(InspectOne),
    Ls(Ls),
    /// Remove all unused networks
    Prune(Prune),
    Rm(Rm),
}

impl Network {
    pub fn run(&self, client: &Client) -> Outcome {
        match &self.command {
            Command::Connect(connect) => connect.run(client),
            Command::Create(create) => create.run(client),
            Command::Disconnect(disconnect) => disconnect.run(client),
            Command::Inspect(inspect) => inspect.run(client, Kind::Network),
            Command::Ls(ls) => ls.run(client),
            Command::Prune(prune) => prune.networks(client),
            Command::Rm(rm) => rm.run(client),
        }
    }
}

/// Connect a container to a network
#[derive(Debug, Args)]
struct Connect {
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "ALIAS")]
    alias: Vec<String>,
    /// Driver options for the network
    #[arg(long, value_name = "KEY=VALUE")]
    driver_opt: Vec<String>,
    /// IPv4 address (e.g., "172.30.100.104")
    #[arg(long, value_name = "IP")]
    ip: Option<String>,
    /// IPv6 address (e.g., "2001:db8::33")
    #[arg(long, value_name = "IP")]
    ip6: Option<String>,
    /// Add link to another container
    #[arg(long, value_name = "CONTAINER")]
    link: Vec<String>,
    /// The network
    network: String,
    /// The container
    container: String,
}

impl Connect {
    fn run(&self, client: &Client) -> Outcome {
        let addressed = self.ip.is_some() || self.ip6.is_some();
        let options = pairs("driver-opt", &self.driver_opt)?;
        let endpoint = EndpointSettings {
            ipam_config: addressed.then(|| EndpointIpamConfig {
                ipv4_address: self.ip.clone(),
                ipv6_address: self.ip6.clone(),
                ..EndpointIpamConfig::default()
            }),
            aliases: (!self.alias.is_empty()).then(|| self.alias.clone()),
            links: (!self.link.is_empty()).then(|| self.link.clone()),
            driver_opts: (!options.is_empty()).then_some(options),
            ..EndpointSettings::default()
        };
        let body = json!({ "Container": self.container, "EndpointConfig": endpoint });
        client.post(&["networks", &self.network, "connect"]).json(&body).send()?;
        Ok(0)
    }
}

/// Disconnect a container from a network
#[derive(Debug, Args)]
struct Disconnect {
    /// Force the container to disconnect from a network
    #[arg(short, long)]
    force: bool,
    /// The network
    network: String,
    /// The container
    container: String,
}

impl Disconnect {
    fn run(&self, client: &Client) -> Outcome {
        let body = json!({ "Container": self.container, "Force": self.force });
        client.post(&["networks", &self.network, "disconnect"]).json(&body).send()?;
        Ok(0)
    }
}

/// Create a network
#[derive(Debug, Args)]
#[command(after_help = "Example: caisson network create --subnet 10.9.0.0/24 back")]
struct Create {
    /// Enable manual container attachment
    #[arg(long)]
    attachable: bool,
    /// Auxiliary IPv4 or IPv6 addresses used by Network driver
    #[arg(long, value_name = "NAME=IP")]
    aux_address: Vec<String>,
    /// Driver to manage the Network
    #[arg(short, long, value_name = "DRIVER", default_value = "bridge")]
    driver: String,
    /// IPv4 or IPv6 Gateway for the subnet of the same place
    #[arg(long, value_name = "IP")]
    gateway: Vec<String>,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Allocate container ip from a sub-range
    #[arg(long, value_name = "CIDR")]
    ip_range: Vec<String>,
    /// IP Address Management Driver
    #[arg(long, value_name = "DRIVER", default_value = "default")]
    ipam_driver: String,
    /// Set IPAM driver specific options
    #[arg(long, value_name = "KEY=VALUE")]
    ipam_opt: Vec<String>,
    /// Enable IPv6 address assignment
    #[arg(long)]
    ipv6: bool,
    /// Set metadata on a network
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Set driver specific options
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "CIDR")]
    subnet: Vec<String>,
    /// Its name
    name: String,
}

impl Create {
    fn run(&self, client: &Client) -> Outcome {
        let request = client.post(&["networks", "create"]).json(&self.body()?);
        let made: Value = request.send()?.json()?;
        if let Some(warning) = made["Warning"].as_str().filter(|text| !text.is_empty()) {
            output::note(format!("WARNING: {warning}"));
        }
        output::line(text(&made["Id"]))?;
        Ok(0)
    }

    fn body(&self) -> Result<Value> {
        let labels: Map<String, Value> = self
            .label
            .iter()
            .map(|text| pair(text))
            .map(|(key, value)| (key, value.into()))
            .collect();
        Ok(json!({
            "Name": self.name,
            "Driver": self.driver,
            "Internal": self.internal,
            "Attachable": self.attachable,
            "EnableIPv6": self.ipv6,
            "Options": pairs("opt", &self.opt)?,
            "Labels": labels,
            "IPAM": {
                "Driver": self.ipam_driver,
                "Options": pairs("ipam-opt", &self.ipam_opt)?,
                "Config": self.pools()?,
            },
        }))
    }

    /// A pool for each subnet, with the ranges and gateways that lie in it.
    fn pools(&self) -> Result<Vec<Value>> {
        let mut pools: Vec<(Subnet, Map<String, Value>)> = Vec::new();
        for text in &self.subnet {
            let subnet = Subnet::parse(text).ok_or_else(|| {
                Failure::words(format!("invalid subnet {text}: use ADDRESS/BITS"))
            })?;
            pools.push((subnet, Map::from_iter([("Subnet".to_string(), text.as_str().into())])));
        }
        let mut place = |what: &str, key: &str, text: &str| -> Result<()> {
            let address = text.split('/').next().unwrap_or_default().parse().ok();
            let pool = address
                .and_then(|address| pools.iter_mut().find(|(subnet, _)| subnet.contains(address)));
            let (_, pool) = pool.ok_or_else(|| {
                Failure::words(format!("no matching subnet for {what} {text}: give its --subnet"))
            })?;
            if pool.insert(key.into(), text.into()).is_some() {
                return Err(Failure::words(format!(
                    "cannot configure multiple {what}s on the same subnet"
                )));
            }
            Ok(())
        };
        self.ip_range.iter().try_for_each(|text| place("ip-range", "IPRange", text))?;
        self.gateway.iter().try_for_each(|text| place("gateway", "Gateway", text))?;
        for text in &self.aux_address {
            let (name, address) = pair(text);
            let pool = address
                .parse()
                .ok()
                .and_then(|address| pools.iter_mut().find(|(subnet, _)| subnet.contains(address)));
            let (_, pool) = pool.ok_or_else(|| {
                Failure::words(format!("no matching subnet for aux-address {address}"))
            })?;
            let known = pool.entry("AuxiliaryAddresses").or_insert_with(|| json!({}));
            known[name.as_str()] = address.into();
        }
        Ok(pools.into_iter().map(|(_, pool)| Value::Object(pool)).collect())
    }
}

/// A network's address and the number of its bits.
struct Subnet(std::net::IpAddr, u32);

impl Subnet {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let address: std::net::IpAddr = address.parse().ok()?;
        let bits: u32 = bits.parse().ok()?;
        (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some(Self(address, bits))
    }

    fn contains(&self, address: std::net::IpAddr) -> bool {
        use std::net::IpAddr::{V4, V6};
        match (self.0, address) {
            (V4(own), V4(other)) => {
                let shift = 32 - self.1;
                let network = |address: std::net::Ipv4Addr| u32::from(address).checked_shr(shift);
                network(own) == network(other)
            }
            (V6(own), V6(other)) => {
                let shift = 128 - self.1;
                let network = |address: std::net::Ipv6Addr| u128::from(address).checked_shr(shift);
                network(own) == network(other)
            }
            _ => false,
        }
    }
}

const LISTING: Listing = Listing {
    table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    quiet: "{{.ID}}",
    headings: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
};

/// List networks
#[derive(Debug, Args)]
#[command(visible_alias = "list")]
struct Ls {
    /// Provide filter values (e.g. "driver=bridge")
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format output: table, json, a Go template, or table and a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// Only display network IDs
    #[arg(short, long)]
    quiet: bool,
}

impl Ls {
    fn run(&self, client: &Client) -> Outcome {
        let request = client.get(&["networks"]);
        let request = request.query_some("filters", filters(&self.filter)?.as_deref());
        let mut networks: Vec<Value> = request.send()?.json()?;
        networks.sort_by(|one, other| text(&one["Name"]).cmp(text(&other["Name"])));
        let row = |network: &Value| {
            let id = text(&network["Id"]);
            json!({
                "ID": if self.no_trunc { id } else { short_id(id) },
                "Name": network["Name"],
                "Driver": network["Driver"],
                "Scope": network["Scope"],
                "IPv6": json::flag(&network["EnableIPv6"]).to_string(),
                "Internal": json::flag(&network["Internal"]).to_string(),
                "Labels": json::pairs(&network["Labels"]),
                "CreatedAt": network["Created"],
            })
        };
        let rows: Vec<Value> = networks.iter().map(row).collect();
        LISTING.print(self.format.as_deref(), self.quiet, &rows)?;
        Ok(0)
    }
}

/// Remove one or more networks
#[derive(Debug, Args)]
#[command(visible_alias = "remove")]
struct Rm {
    /// Do not error if the network does not exist
    #[arg(short, long)]
    force: bool,
    /// The networks
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

impl Rm {
    fn run(&self, client: &Client) -> Outcome {
        each(&self.networks, |name| match client.delete(&["networks", name]).send() {
            Err(error) if self.force && error.status() == Some(404) => Ok(()),
            sent => Ok(sent.map(drop)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::Command as Any;

    fn body(line: &str) -> Result<Value> {
        let words = ["caisson", "network", "create"].into_iter().chain(line.split(' '));
        match crate::arguments::parse(words).unwrap().command {
            Any::Network(Network { command: Command::Create(create) }) => create.body(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ranges_and_gateways_find_their_subnets() {
        let line = "--subnet 10.9.0.0/24 --subnet fd00::/64 --ipv6 --gateway fd00::1 \
                    --ip-range 10.9.0.128/25 --gateway 10.9.0.254 --aux-address a=10.9.0.5 back";
        let body = body(line).unwrap();
        assert_eq!(body["EnableIPv6"], true);
        assert_eq!(
            body["IPAM"]["Config"],
            json!([
                {
                    "Subnet": "10.9.0.0/24", "IPRange": "10.9.0.128/25", "Gateway": "10.9.0.254",
                    "AuxiliaryAddresses": { "a": "10.9.0.5" },
                },
                { "Subnet": "fd00::/64", "Gateway": "fd00::1" },
            ])
        );
    }

    #[test]
    fn what_lies_in_no_subnet_is_refused() {
        let error = body("--subnet 10.9.0.0/24 --gateway 10.8.0.1 x").unwrap_err().sentence();
        assert_eq!(error, "no matching subnet for gateway 10.8.0.1: give its --subnet");
        assert!(body("--subnet 10.9.0.0/33 x").is_err());
        let both = "--subnet 10.0.0.0/8 --gateway 10.0.0.1 --gateway 10.0.0.2 x";
        assert!(body(both).unwrap_err().sentence().contains("multiple gateways"));
    }
}
