//! Published ports driven over real sockets on the loopback, with plain processes for a sandbox: the
//! "container" is the test itself.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use caisson_bundle::{Bundle, defaults};
use caisson_protocol::frame;
use caisson_protocol::supervisor::{Log, Published, Reply, Request, Start};
use caisson_protocol::task::{self, ProcessId, Stdio};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use crate::tests::{Bench, LIMIT, QUIET};

/// Starts `script` with these sockets published.
fn start(bench: &Bench, script: &str, published: Vec<(&str, OwnedFd, SocketAddr)>) -> task::Reply {
    let names = published
        .iter()
        .map(|(protocol, _, target)| Published { protocol: (*protocol).into(), target: *target });
    let start = Start {
        bundle: Bundle {
            id: "c".into(),
            rootfs: "/".into(),
            spec: defaults::spec(&["/bin/sh", "-c", script]),
        },
        stdio: Stdio::default(),
        stdin_once: true,
        log: Log::None,
        exit_file: bench.path().join("exit.json"),
        interfaces: Vec::new(),
        published: names.collect(),
    };
    let message = frame::encode_message(&Request::Start(Box::new(start))).unwrap();
    let sockets: Vec<BorrowedFd> = published.iter().map(|(_, socket, _)| socket.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&sockets)));
    let mut connection = bench.connect();
    let parts = [IoSlice::new(&message)];
    let sent = rustix::net::sendmsg(&connection, &parts, &mut control, SendFlags::empty()).unwrap();
    assert_eq!(sent, message.len());
    match frame::read_message(&mut connection).unwrap().expect("an answer") {
        Reply::Task(reply) => reply,
        other => panic!("unexpected answer {other:?}"),
    }
}

/// A supervisor that forwards tcp to `target` while its container sleeps; where it listens.
fn forward(target: SocketAddr) -> (Bench, SocketAddr) {
    let bench = Bench::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let reply = start(&bench, "sleep 60", vec![("tcp", listener.into(), target)]);
    assert!(matches!(reply, task::Reply::Started { .. }), "{reply:?}");
    (bench, address)
}

fn server() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Returns when the loop has been round since what was sent before.
fn settle(bench: &Bench) {
    bench.status();
    bench.status();
}

#[test]
fn bytes_go_both_ways_and_each_direction_ends_by_itself() {
    let (listener, target) = server();
    let (bench, address) = forward(target);
    let sent: Vec<u8> = (0..4 << 20).map(|n: u32| (n ^ (n >> 8)) as u8).collect();
    let echo = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        // Reads to the end first: the answer comes after the client's half is closed.
        client.read_to_end(&mut all).unwrap();
        client.write_all(&all).unwrap();
    });
    let mut client = connect(address);
    client.write_all(&sent).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    assert!(received == sent);
    echo.join().unwrap();
    settle(&bench);
    assert!(bench.idle_cpu() < QUIET);
    bench.shutdown();
}

#[test]
fn a_target_that_refuses_ends_the_connection() {
    let (listener, target) = server();
    drop(listener);
    let (bench, address) = forward(target);
    let mut client = connect(address);
    assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)));
    bench.shutdown();
}

#[test]
fn who_does_not_read_holds_the_sender_and_costs_nothing() {
    let (listener, target) = server();
    let (bench, address) = forward(target);
    let mut client = connect(address);
    let (mut served, _) = listener.accept().unwrap();
    client.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut taken = 0;
    while let Ok(count) = client.write(&[7; 64 << 10]) {
        taken += count;
        assert!(taken < 64 << 20, "nothing holds the sender back");
    }
    let spent = bench.idle_cpu();
    assert!(spent < QUIET, "{spent:?}");
    // Both ends closed by the client, while what it sent still waits: nothing is lost, nothing spins.
    client.shutdown(Shutdown::Both).unwrap();
    let spent = bench.idle_cpu();
    assert!(spent < QUIET, "{spent:?}");
    served.set_read_timeout(Some(LIMIT)).unwrap();
    let mut all = Vec::new();
    served.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), taken);
    bench.shutdown();
}

#[test]
fn a_client_that_breaks_off_is_forgotten_at_both_ends() {
    let (listener, target) = server();
    let (bench, address) = forward(target);
    let client = connect(address);
    let (mut served, _) = listener.accept().unwrap();
    served.set_read_timeout(Some(LIMIT)).unwrap();
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
    assert!(matches!(served.read(&mut [0; 1]), Ok(0) | Err(_)));
    settle(&bench);
    assert!(bench.idle_cpu() < QUIET);
    bench.shutdown();
}

