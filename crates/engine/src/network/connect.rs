//! Containers are connected to networks and disconnected from them.
//!
//! Of a container that does not run only the record changes. One of type process is changed while it
//! runs; the interfaces of a microVM are there before its kernel boots and stay as they are.

use std::fmt::Write as _;
use std::sync::Arc;

use caisson_net::{connect_namespace, set_default_route};

use super::endpoints::Mode;
use super::files::{own_names, put, read_bounded};
use super::state::{Driver, Recorded};
use super::up::{connection, gateway_of};
use crate::record::{EndpointRecord, RuntimeType};
use crate::stop::refuse_doomed;
use crate::{Container, Engine, Error, Kind, Record, Result, blocking, wire};

/// How many interfaces a container may have.
const INTERFACES: usize = 64;

impl Engine {
    pub async fn network_connect(
        &self,
        name: &str,
        request: wire::NetworkConnectRequest,
    ) -> Result<()> {
        let container = self.0.containers.get(&request.container.unwrap_or_default())?;
        let _busy = container.busy.lock().await;
        refuse_doomed(&container)?;
        let network = self.0.networks.state().find(name)?.recorded.clone();
        let record = container.record();
        check_connect(&record, &network)?;
        let settings = request.endpoint_config.unwrap_or_default();
        let endpoint = self.endpoint_new(&network.name, settings)?;
        if record.running() {
            return self.connect_live(&container, &network, endpoint).await;
        }
        let replaced = record.networks.iter().find(|known| is_of(known, &network));
        if let Some(replaced) = replaced
            && let Some(network) = self.0.networks.state().get_mut(&network.id)
        {
            network.release(&replaced.endpoint_id);
        }
        container.change(|record| {
            record.networks.retain(|known| !is_of(known, &network));
            record.networks.push(endpoint);
        })
    }

    /// Connects a process container that runs.
    async fn connect_live(
        &self,
        container: &Arc<Container>,
        network: &Recorded,
        mut endpoint: EndpointRecord,
    ) -> Result<()> {
        let record = container.record();
        let leads = !network.internal && self.way_out(&record.networks).is_none();
        let connected = {
            let mut state = self.0.networks.state();
            let known = state
                .get_mut(&network.id)
                .ok_or_else(|| Error::not_found(format!("network {} not found", network.name)))?;
            known.hold(&mut endpoint)?;
            known.active.insert(record.id.clone());
            endpoint
        };
        let result = async {
            self.connect_next(&record, network, &connected, leads).await?;
            container.change(|record| record.networks.push(connected.clone()))
        };
        if let Err(error) = result.await {
            if let Some(network) = self.0.networks.state().get_mut(&network.id) {
                network.release(&connected.endpoint_id);
                network.active.remove(&record.id);
            }
            // The first failure is told.
            let _ = caisson_net::disconnect(&host_side(&connected)).await;
            return Err(error);
        }
        if let Some(address) = connected.address {
            let line = format!("{address}\t{}", own_names(&record));
            self.change_files(container, move |hosts| {
                let _ = writeln!(hosts, "{line}");
            })
            .await;
        }
        self.tell_network("connect", network, Some(&record.id));
        Ok(())
    }

    /// Gives the container the first interface name that it does not use.
    async fn connect_next(
        &self,
        record: &Record,
        network: &Recorded,
        endpoint: &EndpointRecord,
        leads: bool,
    ) -> Result<()> {
        let path = self.namespace_path(record);
        for number in 0..INTERFACES {
            let Some(connection) = connection(endpoint, network, number, leads) else {
                return Ok(());
            };
            match connect_namespace(&path, &connection).await {
                Err(caisson_net::Error::Interface { source, .. })
                    if source.raw_os_error() == Some(libc::EEXIST) => {}
                other => return Ok(other?),
            }
        }
        Err(Error::conflict(format!(
            "container {} has {INTERFACES} interfaces already: disconnect it from a network",
            record.name
        )))
    }

