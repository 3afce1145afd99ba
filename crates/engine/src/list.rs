//! `GET /containers/json`: the containers in short, newest first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use caisson_api::filters::{Filters, Invalid};
use caisson_api::words::{command_line, human_duration};
use caisson_image::{Image, Store};

use crate::record::{MountKind, Record, Status};
use crate::size::directory_size;
use crate::{Container, Containers, Engine, Error, Result, blocking, wire};

const FILTERS: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATES: [&str; 7] =
    ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const HEALTH: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];

/// What is listed.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Also those that do not run.
    pub all: bool,
    /// At most so many, whether they run or not; 0: no limit.
    pub limit: usize,
    /// With the sizes of files.
    pub size: bool,
    pub filters: Filters,
}

impl Engine {
    /// The containers in short, newest first.
    pub async fn list(&self, options: ListOptions) -> Result<Vec<wire::ContainerSummary>> {
        let engine = self.clone();
        blocking(move || engine.list_now(&options)).await
    }

    pub(crate) fn list_now(&self, options: &ListOptions) -> Result<Vec<wire::ContainerSummary>> {
        let wanted = Wanted::new(&self.0.containers, &self.0.images, options)?;
        let mut containers: Vec<(Arc<Container>, Record)> = self
            .0
            .containers
            .all()
            .into_iter()
            .filter(|container| container.look(|record| wanted.includes(record)))
            .map(|container| (container.clone(), container.record()))
            .collect();
        containers.sort_by_key(|(_, record)| std::cmp::Reverse(record.created));
        if options.limit > 0 {
            containers.truncate(options.limit);
        }
        let mut images = BTreeMap::new();
        let now = crate::now();
        Ok(containers
            .iter()
            .map(|(container, record)| {
                let mut summary = self.summary(record, &mut images, now);
                if options.size {
                    self.add_sizes(&mut summary, container, record);
                }
                summary
            })
            .collect())
    }

    fn summary(
        &self,
        record: &Record,
        images: &mut BTreeMap<String, Option<Image>>,
        now: i64,
    ) -> wire::ContainerSummary {
        let networks = record.networks.iter().map(|endpoint| {
            let settings = wire::EndpointSettings {
                aliases: None,
                dns_names: None,
                ..self.endpoint_settings(record, endpoint)
            };
            (endpoint.network_name.clone(), settings)
        });
        wire::ContainerSummary {
            id: Some(record.id.clone()),
            names: Some(vec![format!("/{}", record.name)]),
            image: Some(self.image_shown(record, images)),
            image_id: Some(record.image.clone()),
            command: Some(command_line(&record.args)),
            created: Some(record.created.div_euclid(1_000_000_000)),
            ports: Some(ports(record)),
            labels: Some(record.config.labels.clone().unwrap_or_default()),
            state: Some(state(record)),
            status: Some(status(record, now)),
            host_config: Some(wire::ContainerSummaryHostConfig {
                network_mode: Some(record.host_config.network_mode.clone().unwrap_or_default()),
                annotations: record.host_config.annotations.clone(),
            }),
            network_settings: Some(wire::ContainerSummaryNetworkSettings {
                networks: Some(networks.collect()),
            }),
            mounts: Some(self.mount_points(record)),
            ..Default::default()
        }
    }

    /// The image as it was named, as long as that still is this image.
    fn image_shown(&self, record: &Record, images: &mut BTreeMap<String, Option<Image>>) -> String {
        let given = record.config.image.clone().unwrap_or_default();
        let known = images.entry(given.clone()).or_insert_with(|| self.0.images.get(&given).ok());
        match known {
            Some(image) if image.id == record.image => given,
            _ => record.image.clone(),
        }
    }

    fn add_sizes(
        &self,
        summary: &mut wire::ContainerSummary,
        container: &Container,
        record: &Record,
    ) {
        let (own, whole) = self.sizes(container, record);
        // Docker leaves zeros out.
        summary.size_rw = Some(own).filter(|size| *size != 0);
        summary.size_root_fs = Some(whole).filter(|size| *size != 0);
    }

    /// Bytes of the writable layer, and of the root file system with its image.
    pub(crate) fn sizes(&self, container: &Container, record: &Record) -> (i64, i64) {
        let own = directory_size(&container.places.upper());
        let image = self.0.images.of_container(&record.image).map_or(0, |image| image.size);
        let signed = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
        (signed(own), signed(own.saturating_add(image)))
    }
}

fn state(record: &Record) -> wire::ContainerSummaryStateEnum {
    use wire::ContainerSummaryStateEnum as State;
    match record.outward() {
        Status::Created | Status::Starting => State::CREATED,
        Status::Running if record.state.paused => State::PAUSED,
        Status::Running => State::RUNNING,
        Status::Restarting => State::RESTARTING,
        Status::Removing | Status::Removed => State::REMOVING,
        Status::Exited => State::EXITED,
        Status::Dead => State::DEAD,
    }
}

