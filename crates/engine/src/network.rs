//! The networks: bridges of this host, the addresses in them, and the containers' endpoints.
//!
//! Each network of the driver `bridge` has a bridge of its own; `host` and `none` are always there and
//! have nothing. What exists is recorded in `networks.json` below the data root; interfaces, the
//! firewall's table and namespaces follow from it and are made anew at every start of the daemon. In a
//! network that a user made, containers find each other by name: its gateway answers.
//!
//! | name on the host | what |
//! | --- | --- |
//! | `csb` and 12 digits of the network's id | its bridge |
//! | `csv` and 12 digits of the endpoint's id | the host's side of a process container's interface |
//! | `cst` and 12 digits | the tap of a hyperv container |
//! | `netns/` and 12 digits of the container's id, below the exec root | its network namespace |
//! | `caisson_` and 8 digits of a hash of the data root | the nftables table |

mod connect;
mod create;
mod endpoints;
mod files;
mod message;
mod open;
mod ports;
mod resolver;
mod state;
mod sweep;
#[cfg(test)]
mod tests;
mod up;
mod view;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use caisson_net::{Firewall, Pool, Port};
use caisson_protocol::agent::Interface;
use caisson_protocol::supervisor::Published;
use tokio::task::AbortHandle;

use crate::record::{BoundPort, EndpointRecord};
use crate::{Engine, Error, Record, Result, wire};
use state::{Recorded, State};

/// What is known of all networks.
#[derive(Default)]
pub(crate) struct Networks {
    state: Mutex<State>,
    /// Held while the set of networks changes: on the host, in the table and on disk.
    changing: tokio::sync::Mutex<()>,
    opened: OnceLock<Opened>,
    /// Ports as the firewall has them, by the id of their container.
    published: Mutex<HashMap<String, Vec<Port>>>,
    /// What serves the names of a network, by its id.
    resolvers: Mutex<HashMap<String, AbortHandle>>,
}

/// What acts on the host, once the networks are open.
struct Opened {
    firewall: Firewall,
    /// Spare namespaces on the default bridge.
    pool: Pool,
}

impl Networks {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn published(&self) -> MutexGuard<'_, HashMap<String, Vec<Port>>> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resolvers(&self) -> MutexGuard<'_, HashMap<String, AbortHandle>> {
        self.resolvers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self) -> Result<&Opened> {
        self.opened.get().ok_or_else(|| Error::internal("the networks are not open"))
    }
}

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
    fn networks_file(&self) -> PathBuf {
        self.0.settings.data_root.join("networks.json")
    }

    /// Where the network namespace of a process container is.
    fn namespace_path(&self, record: &Record) -> PathBuf {
        self.0.settings.exec_root.join("netns").join(record.short())
    }

    /// The gateway and the prefix length of the network that has this address.
    pub(crate) fn subnet(&self, network: &str, address: Ipv4Addr) -> (Ipv4Addr, u8) {
        let mut state = self.0.networks.state();
        let bridge = state.get_mut(network).and_then(|network| network.recorded.bridge.as_ref());
        match bridge {
            Some(bridge) => (bridge.gateway, bridge.subnet.1),
            // Its network has been removed since.
            None => (address, 32),
        }
    }

    fn tell_network(&self, action: &str, network: &Recorded, container: Option<&str>) {
        let attributes = [
            ("name", Some(network.name.as_str())),
            ("type", Some(network.driver.name())),
            ("container", container),
        ];
        let attributes = attributes
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_string(), value?.to_string())))
            .collect();
        self.0.events.tell(wire::EventMessageTypeEnum::NETWORK, action, &network.id, attributes);
    }
}

/// `PREFIX` and the first twelve digits of an id: an interface's name.
fn interface(prefix: &str, id: &str) -> String {
    format!("{prefix}{}", id.get(..12).unwrap_or(id))
}
