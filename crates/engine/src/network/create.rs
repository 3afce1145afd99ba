//! Networks are made and removed.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use caisson_api::filters::Filters;
use caisson_net::{choose_subnet, ensure_bridge, overlaps, remove_bridge};

use super::interface;
use super::open::bridge_record;
use super::state::{BridgeRecord, Driver, Network, Recorded, State, Subnet, predefined};
use super::sweep::mark;
use crate::volume::random_name;
use crate::{Engine, Error, Kind, Result, blocking, wire};

const NAME_OPTION: &str = "com.docker.network.bridge.name";
const MTU_OPTION: &str = "com.docker.network.driver.mtu";
/// Options with the one value that networks here have.
const FIXED: [(&str, &str); 3] = [
    ("com.docker.network.bridge.enable_icc", "true"),
    ("com.docker.network.bridge.enable_ip_masquerade", "true"),
    ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0"),
];

impl Engine {
    pub async fn network_create(
        &self,
        request: wire::NetworkCreateRequest,
    ) -> Result<wire::NetworkCreateResponse> {
        let _changing = self.0.networks.changing.lock().await;
        let recorded = {
            let mut state = self.0.networks.state();
            let recorded = planned(&state, random_name()?, request)?;
            state.0.push(Network::new(recorded.clone()));
            recorded
        };
        if let Err(error) = self.network_make(&recorded).await {
            self.0.networks.state().0.retain(|network| network.recorded.id != recorded.id);
            self.network_unmake(&recorded).await;
            return Err(error);
        }
        self.tell_network("create", &recorded, None);
        Ok(wire::NetworkCreateResponse { id: recorded.id, warning: String::new() })
    }

    /// Records a network that is in the state, and makes it on the host.
    async fn network_make(&self, recorded: &Recorded) -> Result<()> {
        self.networks_save().await?;
        if let Some(bridge) = recorded.host_bridge() {
            ensure_bridge(&bridge).await?;
            if let Ok(root) = self.0.settings.data_root.canonicalize() {
                mark(&bridge.name, &root).await;
            }
        }
        self.firewall_follow().await?;
        self.resolver_try(recorded).await;
        Ok(())
    }

    /// Takes back what a failed creation left; the failure is told.
    async fn network_unmake(&self, recorded: &Recorded) {
        let warn = |result: Result<()>| {
            if let Err(error) = result {
                tracing::warn!("network {}: {error}", recorded.name);
            }
        };
        warn(self.networks_save().await);
        if let Some(bridge) = &recorded.bridge {
            warn(remove_bridge(&bridge.interface).await.map_err(Error::from));
        }
    }

    async fn networks_save(&self) -> Result<()> {
        let engine = self.clone();
        blocking(move || engine.0.networks.state().save(&engine.networks_file())).await
    }

    /// Writes the firewall's rules for the bridges that there are.
    async fn firewall_follow(&self) -> Result<()> {
        let bridges = self.0.networks.state().bridges();
        Ok(self.0.networks.opened()?.firewall.install(&bridges).await?)
    }

    pub async fn network_remove(&self, name: &str) -> Result<()> {
        let _changing = self.0.networks.changing.lock().await;
        let id = self.0.networks.state().find(name)?.recorded.id.clone();
        self.network_remove_now(&id).await
    }

    /// Removes a network of this id; the caller holds `changing`.
    async fn network_remove_now(&self, id: &str) -> Result<()> {
        let (place, network) = self.network_take(id)?;
        let recorded = network.recorded.clone();
        if let Err(error) = self.network_erase(&recorded).await {
            // It is still recorded: it is there.
            let mut state = self.0.networks.state();
            let place = place.min(state.0.len());
            state.0.insert(place, network);
            return Err(error.doing(format!("error while removing network {}", recorded.name)));
        }
        self.tell_network("destroy", &recorded, None);
        Ok(())
    }