    /// The id of the endpoint that leads outside.
    fn way_out(&self, endpoints: &[EndpointRecord]) -> Option<String> {
        let mut state = self.0.networks.state();
        let known: Vec<_> = endpoints
            .iter()
            .filter_map(|endpoint| {
                Some((endpoint, state.of_endpoint(endpoint).ok()?.recorded.clone()))
            })
            .collect();
        gateway_of(known.iter().map(|(endpoint, network)| (*endpoint, network)))
    }

    pub async fn network_disconnect(
        &self,
        name: &str,
        request: wire::NetworkDisconnectRequest,
    ) -> Result<()> {
        let container = self.0.containers.get(&request.container.unwrap_or_default())?;
        let _busy = container.busy.lock().await;
        refuse_doomed(&container)?;
        let record = container.record();
        let network = self.0.networks.state().find(name).map(|found| found.recorded.clone());
        let known = |endpoint: &&EndpointRecord| match &network {
            Ok(network) => is_of(endpoint, network),
            // It has been removed: the container still has its name.
            Err(_) => endpoint.network_name == name || endpoint.network == name,
        };
        let Some(endpoint) = record.networks.iter().find(known).cloned() else {
            let name = network?.name;
            return Err(Error::internal(format!(
                "container {} is not connected to network {name}",
                record.id
            )));
        };
        if matches!(&network, Ok(network) if network.driver == Driver::Host) {
            return Err(Error::invalid(HOST));
        }
        if !record.running() {
            if let Ok(network) = network
                && let Some(network) = self.0.networks.state().get_mut(&network.id)
            {
                network.release(&endpoint.endpoint_id);
            }
            return forget(&container, &endpoint);
        }
        if record.runtime_type == RuntimeType::Hyperv {
            return Err(while_running(&record, "disconnect"));
        }
        self.disconnect_live(&container, &network?, &endpoint).await
    }

    /// Disconnects a process container that runs.
    async fn disconnect_live(
        &self,
        container: &Arc<Container>,
        network: &Recorded,
        endpoint: &EndpointRecord,
    ) -> Result<()> {
        let record = container.record();
        let led = self.way_out(&record.networks).as_ref() == Some(&endpoint.endpoint_id);
        if led && !record.state.ports.is_empty() {
            // They lead to the address that is given back.
            self.ports_unpublish(&record).await?;
        }
        caisson_net::disconnect(&host_side(endpoint)).await?;
        forget(container, endpoint)?;
        if let Some(network) = self.0.networks.state().get_mut(&network.id) {
            network.release(&endpoint.endpoint_id);
            network.active.remove(&record.id);
        }
        if led {
            self.lead_elsewhere(&container.record()).await?;
        }
        if let Some(address) = endpoint.address {
            self.change_files(container, move |hosts| {
                let own = format!("{address}\t");
                let kept: Vec<_> = hosts.lines().filter(|line| !line.starts_with(&own)).collect();
                *hosts = kept.iter().map(|line| format!("{line}\n")).collect();
            })
            .await;
        }
        self.tell_network("disconnect", network, Some(&record.id));
        Ok(())
    }

    /// Makes another network the way outside, if there is one.
    async fn lead_elsewhere(&self, record: &Record) -> Result<()> {
        let Some(id) = self.way_out(&record.networks) else { return Ok(()) };
        let endpoint = record.networks.iter().find(|endpoint| endpoint.endpoint_id == id);
        let gateway = endpoint.and_then(|endpoint| {
            let mut state = self.0.networks.state();
            let network = state.of_endpoint(endpoint).ok()?;
            network.recorded.bridge.as_ref().map(|bridge| bridge.gateway)
        });
        if let Some(gateway) = gateway {
            set_default_route(&self.namespace_path(record), gateway).await?;
        }
        self.ports_restore(record).await
    }

    /// Changes the files of a container that runs: `hosts` as told, and who is asked for names. What
    /// cannot be changed stays: its user may have made it whatever it is.
    async fn change_files(
        &self,
        container: &Arc<Container>,
        change: impl FnOnce(&mut String) + Send + 'static,
    ) {
        let (engine, container) = (self.clone(), container.clone());
        let changed = blocking(move || {
            let path = container.places.file("hosts");
            let mut hosts = read_bounded(&path)?;
            change(&mut hosts);
            put(&path, hosts.as_bytes())?;
            engine.write_resolv_conf(&container, &container.record())
        });
        if let Err(error) = changed.await {
            tracing::warn!("{error}");
        }
    }
}

