//! Names of containers: a resolver on the gateway address of each user-defined network.
//!
//! Answers for the containers that run in the networks of the one that asks, by their names, aliases and
//! short ids; everything else it asks the name servers of the container or of the host. It serves both
//! runtime types: a guest asks as a process does. Questions come from containers and are hostile: what is
//! under way at once is limited, and so is how long.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::files::host_resolv_conf;
use super::message::{Kind, addresses, answers, failure, name, question};
use super::state::Recorded;
use crate::error::Doing;
use crate::inspect::dns_names;
use crate::record::EndpointRecord;
use crate::{Engine, Record, Result};

const PORT: u16 = 53;
/// Questions of one network that are under way at once, and connections.
const AT_ONCE: usize = 256;
/// How long a name server may take.
const SERVER: Duration = Duration::from_secs(3);
/// How many name servers are asked in turn.
const SERVERS: usize = 3;
/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(10);
const LARGEST: usize = 4096;
const SHORT: Duration = Duration::from_millis(100);

/// A network whose names are served.
#[derive(Clone)]
struct Service {
    engine: Engine,
    /// The network's id.
    network: String,
}

/// What is known of who asks.
struct Client {
    /// Ids of the networks that it sees.
    networks: Vec<String>,
    /// Its own name servers; `None`: the host's.
    servers: Option<Vec<IpAddr>>,
    /// Whether anything outside may be asked.
    outside: bool,
}

impl Engine {
    /// Serves the names of a user-defined network from now on.
    pub(super) async fn resolver_start(&self, network: &Recorded) -> Result<()> {
        let Some(bridge) = network.bridge.as_ref().filter(|_| !network.predefined()) else {
            return Ok(());
        };
        let at = SocketAddr::new(bridge.gateway.into(), PORT);
        let what = || format!("serve the names of network {} on {at}", network.name);
        let datagrams = UdpSocket::bind(at).await.doing(what)?;
        let connections = TcpListener::bind(at).await.doing(what)?;
        let service = Service { engine: self.clone(), network: network.id.clone() };
        let task = tokio::spawn(async move {
            tokio::join!(
                service.serve_datagrams(Arc::new(datagrams)),
                service.serve_connections(connections),
            );
        });
        let mut resolvers = self.0.networks.resolvers();
        if let Some(before) = resolvers.insert(network.id.clone(), task.abort_handle()) {
            before.abort();
        }
        Ok(())
    }

    pub(super) fn resolver_stop(&self, network: &str) {
        if let Some(task) = self.0.networks.resolvers().remove(network) {
            task.abort();
        }
    }

    /// The address of the resolver that a container with these endpoints asks.
    pub(super) fn resolver_of(&self, endpoints: &[EndpointRecord]) -> Option<Ipv4Addr> {
        let resolvers = self.0.networks.resolvers();
        let served = endpoints.iter().find(|endpoint| resolvers.contains_key(&endpoint.network))?;
        let state = self.0.networks.state();
        let network = state.find(&served.network).ok()?;
        network.recorded.bridge.as_ref().map(|bridge| bridge.gateway)
    }
}

impl Service {
    async fn serve_datagrams(&self, socket: Arc<UdpSocket>) {
        let limit = Arc::new(Semaphore::new(AT_ONCE));
        let mut buffer = vec![0; LARGEST];
        loop {
            // An error is that of an answer which nobody took.
            let Ok((count, from)) = socket.recv_from(&mut buffer).await else {
                tokio::task::yield_now().await;
                continue;
            };
            // Who asks more than that asks again.
            let Ok(permit) = limit.clone().try_acquire_owned() else { continue };
            let (service, socket) = (self.clone(), socket.clone());
            let query = buffer[..count].to_vec();
            tokio::spawn(async move {
                if let Some(answer) = service.answer(&query, from.ip(), false).await {
                    let _ = socket.send_to(&answer, from).await;
                }
                drop(permit);
            });
        }
    }

