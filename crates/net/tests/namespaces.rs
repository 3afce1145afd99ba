//! Real bridges, pairs and firewalls, each test in a network namespace of its own: the host's
//! interfaces and rules are never touched. As root; without it the tests say so and pass.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use caisson_net::{
    Bridge, Endpoint, Firewall, Pool, Port, Protocol, connect_namespace, connect_tap,
    create_namespace, delete_namespace, disconnect, ensure_bridge, mac_of, remove_bridge,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

const LIMIT: Duration = Duration::from_secs(10);

/// What the engine awaits on a runtime of many threads.
fn _sendable(pool: &Pool, firewall: &Firewall, path: &Path, endpoint: &Endpoint) {
    fn send(_: impl Send) {}
    send(pool.take(path, endpoint));
    send(firewall.publish(&[]));
    send(firewall.install(&[]));
    send(connect_namespace(path, endpoint));
}

/// Runs the test on a thread with a fresh network namespace, and a mount namespace so that what it
/// mounts ends with it.
fn isolated<F: Future<Output = ()>>(test: impl FnOnce(PathBuf) -> F + Send + 'static) {
    assert!(rustix::process::geteuid().is_root(), "run the tests as root");
    let run = move || {
        // SAFETY: only this thread and those it starts get the new namespaces; FS is unshared as a
        // mount namespace of its own demands.
        unsafe {
            let flags = UnshareFlags::NEWNET | UnshareFlags::NEWNS | UnshareFlags::FS;
            rustix::thread::unshare_unsafe(flags).unwrap();
        }
        let flags = rustix::mount::MountPropagationFlags::PRIVATE
            | rustix::mount::MountPropagationFlags::REC;
        rustix::mount::mount_change("/", flags).unwrap();
        command("ip", &["link", "set", "lo", "up"]);
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(directory.path().to_owned()));
    };
    std::thread::spawn(run).join().unwrap();
}

fn command(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `work` in the namespace at `path`.
fn within<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(path).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let kind = Some(LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), kind)
                .unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

fn bridge(name: &str, second: u8) -> Bridge {
    Bridge {
        name: name.into(),
        subnet: (Ipv4Addr::new(172, second, 0, 0), 16),
        gateway: Ipv4Addr::new(172, second, 0, 1),
        internal: false,
        mtu: 1500,
    }
}

fn endpoint(bridge: &Bridge, last: u8) -> Endpoint {
    let [a, b, ..] = bridge.subnet.0.octets();
    let address = Ipv4Addr::new(a, b, 0, last);
    Endpoint {
        bridge: bridge.name.clone(),
        host_name: format!("cv{b:02x}{last:02x}"),
        container_name: "eth0".into(),
        mac: mac_of(address),
        address: (address, 16),
        gateway: Some(bridge.gateway),
        mtu: bridge.mtu,
    }
}

/// A namespace on the bridge.
async fn container(directory: &Path, bridge: &Bridge, last: u8) -> (PathBuf, Ipv4Addr) {
    let endpoint = endpoint(bridge, last);
    let path = directory.join(&endpoint.host_name);
    create_namespace(&path).await.unwrap();
    connect_namespace(&path, &endpoint).await.unwrap();
    (path, endpoint.address.0)
}

/// A namespace that plays the outside: 192.0.2.2, beside this one's 192.0.2.1.
async fn outside(directory: &Path) -> PathBuf {
    let wire = Bridge {
        subnet: ("192.0.2.0".parse().unwrap(), 24),
        gateway: "192.0.2.1".parse().unwrap(),
        ..bridge("wire0", 1)
    };
    ensure_bridge(&wire).await.unwrap();
    let end = Endpoint {
        address: ("192.0.2.2".parse().unwrap(), 24),
        host_name: "out0".into(),
        ..endpoint(&wire, 2)
    };
    let path = directory.join("outside");
    create_namespace(&path).await.unwrap();
    connect_namespace(&path, &end).await.unwrap();
    path
}

