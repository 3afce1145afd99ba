//! A container's networks when it starts and ends.
//!
//! Only its namespace is deleted when it ends: the kernel takes the interfaces in it away in the
//! background, where deleting them by name would hold up the next start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use caisson_net::{Endpoint, connect_namespace, create_namespace, delete_namespace};
use caisson_protocol::agent::Interface;

use super::endpoints::{Mode, own_namespace};
use super::state::{Recorded, State};
use super::{Connected, interface};
use crate::error::Doing;
use crate::record::{EndpointRecord, RuntimeType, Status};
use crate::{Container, Engine, Error, Record, Result, blocking};

/// How many containers may share one namespace in a row.
const SHARED: usize = 16;
/// How long a start may keep the spare namespaces from being made again.
const START: Duration = Duration::from_secs(10);

/// A container's endpoints with addresses, and what connects it to them, in the same order.
#[derive(Debug, Default)]
struct Plan {
    endpoints: Vec<EndpointRecord>,
    networks: Vec<Recorded>,
    connections: Vec<Endpoint>,
}

impl Engine {
    /// Gives the endpoints addresses and, for process, a network namespace.
    pub(crate) async fn network_up(&self, record: &Record) -> Result<Connected> {
        if let Mode::Container(other) = Mode::of(&record.host_config) {
            return self.network_shared(record, other);
        }
        let connected = self.network_own(record).await;
        connected.map_err(|error| error.doing("failed to set up container networking"))
    }

    /// The namespace of another container, which runs.
    fn network_shared(&self, record: &Record, other: &str) -> Result<Connected> {
        let mut other = self.0.containers.get(other)?.record();
        for _ in 0..SHARED {
            if other.id == record.id {
                return Err(own_namespace());
            }
            if !other.running() {
                return Err(Error::conflict(format!(
                    "cannot join network of a non running container: {}",
                    other.id
                )));
            }
            for (which, runtime_type) in
                [("this", record.runtime_type), ("that", other.runtime_type)]
            {
                if runtime_type == RuntimeType::Hyperv {
                    return Err(Error::conflict(format!(
                        "cannot share the network of container {}: {which} container is of runtime type hyperv, whose network is inside its microVM",
                        other.name
                    )));
                }
            }
            let next = match Mode::of(&other.host_config) {
                Mode::Host => return Ok(Connected::default()),
                Mode::Own(_) => {
                    let namespace = Some(self.namespace_path(&other));
                    return Ok(Connected { namespace, ..Default::default() });
                }
                Mode::Container(next) => self.0.containers.get(next)?,
            };
            other = next.record();
        }
        Err(Error::conflict(format!("containers that share the network of {} in a ring", other.id)))
    }

    async fn network_own(&self, record: &Record) -> Result<Connected> {
        let plan = plan(&mut self.0.networks.state(), record)?;
        let mut connected = Connected { endpoints: plan.endpoints.clone(), ..Default::default() };
        match (record.runtime_type, Mode::of(&record.host_config)) {
            (RuntimeType::Hyperv, Mode::Host) => {
                return Err(Error::conflict("a hyperv container cannot use the host's network"));
            }
            (RuntimeType::Hyperv, _) => {
                if plan.connections.len() > 1 {
                    return Err(Error::conflict(
                        "a hyperv container has one network: disconnect it from the others",
                    ));
                }
                connected.interfaces = plan.connections.iter().map(guest_interface).collect();
                connected.bridge = plan.connections.first().map(|one| one.bridge.clone());
            }
            (RuntimeType::Process, Mode::Host) => {}
            (RuntimeType::Process, _) => {
                let path = self.namespace_path(record);
                self.connect_all(&path, &plan.connections).await?;
                connected.namespace = Some(path);
                self.refill_after(record);
            }
        }
        for network in &plan.networks {
            self.tell_network("connect", network, Some(&record.id));
        }
        Ok(connected)
    }