/// How it is, in the words of `docker ps`.
pub(crate) fn status(record: &Record, now: i64) -> String {
    let state = &record.state;
    let since = |time: i64| human_duration(now.saturating_sub(time));
    match record.outward() {
        Status::Running if state.paused => format!("Up {} (Paused)", since(state.started)),
        Status::Running => match health(record) {
            None => format!("Up {}", since(state.started)),
            Some("starting") => format!("Up {} (health: starting)", since(state.started)),
            Some(health) => format!("Up {} ({health})", since(state.started)),
        },
        Status::Restarting => {
            format!("Restarting ({}) {} ago", state.exit_code, since(state.finished))
        }
        Status::Removing | Status::Removed => "Removal In Progress".into(),
        Status::Dead => "Dead".into(),
        Status::Created | Status::Starting => "Created".into(),
        Status::Exited => format!("Exited ({}) {} ago", state.exit_code, since(state.finished)),
    }
}

/// The state of a container's health check, when it has one.
fn health(_record: &Record) -> Option<&str> {
    None
}

/// The ports that it serves: published ones with where, others that it exposes. None when it does not run.
fn ports(record: &Record) -> Vec<wire::Port> {
    let kind = |protocol: &str| match protocol {
        "udp" => wire::PortTypeEnum::UDP,
        "sctp" => wire::PortTypeEnum::SCTP,
        _ => wire::PortTypeEnum::TCP,
    };
    let mut ports = Vec::new();
    for (port, bindings) in published(record) {
        let (number, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
        let Ok(private_port) = number.parse() else { continue };
        let typ = Some(kind(protocol));
        if bindings.is_empty() {
            ports.push(wire::Port { private_port, typ, ..Default::default() });
        }
        ports.extend(bindings.into_iter().map(|(ip, public)| wire::Port {
            ip: Some(ip),
            private_port,
            public_port: Some(public),
            typ,
        }));
    }
    ports
}

/// Every port that a running container exposes, `80/tcp`, with the host addresses and ports that lead there.
pub(crate) fn published(record: &Record) -> BTreeMap<String, Vec<(String, u16)>> {
    let mut ports: BTreeMap<String, Vec<(String, u16)>> = BTreeMap::new();
    if !record.running() {
        return ports;
    }
    for port in record.config.exposed_ports.iter().flat_map(HashMap::keys) {
        ports.entry(with_protocol(port)).or_default();
    }
    for bound in &record.state.ports {
        let bindings = ports.entry(with_protocol(&bound.container)).or_default();
        if bound.host_ip.is_empty() {
            bindings.push(("0.0.0.0".into(), bound.host_port));
            if std::path::Path::new("/proc/net/if_inet6").exists() {
                bindings.push(("::".into(), bound.host_port));
            }
        } else {
            bindings.push((bound.host_ip.clone(), bound.host_port));
        }
    }
    ports
}

fn with_protocol(port: &str) -> String {
    if port.contains('/') { port.into() } else { format!("{port}/tcp") }
}

/// The filters of one call, looked up once.
struct Wanted<'a> {
    filters: &'a Filters,
    /// Also those that do not run.
    all: bool,
    ids: Option<BTreeSet<String>>,
    exited: Vec<i32>,
    before: Option<i64>,
    since: Option<i64>,
    images: Option<BTreeSet<String>>,
    publish: BTreeSet<String>,
    expose: BTreeSet<String>,
    task: bool,
}

impl<'a> Wanted<'a> {
    fn new(containers: &Containers, images: &Store, options: &'a ListOptions) -> Result<Self> {
        let filters = &options.filters;
        filters.check(&FILTERS)?;
        one_of(filters, "status", "state", &STATES)?;
        one_of(filters, "health", "health", &HEALTH)?;
        let exited = |value: &str| {
            value.parse().map_err(|_| {
                let why = format!("strconv.Atoi: parsing {value:?}: invalid syntax");
                Invalid::value("exited", value, why)
            })
        };
        // Of several, the last one counts.
        let created = |name: &str| -> Result<Option<i64>> {
            let container = filters.get(name).map(|value| containers.get(value));
            let container = container.collect::<Result<Vec<_>>>()?;
            Ok(container.last().map(|container| container.look(|record| record.created)))
        };
        let ids = filters.contains("id").then(|| {
            let found = filters.get("id").filter_map(|id| containers.get(id).ok());
            found.map(|container| container.id.clone()).collect()
        });
        Ok(Wanted {
            filters,
            all: options.all || options.limit > 0 || filters.contains("status"),
            ids,
            exited: filters.get("exited").map(exited).collect::<Result<_, _>>()?,
            before: created("before")?,
            since: created("since")?,
            images: filters.contains("ancestor").then(|| descendants(images, filters)),
            publish: port_numbers(filters, "publish")?,
            expose: port_numbers(filters, "expose")?,
            task: filters.flag("is-task", false)?,
        })
    }