/// Serves one tcp client in the namespace: tells it its own address as it is seen there.
fn serve(path: &Path, port: u16) -> std::thread::JoinHandle<()> {
    let listener = within(path, || TcpListener::bind(("0.0.0.0", port)).unwrap());
    std::thread::spawn(move || {
        let (mut client, from) = listener.accept().unwrap();
        client.write_all(from.ip().to_string().as_bytes()).unwrap();
    })
}

fn fetch(to: impl Into<SocketAddr>) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to.into(), LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Whether nothing answers there for a moment.
fn unreachable(to: impl Into<SocketAddr>) -> bool {
    TcpStream::connect_timeout(&to.into(), Duration::from_millis(300)).is_err()
}

#[test]
fn two_namespaces_on_a_bridge_reach_each_other_and_the_gateway() {
    isolated(|directory| async move {
        let net = bridge("br0", 18);
        ensure_bridge(&net).await.unwrap();
        ensure_bridge(&net).await.unwrap();
        let (first, _) = container(&directory, &net, 2).await;
        let (second, address) = container(&directory, &net, 3).await;
        let server = serve(&second, 80);
        assert_eq!(within(&first, || fetch((address, 80))).unwrap(), "172.18.0.2");
        server.join().unwrap();
        let gateway = TcpListener::bind((net.gateway, 0)).unwrap();
        let to = gateway.local_addr().unwrap();
        within(&first, || TcpStream::connect_timeout(&to, LIMIT).unwrap());
        let inside = within(&first, || command("ip", &["address", "show"]));
        assert!(inside.contains("link/ether 02:42:ac:12:00:02"), "{inside}");
        assert!(inside.contains("inet 127.0.0.1/8") && !inside.contains("fe80"), "{inside}");
        let clash = Endpoint { host_name: "cv9".into(), ..endpoint(&net, 9) };
        let twice = connect_namespace(&first, &clash).await.unwrap_err();
        assert_eq!(twice.to_string(), "network interface cv9: make the pair");
        // The same endpoint again, while its last pair is still there.
        let again = directory.join("again");
        create_namespace(&again).await.unwrap();
        connect_namespace(&again, &endpoint(&net, 3)).await.unwrap();
        let server = serve(&again, 80);
        assert_eq!(within(&first, || fetch((address, 80))).unwrap(), "172.18.0.2");
        server.join().unwrap();
        disconnect("cv1202").await.unwrap();
        disconnect("cv1202").await.unwrap();
        remove_bridge("br0").await.unwrap();
        remove_bridge("br0").await.unwrap();
        delete_namespace(&first).unwrap();
        delete_namespace(&first).unwrap();
    });
}

#[test]
fn a_bridge_of_an_earlier_network_is_set_right() {
    isolated(|_| async {
        ensure_bridge(&bridge("br0", 18)).await.unwrap();
        let changed = Bridge { mtu: 1400, ..bridge("br0", 19) };
        ensure_bridge(&changed).await.unwrap();
        let shown = command("ip", &["address", "show", "br0"]);
        assert!(shown.contains("172.19.0.1/16") && !shown.contains("172.18"), "{shown}");
        assert!(shown.contains("mtu 1400"), "{shown}");
        let refused = ensure_bridge(&bridge("a-name-far-too-long", 18)).await.unwrap_err();
        assert!(refused.to_string().contains("a-name-far-too-long"));
    });
}