#[test]
fn many_connections_wait_their_turn() {
    let (listener, target) = server();
    let (bench, address) = forward(target);
    let server = std::thread::spawn(move || {
        for stream in listener.incoming().take(600) {
            let mut stream = stream.unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            stream.write_all(&byte).unwrap();
        }
    });
    // More than are served at once, none of which leaves before it has been served.
    for _ in 0..6 {
        let mut clients: Vec<_> = (0..100).map(|_| connect(address)).collect();
        for (number, client) in clients.iter_mut().enumerate().rev() {
            client.write_all(&[number as u8]).unwrap();
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [number as u8]);
        }
    }
    server.join().unwrap();
    settle(&bench);
    assert!(bench.idle_cpu() < QUIET);
    bench.shutdown();
}

#[test]
fn the_port_is_free_when_the_container_has_ended_and_its_last_words_arrive() {
    let (listener, target) = server();
    let (bench, address) = forward(target);
    // Attached and never reading: the supervisor itself stays.
    let _client = bench.attach();
    let mut client = connect(address);
    let (mut served, _) = listener.accept().unwrap();
    served.write_all(b"last words").unwrap();
    settle(&bench);
    let signal = task::Request::Signal { process: ProcessId::Init, signal: 9, all: false };
    bench.ask(&Request::Task(signal));
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "last words");
    bench.wait();
    TcpListener::bind(address).unwrap();
}

#[test]
fn the_port_is_free_while_clients_still_take_the_containers_output() {
    let bench = Bench::new();
    let attached = bench.attach();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    start(&bench, "seq 1 78000", vec![("tcp", listener.into(), address)]);
    // More than the connection's socket takes: a part stays in the supervisor.
    let begun = Instant::now();
    while TcpListener::bind(address).is_err() {
        assert!(begun.elapsed() < LIMIT, "the port is still held");
        settle(&bench);
    }
    assert!(bench.ended.try_recv().is_err(), "the supervisor still has output for its client");
    drop(attached);
    bench.wait();
}

fn udp() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

#[test]
fn datagrams_find_their_way_back_to_each_client() {
    let (server, reserved) = (udp(), udp());
    let address = reserved.local_addr().unwrap();
    let bench = Bench::new();
    let target = server.local_addr().unwrap();
    let reply = start(&bench, "sleep 60", vec![("udp", reserved.into(), target)]);
    assert!(matches!(reply, task::Reply::Started { .. }), "{reply:?}");
    let clients = [udp(), udp(), udp()];
    let mut buffer = vec![0; 64 << 10];
    let mut seen = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        client.send_to(&[number as u8; 60_000], address).unwrap();
        let (count, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(count, 60_000);
        seen.push((from, number as u8));
    }
    for (from, number) in seen.iter().rev() {
        server.send_to(&[*number, 1], from).unwrap();
    }
    for (number, client) in clients.iter().enumerate() {
        assert_eq!(client.recv_from(&mut buffer).unwrap(), (2, address));
        assert_eq!(buffer[..2], [number as u8, 1]);
        // A client keeps its way.
        client.send_to(b"again", address).unwrap();
        assert_eq!(server.recv_from(&mut buffer).unwrap(), (5, seen[number].0));
    }
    // Nobody listens any more: what comes back for it must not keep the loop busy.
    drop(server);
    clients[0].send_to(b"lost", address).unwrap();
    settle(&bench);
    assert!(bench.idle_cpu() < QUIET);
    bench.shutdown();
    UdpSocket::bind(address).unwrap();
}

#[test]
fn udp_clients_are_bounded() {
    let (server, reserved) = (udp(), udp());
    let address = reserved.local_addr().unwrap();
    let bench = Bench::new();
    let target = server.local_addr().unwrap();
    start(&bench, "sleep 60", vec![("udp", reserved.into(), target)]);
    let mut buffer = [0; 16];
    for number in 0..600_u32 {
        let client = udp();
        client.send_to(&number.to_ne_bytes(), address).unwrap();
        let (count, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(buffer[..count], number.to_ne_bytes());
        server.send_to(b"yes", from).unwrap();
        assert_eq!(client.recv_from(&mut buffer).unwrap().0, 3);
    }
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
    // All tests share this process's descriptors: the bound is what matters, not the rest.
    assert!(open < 512 + 600, "{open} descriptors are open");
    bench.shutdown();
}

#[test]
fn an_unknown_protocol_is_refused() {
    let bench = Bench::new();
    let (listener, target) = server();
    let reply = start(&bench, "true", vec![("sctp", listener.into(), target)]);
    let task::Reply::Failed(failure) = reply else { panic!("{reply:?}") };
    assert_eq!(failure.kind, task::FailureKind::Invalid);
    assert_eq!(failure.message, format!("published port to {target}: no protocol \"sctp\""));
    bench.wait();
}
