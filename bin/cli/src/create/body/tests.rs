//! From command lines to bodies.

use serde_json::{Value, json};

use super::*;
use crate::arguments;
use crate::commands::Command;

fn created(line: &str) -> Value {
    serde_json::to_value(try_create(line).unwrap()).unwrap()
}

fn try_create(line: &str) -> Result<ContainerCreateBody> {
    let words = ["caisson", "create"].into_iter().chain(line.split(' '));
    match arguments::parse(words).unwrap().command {
        Command::Create(create) => body(&create.options, &create.words),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_follows_the_image_is_the_containers() {
    let body = created("-it busybox sh -c --rm -it");
    assert_eq!(body["Image"], "busybox");
    assert_eq!(body["Cmd"], json!(["sh", "-c", "--rm", "-it"]));
    assert_eq!(body["HostConfig"]["AutoRemove"], false);
    for key in ["Tty", "OpenStdin", "StdinOnce", "AttachStdin", "AttachStdout", "AttachStderr"] {
        assert_eq!(body[key], true, "{key}");
    }
    assert_eq!(created("busybox -- ls")["Cmd"], json!(["--", "ls"]));
    assert_eq!(created("busybox").get("Cmd"), None);
}

#[test]
fn limits_are_bytes_and_billionths() {
    let line = "-m 512m --memory-swap -1 --cpus 1.5 --pids-limit=-1 --cpuset-cpus 0-1 -c 512 \
                --ulimit nofile=10:20 --oom-score-adj -500 --shm-size 64m x";
    let host = &created(line)["HostConfig"];
    assert_eq!(host["Memory"], 512 << 20);
    assert_eq!(host["MemorySwap"], -1);
    assert_eq!(host["NanoCpus"], 1_500_000_000_i64);
    assert_eq!(host["PidsLimit"], -1);
    assert_eq!(host["CpusetCpus"], "0-1");
    assert_eq!(host["CpuShares"], 512);
    assert_eq!(host["Ulimits"], json!([{ "Name": "nofile", "Soft": 10, "Hard": 20 }]));
    assert_eq!(host["OomScoreAdj"], -500);
    assert_eq!(host["ShmSize"], 64 << 20);
}

#[test]
fn the_runtime_type_is_the_isolation() {
    for line in ["--isolation hyperv x", "--runtime-type hyperv x", "--isolation=HyperV x"] {
        assert_eq!(created(line)["HostConfig"]["Isolation"], "hyperv", "{line}");
    }
    assert_eq!(created("x")["HostConfig"].get("Isolation"), None);
}

#[test]
fn networks_have_addresses_and_names() {
    let body = created("--network web --network-alias a --ip 10.0.0.2 x");
    assert_eq!(body["HostConfig"]["NetworkMode"], "web");
    let endpoint = &body["NetworkingConfig"]["EndpointsConfig"]["web"];
    assert_eq!(endpoint["Aliases"], json!(["a"]));
    assert_eq!(endpoint["IPAMConfig"]["IPv4Address"], "10.0.0.2");
    let body = created("--network name=web,alias=a --network other x");
    let endpoints = &body["NetworkingConfig"]["EndpointsConfig"];
    assert_eq!(endpoints["web"]["Aliases"], json!(["a"]));
    assert!(endpoints["other"].is_object());
    let body = created("--net none x");
    assert_eq!(body["HostConfig"]["NetworkMode"], "none");
    assert_eq!(body.get("NetworkingConfig"), None);
    assert_eq!(created("x")["HostConfig"]["NetworkMode"], "default");
}

#[test]
fn the_rest_is_where_the_api_has_it() {
    let line = "--name n -e A=1 -l a=b -h host --entrypoint /x --restart on-failure:2 -p 8080:80 \
                --tmpfs /t:size=1m --add-host a:1.2.3.4 --device /dev/fuse --sysctl a.b=1 \
                --cap-add NET_ADMIN --security-opt no-new-privileges --init --read-only \
                --stop-timeout 3 --stop-signal INT -u 1:2 -w /w --log-opt max-size=1m x";
    let body = created(line);
    let host = &body["HostConfig"];
    assert_eq!(body["Env"], json!(["A=1"]));
    assert_eq!(body["Labels"], json!({ "a": "b" }));
    assert_eq!(body["Hostname"], "host");
    assert_eq!(body["Entrypoint"], json!(["/x"]));
    assert_eq!((&body["StopTimeout"], &body["StopSignal"]), (&json!(3), &json!("INT")));
    assert_eq!((&body["User"], &body["WorkingDir"]), (&json!("1:2"), &json!("/w")));
    assert_eq!(body["ExposedPorts"], json!({ "80/tcp": {} }));
    assert_eq!(host["PortBindings"], json!({ "80/tcp": [{ "HostIp": "", "HostPort": "8080" }] }));
    assert_eq!(host["RestartPolicy"], json!({ "Name": "on-failure", "MaximumRetryCount": 2 }));
    assert_eq!(host["Tmpfs"], json!({ "/t": "size=1m" }));
    assert_eq!(host["ExtraHosts"], json!(["a:1.2.3.4"]));
    assert_eq!(host["Devices"][0]["PathOnHost"], "/dev/fuse");
    assert_eq!(host["Sysctls"], json!({ "a.b": "1" }));
    assert_eq!(host["CapAdd"], json!(["NET_ADMIN"]));
    assert_eq!(host["SecurityOpt"], json!(["no-new-privileges"]));
    assert_eq!((&host["Init"], &host["ReadonlyRootfs"]), (&json!(true), &json!(true)));
    assert_eq!(host["LogConfig"]["Config"], json!({ "max-size": "1m" }));
}

#[test]
fn an_empty_entrypoint_takes_the_images_away() {
    let words = ["caisson", "create", "--entrypoint", "", "x"];
    let Command::Create(create) = arguments::parse(words).unwrap().command else {
        panic!("no create");
    };
    assert_eq!(body(&create.options, &create.words).unwrap().entrypoint, Some(vec!["".into()]));
}

#[test]
fn conflicts_are_named() {
    let error = try_create("--rm --restart always x").unwrap_err().sentence();
    assert_eq!(error, "conflicting options: cannot specify both --restart and --rm");
    let error = try_create("--security-opt x y").unwrap_err().sentence();
    assert_eq!(error, "invalid --security-opt: \"x\"");
    let error = try_create("--add-host a:b y").unwrap_err().sentence();
    assert_eq!(error, "invalid IP address in add-host: \"b\"");
    let error = try_create("--security-opt seccomp=/nonexistent y").unwrap_err().sentence();
    assert!(error.starts_with("opening seccomp profile (/nonexistent) failed: "), "{error}");
}