    async fn serve_connections(&self, listener: TcpListener) {
        let limit = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let Ok(permit) = limit.clone().acquire_owned().await else { return };
            let Ok((stream, from)) = listener.accept().await else {
                // The process is out of descriptors: others have to end first.
                tokio::time::sleep(SHORT).await;
                continue;
            };
            let service = self.clone();
            tokio::spawn(async move {
                // A client that goes away or stalls is not waited for.
                let _ = service.converse(stream, from.ip()).await;
                drop(permit);
            });
        }
    }

    async fn converse(&self, mut stream: TcpStream, from: IpAddr) -> std::io::Result<()> {
        loop {
            let query = tokio::time::timeout(IDLE, read_framed(&mut stream)).await??;
            let Some(answer) = self.answer(&query, from, true).await else { return Ok(()) };
            tokio::time::timeout(IDLE, write_framed(&mut stream, &answer)).await??;
        }
    }

    async fn answer(&self, query: &[u8], from: IpAddr, stream: bool) -> Option<Vec<u8>> {
        let question = question(query)?;
        let client = self.client(from);
        match question.kind {
            Kind::Address | Kind::Address6 => {
                let found = self.named(&client, &question.name);
                if !found.is_empty() {
                    let found = if question.kind == Kind::Address { found } else { Vec::new() };
                    return Some(addresses(query, &question, &found));
                }
            }
            Kind::Name => {
                let found = question.reverse().and_then(|address| self.name_of(&client, address));
                let answer = found.and_then(|found| name(query, &question, &found));
                if answer.is_some() {
                    return answer;
                }
            }
            Kind::Other => {}
        }
        let answer = self.ask_others(&client, query, stream).await;
        Some(answer.unwrap_or_else(|| failure(query, &question)))
    }

    /// Who asks: it is known by its address.
    fn client(&self, from: IpAddr) -> Client {
        let engine = &self.engine;
        // Another network's container, say: nothing here is told to it.
        let stranger = Client { networks: Vec::new(), servers: None, outside: false };
        for id in engine.active_in(&self.network) {
            let Ok(container) = engine.0.containers.get(&id) else { continue };
            let its = |endpoint: &EndpointRecord| {
                endpoint.network == self.network && endpoint.address.map(IpAddr::V4) == Some(from)
            };
            if !container.look(|record| record.networks.iter().any(its)) {
                continue;
            }
            let record = container.record();
            let state = engine.0.networks.state();
            let known: Vec<_> = record
                .networks
                .iter()
                .filter_map(|endpoint| state.find(&endpoint.network).ok())
                .map(|network| &network.recorded)
                .collect();
            let given = record.host_config.dns.as_ref().filter(|given| !given.is_empty());
            return Client {
                outside: known.iter().any(|network| !network.internal),
                networks: known
                    .iter()
                    .filter(|network| !network.predefined())
                    .map(|network| network.id.clone())
                    .collect(),
                servers: given.map(|given| given.iter().filter_map(|s| s.parse().ok()).collect()),
            };
        }
        stranger
    }

    /// The addresses of a name in the networks that a client sees.
    fn named(&self, client: &Client, wanted: &str) -> Vec<Ipv4Addr> {
        let mut found = Vec::new();
        self.each(client, |record, endpoint, address| {
            let is = |name: &String| {
                let rest =
                    wanted.get(..name.len()).filter(|start| start.eq_ignore_ascii_case(name));
                rest.is_some_and(|_| match wanted.get(name.len()..) {
                    Some("") => true,
                    Some(rest) => rest
                        .strip_prefix('.')
                        .is_some_and(|rest| rest.eq_ignore_ascii_case(&endpoint.network_name)),
                    None => false,
                })
            };
            if dns_names(record, endpoint).iter().any(is) {
                found.push(address);
            }
        });
        found
    }

    /// The name of an address.
    fn name_of(&self, client: &Client, wanted: Ipv4Addr) -> Option<String> {
        let mut found = None;
        self.each(client, |record, endpoint, address| {
            if address == wanted {
                found = Some(format!("{}.{}", record.name, endpoint.network_name));
            }
        });
        found
    }

    /// Shows every endpoint that runs in the networks that a client sees.
    fn each(&self, client: &Client, mut show: impl FnMut(&Record, &EndpointRecord, Ipv4Addr)) {
        for network in &client.networks {
            for id in self.engine.active_in(network) {
                let Ok(container) = self.engine.0.containers.get(&id) else { continue };
                container.look(|record| {
                    for endpoint in &record.networks {
                        if let (true, Some(address)) =
                            (&endpoint.network == network, endpoint.address)
                        {
                            show(record, endpoint, address);
                        }
                    }
                });
            }
        }
    }

    /// Asks the name servers in turn; `None`: none of them answers.
    async fn ask_others(&self, client: &Client, query: &[u8], stream: bool) -> Option<Vec<u8>> {
        if !client.outside {
            return None;
        }
        let servers = match &client.servers {
            Some(servers) => servers.clone(),
            None => crate::blocking(|| servers(&host_resolv_conf())).await,
        };
        for server in servers.into_iter().take(SERVERS) {
            // Not itself.
            if self.engine.is_gateway(server) {
                continue;
            }
            let at = SocketAddr::new(server, PORT);
            let asked = async {
                if stream { ask_stream(at, query).await } else { ask_datagram(at, query).await }
            };
            if let Ok(Ok(answer)) = tokio::time::timeout(SERVER, asked).await {
                return Some(answer);
            }
        }
        None
    }
}

impl Engine {
    /// Ids of the containers that use a network now.
    fn active_in(&self, network: &str) -> Vec<String> {
        let state = self.0.networks.state();
        let network = state.0.iter().find(|known| known.recorded.id == network);
        network.map(|network| network.active.iter().cloned().collect()).unwrap_or_default()
    }

    fn is_gateway(&self, address: IpAddr) -> bool {
        let bridges = self.0.networks.state().bridges();
        bridges.iter().any(|bridge| IpAddr::V4(bridge.gateway) == address)
    }
}

/// The name servers of a `resolv.conf`: the daemon reaches those on the host's loopback too.
fn servers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok()).flatten()
    };
    text.lines().filter_map(server).collect()
}

async fn ask_datagram(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // A port of its own for each question, and connected: nobody else's answer is taken.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; LARGEST];
    loop {
        let count = socket.recv(&mut buffer).await?;
        if answers(query, &buffer[..count]) {
            buffer.truncate(count);
            return Ok(buffer);
        }
    }
}

async fn ask_stream(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_framed(&mut stream, query).await?;
    let answer = read_framed(&mut stream).await?;
    if answers(query, &answer) { Ok(answer) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

/// A message after its length in two bytes (RFC 1035, 4.2.2).
async fn read_framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(message.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}

#[cfg(test)]
mod tests {
    use super::servers;

    #[test]
    fn name_servers_are_read() {
        let text = "# nameserver 1.1.1.1\nnameserver 127.0.0.53\nsearch lan\nnameserver ::1\nnameserver x\n";
        let shown: Vec<_> = servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["127.0.0.53", "::1"]);
    }
}