const HOST: &str =
    "container cannot be disconnected from host network or connected to host network";

fn is_of(endpoint: &EndpointRecord, network: &Recorded) -> bool {
    endpoint.network == network.id || endpoint.network_name == network.name
}

fn host_side(endpoint: &EndpointRecord) -> String {
    super::interface("csv", &endpoint.endpoint_id)
}

fn forget(container: &Container, endpoint: &EndpointRecord) -> Result<()> {
    container.change(|record| {
        record.networks.retain(|known| known.endpoint_id != endpoint.endpoint_id);
    })
}

fn while_running(record: &Record, what: &str) -> Error {
    Error::conflict(format!(
        "cannot {what} container {}: the interfaces of a hyperv container that runs stay as they are: stop it first",
        record.name
    ))
}

/// Refuses what a container cannot be connected to.
fn check_connect(record: &Record, network: &Recorded) -> Result<()> {
    if network.driver == Driver::Host {
        return Err(Error::invalid(HOST));
    }
    if !matches!(Mode::of(&record.host_config), Mode::Own(_)) {
        return Err(Error::invalid(
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ));
    }
    let mut others = record.networks.iter().filter(|endpoint| !is_of(endpoint, network));
    let other = others.next();
    let private = network.driver == Driver::Null && other.is_some();
    if private || record.networks.iter().any(|endpoint| endpoint.network_name == "none") {
        return Err(Error::invalid(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ));
    }
    if record.runtime_type == RuntimeType::Hyperv {
        if record.running() {
            return Err(while_running(record, "connect"));
        }
        if let Some(other) = other {
            return Err(Error::conflict(format!(
                "cannot connect container {} to {}: a hyperv container has one network: disconnect it from {} first",
                record.name, network.name, other.network_name
            )));
        }
    }
    if record.running() && record.networks.iter().any(|endpoint| is_of(endpoint, network)) {
        return Err(Error::new(
            Kind::Forbidden,
            format!(
                "endpoint with name {} already exists in network {}",
                record.name, network.name
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::{endpoint, network};
    use super::*;
    use crate::list::tests::record;
    use crate::record::Status;

    fn refusal(record: &Record, network: &Recorded) -> String {
        check_connect(record, network).unwrap_err().message
    }

    #[test]
    fn a_process_container_may_have_several_networks() {
        let mut one = record('1', "web", 100);
        one.networks = vec![endpoint('e', "bridge")];
        let n1 = network('a', "n1", 0);
        check_connect(&one, &n1).unwrap();
        one.networks.push(endpoint('f', "n1"));
        assert_eq!(refusal(&one, &n1), "endpoint with name web already exists in network n1");
        one.state.status = Status::Exited;
        check_connect(&one, &n1).unwrap();
    }

    #[test]
    fn a_hyperv_container_has_one() {
        let mut one = record('1', "web", 100);
        one.runtime_type = RuntimeType::Hyperv;
        one.networks = vec![endpoint('e', "bridge")];
        let n1 = network('a', "n1", 0);
        assert!(refusal(&one, &n1).ends_with("stop it first"));
        one.state.status = Status::Exited;
        assert!(refusal(&one, &n1).ends_with("disconnect it from bridge first"));
        one.networks.clear();
        check_connect(&one, &n1).unwrap();
    }

    #[test]
    fn namespaces_of_others_are_left_alone() {
        let mut one = record('1', "web", 100);
        let n1 = network('a', "n1", 0);
        let host = Recorded { driver: Driver::Host, bridge: None, ..network('b', "host", 0) };
        assert_eq!(refusal(&one, &host), HOST);
        one.networks = vec![endpoint('e', "none")];
        assert!(refusal(&one, &n1).contains("private (none) mode"));
        one.networks.clear();
        for mode in ["host", "container:db"] {
            one.host_config.network_mode = Some(mode.into());
            assert!(refusal(&one, &n1).starts_with("container sharing network namespace"));
        }
    }
}
