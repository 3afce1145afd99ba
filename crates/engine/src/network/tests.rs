//! Networks on a real kernel: each test in a network and a mount namespace of its own, as root.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use caisson_image::Store;
use rustix::thread::UnshareFlags;

use crate::list::tests::record;
use crate::record::{Record, RuntimeType, Status};
use crate::{Container, Engine, Kind, Settings, wire};

/// Runs the test on a thread with fresh namespaces, so that the host's interfaces, rules and mounts are
/// never touched.
fn isolated<F: Future<Output = ()>>(test: impl FnOnce(Settings) -> F + Send + 'static) {
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
        run("ip", &["link", "set", "lo", "up"]);
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            data_root: directory.path().join("data"),
            exec_root: directory.path().join("exec"),
            programs: "/nowhere".into(),
            guest_dir: "/nowhere".into(),
            default_type: RuntimeType::Process,
            cgroup_parent: "caisson".into(),
            standby: 0,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(settings));
    };
    std::thread::spawn(run).join().unwrap();
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The output of `ip` in a namespace.
fn ip(namespace: &Path, arguments: &[&str]) -> String {
    let enter = format!("--net={}", namespace.display());
    run("nsenter", &[&[enter.as_str(), "ip"], arguments].concat())
}

/// An engine with these containers, its networks open.
async fn engine(settings: &Settings, records: Vec<Record>) -> Engine {
    let images = Store::open(&settings.data_root.join("images")).unwrap();
    let engine = Engine::new(settings.clone(), images);
    for record in records {
        engine.0.containers.reserve_name(&record.name, &record.id).unwrap();
        let container = Container::new(record, &settings.data_root);
        std::fs::create_dir_all(&container.places.directory).unwrap();
        engine.0.containers.add(container);
    }
    engine.networks_open().await.unwrap();
    engine
}

/// A container that does not run, as it is created.
fn created(engine: &Engine, id: char, name: &str, host: wire::HostConfig) -> Arc<Container> {
    let mut record = record(id, name, 100);
    record.state.status = Status::Exited;
    record.networks = engine.endpoints_new(&record.id, &host, None).unwrap();
    record.host_config = host;
    engine.0.containers.reserve_name(name, &record.id).unwrap();
    let container = Container::new(record, &engine.0.settings.data_root);
    std::fs::create_dir_all(&container.places.directory).unwrap();
    engine.0.containers.add(container.clone());
    container
}

/// What a start does with the networks.
async fn start(engine: &Engine, container: &Arc<Container>) -> Option<std::path::PathBuf> {
    let connected = engine.network_up(&container.record()).await.unwrap();
    container
        .change(|record| {
            record.networks = connected.endpoints;
            record.state.status = Status::Running;
        })
        .unwrap();
    engine.network_files(container, &container.record()).unwrap();
    connected.namespace
}

fn on(mode: &str) -> wire::HostConfig {
    wire::HostConfig { network_mode: Some(mode.into()), ..Default::default() }
}

fn publishing(host_port: u16) -> wire::HostConfig {
    let binding = wire::PortBinding { host_ip: None, host_port: Some(host_port.to_string()) };
    let ports = [("80/tcp".to_string(), Some(vec![binding]))].into();
    wire::HostConfig { port_bindings: Some(ports), ..Default::default() }
}