#[test]
fn outside_sees_the_host_and_reaches_only_what_is_published() {
    isolated(|directory| async move {
        let net = bridge("br0", 18);
        ensure_bridge(&net).await.unwrap();
        let out = outside(&directory).await;
        let firewall = Firewall::new("caisson-00000001");
        firewall.install(std::slice::from_ref(&net)).await.unwrap();
        let (inner, address) = container(&directory, &net, 2).await;
        let server = serve(&out, 80);
        let seen = within(&inner, || fetch(([192, 0, 2, 2], 80))).unwrap();
        assert_eq!(seen, "192.0.2.1", "masqueraded");
        server.join().unwrap();

        let port = |protocol, host: Option<&str>, number, inner| Port {
            protocol,
            host: (host.map(|text| text.parse().unwrap()), number),
            container: (address, inner),
        };
        let ports = [
            port(Protocol::Tcp, None, 8080, 80),
            port(Protocol::Tcp, Some("192.0.2.1"), 8081, 80),
            port(Protocol::Udp, None, 5353, 53),
            port(Protocol::Tcp, Some("127.0.0.1"), 8082, 80),
        ];
        firewall.publish(&ports).await.unwrap();
        // Another network comes: what is published stays.
        firewall.install(&[net.clone(), bridge("br1", 19)]).await.unwrap();
        for number in [8080, 8081] {
            let server = serve(&inner, 80);
            let seen = within(&out, || fetch(([192, 0, 2, 1], number))).unwrap();
            assert_eq!(seen, "192.0.2.2", "the client's own address");
            server.join().unwrap();
            let server = serve(&inner, 80);
            fetch(([192, 0, 2, 1], number)).unwrap();
            server.join().unwrap();
        }
        let client = within(&out, || UdpSocket::bind("0.0.0.0:0").unwrap());
        assert_eq!(udp_echo(&inner, &client), b"ping");
        assert!(within(&out, || unreachable(([192, 0, 2, 1], 8082))));
        // Straight to the container's address: refused.
        command_in(&out, "ip", &["route", "replace", "172.18.0.0/16", "via", "192.0.2.1"]);
        let held = within(&inner, || TcpListener::bind("0.0.0.0:80").unwrap());
        assert!(within(&out, || unreachable((address, 80))));
        firewall.unpublish(&ports).await.unwrap();
        firewall.unpublish(&ports).await.unwrap();
        assert!(within(&out, || unreachable(([192, 0, 2, 1], 8080))));
        drop(held);
        // The same client goes on with the port's next container.
        let (next, address) = container(&directory, &net, 3).await;
        firewall.publish(&[Port { container: (address, 53), ..ports[2] }]).await.unwrap();
        assert_eq!(udp_echo(&next, &client), b"ping");
        // Somebody restarts the host's firewall.
        command("nft", &["flush", "ruleset"]);
        firewall.publish(&[port(Protocol::Tcp, None, 8083, 80)]).await.unwrap();
        let server = serve(&inner, 80);
        within(&out, || fetch(([192, 0, 2, 1], 8083))).unwrap();
        server.join().unwrap();
        command("nft", &["flush", "ruleset"]);
        firewall.unpublish(&[port(Protocol::Tcp, None, 8083, 80)]).await.unwrap();
        assert_eq!(udp_echo(&next, &client), b"ping");
        firewall.remove().await.unwrap();
        firewall.remove().await.unwrap();
        assert_eq!(command("nft", &["list", "ruleset"]), "");
    });
}

fn command_in(path: &Path, program: &str, arguments: &[&str]) -> String {
    within(path, || command(program, arguments))
}

