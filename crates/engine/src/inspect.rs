//! `GET /containers/{id}/json`: everything about one container.
//!
//! The body is built as JSON, not as `bollard_stubs`' type: that one leaves out what is null, which Docker's
//! clients take for missing, and it has no room for Caisson's additions: `RuntimeType` for every container,
//! and `Sandbox` for hyperv, which says what runs the microVM and whether that is a security boundary.

mod template;

use std::collections::HashMap;

use caisson_api::time::rfc3339;
use serde_json::{Map, Value, json};

use crate::list::published;
use crate::record::{EndpointRecord, MountKind, Record, RuntimeType, Status};
use crate::{Container, Engine, Result, blocking, wire};
use template::completed;

impl Engine {
    /// Everything about a container; `size` counts its files too.
    pub async fn inspect(&self, name: &str, size: bool) -> Result<Value> {
        let container = self.0.containers.get(name)?;
        let engine = self.clone();
        blocking(move || engine.inspect_now(&container, size)).await
    }

    fn inspect_now(&self, container: &Container, size: bool) -> Result<Value> {
        let record = container.record();
        let places = &container.places;
        let log_path = match record.host_config.log_config.as_ref().and_then(|c| c.typ.as_deref()) {
            None | Some("" | "json-file") => places.log(&record.id),
            Some(_) => Default::default(),
        };
        let exec_ids = self.exec_ids(&record.id);
        let mut body = json!({
            "Id": record.id,
            "Created": rfc3339(record.created),
            "Path": record.args.first().cloned().unwrap_or_default(),
            "Args": record.args.get(1..).unwrap_or_default(),
            "State": state(&record),
            "Image": record.image,
            "ResolvConfPath": places.file("resolv.conf"),
            "HostnamePath": places.file("hostname"),
            "HostsPath": places.file("hosts"),
            "LogPath": log_path,
            "Name": format!("/{}", record.name),
            "RestartCount": record.state.restart_count,
            "Driver": "overlay2",
            "Platform": "linux",
            "MountLabel": "",
            "ProcessLabel": "",
            "AppArmorProfile": "",
            "ExecIDs": exec_ids,
            "HostConfig": completed(template::host_config(), serde_json::to_value(&record.host_config).unwrap_or_default()),
            "GraphDriver": self.graph_driver(container, &record),
            "Mounts": self.mount_points(&record),
            "Config": completed(template::config(), serde_json::to_value(&record.config).unwrap_or_default()),
            "NetworkSettings": self.network_settings(&record),
            "RuntimeType": record.runtime_type.name(),
        });
        if record.runtime_type == RuntimeType::Hyperv {
            body["Sandbox"] = self.sandbox_shown(&record);
        }
        if size {
            let (own, whole) = self.sizes(container, &record);
            body["SizeRw"] = json!(own);
            body["SizeRootFs"] = json!(whole);
        }
        Ok(body)
    }

    fn graph_driver(&self, container: &Container, record: &Record) -> Value {
        let layers = self
            .0
            .images
            .of_container(&record.image)
            .map(|image| self.0.images.layer_paths(&image));
        let lower: Vec<String> =
            layers.iter().flatten().map(|path| path.display().to_string()).collect();
        let places = &container.places;
        json!({
            "Name": "overlay2",
            "Data": {
                "ID": record.id,
                "LowerDir": lower.join(":"),
                "MergedDir": places.rootfs(),
                "UpperDir": places.upper(),
                "WorkDir": places.work(),
            },
        })
    }

    /// The mounts of a container in the order of where they are. Those of `HostConfig.Tmpfs` are told there.
    pub(crate) fn mount_points(&self, record: &Record) -> Vec<wire::MountPoint> {
        use wire::MountPointTypeEnum as Type;
        let tmpfs = record.host_config.tmpfs.as_ref();
        let mut points: Vec<wire::MountPoint> = record
            .mounts
            .iter()
            .filter_map(|mount| {
                let destination = mount.destination.display().to_string();
                let (typ, name, source) = match &mount.kind {
                    MountKind::Bind { source, .. } => (Type::BIND, None, source.clone()),
                    MountKind::Volume { name, .. } => {
                        (Type::VOLUME, Some(name.clone()), self.volume_data(name))
                    }
                    MountKind::Tmpfs { .. }
                        if tmpfs.is_some_and(|t| t.contains_key(&destination)) =>
                    {
                        return None;
                    }
                    MountKind::Tmpfs { .. } => (Type::TMPFS, None, Default::default()),
                };
                let driver = name.is_some().then(|| "local".to_string());
                Some(wire::MountPoint {
                    typ: Some(typ),
                    name,
                    source: Some(source.display().to_string()),
                    destination: Some(destination),
                    driver,
                    mode: Some(mount.mode.clone()),
                    rw: Some(!mount.read_only),
                    propagation: Some(mount.propagation.clone()),
                })
            })
            .collect();
        points.sort_by(|a, b| a.destination.cmp(&b.destination));
        points
    }