    /// Takes a network that nobody uses out of the state: no container can be connected to it any more.
    fn network_take(&self, id: &str) -> Result<(usize, Network)> {
        let mut state = self.0.networks.state();
        let network = state.find(id)?;
        let name = &network.recorded.name;
        let forbid = |message| Err(Error::new(Kind::Forbidden, message));
        if network.recorded.predefined() {
            return forbid(format!("{name} is a pre-defined network and cannot be removed"));
        }
        if !network.active.is_empty() {
            let users: Vec<_> = network.active.iter().map(|id| self.user(id)).collect();
            return forbid(format!(
                "error while removing network: network {name} has active endpoints ({})",
                users.join(", ")
            ));
        }
        let place = state.0.iter().position(|network| network.recorded.id == id);
        let place = place.ok_or_else(|| Error::not_found(format!("network {id} not found")))?;
        Ok((place, state.0.remove(place)))
    }

    fn user(&self, id: &str) -> String {
        let container = self.0.containers.get(id);
        let name = container.map_or(String::new(), |one| one.look(|record| record.name.clone()));
        format!("name:{name:?} id:{:?}", id.get(..12).unwrap_or(id))
    }

    async fn network_erase(&self, recorded: &Recorded) -> Result<()> {
        self.resolver_stop(&recorded.id);
        if let Some(bridge) = &recorded.bridge {
            remove_bridge(&bridge.interface).await?;
        }
        if let Err(error) = self.networks_save().await {
            if let Some(bridge) = recorded.host_bridge() {
                ensure_bridge(&bridge).await?;
            }
            return Err(error);
        }
        if let Err(error) = self.firewall_follow().await {
            // Rules for a bridge that is gone are nothing to anybody.
            tracing::warn!("network {}: {error}", recorded.name);
        }
        Ok(())
    }

    pub async fn networks_prune(&self, filters: &Filters) -> Result<wire::NetworkPruneResponse> {
        filters.check(&["label", "label!", "until"])?;
        let until = filters.until(crate::now())?;
        let _changing = self.0.networks.changing.lock().await;
        let doomed: Vec<_> = {
            let state = self.0.networks.state();
            let doomed = state.0.iter().filter(|network| network.prunable(filters, until));
            doomed.map(|network| network.recorded.clone()).collect()
        };
        let mut deleted = Vec::new();
        for network in doomed {
            match self.network_remove_now(&network.id).await {
                Ok(()) => deleted.push(network.name),
                Err(error) => tracing::warn!("{error}"),
            }
        }
        Ok(wire::NetworkPruneResponse {
            networks_deleted: Some(deleted).filter(|deleted| !deleted.is_empty()),
        })
    }

    /// Takes the bridges and the table off the host, unless a container runs that needs them: for a
    /// daemon that ends in order. They are made again when the networks are opened.
    pub async fn networks_close(&self) {
        let Ok(opened) = self.0.networks.opened() else { return };
        let bridges = {
            let state = self.0.networks.state();
            if state.0.iter().any(|network| !network.active.is_empty()) {
                return;
            }
            state.bridges()
        };
        opened.pool.drain();
        self.0.networks.resolvers().drain().for_each(|(_, task)| task.abort());
        let mut results = vec![opened.firewall.remove().await];
        for bridge in bridges {
            results.push(remove_bridge(&bridge.name).await);
        }
        for error in results.into_iter().filter_map(Result::err) {
            tracing::warn!("{}", crate::error::chain(&error));
        }
    }
}

impl Network {
    /// Whether a removal of all unused networks removes it.
    fn prunable(&self, filters: &Filters, until: Option<i64>) -> bool {
        self.active.is_empty()
            && !self.recorded.predefined()
            && until.is_none_or(|until| self.recorded.created < until)
            && filters.labels(&self.recorded.labels)
    }
}

/// The network that a request asks for.
fn planned(state: &State, id: String, request: wire::NetworkCreateRequest) -> Result<Recorded> {
    let name = request.name.clone();
    if name.trim().is_empty() || name.contains(|c: char| c.is_control() || c == '/') {
        return Err(Error::invalid(format!(
            "invalid name: {}",
            if name.trim().is_empty() { "name is empty".into() } else { format!("{name:?}") }
        )));
    }
    check_kind(&request)?;
    if predefined(&name) || name == "default" {
        return Err(Error::new(
            Kind::Forbidden,
            format!("operation is not permitted on predefined {name} network "),
        ));
    }
    if state.0.iter().any(|network| network.recorded.name == name) {
        return Err(Error::conflict(format!("network with name {name} already exists")));
    }
    let options = request.options.unwrap_or_default();
    let bridge = bridge(state, &id, request.ipam.unwrap_or_default(), &options)?;
    Ok(Recorded {
        id,
        name,
        driver: Driver::Bridge,
        internal: request.internal == Some(true),
        attachable: request.attachable == Some(true),
        labels: request.labels.unwrap_or_default(),
        options,
        created: crate::now(),
        bridge: Some(bridge),
    })
}

