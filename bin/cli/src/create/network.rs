//! `--network`, by itself or with its own fields, and the options that go with it.

use std::collections::HashMap;

use caisson_api::wire::{EndpointIpamConfig, EndpointSettings, NetworkingConfig};

use super::options::Network;
use crate::failure::{Failure, Result};

/// The mode, and what is asked of each network.
pub fn networks(options: &Network) -> Result<(String, Option<NetworkingConfig>)> {
    let mut mode = "default".to_string();
    let mut endpoints = HashMap::new();
    let given = if options.network.is_empty() { &[mode.clone()][..] } else { &options.network };
    for (index, text) in given.iter().enumerate() {
        let (name, mut endpoint) = attachment(text)?;
        if index == 0 {
            add_options(options, &mut endpoint)?;
            mode.clone_from(&name);
        }
        let own = !matches!(name.as_str(), "default" | "bridge" | "host" | "none")
            && !name.starts_with("container:");
        if (own || endpoint != EndpointSettings::default())
            && endpoints.insert(name.clone(), endpoint).is_some()
        {
            return Err(Failure::words(format!("network {name:?} is specified multiple times")));
        }
    }
    let config = NetworkingConfig { endpoints_config: Some(endpoints) };
    let any = config.endpoints_config.as_ref().is_some_and(|endpoints| !endpoints.is_empty());
    Ok((mode, any.then_some(config)))
}

/// A network's name, or `name=NETWORK,alias=…,ip=…`.
fn attachment(text: &str) -> Result<(String, EndpointSettings)> {
    let mut endpoint = EndpointSettings::default();
    if !text.contains('=') {
        return Ok((text.to_string(), endpoint));
    }
    let mut name = None;
    for field in text.split(',') {
        let (key, value) = field.split_once('=').ok_or_else(|| {
            Failure::words(format!("invalid field '{field}' in --network {text}"))
        })?;
        match key.to_ascii_lowercase().as_str() {
            "name" => name = Some(value.to_string()),
            "alias" => endpoint.aliases.get_or_insert_default().push(value.into()),
            "ip" => ipam(&mut endpoint).ipv4_address = Some(value.into()),
            "ip6" => ipam(&mut endpoint).ipv6_address = Some(value.into()),
            "mac-address" => endpoint.mac_address = Some(value.into()),
            "driver-opt" => {
                let (key, value) = super::environment::pair(value);
                endpoint.driver_opts.get_or_insert_default().insert(key, value);
            }
            _ => return Err(Failure::words(format!("invalid field key {key}"))),
        }
    }
    let name = name.ok_or_else(|| Failure::words("network name/id is not specified"))?;
    Ok((name, endpoint))
}

fn ipam(endpoint: &mut EndpointSettings) -> &mut EndpointIpamConfig {
    endpoint.ipam_config.get_or_insert_with(EndpointIpamConfig::default)
}

fn add_options(options: &Network, endpoint: &mut EndpointSettings) -> Result<()> {
    let twice = |what: &str| {
        Failure::words(format!(
            "conflicting options: cannot specify both --{what} and per-network {what}"
        ))
    };
    if !options.network_alias.is_empty() {
        if endpoint.aliases.is_some() {
            return Err(twice("network-alias"));
        }
        endpoint.aliases = Some(options.network_alias.clone());
    }
    if options.ip.is_some() {
        ipam(endpoint).ipv4_address.clone_from(&options.ip);
    }
    if options.ip6.is_some() {
        ipam(endpoint).ipv6_address.clone_from(&options.ip6);
    }
    if options.mac_address.is_some() {
        endpoint.mac_address.clone_from(&options.mac_address);
    }
    if !options.link.is_empty() {
        endpoint.links = Some(options.link.clone());
    }
    Ok(())
}