    fn includes(&self, record: &Record) -> bool {
        let up = matches!(record.outward(), Status::Running | Status::Restarting);
        (self.all || up)
            && !self.task
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&record.id))
            && self.filters.matches("name", &record.name)
            && self.filters.labels(record.config.labels.as_ref())
            && self.before.is_none_or(|before| record.created < before)
            && self.since.is_none_or(|since| record.created > since)
            && (self.exited.is_empty() || self.has_exited(record, up))
            && self.filters.exact("status", record.status_word())
            && self.filters.exact("health", health(record).unwrap_or("none"))
            && self.filters.exact("isolation", record.runtime_type.name())
            && self.images.as_ref().is_none_or(|images| images.contains(&record.image))
            && self.has_volume(record)
            && self.has_network(record)
            && self.has_ports(record)
    }

    fn has_exited(&self, record: &Record, up: bool) -> bool {
        !up && record.state.started != 0 && self.exited.contains(&record.state.exit_code)
    }

    fn has_volume(&self, record: &Record) -> bool {
        !self.filters.contains("volume")
            || self.filters.get("volume").any(|wanted| {
                record.mounts.iter().any(|mount| {
                    mount.destination.as_os_str() == wanted
                        || match &mount.kind {
                            MountKind::Bind { source, .. } => source.as_os_str() == wanted,
                            MountKind::Volume { name, .. } => name == wanted,
                            MountKind::Tmpfs { .. } => false,
                        }
                })
            })
    }

    fn has_network(&self, record: &Record) -> bool {
        !self.filters.contains("network")
            || record.networks.iter().any(|endpoint| {
                self.filters.exact("network", &endpoint.network_name)
                    || self.filters.prefix("network", &endpoint.network)
            })
    }

    fn has_ports(&self, record: &Record) -> bool {
        let published = record.host_config.port_bindings.iter().flat_map(HashMap::keys);
        let published = published.chain(record.state.ports.iter().map(|port| &port.container));
        let exposed = record.config.exposed_ports.iter().flat_map(HashMap::keys);
        any_port(&self.publish, published) && any_port(&self.expose, exposed)
    }
}

/// Whether one of these ports is wanted, or any is.
fn any_port<'a>(wanted: &BTreeSet<String>, mut ports: impl Iterator<Item = &'a String>) -> bool {
    wanted.is_empty() || ports.any(|port| wanted.contains(&with_protocol(port)))
}

fn one_of(filters: &Filters, name: &str, what: &str, known: &[&str]) -> Result<()> {
    match filters.get(name).find(|value| !known.contains(value)) {
        None => Ok(()),
        Some(value) => {
            let known = known.join(", ");
            let why = format!("invalid value for {what} ({value}): must be one of {known}");
            Err(Invalid::value(name, value, why).into())
        }
    }
}

/// The ids of images that `ancestor` names, and of those built on their layers.
fn descendants(images: &Store, filters: &Filters) -> BTreeSet<String> {
    let ancestors = filters.get("ancestor").filter_map(|name| images.get(name).ok());
    let ancestors: Vec<Image> = ancestors.collect();
    let all = if ancestors.is_empty() { Vec::new() } else { images.list() };
    let built = all.into_iter().filter(|image| {
        ancestors.iter().any(|ancestor| {
            image.layers.len() > ancestor.layers.len()
                && !ancestor.layers.is_empty()
                && image.layers.starts_with(&ancestor.layers)
        })
    });
    let built: BTreeSet<String> = built.map(|image| image.id).collect();
    ancestors.into_iter().map(|image| image.id).chain(built).collect()
}

/// The ports of `80`, `80/udp` or `80-90/tcp`, each with its protocol.
fn port_numbers(filters: &Filters, name: &str) -> Result<BTreeSet<String>> {
    let mut ports = BTreeSet::new();
    for value in filters.get(name) {
        if value.contains(':') {
            let text = format!("filter for '{name}' should not contain ':': {value}");
            return Err(Error::invalid(text));
        }
        let (range, protocol) = value.split_once('/').unwrap_or((value, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| {
            text.parse::<u16>().map_err(|_| {
                Error::invalid(format!(
                    "error while looking up for {name} {value}: invalid port {text:?}: a number \
                     from 0 to 65535 is needed"
                ))
            })
        };
        ports.extend((number(first)?..=number(last)?).map(|port| format!("{port}/{protocol}")));
    }
    Ok(ports)
}

#[cfg(test)]
pub(crate) mod tests;