#[test]
fn a_container_has_its_address_from_its_first_start_to_its_removal() {
    isolated(|settings| async move {
        let first = engine(&settings, Vec::new()).await;
        let web = created(&first, 'a', "web", on("default"));
        let namespace = start(&first, &web).await.unwrap();
        assert_eq!(namespace, settings.exec_root.join("netns/aaaaaaaaaaaa"));
        let endpoint = web.record().networks[0].clone();
        let address = endpoint.address.unwrap();
        let (gateway, prefix) = first.subnet(&endpoint.network, address);
        let shown = ip(&namespace, &["address", "show", "eth0"]);
        assert!(shown.contains(&format!("inet {address}/{prefix}")), "{shown}");
        let routes = ip(&namespace, &["route"]);
        assert!(routes.contains(&format!("default via {gateway} dev eth0")), "{routes}");
        let hosts = std::fs::read_to_string(web.places.file("hosts")).unwrap();
        assert!(hosts.ends_with(&format!("{address}\taaaaaaaaaaaa\n")), "{hosts}");
        let network = first.network("bridge").await.unwrap();
        let shown = &network.containers.unwrap()[&web.id];
        assert_eq!(shown.ipv4_address, Some(format!("{address}/{prefix}")));
        assert_eq!(shown.endpoint_id.as_ref(), Some(&endpoint.endpoint_id));

        first.network_down(&web.record()).await.unwrap();
        first.network_down(&web.record()).await.unwrap();
        assert!(!namespace.exists());
        web.change(|record| record.state.status = Status::Exited).unwrap();
        assert!(first.network("bridge").await.unwrap().containers.unwrap().is_empty());
        let db = created(&first, 'b', "db", on("bridge"));
        start(&first, &db).await.unwrap();
        assert_ne!(db.record().networks[0].address, Some(address));

        // Another daemon: the same networks, and nobody else gets the address.
        let left = settings.exec_root.join("netns/cccccccccccc");
        caisson_net::create_namespace(&left).await.unwrap();
        let second = engine(&settings, vec![web.record(), db.record()]).await;
        assert!(!left.exists() && settings.exec_root.join("netns/bbbbbbbbbbbb").exists());
        assert_eq!(second.network("bridge").await.unwrap().id, Some(endpoint.network));
        let other = created(&second, 'c', "other", on("bridge"));
        start(&second, &other).await.unwrap();
        assert_ne!(other.record().networks[0].address, Some(address));
        let web = second.0.containers.get("web").unwrap();
        start(&second, &web).await.unwrap();
        assert_eq!(web.record().networks[0].address, Some(address));
    });
}

#[test]
fn a_port_is_published_once_and_given_back() {
    isolated(|settings| async move {
        let engine = engine(&settings, Vec::new()).await;
        let web = created(&engine, 'a', "web", publishing(8080));
        start(&engine, &web).await.unwrap();
        let ports = engine.ports_publish(&web.record()).await.unwrap();
        assert_eq!((ports.bound[0].container.as_str(), ports.bound[0].host_port), ("80/tcp", 8080));
        let address = web.record().networks[0].address.unwrap();
        assert_eq!(ports.sockets[0].0.target, (address, 80).into());
        let element = format!("tcp . 8080 : {address} . 80");
        let table = || run("nft", &["list", "ruleset"]);
        assert!(table().contains(&element), "{}", table());

        let other = created(&engine, 'b', "other", publishing(8080));
        start(&engine, &other).await.unwrap();
        let refused = engine.ports_publish(&other.record()).await.unwrap_err();
        let endpoint = &other.record().networks[0].endpoint_id;
        let text = format!(
            "driver failed programming external connectivity on endpoint other ({endpoint}): Bind for 0.0.0.0:8080 failed: port is already allocated"
        );
        assert_eq!((refused.kind, refused.message), (Kind::Internal, text));

        web.change(|record| record.state.ports = ports.bound.clone()).unwrap();
        engine.ports_unpublish(&web.record()).await.unwrap();
        assert!(!table().contains(&element));
        // The supervisor has the sockets; a new daemon has only the record.
        engine.ports_restore(&web.record()).await.unwrap();
        assert!(table().contains(&element));
        engine.ports_unpublish(&web.record()).await.unwrap();
        drop(ports);
        engine.ports_publish(&other.record()).await.unwrap();
        // The host's network needs none.
        let host = created(&engine, 'c', "host", on("host"));
        assert_eq!(start(&engine, &host).await, None);
        assert!(engine.ports_publish(&host.record()).await.unwrap().bound.is_empty());
    });
}