    fn network_settings(&self, record: &Record) -> Value {
        let networks: Map<String, Value> = record
            .networks
            .iter()
            .map(|endpoint| {
                let settings = self.endpoint_settings(record, endpoint);
                let settings = serde_json::to_value(settings).unwrap_or_default();
                (endpoint.network_name.clone(), completed(template::endpoint(), settings))
            })
            .collect();
        let mut given = json!({"Ports": port_map(record)});
        if record.running() {
            given["SandboxID"] = json!(record.id);
            given["SandboxKey"] =
                json!(self.0.settings.exec_root.join("netns").join(record.short()));
        }
        // What Docker had before networks had names is that of the default bridge.
        if let Some(bridge) = networks.get("bridge") {
            for field in ["EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "MacAddress"] {
                given[field] = bridge[field].clone();
            }
        }
        given["Networks"] = Value::Object(networks);
        completed(template::network_settings(), given)
    }

    /// A container's endpoint: the addresses are shown while it runs.
    pub(crate) fn endpoint_settings(
        &self,
        record: &Record,
        endpoint: &EndpointRecord,
    ) -> wire::EndpointSettings {
        let given = &endpoint.settings;
        let mut shown = wire::EndpointSettings {
            ipam_config: given.ipam_config.clone(),
            links: given.links.clone(),
            mac_address: Some(String::new()),
            aliases: Some(endpoint.aliases.clone()).filter(|aliases| !aliases.is_empty()),
            driver_opts: given.driver_opts.clone(),
            gw_priority: Some(given.gw_priority.unwrap_or_default()),
            network_id: Some(endpoint.network.clone()),
            endpoint_id: Some(String::new()),
            gateway: Some(String::new()),
            ip_address: Some(String::new()),
            ip_prefix_len: Some(0),
            ipv6_gateway: Some(String::new()),
            global_ipv6_address: Some(String::new()),
            global_ipv6_prefix_len: Some(0),
            dns_names: None,
        };
        if !matches!(endpoint.network_name.as_str(), "bridge" | "host" | "none") {
            shown.dns_names = Some(dns_names(record, endpoint));
        }
        if !record.running() {
            return shown;
        }
        shown.endpoint_id = Some(endpoint.endpoint_id.clone());
        if let Some(address) = endpoint.address {
            let (gateway, prefix) = self.subnet(&endpoint.network, address);
            shown.ip_address = Some(address.to_string());
            shown.ip_prefix_len = Some(i64::from(prefix));
            shown.gateway = Some(gateway.to_string());
            shown.mac_address = Some(mac_text(endpoint.mac));
        }
        shown
    }
}

fn state(record: &Record) -> Value {
    let state = &record.state;
    let up = matches!(state.status, Status::Running | Status::Restarting);
    json!({
        "Status": record.status_word(),
        "Running": up,
        "Paused": state.status == Status::Running && state.paused,
        "Restarting": state.status == Status::Restarting,
        "OOMKilled": state.oom_killed,
        "Dead": state.status == Status::Dead,
        "Pid": if record.running() { state.pid } else { 0 },
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": rfc3339(state.started),
        "FinishedAt": rfc3339(state.finished),
    })
}

fn port_map(record: &Record) -> HashMap<String, Option<Vec<wire::PortBinding>>> {
    let binding = |(ip, port): (String, u16)| wire::PortBinding {
        host_ip: Some(ip),
        host_port: Some(port.to_string()),
    };
    let some = |bindings: Vec<(String, u16)>| {
        (!bindings.is_empty()).then(|| bindings.into_iter().map(binding).collect())
    };
    published(record).into_iter().map(|(port, bindings)| (port, some(bindings))).collect()
}

/// The names that resolve to a container in a network: its own, its aliases, its id in short; each once.
pub(crate) fn dns_names(record: &Record, endpoint: &EndpointRecord) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let all = std::iter::once(record.name.as_str())
        .chain(endpoint.aliases.iter().map(String::as_str))
        .chain([record.short()]);
    for name in all {
        if !names.iter().any(|known| known == name) {
            names.push(name.into());
        }
    }
    names
}

pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::tests::record;

    #[test]
    fn what_was_not_given_is_sent_all_the_same() {
        let given = wire::HostConfig { memory: Some(5), ..Default::default() };
        let shown = completed(template::host_config(), serde_json::to_value(given).unwrap());
        assert_eq!(shown["Memory"], 5);
        assert_eq!(shown["ShmSize"], 67_108_864);
        for field in ["Binds", "CapAdd", "Devices"] {
            assert!(shown.as_object().unwrap().contains_key(field) && shown[field].is_null());
        }
    }

    #[test]
    fn a_container_that_never_ran_has_the_zero_times() {
        let mut one = record('a', "web", 100);
        let shown = state(&one);
        assert_eq!(
            (&shown["Running"], &shown["FinishedAt"]),
            (&json!(true), &json!("0001-01-01T00:00:00Z"))
        );
        assert_eq!(shown["StartedAt"], "1970-01-01T00:01:40Z");
        one.state = Default::default();
        let shown = state(&one);
        assert_eq!(
            (&shown["Status"], &shown["StartedAt"]),
            (&json!("created"), &json!("0001-01-01T00:00:00Z"))
        );
    }

    #[test]
    fn names_in_a_network_are_told_once() {
        let mut one = record('a', "web", 100);
        one.networks[0].aliases = vec!["www".into(), "web".into()];
        assert_eq!(dns_names(&one, &one.networks[0]), ["web", "www", "aaaaaaaaaaaa"]);
        assert_eq!(mac_text(one.networks[0].mac), "02:42:ac:11:00:02");
    }
}
