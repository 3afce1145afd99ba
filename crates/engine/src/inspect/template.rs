//! What Docker sends for what was not given: its clients expect every one of these fields.

use serde_json::{Map, Value, json};

/// `given` with the fields of `template` that it lacks or has as null.
pub(super) fn completed(template: Value, given: Value) -> Value {
    let (Value::Object(mut fields), Value::Object(given)) = (template, given) else {
        return Value::Null;
    };
    fields.extend(given.into_iter().filter(|(_, value)| !value.is_null()));
    Value::Object(fields)
}

/// `HostConfig` of a container that asked for nothing.
pub(super) fn host_config() -> Value {
    let mut fields = Map::new();
    let mut all = |names: &[&str], value: Value| {
        fields.extend(names.iter().map(|name| (name.to_string(), value.clone())));
    };
    all(
        &[
            "Binds",
            "VolumesFrom",
            "CapAdd",
            "CapDrop",
            "Dns",
            "DnsOptions",
            "DnsSearch",
            "ExtraHosts",
            "GroupAdd",
            "Links",
            "SecurityOpt",
            "BlkioWeightDevice",
            "BlkioDeviceReadBps",
            "BlkioDeviceWriteBps",
            "BlkioDeviceReadIOps",
            "BlkioDeviceWriteIOps",
            "Devices",
            "DeviceCgroupRules",
            "DeviceRequests",
            "MemorySwappiness",
            "OomKillDisable",
            "PidsLimit",
            "Ulimits",
            "MaskedPaths",
            "ReadonlyPaths",
        ],
        Value::Null,
    );
    all(
        &[
            "ContainerIDFile",
            "VolumeDriver",
            "Cgroup",
            "PidMode",
            "UTSMode",
            "UsernsMode",
            "Isolation",
            "CgroupParent",
            "CpusetCpus",
            "CpusetMems",
        ],
        json!(""),
    );
    all(&["AutoRemove", "Privileged", "PublishAllPorts", "ReadonlyRootfs"], json!(false));
    all(
        &[
            "OomScoreAdj",
            "CpuShares",
            "Memory",
            "NanoCpus",
            "BlkioWeight",
            "CpuPeriod",
            "CpuQuota",
            "CpuRealtimePeriod",
            "CpuRealtimeRuntime",
            "MemoryReservation",
            "MemorySwap",
            "CpuCount",
            "CpuPercent",
            "IOMaximumIOps",
            "IOMaximumBandwidth",
        ],
        json!(0),
    );
    all(&["LogConfig"], json!({"Type": "json-file", "Config": {}}));
    all(&["NetworkMode"], json!("bridge"));
    all(&["PortBindings"], json!({}));
    all(&["RestartPolicy"], json!({"Name": "no", "MaximumRetryCount": 0}));
    all(&["ConsoleSize"], json!([0, 0]));
    all(&["CgroupnsMode", "IpcMode"], json!("private"));
    all(&["ShmSize"], json!(67_108_864));
    all(&["Runtime"], json!("caisson"));
    Value::Object(fields)
}

/// `Config` of a container that asked for nothing.
pub(super) fn config() -> Value {
    json!({
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false,
        "AttachStderr": false, "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": [],
        "Cmd": null, "Image": "", "Volumes": null, "WorkingDir": "", "Entrypoint": null,
        "OnBuild": null, "Labels": {},
    })
}

/// An endpoint of a container that does not run.
pub(super) fn endpoint() -> Value {
    json!({
        "IPAMConfig": null, "Links": null, "Aliases": null, "MacAddress": "", "DriverOpts": null,
        "GwPriority": 0, "NetworkID": "", "EndpointID": "", "Gateway": "", "IPAddress": "",
        "IPPrefixLen": 0, "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
        "DNSNames": null,
    })
}

/// `NetworkSettings` of a container that does not run.
pub(super) fn network_settings() -> Value {
    json!({
        "Bridge": "", "SandboxID": "", "SandboxKey": "", "Ports": {}, "HairpinMode": false,
        "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0, "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null, "EndpointID": "", "Gateway": "", "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0, "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "",
        "MacAddress": "", "Networks": {},
    })
}
