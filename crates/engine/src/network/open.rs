//! The networks are opened: what is recorded is made on the host again.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;

use caisson_net::{Firewall, Pool, choose_subnet, ensure_bridge};
use sha2::{Digest, Sha256};

use super::state::{BridgeRecord, Driver, Network, Recorded, State, Subnet};
use super::sweep::mark;
use super::{Opened, interface};
use crate::error::Doing;
use crate::record::Status;
use crate::volume::random_name;
use crate::{Engine, Result, blocking};

/// Spare namespaces: as many starts at once are served without making one.
const SPARES: usize = 2;
pub(super) const MTU: u32 = 1500;

impl Engine {
    /// Reads the networks, makes the default one, writes the firewall's table, and takes the addresses
    /// that containers have. The containers are there.
    pub(crate) async fn networks_open(&self) -> Result<()> {
        let root = &self.0.settings.data_root;
        // However it was spelled: a table of another name would stay for ever.
        let root = root.canonicalize().doing(|| format!("look at {}", root.display()))?;
        self.networks_sweep().await;
        let engine = self.clone();
        let state = blocking(move || engine.networks_load()).await?;
        for network in &state.0 {
            let Some(bridge) = network.recorded.host_bridge() else { continue };
            let name = &network.recorded.name;
            match ensure_bridge(&bridge).await {
                Ok(()) => {
                    mark(&bridge.name, &root).await;
                    self.resolver_try(&network.recorded).await;
                }
                Err(error) if network.recorded.predefined() => {
                    let error = crate::Error::from(error);
                    return Err(error.doing(format!("make the bridge of network {name}")));
                }
                Err(error) => {
                    tracing::error!("network {name} does not work: {}", crate::error::chain(&error))
                }
            }
        }
        let firewall = Firewall::new(&table(root.as_os_str().as_bytes()));
        firewall.install(&state.bridges()).await?;
        let default =
            state.find("bridge")?.recorded.host_bridge().unwrap_or_else(|| {
                unreachable!("networks_load gives the network `bridge` a bridge")
            });
        let pool = Pool::new(&default.name, default.mtu, SPARES);
        pool.refill();
        *self.0.networks.state() = state;
        let _ = self.0.networks.opened.set(Opened { firewall, pool });
        Ok(())
    }

    /// Serves a network's names, if its gateway's port is free: another name server may listen on all
    /// addresses of the host.
    pub(super) async fn resolver_try(&self, network: &Recorded) {
        if let Err(error) = self.resolver_start(network).await {
            tracing::warn!("containers are not found by name: {error}");
        }
    }

    fn networks_load(&self) -> Result<State> {
        let path = self.networks_file();
        let mut state = State::load(&path)?;
        if add_predefined(&mut state)? {
            state.save(&path)?;
        }
        let mut running = Vec::new();
        for container in self.0.containers.all() {
            container.look(|record| {
                for endpoint in &record.networks {
                    let Some(network) = state.get_mut(&endpoint.network) else { continue };
                    if let Err(error) = network.restore(endpoint) {
                        tracing::warn!("container {}: {error}: it gets another one", record.id);
                    }
                    if matches!(record.state.status, Status::Running) {
                        network.active.insert(record.id.clone());
                    }
                }
                if matches!(record.state.status, Status::Running | Status::Starting) {
                    running.push(record.short().to_string());
                }
            });
        }
        self.clean_namespaces(&running)?;
        Ok(state)
    }

    /// Removes the namespaces of containers that do not run.
    fn clean_namespaces(&self, running: &[String]) -> Result<()> {
        let root = self.0.settings.exec_root.join("netns");
        let what = || format!("list {}", root.display());
        std::fs::create_dir_all(&root).doing(|| format!("make {}", root.display()))?;
        for entry in std::fs::read_dir(&root).doing(what)? {
            let entry = entry.doing(what)?;
            let kept = entry.file_name().to_str().is_some_and(|n| running.iter().any(|r| r == n));
            if !kept && let Err(error) = caisson_net::delete_namespace(&entry.path()) {
                tracing::warn!("{}", crate::error::chain(&error));
            }
        }
        Ok(())
    }
}

/// The nftables table of a data root: each daemon has its own.
pub(super) fn table(data_root: &[u8]) -> String {
    let hash = Sha256::digest(data_root);
    format!("caisson_{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3])
}

/// Adds those that are always there; whether there was one to add.
fn add_predefined(state: &mut State) -> Result<bool> {
    let mut added = false;
    for (name, driver) in
        [("none", Driver::Null), ("host", Driver::Host), ("bridge", Driver::Bridge)]
    {
        if state.0.iter().any(|network| network.recorded.name == name) {
            continue;
        }
        let id = random_name()?;
        let bridge = match driver {
            Driver::Bridge => {
                let interface = interface("csb", &id);
                Some(bridge_record(interface, choose_subnet(&state.subnets())?))
            }
            Driver::Host | Driver::Null => None,
        };
        state.0.push(Network::new(Recorded {
            id,
            name: name.into(),
            driver,
            internal: false,
            attachable: false,
            labels: HashMap::new(),
            options: HashMap::new(),
            created: crate::now(),
            bridge,
        }));
        added = true;
    }
    Ok(added)
}

/// A bridge whose gateway is the subnet's first address.
pub(super) fn bridge_record(interface: String, subnet: Subnet) -> BridgeRecord {
    let gateway = (u32::from(subnet.0) + 1).into();
    BridgeRecord { interface, subnet, gateway, range: None, reserved: Default::default(), mtu: MTU }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_data_root_has_a_table_of_its_own() {
        let one = table(b"/var/lib/caisson");
        assert_ne!(one, table(b"/srv/caisson"));
        assert_eq!(one, table(b"/var/lib/caisson"));
        assert!(one.len() == 16 && one.starts_with("caisson_"), "{one}");
    }

    #[test]
    fn the_predefined_networks_are_made_once() {
        let mut state = State::default();
        assert!(add_predefined(&mut state).unwrap());
        let ids: Vec<_> = state.0.iter().map(|network| network.recorded.id.clone()).collect();
        assert!(!add_predefined(&mut state).unwrap());
        assert_eq!(ids.len(), 3);
        let bridge = state.find("bridge").unwrap().recorded.bridge.clone().unwrap();
        assert_eq!(bridge.interface, format!("csb{}", &ids[2][..12]));
        assert_eq!(u32::from(bridge.gateway), u32::from(bridge.subnet.0) + 1);
    }
}