/// Refuses what networks here are not.
fn check_kind(request: &wire::NetworkCreateRequest) -> Result<()> {
    match request.driver.as_deref().unwrap_or_default() {
        "" | "default" | "bridge" => {}
        driver @ ("host" | "null") => {
            return Err(Error::new(
                Kind::Forbidden,
                format!("only one instance of \"{driver}\" network is allowed"),
            ));
        }
        driver => return Err(Error::not_found(format!("plugin {driver:?} not found"))),
    }
    if !matches!(request.scope.as_deref().unwrap_or_default(), "" | "local") {
        return Err(Error::invalid("the scope of a network is local: there is no swarm"));
    }
    let refused = [
        (
            request.enable_ipv6 == Some(true),
            "IPv6 networks are not supported: leave out EnableIPv6",
        ),
        (request.enable_ipv4 == Some(false), "networks are IPv4: leave out EnableIPv4"),
        (request.ingress == Some(true), "ingress networks need a swarm"),
        (request.config_only == Some(true), "configuration networks are not supported"),
        (
            request
                .config_from
                .as_ref()
                .and_then(|from| from.network.as_deref())
                .is_some_and(|from| !from.is_empty()),
            "configuration networks are not supported",
        ),
    ];
    match refused.iter().find(|(refused, _)| *refused) {
        Some((_, why)) => Err(Error::invalid(*why)),
        None => Ok(()),
    }
}

fn bridge(
    state: &State,
    id: &str,
    ipam: wire::Ipam,
    options: &HashMap<String, String>,
) -> Result<BridgeRecord> {
    if !matches!(ipam.driver.as_deref().unwrap_or_default(), "" | "default") {
        let driver = ipam.driver.unwrap_or_default();
        return Err(Error::not_found(format!("plugin {driver:?} not found")));
    }
    let mut configs = ipam.config.unwrap_or_default().into_iter();
    let config = configs.next().unwrap_or_default();
    if configs.next().is_some() {
        return Err(Error::invalid("bridge driver doesn't support multiple subnets"));
    }
    let taken = state.subnets();
    let subnet = match config.subnet.as_deref().filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => Some(own_subnet(text, &taken)?),
    };
    let only_with_subnet = [&config.gateway, &config.ip_range];
    if subnet.is_none()
        && only_with_subnet.iter().any(|given| given.as_ref().is_some_and(|text| !text.is_empty()))
    {
        return Err(Error::invalid(
            "invalid network config: a gateway or an ip-range needs a subnet",
        ));
    }
    let chosen = match subnet {
        Some(subnet) => subnet,
        None => choose_subnet(&taken)?,
    };
    let mut bridge = bridge_record(interface("csb", id), chosen);
    place(&mut bridge, &config)?;
    apply_options(&mut bridge, options)?;
    Ok(bridge)
}

/// A subnet that a user chose.
fn own_subnet(text: &str, taken: &[Subnet]) -> Result<Subnet> {
    let (address, prefix) = parse_subnet(text).ok_or_else(|| {
        bad_config(format!("invalid subnet {text}: it is not IPv4 in CIDR notation"))
    })?;
    let base = first_of((address, prefix));
    if base != address {
        return Err(bad_config(format!("invalid subnet {text}: it should be {base}/{prefix}")));
    }
    if !(1..=30).contains(&prefix) {
        return Err(bad_config(format!("invalid subnet {text}: its prefix is 1 to 30")));
    }
    if taken.iter().any(|other| overlaps((address, prefix), *other)) {
        return Err(Error::new(
            Kind::Forbidden,
            "invalid pool request: Pool overlaps with other one on this address space",
        ));
    }
    Ok((address, prefix))
}

