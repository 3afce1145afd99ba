//! The networks: bridges of this host, the addresses in them, and the containers' endpoints.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use caisson_api::filters::Filters;
use caisson_protocol::agent::Interface;
use caisson_protocol::supervisor::Published;

use crate::record::{BoundPort, EndpointRecord};
use crate::{Container, Engine, Record, Result, pending, wire};

/// What is known of all networks.
#[derive(Default)]
pub(crate) struct Networks;

/// What a start gets of the networks.
#[derive(Debug, Default)]
pub(crate) struct Connected {
    /// With the addresses that they have from now on.
    pub endpoints: Vec<EndpointRecord>,
    /// process: the network namespace, set up. `None`: the host's.
    pub namespace: Option<PathBuf>,
    /// hyperv: how the guest sets its interfaces up.
    pub interfaces: Vec<Interface>,
    /// hyperv: the bridge that the guest's tap becomes a port of.
    pub bridge: Option<String>,
}

/// Published ports of a container, bound.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    pub bound: Vec<BoundPort>,
    /// In the same order.
    pub sockets: Vec<(Published, OwnedFd)>,
}

impl Engine {
    /// Reads the networks, makes the default one, writes the firewall's table, and takes the addresses
    /// that containers have. The containers are there.
    pub(crate) async fn networks_open(&self) -> Result<()> {
        Ok(())
    }

    /// The endpoints that a new container asks for, without addresses.
    pub(crate) fn endpoints_new(
        &self,
        id: &str,
        host: &wire::HostConfig,
        networking: Option<&wire::NetworkingConfig>,
    ) -> Result<Vec<EndpointRecord>> {
        let _ = (id, host, networking);
        Ok(Vec::new())
    }

    /// Gives the endpoints addresses and, for process, a network namespace.
    pub(crate) async fn network_up(&self, record: &Record) -> Result<Connected> {
        let _ = record;
        Ok(Connected::default())
    }

    /// Makes a guest's tap a port of its bridge.
    pub(crate) async fn network_tap(&self, record: &Record, bridge: &str) -> Result<()> {
        let _ = (record, bridge);
        Ok(())
    }

    /// Takes back what [`Engine::network_up`] made; the addresses stay the container's.
    pub(crate) async fn network_down(&self, record: &Record) -> Result<()> {
        let _ = record;
        Ok(())
    }

    /// Gives the addresses of a removed container back.
    pub(crate) fn network_forget(&self, record: &Record) {
        let _ = record;
    }

    /// Reserves the published ports of a container and leads them to it.
    pub(crate) async fn ports_publish(&self, record: &Record) -> Result<Ports> {
        let _ = record;
        Ok(Ports::default())
    }

    /// Leads the ports of a running container to it that an earlier daemon bound.
    pub(crate) async fn ports_restore(&self, record: &Record) -> Result<()> {
        let _ = record;
        Ok(())
    }

    /// Takes them back.
    pub(crate) async fn ports_unpublish(&self, record: &Record) -> Result<()> {
        let _ = record;
        Ok(())
    }

    /// Writes `hosts`, `hostname` and `resolv.conf` of a container.
    pub(crate) fn network_files(&self, container: &Container, record: &Record) -> Result<()> {
        let _ = (container, record);
        Ok(())
    }

    /// The gateway and the prefix length of the network that has this address.
    pub(crate) fn subnet(&self, _network: &str, address: Ipv4Addr) -> (Ipv4Addr, u8) {
        let [a, b, ..] = address.octets();
        (Ipv4Addr::new(a, b, 0, 1), 16)
    }

    pub async fn networks(&self, filters: &Filters) -> Result<Vec<wire::Network>> {
        let _ = filters;
        pending()
    }

    pub async fn network(&self, name: &str) -> Result<wire::Network> {
        let _ = name;
        pending()
    }

    pub async fn network_create(
        &self,
        request: wire::NetworkCreateRequest,
    ) -> Result<wire::NetworkCreateResponse> {
        let _ = request;
        pending()
    }

    pub async fn network_remove(&self, name: &str) -> Result<()> {
        let _ = name;
        pending()
    }

    pub async fn network_connect(
        &self,
        name: &str,
        request: wire::NetworkConnectRequest,
    ) -> Result<()> {
        let _ = (name, request);
        pending()
    }

    pub async fn network_disconnect(
        &self,
        name: &str,
        request: wire::NetworkDisconnectRequest,
    ) -> Result<()> {
        let _ = (name, request);
        pending()
    }

    pub async fn networks_prune(&self, filters: &Filters) -> Result<wire::NetworkPruneResponse> {
        let _ = filters;
        pending()
    }
}