fn udp_echo(server: &Path, client: &UdpSocket) -> Vec<u8> {
    let server = within(server, || UdpSocket::bind("0.0.0.0:53").unwrap());
    server.set_read_timeout(Some(LIMIT)).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client.send_to(b"ping", ("192.0.2.1", 5353)).unwrap();
    let mut buffer = [0; 16];
    let (count, from) = server.recv_from(&mut buffer).unwrap();
    server.send_to(&buffer[..count], from).unwrap();
    let (count, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!(from, "192.0.2.1:5353".parse().unwrap());
    buffer[..count].to_vec()
}

#[test]
fn networks_and_daemons_are_apart() {
    isolated(|directory| async move {
        let internal = Bridge { internal: true, ..bridge("br2", 20) };
        let (ours, other) = ([bridge("br0", 18), bridge("br1", 19), internal], [bridge("br3", 21)]);
        for net in ours.iter().chain(&other) {
            ensure_bridge(net).await.unwrap();
        }
        let (first, second) =
            (Firewall::new("caisson-0000000a"), Firewall::new("caisson-0000000b"));
        first.install(&ours).await.unwrap();
        second.install(&other).await.unwrap();
        let out = outside(&directory).await;
        let _outside = within(&out, || TcpListener::bind("0.0.0.0:80").unwrap());
        let mut containers = Vec::new();
        for net in ours.iter().chain(&other) {
            let (path, address) = container(&directory, net, 2).await;
            let listener = within(&path, || TcpListener::bind("0.0.0.0:80").unwrap());
            containers.push((path, address, listener));
        }
        for (from, _, _) in &containers {
            for (path, to, _) in &containers {
                let reached = !within(from, || unreachable((*to, 80)));
                assert_eq!(reached, path == from, "{} to {to}", from.display());
            }
        }
        let reaches =
            |index: usize| within(&containers[index].0, || !unreachable(([192, 0, 2, 2], 80)));
        assert!(reaches(0) && reaches(1) && !reaches(2) && reaches(3));
        // The end of one daemon's table is nothing to the other's.
        first.remove().await.unwrap();
        let left = command("nft", &["list", "tables"]);
        assert_eq!(left, "table ip caisson-0000000b\n");
        let clash = second.publish(&[published(8080, 2), published(8080, 3)]).await.unwrap_err();
        let text = clash.to_string();
        assert!(text.starts_with("nftables table caisson-0000000b: publish ports: "), "{text}");
    });
}

fn published(port: u16, last: u8) -> Port {
    let container = (Ipv4Addr::new(172, 21, 0, last), 80);
    Port { protocol: Protocol::Tcp, host: (None, port), container }
}

#[test]
fn a_pools_namespaces_serve_and_leave_nothing() {
    isolated(|directory| async move {
        let net = bridge("br0", 18);
        ensure_bridge(&net).await.unwrap();
        let pool = Pool::new("br0", 1500, 2);
        pool.fill().await.unwrap();
        assert_eq!(pool.ready(), 2);
        let mut paths = Vec::new();
        // The third finds the pool empty.
        for last in 2..=4 {
            let endpoint = endpoint(&net, last);
            let path = directory.join(&endpoint.host_name);
            let begun = Instant::now();
            pool.take(&path, &endpoint).await.unwrap();
            eprintln!("take {last}: {:?}", begun.elapsed());
            paths.push((path, endpoint.address.0));
        }
        for (path, address) in &paths {
            let server = serve(path, 80);
            let (from, own) = paths.iter().find(|(other, _)| other != path).unwrap();
            let seen = within(from, || fetch((*address, 80))).unwrap();
            assert_eq!(seen, own.to_string());
            server.join().unwrap();
        }
        let links = command("ip", &["link", "show", "master", "br0"]);
        assert!(links.contains("cv1202") && links.contains("cv1204"), "{links}");
        let wrong = Endpoint { bridge: "br9".into(), ..endpoint(&net, 9) };
        let refused = pool.take(&directory.join("no"), &wrong).await.unwrap_err();
        assert_eq!(refused.to_string(), "network interface br9: find it");
        assert!(!directory.join("no").exists());
        pool.fill().await.unwrap();
        // The same endpoint again, from a spare.
        pool.take(&directory.join("again"), &endpoint(&net, 2)).await.unwrap();
        pool.fill().await.unwrap();
        pool.drain();
        drop(pool);
        Pool::clean(&directory).unwrap();
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        // The kernel takes the pairs away in its own time.
        let begun = Instant::now();
        while !command("ip", &["-br", "link", "show", "master", "br0"]).is_empty() {
            assert!(begun.elapsed() < LIMIT, "pairs were left");
            std::thread::yield_now();
        }
    });
}

#[test]
fn a_tap_becomes_a_port_of_the_bridge() {
    isolated(|_| async {
        ensure_bridge(&bridge("br0", 18)).await.unwrap();
        let missing = connect_tap("tap0", "br0").await.unwrap_err();
        assert_eq!(missing.to_string(), "network interface tap0: find it");
        command("ip", &["tuntap", "add", "tap0", "mode", "tap"]);
        connect_tap("tap0", "br0").await.unwrap();
        let shown = command("ip", &["link", "show", "tap0"]);
        assert!(shown.contains("master br0") && shown.contains("UP"), "{shown}");
    });
}

/// What a start and its end cost; printed, not judged: the machine may be busy.
#[test]
fn costs() {
    isolated(|directory| async move {
        let net = bridge("br0", 18);
        ensure_bridge(&net).await.unwrap();
        let firewall = Firewall::new("caisson-00000001");
        firewall.install(std::slice::from_ref(&net)).await.unwrap();
        let pool = Pool::new("br0", 1500, 5);
        pool.fill().await.unwrap();
        for last in 2..7 {
            let (pooled, afresh) = (endpoint(&net, last), endpoint(&net, last + 10));
            let [one, two] =
                [directory.join(format!("p{last}")), directory.join(format!("f{last}"))];
            let begun = Instant::now();
            pool.take(&one, &pooled).await.unwrap();
            let take = begun.elapsed();
            create_namespace(&two).await.unwrap();
            let create = begun.elapsed();
            connect_namespace(&two, &afresh).await.unwrap();
            let connect = begun.elapsed();
            firewall.publish(&[published(8000 + u16::from(last), last)]).await.unwrap();
            let publish = begun.elapsed();
            disconnect(&pooled.host_name).await.unwrap();
            let disconnect = begun.elapsed();
            delete_namespace(&one).unwrap();
            let delete = begun.elapsed();
            eprintln!(
                "take {take:?}, create {:?}, connect {:?}, publish {:?}, disconnect {:?}, delete {:?}",
                create - take,
                connect - create,
                publish - connect,
                disconnect - publish,
                delete - disconnect
            );
        }
        Pool::clean(&directory).unwrap();
    });
}

/// Starts and ends one after the other, as a loop of `run --rm` does: what the ends cost the starts.
#[test]
fn costs_in_a_loop() {
    isolated(|directory| async move {
        let net = bridge("br0", 18);
        ensure_bridge(&net).await.unwrap();
        let pool = Pool::new("br0", 1500, 4);
        pool.fill().await.unwrap();
        let mut takes = Vec::new();
        for round in 0..60 {
            let path = directory.join("c");
            let begun = Instant::now();
            pool.take(&path, &endpoint(&net, 2 + round)).await.unwrap();
            takes.push(begun.elapsed());
            pool.refill();
            delete_namespace(&path).unwrap();
        }
        takes.sort();
        eprintln!("take: median {:?}, 90% {:?}, most {:?}", takes[30], takes[54], takes[59]);
    });
}

#[test]
fn costs_at_once() {
    isolated(|directory| async move {
        let net = bridge("br0", 18);
        ensure_bridge(&net).await.unwrap();
        let pool = Pool::new("br0", 1500, 4);
        pool.fill().await.unwrap();
        let begun = Instant::now();
        let tasks: Vec<_> = (2..22)
            .map(|last| {
                let (pool, path) = (pool.clone(), directory.join(format!("c{last}")));
                let endpoint = endpoint(&net, last);
                tokio::spawn(async move {
                    pool.take(&path, &endpoint).await.unwrap();
                    begun.elapsed()
                })
            })
            .collect();
        let mut done = Vec::new();
        for task in tasks {
            done.push(task.await.unwrap());
        }
        done.sort();
        eprintln!("20 at once: median {:?}, last {:?}", done[10], done[19]);
        Pool::clean(&directory).unwrap();
    });
}