fn bad_config(why: String) -> Error {
    Error::invalid(format!("invalid network config: {why}"))
}

fn parse_subnet(text: &str) -> Option<Subnet> {
    let (address, prefix) = text.split_once('/')?;
    let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
    Some((address.parse().ok()?, prefix))
}

fn first_of((address, prefix): Subnet) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    (u32::from(address) & mask).into()
}

/// Sets what the configuration says besides the subnet.
fn place(bridge: &mut BridgeRecord, config: &wire::IpamConfig) -> Result<()> {
    let subnet = bridge.subnet;
    let (first, prefix) = subnet;
    let last = Ipv4Addr::from(u32::from(first) | (u32::MAX >> prefix));
    let address = |what: &str, text: &str| -> Result<Ipv4Addr> {
        let address = text.parse().map_err(|_| bad_config(format!("invalid {what} {text}")))?;
        let inside = overlaps(subnet, (address, 32)) && address != first && address != last;
        if inside {
            return Ok(address);
        }
        Err(bad_config(format!("no matching subnet for {what} {text}")))
    };
    if let Some(text) = config.gateway.as_deref().filter(|text| !text.is_empty()) {
        bridge.gateway = address("gateway", text)?;
    }
    if let Some(text) = config.ip_range.as_deref().filter(|text| !text.is_empty()) {
        let range =
            parse_subnet(text).ok_or_else(|| bad_config(format!("invalid ip-range {text}")))?;
        if !overlaps(subnet, range) || range.1 < prefix {
            return Err(bad_config(format!("no matching subnet for ip-range {text}")));
        }
        bridge.range = Some((first_of(range), range.1));
    }
    let given = config.auxiliary_addresses.iter().flatten();
    let reserved: Result<BTreeMap<_, _>> =
        given.map(|(name, text)| Ok((name.clone(), address("auxiliary address", text)?))).collect();
    bridge.reserved = reserved?;
    Ok(())
}

