//! Networks, addresses and published ports.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bollard::models::{
    EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest,
    NetworkDisconnectRequest,
};
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptions};
use caisson_tests::Type;
use caisson_tests::engine::{Exec, LIMIT, Port, at, refused};
use serde_json::{Value, json};

use crate::cases;
use crate::context::Ctx;

cases! {
    both: [
        the_address_is_the_one_inspected,
        a_published_port_answers,
    ],
    bollard: [
        containers_reach_each_other,
        a_port_is_published_once,
        network_none_has_only_the_loopback,
        the_hosts_network_is_the_hosts,
        names_are_found_in_ones_own_network,
        networks_are_apart,
        a_network_is_made_listed_and_removed,
        a_fixed_address_is_given_once,
        a_network_is_connected_and_disconnected,
        bad_networks_are_refused,
    ],
}

/// Serves a page on port 80 and says so: httpd listens before it goes to the background.
pub const SERVE: &str = "trap 'exit 0' TERM; mkdir /www; echo the page of $(hostname) > /www/index.html; \
    httpd -p 80 -h /www || exit 1; echo up; sleep 600 & wait";

/// A page as the host sees it. A guest on a busy machine may not even answer the question for its hardware
/// address in time, and then nobody is there: it is asked again, within the limit.
pub fn fetch(port: u16) -> Result<String> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match fetch_once(port) {
            Ok(answer) if !answer.is_empty() => return Ok(answer),
            Err(error) if Instant::now() > deadline => return Err(error),
            _ => ensure!(Instant::now() < deadline, "port {port} gives nothing"),
        }
    }
}