    async fn connect_all(&self, path: &Path, connections: &[Endpoint]) -> Result<()> {
        let opened = self.0.networks.opened()?;
        clear(path.to_owned()).await?;
        let Some((first, others)) = connections.split_first() else {
            return Ok(create_namespace(path).await?);
        };
        opened.pool.take(path, first).await?;
        for endpoint in others {
            if let Err(error) = connect_namespace(path, endpoint).await {
                // The first failure is told.
                let _ = clear(path.to_owned()).await;
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Makes spare namespaces again once the container has started: not in the way of its start.
    fn refill_after(&self, record: &Record) {
        let (Ok(container), engine) = (self.0.containers.get(&record.id), self.clone()) else {
            return;
        };
        tokio::spawn(async move {
            settled(&container).await;
            if let Ok(opened) = engine.0.networks.opened() {
                opened.pool.refill();
            }
        });
    }

    /// Takes back what [`Engine::network_up`] made; the addresses stay the container's.
    pub(crate) async fn network_down(&self, record: &Record) -> Result<()> {
        let mut left = Vec::new();
        for network in &mut self.0.networks.state().0 {
            if network.active.remove(&record.id) {
                left.push(network.recorded.clone());
            }
        }
        clear(self.namespace_path(record)).await?;
        for network in &left {
            self.tell_network("disconnect", network, Some(&record.id));
        }
        Ok(())
    }

    /// Gives the addresses of a removed container back.
    pub(crate) fn network_forget(&self, record: &Record) {
        let mut state = self.0.networks.state();
        for network in &mut state.0 {
            network.active.remove(&record.id);
            for endpoint in &record.networks {
                network.release(&endpoint.endpoint_id);
            }
        }
    }
}

/// Waits until a start has come to its end.
async fn settled(container: &Arc<Container>) {
    let mut changes = container.watch();
    let over = changes.wait_for(|record| record.state.status != Status::Starting);
    // A start that takes longer is not waited for.
    let _ = tokio::time::timeout(START, over).await;
}

async fn clear(path: PathBuf) -> Result<()> {
    blocking(move || match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).doing(|| format!("look at {}", path.display())),
        Ok(_) => Ok(delete_namespace(&path)?),
    })
    .await
}

/// Takes addresses, and marks the networks as used by the container.
fn plan(state: &mut State, record: &Record) -> Result<Plan> {
    let mut plan = Plan { endpoints: record.networks.clone(), ..Default::default() };
    for endpoint in &mut plan.endpoints {
        let network = state.of_endpoint(endpoint)?;
        network.hold(endpoint)?;
        plan.networks.push(network.recorded.clone());
    }
    let pairs = plan.endpoints.iter().zip(&plan.networks);
    let gateway = gateway_of(pairs.clone());
    for (number, (endpoint, network)) in pairs
        .filter(|(endpoint, network)| network.bridge.is_some() && endpoint.address.is_some())
        .enumerate()
    {
        let leads = gateway.as_deref() == Some(&endpoint.endpoint_id);
        plan.connections.extend(connection(endpoint, network, number, leads));
    }
    for network in &plan.networks {
        if let Some(network) = state.get_mut(&network.id) {
            network.active.insert(record.id.clone());
        }
    }
    Ok(plan)
}

/// The endpoint that everything but the networks themselves is reached through: the one of the highest
/// priority, the first of those, in a network that leads outside.
pub(super) fn gateway_of<'a>(
    pairs: impl Iterator<Item = (&'a EndpointRecord, &'a Recorded)>,
) -> Option<String> {
    let outside = pairs.filter(|(_, network)| network.bridge.is_some() && !network.internal);
    let priority = |endpoint: &EndpointRecord| endpoint.settings.gw_priority.unwrap_or_default();
    let best = outside
        .map(|(endpoint, _)| endpoint)
        .reduce(|best, endpoint| if priority(endpoint) > priority(best) { endpoint } else { best });
    best.map(|endpoint| endpoint.endpoint_id.clone())
}

/// How a container is connected to one of its networks; `None` where there is nothing to connect.
pub(super) fn connection(
    endpoint: &EndpointRecord,
    network: &Recorded,
    number: usize,
    leads: bool,
) -> Option<Endpoint> {
    let bridge = network.bridge.as_ref()?;
    Some(Endpoint {
        bridge: bridge.interface.clone(),
        host_name: interface("csv", &endpoint.endpoint_id),
        container_name: format!("eth{number}"),
        mac: endpoint.mac,
        address: (endpoint.address?, bridge.subnet.1),
        gateway: leads.then_some(bridge.gateway),
        mtu: bridge.mtu,
    })
}

fn guest_interface(endpoint: &Endpoint) -> Interface {
    let (address, prefix) = endpoint.address;
    Interface {
        name: endpoint.container_name.clone(),
        mac: endpoint.mac,
        addresses: vec![(address.into(), prefix)],
        gateways: endpoint.gateway.map(Into::into).into_iter().collect(),
        mtu: endpoint.mtu,
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::Network;
    use super::super::state::tests::{endpoint, network};
    use super::*;
    use crate::list::tests::record;

    fn networks() -> State {
        let internal = Recorded { internal: true, ..network('b', "inner", 1) };
        State(vec![
            Network::new(network('a', "n1", 0)),
            Network::new(internal),
            Network::new(network('c', "n2", 2)),
        ])
    }

    #[test]
    fn the_first_network_that_leads_outside_is_the_way_out() {
        let mut state = networks();
        let mut one = record('1', "web", 100);
        one.networks = vec![endpoint('d', "inner"), endpoint('e', "n1"), endpoint('f', "n2")];
        let connections = plan(&mut state, &one).unwrap().connections;
        let shown: Vec<_> = connections
            .iter()
            .map(|one| (one.container_name.as_str(), one.address.0.to_string(), one.gateway))
            .collect();
        assert_eq!(
            shown,
            [
                ("eth0", "10.9.1.2".into(), None),
                ("eth1", "10.9.0.2".into(), Some([10, 9, 0, 1].into())),
                ("eth2", "10.9.2.2".into(), None),
            ]
        );
        assert_eq!(connections[0].host_name, "csvdddddddddddd");
        assert_eq!(connections[0].bridge, "csbbbbbbbbbbbbb");
        one.networks[2].settings.gw_priority = Some(1);
        let connections = plan(&mut state, &one).unwrap().connections;
        assert_eq!(connections[2].gateway, Some([10, 9, 2, 1].into()));
        assert!(state.0.iter().all(|network| network.active.contains(&one.id)));
    }

    #[test]
    fn a_network_that_is_gone_is_told_in_dockers_words() {
        let mut one = record('1', "web", 100);
        one.networks = vec![endpoint('e', "n9")];
        let error = plan(&mut networks(), &one).unwrap_err();
        assert_eq!(
            (error.kind, error.message.as_str()),
            (crate::Kind::NotFound, "network n9 not found")
        );
    }

    #[test]
    fn a_guest_gets_what_a_namespace_gets() {
        let mut one = record('1', "web", 100);
        one.networks = vec![endpoint('e', "n1")];
        let plan = plan(&mut networks(), &one).unwrap();
        let guest = guest_interface(&plan.connections[0]);
        assert_eq!((guest.name.as_str(), guest.mtu), ("eth0", 1500));
        assert_eq!(guest.mac, [2, 0x42, 10, 9, 0, 2]);
        assert_eq!(guest.addresses, [([10, 9, 0, 2].into(), 29)]);
        assert_eq!(guest.gateways, [std::net::IpAddr::from([10, 9, 0, 1])]);
    }
}