fn apply_options(bridge: &mut BridgeRecord, options: &HashMap<String, String>) -> Result<()> {
    let refuse = |name: &str, value: &str, why: &str| {
        Err(Error::invalid(format!("network option {name}={value}: {why}")))
    };
    for (name, value) in options {
        if let Some((_, only)) = FIXED.iter().find(|(fixed, _)| fixed == name)
            && !(value == only || *only == "true" && value == "1")
        {
            return refuse(name, value, &format!("only {only} is supported"));
        }
        match name.as_str() {
            MTU_OPTION => match value.parse() {
                Ok(mtu @ 68..=65535) => bridge.mtu = mtu,
                _ => return refuse(name, value, "it is 68 to 65535"),
            },
            NAME_OPTION if !value.is_empty() => {
                if caisson_net::interface_exists(value) {
                    return refuse(name, value, "an interface of that name exists on this host");
                }
                bridge.interface.clone_from(value);
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::network;
    use super::*;

    fn state() -> State {
        State(vec![Network::new(network('a', "n1", 0))])
    }

    fn request(name: &str, subnet: &str) -> wire::NetworkCreateRequest {
        let config = wire::IpamConfig { subnet: Some(subnet.into()), ..Default::default() };
        let ipam = wire::Ipam { config: Some(vec![config]), ..Default::default() };
        wire::NetworkCreateRequest { name: name.into(), ipam: Some(ipam), ..Default::default() }
    }

    fn refusal(request: wire::NetworkCreateRequest) -> (Kind, String) {
        let error = planned(&state(), "b".repeat(64), request).unwrap_err();
        (error.kind, error.message)
    }

    #[test]
    fn what_is_asked_for_is_recorded() {
        let mut asked = request("n2", "10.8.0.0/24");
        let config = &mut asked.ipam.as_mut().unwrap().config.as_mut().unwrap()[0];
        config.gateway = Some("10.8.0.254".into());
        config.ip_range = Some("10.8.0.128/25".into());
        config.auxiliary_addresses = Some([("router".into(), "10.8.0.128".into())].into());
        asked.internal = Some(true);
        asked.options = Some([(MTU_OPTION.into(), "1400".into())].into());
        let made = planned(&state(), "b".repeat(64), asked).unwrap();
        let bridge = made.bridge.clone().unwrap();
        assert_eq!(bridge.interface, "csbbbbbbbbbbbbb");
        assert_eq!((bridge.gateway, bridge.mtu), ([10, 8, 0, 254].into(), 1400));
        assert_eq!(bridge.range, Some(([10, 8, 0, 128].into(), 25)));
        assert!(made.internal);
        let mut one = Network::new(made);
        let mut endpoint = super::super::state::tests::endpoint('e', "n2");
        one.hold(&mut endpoint).unwrap();
        assert_eq!(endpoint.address, Some([10, 8, 0, 129].into()));
        let made = planned(&state(), "b".repeat(64), request("n2", "")).unwrap();
        let bridge = made.bridge.unwrap();
        assert_eq!(u32::from(bridge.gateway), u32::from(bridge.subnet.0) + 1);
    }

    #[test]
    fn refusals_are_dockers() {
        for (name, subnet, kind, text) in [
            (" ", "", Kind::Invalid, "invalid name: name is empty"),
            ("a/b", "", Kind::Invalid, "invalid name: \"a/b\""),
            ("n1", "", Kind::Conflict, "network with name n1 already exists"),
            ("host", "", Kind::Forbidden, "operation is not permitted on predefined host network "),
            (
                "n2",
                "10.8.0.5/24",
                Kind::Invalid,
                "invalid network config: invalid subnet 10.8.0.5/24: it should be 10.8.0.0/24",
            ),
            (
                "n2",
                "10.8.0.0/31",
                Kind::Invalid,
                "invalid network config: invalid subnet 10.8.0.0/31: its prefix is 1 to 30",
            ),
            (
                "n2",
                "fd00::/64",
                Kind::Invalid,
                "invalid network config: invalid subnet fd00::/64: it is not IPv4 in CIDR notation",
            ),
            (
                "n2",
                "10.9.0.0/24",
                Kind::Forbidden,
                "invalid pool request: Pool overlaps with other one on this address space",
            ),
        ] {
            assert_eq!(refusal(request(name, subnet)), (kind, text.into()), "{name} {subnet}");
        }
    }

    #[test]
    fn what_networks_here_are_not_is_refused() {
        let with = |change: fn(&mut wire::NetworkCreateRequest)| {
            let mut asked = request("n2", "10.8.0.0/24");
            change(&mut asked);
            refusal(asked)
        };
        let missing = with(|asked| asked.driver = Some("overlay".into()));
        assert_eq!(missing, (Kind::NotFound, "plugin \"overlay\" not found".into()));
        let host = with(|asked| asked.driver = Some("host".into()));
        assert_eq!(host.1, "only one instance of \"host\" network is allowed");
        assert_eq!(with(|asked| asked.enable_ipv6 = Some(true)).0, Kind::Invalid);
        let gateway = with(|asked| {
            let config = &mut asked.ipam.as_mut().unwrap().config.as_mut().unwrap()[0];
            config.gateway = Some("10.7.0.1".into());
        });
        assert_eq!(gateway.1, "invalid network config: no matching subnet for gateway 10.7.0.1");
        let icc = with(|asked| {
            asked.options =
                Some([("com.docker.network.bridge.enable_icc".into(), "false".into())].into());
        });
        assert_eq!(
            icc.1,
            "network option com.docker.network.bridge.enable_icc=false: only true is supported"
        );
        let taken = with(|asked| asked.options = Some([(NAME_OPTION.into(), "lo".into())].into()));
        assert!(taken.1.ends_with("an interface of that name exists on this host"), "{taken:?}");
    }

    #[test]
    fn what_is_used_is_not_pruned() {
        let mut one = Network::new(network('a', "n1", 0));
        let none = Filters::default();
        assert!(one.prunable(&none, None));
        assert!(!one.prunable(&none, Some(1)));
        one.active.insert("c".into());
        assert!(!one.prunable(&none, None));
        assert!(!Network::new(network('a', "bridge", 0)).prunable(&none, None));
    }
}