fn fetch_once(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("connect")?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A script that fetches a page, asked again for the same reason.
fn wget(address: &str) -> String {
    format!("until page=$(wget -q -O - {address} 2> /dev/null); do :; done; echo \"$page\"")
}

/// A port that is free, and that no one is given who asks for any: below those.
pub fn free_port() -> Result<u16> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 21_000 + (std::process::id() % 1000) as u16 * 8;
    for _ in 0..1000 {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no port from {first} on is free")
}

/// The host port that a container's port 80 has.
fn published(inspect: &Value) -> Result<u16> {
    let bindings = &inspect["NetworkSettings"]["Ports"]["80/tcp"];
    let port = bindings[0]["HostPort"].as_str();
    Ok(port.with_context(|| format!("no published port: {bindings}"))?.parse()?)
}

fn the_address_is_the_one_inspected(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle()?;
    let inspect = ctx.inspect(&id)?;
    let network = at(&inspect, "NetworkSettings.Networks.bridge");
    let text = |key: &str| network[key].as_str().unwrap_or_default().to_string();
    let inside = ctx.inside(&id, &["sh", "-c", "ip addr show eth0; ip route; cat /etc/hosts"])?;
    let address = format!("{}/{}", text("IPAddress"), network["IPPrefixLen"]);
    ensure!(inside.contains(&address), "{address}: {inside}");
    ensure!(inside.contains(&text("MacAddress")), "{network}: {inside}");
    ensure!(inside.contains(&format!("default via {}", text("Gateway"))), "{network}: {inside}");
    let short = &at(&inspect, "Id").as_str().unwrap_or_default()[..12];
    let named = inside.lines().any(|line| {
        line.starts_with(&text("IPAddress")) && line.split_whitespace().any(|word| word == short)
    });
    ensure!(named, "{inside}");
    // What has ended has no address.
    ctx.stop(&id, Some(60))?;
    let inspect = ctx.inspect(&id)?;
    ensure!(at(&inspect, "NetworkSettings.Networks.bridge.IPAddress") == "", "{inspect}");
    Ok(())
}

fn a_published_port_answers(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.script(SERVE);
    spec.hostname = "server".into();
    spec.ports = vec![Port { container: 80, host: 0 }];
    let id = ctx.start_until(&spec, "up")?;
    let port = published(&ctx.inspect(&id)?)?;
    for _ in 0..3 {
        let page = fetch(port)?;
        ensure!(page.contains("200 OK") && page.ends_with("the page of server\n"), "{page:?}");
    }
    ctx.stop(&id, Some(60))?;
    ensure!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the port is still open");
    let inspect = ctx.inspect(&id)?;
    ensure!(at(&inspect, "NetworkSettings.Ports") == &json!({}), "{inspect}");
    Ok(())
}

fn containers_reach_each_other(ctx: &Ctx) -> Result<()> {
    let server = ctx.start_until(&ctx.script(SERVE), "up")?;
    let client = ctx.idle_with(|spec| {
        // Where there are two types, one of each.
        if !ctx.reference && ctx.kind == Type::Hyperv {
            spec.isolation = "process".into();
        }
    })?;
    for (from, to) in [(&client, &server), (&server, &client)] {
        let address = ctx.address(to)?;
        let ping = format!("until ping -c 1 -W 5 {address}; do :; done");
        let output = ctx.inside(from, &["sh", "-c", &ping])?;
        ensure!(output.contains("1 packets received"), "{output}");
    }
    let address = ctx.address(&server)?;
    let page = ctx.inside(&client, &["sh", "-c", &wget(&address)])?;
    ensure!(page.starts_with("the page of "), "{page:?}");
    Ok(())
}

fn a_port_is_published_once(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.script(SERVE);
    spec.ports = vec![Port { container: 80, host: 0 }];
    let first = ctx.start_until(&spec, "up")?;
    let port = published(&ctx.inspect(&first)?)?;
    spec.ports = vec![Port { container: 80, host: port }];
    let second = ctx.create(&spec)?;
    let no = refused(ctx.start(&second))?;
    ensure!(no.status == Some(500), "{no}");
    let (taken, wanted) = ("port is already allocated", format!("127.0.0.1:{port}"));
    ensure!(no.message.contains(taken) && no.message.contains(&wanted), "{no}");
    ensure!(ctx.status(&second)? == "created" || ctx.reference, "{}", ctx.status(&second)?);
    // The first one did not notice.
    ensure!(fetch(port)?.contains("200 OK"));
    ctx.remove(&first, true, false)?;
    let mut session = ctx.bollard.attach(&second, false, None)?;
    ctx.start(&second)?;
    session.until("up")?;
    ensure!(published(&ctx.inspect(&second)?)? == port);
    ensure!(fetch(port)?.contains("200 OK"));
    Ok(())
}

fn network_none_has_only_the_loopback(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.script("ls /sys/class/net; ip route | wc -l; ping -c 1 -W 60 127.0.0.1");
    spec.network = "none".into();
    let output = ctx.output(&spec)?;
    ensure!(output.starts_with("lo\n0\n") && output.contains("1 packets received"), "{output}");
    Ok(())
}

fn the_hosts_network_is_the_hosts(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.script("ls /sys/class/net; hostname; readlink /proc/self/ns/net");
    spec.network = "host".into();
    if ctx.kind == Type::Hyperv {
        // A guest has a network stack of its own; it says so before anything is made.
        let no = refused(ctx.create(&spec))?;
        ensure!(no.status.is_some_and(|status| (400..500).contains(&status)), "{no}");
        ensure!(no.message.contains("host") && no.message.contains("hyperv"), "{no}");
        return Ok(());
    }
    let output = ctx.output(&spec)?;
    let own = std::fs::read_link("/proc/self/ns/net")?.display().to_string();
    ensure!(output.ends_with(&format!("{own}\n")), "{output}, the host is {own}");
    let first = ctx.idle()?;
    spec.network = format!("container:{first}");
    let shared = ctx.output(&spec)?;
    let namespace = ctx.inside(&first, &["readlink", "/proc/self/ns/net"])?;
    ensure!(shared.ends_with(&namespace), "{shared}, {namespace}");
    Ok(())
}

fn make(ctx: &Ctx, name: &str, subnet: Option<&str>) -> Result<String> {
    let config = subnet
        .map(|subnet| vec![IpamConfig { subnet: Some(subnet.into()), ..IpamConfig::default() }]);
    let request = NetworkCreateRequest {
        name: name.into(),
        labels: Some([ctx.label()].into()),
        ipam: config.map(|config| Ipam { config: Some(config), ..Ipam::default() }),
        ..NetworkCreateRequest::default()
    };
    let made = ctx.bollard.call(ctx.bollard.docker().create_network(request))?;
    Ok(made.id)
}

/// A subnet that no other case and no other network of this process has.
fn subnet() -> String {
    use std::sync::atomic::{AtomicU8, Ordering};
    static NEXT: AtomicU8 = AtomicU8::new(0);
    format!("10.213.{}.0/24", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn names_are_found_in_ones_own_network(ctx: &Ctx) -> Result<()> {
    let network = ctx.name("net");
    make(ctx, &network, None)?;
    let server = served(ctx, &network)?;
    let mut client = ctx.script(&wget("http://$SERVER/"));
    client.network = network;
    client.env = vec![format!("SERVER={server}")];
    let output = ctx.output(&client)?;
    ensure!(output == "the page of inner\n", "{output}");
    Ok(())
}

/// A server in a network; its name.
fn served(ctx: &Ctx, network: &str) -> Result<String> {
    let mut server = ctx.script(SERVE);
    server.name = ctx.name("server");
    server.hostname = "inner".into();
    server.network = network.into();
    ctx.start_until(&server, "up")?;
    Ok(server.name)
}

fn networks_are_apart(ctx: &Ctx) -> Result<()> {
    let network = ctx.name("net");
    make(ctx, &network, None)?;
    let server = served(ctx, &network)?;
    let inspect = ctx.inspect(&server)?;
    let endpoint = &inspect["NetworkSettings"]["Networks"][&network];
    let address = endpoint["IPAddress"].as_str().context("no address")?;
    let mut beside = ctx.script(&wget(address));
    beside.network = network;
    ensure!(ctx.output(&beside)? == "the page of inner\n");
    // From the default network it is not reached.
    let outside = ctx.run(&ctx.spec(&["ping", "-c", "1", "-W", "2", address]), &[])?;
    ensure!(outside.code != 0, "{outside:?}");
    Ok(())
}

fn a_network_is_made_listed_and_removed(ctx: &Ctx) -> Result<()> {
    let (name, subnet) = (ctx.name("net"), subnet());
    let id = make(ctx, &name, Some(&subnet))?;
    let docker = ctx.bollard.docker();
    let inspect = |name: &str| {
        let options = None::<InspectNetworkOptions>;
        ctx.bollard.call(docker.inspect_network(name, options))
    };
    let found = serde_json::to_value(inspect(&name)?)?;
    ensure!(found["Id"] == id.as_str() && found["Driver"] == "bridge", "{found}");
    ensure!(found["IPAM"]["Config"][0]["Subnet"] == subnet.as_str(), "{found}");
    let listed = |filter: String| {
        let filters: HashMap<_, _> = [("label".to_string(), vec![filter])].into();
        let options = ListNetworksOptions { filters: Some(filters) };
        let networks = ctx.bollard.call(docker.list_networks(Some(options)))?;
        anyhow::Ok(networks.into_iter().filter_map(|network| network.name).collect::<Vec<_>>())
    };
    let (key, value) = ctx.label();
    ensure!(listed(format!("{key}={value}"))? == std::slice::from_ref(&name));
    let mut spec = ctx.script(crate::context::IDLE);
    spec.network = name.clone();
    let user = ctx.start_until(&spec, "up")?;
    let found = serde_json::to_value(inspect(&name)?)?;
    let prefix = subnet.trim_end_matches("0/24");
    let address = found["Containers"][&user]["IPv4Address"].as_str().unwrap_or_default();
    ensure!(address.starts_with(prefix) && address.ends_with("/24"), "{found}");
    let no = refused(ctx.bollard.call(docker.remove_network(&name)))?;
    ensure!(no.status == Some(403) && no.message.contains("has active endpoints"), "{no}");
    ctx.remove(&user, true, false)?;
    ctx.bollard.call(docker.remove_network(&name))?;
    let no = refused(inspect(&name))?;
    ensure!(no.status == Some(404) && no.message.contains("not found"), "{no}");
    Ok(())
}

fn a_fixed_address_is_given_once(ctx: &Ctx) -> Result<()> {
    let (name, subnet) = (ctx.name("net"), subnet());
    make(ctx, &name, Some(&subnet))?;
    let mut spec = ctx.script(crate::context::IDLE);
    spec.network = name.clone();
    spec.ip = subnet.replace("0/24", "77");
    let first = ctx.start_until(&spec, "up")?;
    let inside = ctx.inside(&first, &["ip", "addr", "show", "eth0"])?;
    ensure!(inside.contains(&format!("{}/24", spec.ip)), "{inside}");
    // The same address for another one is refused, at its creation or its start.
    let second = ctx.create(&spec).and_then(|id| ctx.start(&id));
    let no = refused(second)?;
    ensure!(no.message.contains("ddress already in use"), "{no}");
    spec.ip = "10.99.99.99".into();
    let outside = ctx.create(&spec).and_then(|id| ctx.start(&id));
    refused(outside)?;
    Ok(())
}

fn a_network_is_connected_and_disconnected(ctx: &Ctx) -> Result<()> {
    let name = ctx.name("net");
    make(ctx, &name, None)?;
    let docker = ctx.bollard.docker();
    let id = ctx.create(&ctx.script(crate::context::IDLE))?;
    let connect = || {
        let endpoint_config = Some(EndpointSettings::default());
        let request = NetworkConnectRequest { container: Some(id.clone()), endpoint_config };
        ctx.bollard.call(docker.connect_network(&name, request))
    };
    let disconnect = || {
        let container = Some(id.clone());
        let request = NetworkDisconnectRequest { container, force: Some(false) };
        ctx.bollard.call(docker.disconnect_network(&name, request))
    };
    let single = ctx.kind == Type::Hyperv && !ctx.reference;
    if single {
        let no = refused(connect())?;
        ensure!(no.status == Some(409) && no.message.contains("one network"), "{no}");
        let container = Some(id.clone());
        let request = NetworkDisconnectRequest { container, force: None };
        ctx.bollard.call(docker.disconnect_network("bridge", request))?;
    }
    connect()?;
    let mut session = ctx.bollard.attach(&id, false, None)?;
    ctx.start(&id)?;
    session.until("up")?;
    let links = ctx.inside(&id, &["ls", "/sys/class/net"])?;
    ensure!(links.split_whitespace().count() == if single { 2 } else { 3 }, "{links}");
    let inspect = ctx.inspect(&id)?;
    let endpoint = &inspect["NetworkSettings"]["Networks"][&name];
    let address = endpoint["IPAddress"].as_str().unwrap_or_default().to_string();
    let inside = ctx.inside(&id, &["ip", "addr"])?;
    ensure!(!address.is_empty() && inside.contains(&address), "{endpoint}: {inside}");
    let no = refused(connect())?;
    let why = if single { "stop it first" } else { "already exists in network" };
    ensure!(no.message.contains(why), "{no}");
    ctx.stop(&id, Some(60))?;
    disconnect()?;
    ctx.start(&id)?;
    let links = ctx.exec(&id, &Exec::new(&["ls", "/sys/class/net"]))?;
    let left = if single { 1 } else { 2 };
    ensure!(links.stdout.split_whitespace().count() == left, "{links:?}");
    let inspect = ctx.inspect(&id)?;
    ensure!(inspect["NetworkSettings"]["Networks"][&name].is_null(), "{inspect}");
    refused(disconnect())?;
    Ok(())
}

fn bad_networks_are_refused(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.spec(&["true"]);
    spec.network = "no-such-network".into();
    let created = ctx.create(&spec);
    let no = refused(created.and_then(|id| ctx.start(&id)))?;
    ensure!(no.status == Some(404) && no.message.contains("no-such-network"), "{no}");
    let create = |body: Value| ctx.api("POST", "/networks/create", Some(body));
    let name = ctx.name("net");
    let answer = create(json!({"Name": "bridge"}))?;
    ensure!(answer.status == 403 || answer.status == 409, "{answer:?}");
    let config = json!([{"Subnet": "10.0.0.0/99"}]);
    let answer = create(json!({"Name": name, "IPAM": {"Config": config}}))?;
    ensure!(answer.status == 400 || ctx.reference, "{answer:?}");
    ensure!(answer.status >= 400, "{answer:?}");
    let answer = create(json!({"Name": name, "Driver": "no-such-driver"}))?;
    ensure!(answer.status >= 400 && answer.message().contains("no-such-driver"), "{answer:?}");
    for name in ["bridge", "host", "none"] {
        let answer = ctx.api("DELETE", &format!("/networks/{name}"), None)?;
        ensure!(answer.status == 403, "{name}: {answer:?}");
    }
    make(ctx, &name, None)?;
    let answer = create(json!({"Name": name, "CheckDuplicate": true}))?;
    ensure!(answer.status == 409 && answer.message().contains("already exists"), "{answer:?}");
    Ok(())
}
