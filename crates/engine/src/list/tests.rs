//! Which containers are listed, and in which words.

use super::*;
use crate::record::{BoundPort, EndpointRecord, MountRecord, RuntimeType};

const SECOND: i64 = 1_000_000_000;

/// A container that runs `sleep 300`.
pub(crate) fn record(id: char, name: &str, created: i64) -> Record {
    Record {
        id: id.to_string().repeat(64),
        name: name.into(),
        created: created * SECOND,
        image: "sha256:1".into(),
        runtime_type: RuntimeType::Process,
        config: Default::default(),
        host_config: Default::default(),
        args: vec!["sleep".into(), "300".into()],
        mounts: Vec::new(),
        networks: vec![EndpointRecord {
            network: "f".repeat(64),
            network_name: "bridge".into(),
            endpoint_id: "e".repeat(64),
            address: Some([172, 17, 0, 2].into()),
            mac: [2, 0x42, 172, 17, 0, 2],
            aliases: Vec::new(),
            settings: Default::default(),
        }],
        state: crate::record::State {
            status: Status::Running,
            started: created * SECOND,
            ..Default::default()
        },
    }
}

/// The names of those that filters leave, of three containers.
fn listed(all: bool, filters: &str) -> Result<Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    let images = Store::open(directory.path()).unwrap();
    let containers = Containers::default();
    let mut web = record('a', "web", 100);
    web.config.labels = Some([("tier".into(), "front".into())].into());
    web.config.exposed_ports = Some([("80/tcp".into(), HashMap::new())].into());
    web.state.ports =
        vec![BoundPort { container: "443".into(), host_ip: String::new(), host_port: 8443 }];
    let mut db = record('b', "db", 200);
    db.runtime_type = RuntimeType::Hyperv;
    db.mounts = vec![MountRecord {
        destination: "/var/lib".into(),
        kind: MountKind::Volume {
            name: "data".into(),
            copy: true,
            subpath: None,
            anonymous: false,
        },
        read_only: false,
        propagation: String::new(),
        mode: String::new(),
    }];
    let mut job = record('c', "web-job", 300);
    job.state = crate::record::State {
        status: Status::Exited,
        exit_code: 3,
        started: 301 * SECOND,
        finished: 310 * SECOND,
        ..Default::default()
    };
    for record in [web, db, job] {
        containers.reserve_name(&record.name, &record.id).unwrap();
        containers.add(Container::new(record, directory.path()));
    }
    let filters = Filters::parse(filters).unwrap();
    let options = ListOptions { all, filters, ..Default::default() };
    let wanted = Wanted::new(&containers, &images, &options)?;
    let found = containers.all();
    let found = found.iter().filter(|container| container.look(|r| wanted.includes(r)));
    Ok(found.map(|container| container.record().name).collect())
}

#[test]
fn filters_choose_containers() {
    let cases: [(bool, &str, &[&str]); 24] = [
        (false, "", &["web", "db"]),
        (true, "", &["web", "db", "web-job"]),
        (true, r#"{"name":["web"]}"#, &["web", "web-job"]),
        (true, r#"{"name":["^web$"]}"#, &["web"]),
        (true, r#"{"id":["bb"]}"#, &["db"]),
        (true, r#"{"id":["bb"],"name":["web"]}"#, &[]),
        (true, r#"{"id":["d"]}"#, &[]),
        (true, r#"{"label":["tier"]}"#, &["web"]),
        (true, r#"{"label":["tier=back"]}"#, &[]),
        (false, r#"{"status":["exited"]}"#, &["web-job"]),
        (false, r#"{"status":["exited","running"]}"#, &["web", "db", "web-job"]),
        (true, r#"{"exited":["3"]}"#, &["web-job"]),
        (true, r#"{"exited":["0"]}"#, &[]),
        (true, r#"{"before":["db"]}"#, &["web"]),
        (true, r#"{"since":["web"]}"#, &["db", "web-job"]),
        (true, r#"{"volume":["data"]}"#, &["db"]),
        (true, r#"{"volume":["/var/lib"]}"#, &["db"]),
        (true, r#"{"network":["bridge"]}"#, &["web", "db", "web-job"]),
        (true, r#"{"network":["other"]}"#, &[]),
        (true, r#"{"isolation":["hyperv"]}"#, &["db"]),
        (true, r#"{"publish":["440-450"]}"#, &["web"]),
        (true, r#"{"expose":["80/udp"]}"#, &[]),
        (true, r#"{"is-task":["true"]}"#, &[]),
        (true, r#"{"ancestor":["nothing"]}"#, &[]),
    ];
    for (all, filters, expected) in cases {
        assert_eq!(listed(all, filters).unwrap(), expected, "{filters}");
    }
}

#[test]
fn unusable_filters_are_refused_in_dockers_words() {
    let cases = [
        (r#"{"colour":["red"]}"#, "invalid filter 'colour'"),
        (
            r#"{"status":["up"]}"#,
            "invalid filter 'status=up': invalid value for state (up): must be one of created, \
             running, paused, restarting, removing, exited, dead",
        ),
        (
            r#"{"exited":["x"]}"#,
            r#"invalid filter 'exited=x': strconv.Atoi: parsing "x": invalid syntax"#,
        ),
        (r#"{"before":["nobody"]}"#, "No such container: nobody"),
        (r#"{"is-task":["maybe"]}"#, "invalid filter 'is-task=[maybe]'"),
        (r#"{"publish":["1:2"]}"#, "filter for 'publish' should not contain ':': 1:2"),
    ];
    for (filters, expected) in cases {
        assert_eq!(listed(true, filters).unwrap_err().message, expected, "{filters}");
    }
}

#[test]
fn states_in_dockers_words() {
    let mut one = record('a', "web", 100);
    let now = 103 * SECOND;
    assert_eq!(status(&one, now), "Up 3 seconds");
    one.state.paused = true;
    assert_eq!(status(&one, now), "Up 3 seconds (Paused)");
    one.state.finished = 102 * SECOND;
    one.state.exit_code = 1;
    for (state, words) in [
        (Status::Restarting, "Restarting (1) 1 second ago"),
        (Status::Exited, "Exited (1) 1 second ago"),
        (Status::Created, "Created"),
        (Status::Removing, "Removal In Progress"),
        (Status::Dead, "Dead"),
    ] {
        one.state.status = state;
        assert_eq!(status(&one, now), words);
    }
}

#[test]
fn ports_are_shown_while_it_runs() {
    let mut one = record('a', "web", 100);
    one.config.exposed_ports = Some([("80/tcp".into(), HashMap::new())].into());
    let bound = |container: &str, host_ip: &str, host_port| BoundPort {
        container: container.into(),
        host_ip: host_ip.into(),
        host_port,
    };
    one.state.ports = vec![bound("53/udp", "127.0.0.1", 5353)];
    let shown = ports(&one);
    assert_eq!(shown.len(), 2);
    assert_eq!((shown[0].private_port, shown[0].public_port), (53, Some(5353)));
    assert_eq!((shown[1].private_port, shown[1].ip.as_deref()), (80, None));
    one.state.status = Status::Exited;
    assert!(ports(&one).is_empty());
}
