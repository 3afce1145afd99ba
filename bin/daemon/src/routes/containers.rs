//! `/containers`: what there is, and what is known of each.

use caisson_engine::wire;
use futures_util::TryStreamExt;
use hyper::StatusCode;
use serde_json::Value;

use crate::call::Call;
use crate::hijack;
use crate::reply::{self, Failure, Reply, Result};
use caisson_engine::{ListOptions, LogOptions};

pub async fn list(call: Call) -> Result<Reply> {
    let limit = call.query.number::<i64>("limit")?;
    let options = ListOptions {
        all: call.query.flag("all"),
        limit: limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(0),
        size: call.query.flag("size"),
        filters: call.filters()?,
    };
    reply::json(&call.engine().list(options).await?)
}

pub async fn create(mut call: Call) -> Result<Reply> {
    platform(call.query.get("platform"))?;
    let mut body: Value = call.json().await?;
    tidy(&mut body)?;
    let body: wire::ContainerCreateBody = serde_json::from_value(body)
        .map_err(|error| Failure::invalid(format!("invalid JSON: {error}")))?;
    let name = call.query.get("name").map(String::from);
    reply::json_with(StatusCode::CREATED, &call.engine().create(name, body).await?)
}

/// Brings what Docker takes in more than one form into one.
fn tidy(body: &mut Value) -> Result<()> {
    for key in ["Cmd", "Entrypoint"] {
        if let Some(value) = body.get_mut(key).filter(|value| value.is_string()) {
            *value = Value::Array(vec![value.take()]);
        }
    }
    if let Some(Value::String(isolation)) = body.pointer_mut("/HostConfig/Isolation") {
        isolation.make_ascii_lowercase();
        if !matches!(isolation.as_str(), "" | "default" | "process" | "hyperv") {
            return Err(Failure::invalid(format!(
                "invalid isolation '{isolation}' on linux: it is default, process or hyperv"
            )));
        }
    }
    if let Some(Value::String(mode)) = body.pointer("/HostConfig/CgroupnsMode")
        && !matches!(mode.as_str(), "" | "private" | "host")
    {
        return Err(Failure::invalid(format!("invalid cgroup namespace mode: {mode}")));
    }
    restart_policy(body.pointer("/HostConfig/RestartPolicy"))
}

/// Refuses a restart policy that there is none of, for a creation and an update.
pub fn restart_policy(policy: Option<&Value>) -> Result<()> {
    let name = policy.and_then(|policy| policy.get("Name")).and_then(Value::as_str);
    match name.unwrap_or_default() {
        "" | "no" | "always" | "on-failure" | "unless-stopped" => Ok(()),
        other => Err(Failure::invalid(format!(
            "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        ))),
    }
}

/// Refuses a platform that is not this host's, so that no image of it is looked for.
fn platform(wanted: Option<&str>) -> Result<()> {
    let Some(wanted) = wanted else { return Ok(()) };
    let own = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut parts = wanted.split('/');
    let (first, second) = (parts.next().unwrap_or_default(), parts.next());
    let same = |arch: &str| arch == own || arch == std::env::consts::ARCH;
    if same(first) || (first == "linux" && second.is_none_or(same)) {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "the platform {wanted:?} cannot run here: this host runs linux/{own}"
    )))
}

pub async fn inspect(call: Call, name: &str) -> Result<Reply> {
    reply::json(&call.engine().inspect(name, call.query.flag("size")).await?)
}

pub async fn top(call: Call, name: &str) -> Result<Reply> {
    reply::json(&call.engine().top(name, call.query.get("ps_args")).await?)
}

pub async fn changes(call: Call, name: &str) -> Result<Reply> {
    let changes = call.engine().changes(name).await?;
    reply::json(&Some(changes).filter(|changes| !changes.is_empty()))
}

pub async fn prune(call: Call) -> Result<Reply> {
    reply::json(&call.engine().containers_prune(&call.filters()?).await?)
}

pub async fn logs(call: Call, name: &str) -> Result<Reply> {
    let query = &call.query;
    let options = LogOptions {
        follow: query.flag("follow"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        since: query.moment("since")?.filter(|since| *since > 0),
        until: query.moment("until")?.filter(|until| *until > 0),
        timestamps: query.flag("timestamps"),
        // What is no number means all, as in Docker.
        tail: query.get("tail").and_then(|tail| tail.parse().ok()),
        details: query.flag("details"),
    };
    if !options.stdout && !options.stderr {
        return Err(Failure::invalid("Bad parameters: you must choose at least one stream"));
    }
    let logs = call.engine().logs(name, options).await?;
    let content_type = hijack::content_type(logs.tty, call.version);
    Ok(reply::stream(
        content_type,
        logs.stream.map_err(|error| std::io::Error::other(error.message)),
    ))
}

/// Reads a create's body; for tests of what clients send.
#[cfg(test)]
fn read(text: &str) -> Result<wire::ContainerCreateBody> {
    let mut body: Value = crate::call::parse(text.as_bytes())?;
    tidy(&mut body)?;
    serde_json::from_value(body).map_err(|error| Failure::invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_clients_nulls_and_empty_words_are_taken() {
        let body = read(
            r#"{"Hostname":"","Env":null,"Cmd":"sh","Entrypoint":null,"Image":"busybox","Volumes":{},
                "Labels":null,"HostConfig":{"Binds":null,"LogConfig":{"Type":"","Config":{}},
                "PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"18080"}],"81/tcp":null},
                "RestartPolicy":{"Name":"","MaximumRetryCount":0},"CgroupnsMode":"","Isolation":"Hyperv",
                "ConsoleSize":[40,120],"MemorySwappiness":-1,"Ulimits":[],"Mounts":null,"MaskedPaths":null},
                "NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":null,"Links":null,
                "Aliases":null,"MacAddress":"","DriverOpts":null,"GwPriority":0,"DNSNames":null}}}}"#,
        )
        .unwrap();
        assert_eq!(body.cmd, Some(vec!["sh".into()]));
        let host = body.host_config.unwrap();
        assert_eq!(host.isolation, Some(wire::HostConfigIsolationEnum::HYPERV));
    }

    #[test]
    fn an_unknown_isolation_is_named() {
        let failure = read(r#"{"HostConfig":{"Isolation":"vm"}}"#).unwrap_err();
        assert!(
            failure.message.starts_with("invalid isolation 'vm' on linux"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn an_unknown_word_is_named() {
        for (body, word) in [
            (r#"{"HostConfig":{"RestartPolicy":{"Name":"never"}}}"#, "policy 'never'"),
            (r#"{"HostConfig":{"CgroupnsMode":"mine"}}"#, "mode: mine"),
        ] {
            let failure = read(body).unwrap_err();
            assert!(failure.message.contains(word), "{}", failure.message);
        }
    }

    #[test]
    fn only_this_hosts_platform_is_taken() {
        for good in ["linux", "linux/amd64", "amd64", "linux/x86_64", "linux/amd64/v2"] {
            assert_eq!(
                platform(Some(good)).is_ok(),
                cfg!(target_arch = "x86_64") || good == "linux",
                "{good}"
            );
        }
        assert!(platform(None).is_ok());
        for bad in ["windows/amd64", "linux/s390x", ""] {
            assert!(platform(Some(bad)).is_err(), "{bad}");
        }
    }
}