#[test]
fn networks_come_and_go_while_a_container_runs() {
    isolated(|settings| async move {
        let engine = engine(&settings, Vec::new()).await;
        let web = created(&engine, 'a', "web", on("bridge"));
        let namespace = start(&engine, &web).await.unwrap();
        let config = wire::IpamConfig { subnet: Some("10.9.0.0/24".into()), ..Default::default() };
        let ipam = wire::Ipam { config: Some(vec![config]), ..Default::default() };
        let request = wire::NetworkCreateRequest {
            name: "n1".into(),
            ipam: Some(ipam),
            ..Default::default()
        };
        let id = engine.network_create(request.clone()).await.unwrap().id;
        let again = engine.network_create(request).await.unwrap_err();
        assert_eq!(again.message, "network with name n1 already exists");
        let connect =
            wire::NetworkConnectRequest { container: Some("web".into()), endpoint_config: None };
        engine.network_connect("n1", connect.clone()).await.unwrap();
        let shown = ip(&namespace, &["address", "show", "eth1"]);
        assert!(shown.contains("inet 10.9.0.2/24"), "{shown}");
        let hosts = || std::fs::read_to_string(web.places.file("hosts")).unwrap();
        assert!(hosts().ends_with("10.9.0.2\taaaaaaaaaaaa\n"));
        let twice = engine.network_connect("n1", connect).await.unwrap_err();
        assert_eq!(twice.message, "endpoint with name web already exists in network n1");
        let used = engine.network_remove("n1").await.unwrap_err();
        assert_eq!(used.kind, Kind::Forbidden);
        assert_eq!(
            used.message,
            "error while removing network: network n1 has active endpoints (name:\"web\" id:\"aaaaaaaaaaaa\")"
        );
        // What is left leads outside.
        let disconnect =
            wire::NetworkDisconnectRequest { container: Some("web".into()), force: None };
        engine.network_disconnect("bridge", disconnect.clone()).await.unwrap();
        let routes = ip(&namespace, &["route"]);
        assert!(routes.starts_with("default via 10.9.0.1 dev eth1"), "{routes}");
        engine.network_disconnect(&id[..12], disconnect.clone()).await.unwrap();
        assert_eq!(ip(&namespace, &["-br", "link", "show", "type", "veth"]), "");
        assert!(!hosts().contains("aaaaaaaaaaaa"));
        let gone = engine.network_disconnect("n1", disconnect).await.unwrap_err();
        assert!(gone.message.ends_with("is not connected to network n1"), "{gone}");
        engine.network_remove("n1").await.unwrap();
        assert_eq!(engine.network("n1").await.unwrap_err().kind, Kind::NotFound);
        let forbidden = engine.network_remove("bridge").await.unwrap_err();
        assert_eq!(forbidden.message, "bridge is a pre-defined network and cannot be removed");
        let told = engine.events().listen(Some(0)).0;
        let actions: Vec<_> = told.iter().filter_map(|event| event.action.clone()).collect();
        assert_eq!(
            actions,
            ["connect", "create", "connect", "disconnect", "disconnect", "destroy"]
        );
        let recorded = std::fs::read_to_string(settings.data_root.join("networks.json")).unwrap();
        assert!(recorded.contains("\"bridge\"") && !recorded.contains("\"n1\""), "{recorded}");
    });
}

#[test]
fn namespaces_are_shared_and_networks_closed() {
    isolated(|settings| async move {
        let engine = engine(&settings, Vec::new()).await;
        let web = created(&engine, 'a', "web", on("none"));
        let namespace = start(&engine, &web).await.unwrap();
        assert!(ip(&namespace, &["-br", "link"]).starts_with("lo "));
        let friend = created(&engine, 'b', "friend", on("container:web"));
        assert_eq!(start(&engine, &friend).await, Some(namespace.clone()));
        engine.network_down(&friend.record()).await.unwrap();
        assert!(namespace.exists());
        engine.network_down(&web.record()).await.unwrap();
        web.change(|record| record.state.status = Status::Exited).unwrap();
        let refused = engine.network_up(&friend.record()).await.unwrap_err();
        assert_eq!(
            refused.message,
            format!("cannot join network of a non running container: {}", web.id)
        );
        let lost = created(&engine, 'c', "lost", on("nowhere"));
        let missing = engine.network_up(&lost.record()).await.unwrap_err();
        assert_eq!(
            (missing.kind, missing.message.as_str()),
            (Kind::NotFound, "failed to set up container networking: network nowhere not found")
        );
        let shown = run("ip", &["link", "show", "type", "bridge"]);
        let root = settings.data_root.canonicalize().unwrap();
        assert!(shown.contains(&format!("alias caisson {}", root.display())), "{shown}");
        let gateway = engine.network("bridge").await.unwrap().ipam.unwrap().config.unwrap();
        let gateway = gateway[0].gateway.clone().unwrap();
        TcpListener::bind((gateway.as_str(), 0)).unwrap();
        engine.networks_close().await;
        assert!(TcpListener::bind((gateway.as_str(), 0)).is_err());
        assert_eq!(run("nft", &["list", "ruleset"]), "");
    });
}

#[test]
fn names_are_served_in_a_network_of_ones_own() {
    isolated(|settings| async move {
        let engine = engine(&settings, Vec::new()).await;
        let request =
            |name: &str| wire::NetworkCreateRequest { name: name.into(), ..Default::default() };
        engine.network_create(request("n1")).await.unwrap();
        engine.network_create(request("n2")).await.unwrap();
        let db = created(&engine, 'a', "db", on("n1"));
        db.change(|record| record.networks[0].aliases = vec!["Data.example".into()]).unwrap();
        start(&engine, &db).await.unwrap();
        let web = created(&engine, 'b', "web", on("n1"));
        let inside = start(&engine, &web).await.unwrap();
        let other = created(&engine, 'c', "other", on("n2"));
        let apart = start(&engine, &other).await.unwrap();
        let address = db.record().networks[0].address.unwrap();
        let text = std::fs::read_to_string(web.places.file("resolv.conf")).unwrap();
        let server = text.lines().find_map(|line| line.strip_prefix("nameserver ")).unwrap();
        assert!(text.contains("options ndots:0"), "{text}");
        for name in ["db", "DB", "db.n1", "data.example", "aaaaaaaaaaaa"] {
            let answer = lookup(&inside, name, server).await;
            assert!(answer.contains(&format!("Address: {address}\n")), "{name}: {answer}");
        }
        let answer = lookup(&inside, &address.to_string(), server).await;
        assert!(answer.contains("name = db.n1"), "{answer}");
        // Who is in another network does not see it, whoever it asks.
        let text = std::fs::read_to_string(other.places.file("resolv.conf")).unwrap();
        let own = text.lines().find_map(|line| line.strip_prefix("nameserver ")).unwrap();
        for server in [own, server] {
            let answer = lookup(&apart, "db", server).await;
            assert!(!answer.contains(&address.to_string()), "{answer}");
        }
        engine.network_down(&db.record()).await.unwrap();
        let answer = lookup(&inside, "db", server).await;
        assert!(!answer.contains(&address.to_string()), "{answer}");
    });
}

/// What busybox finds out from a name server, asked in a namespace.
async fn lookup(namespace: &Path, name: &str, server: &str) -> String {
    let enter = format!("--net={}", namespace.display());
    let (name, server) = (name.to_string(), server.to_string());
    let asked = tokio::task::spawn_blocking(move || {
        let arguments = [enter.as_str(), "busybox", "nslookup", &name, &server];
        let output = Command::new("nsenter").args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    asked.await.unwrap()
}
