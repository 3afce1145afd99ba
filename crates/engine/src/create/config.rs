//! What the image says and what the client gave, joined by Docker's rules.

use std::collections::HashMap;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::wire;

/// The whole configuration, and the program with its arguments.
pub fn merged(
    body: wire::ContainerCreateBody,
    image: &Value,
    id: &str,
    host: &wire::HostConfig,
) -> Result<(wire::ContainerConfig, Vec<String>)> {
    let of = image.get("config").unwrap_or(&Value::Null);
    let mut config = own(body)?;
    let entrypoint = config.entrypoint.take();
    let command = config.cmd.take().filter(|words| !words.is_empty());
    // An entrypoint that is given takes the image's command away; `[""]` takes the image's entrypoint away too.
    let (entrypoint, command) = match entrypoint {
        Some(given) if given == [""] => (None, command),
        Some(given) if given.is_empty() => (None, command.or_else(|| words(of, "Cmd"))),
        Some(given) => (Some(given), command),
        None => {
            let command = command.or_else(|| words(of, "Cmd"));
            (words(of, "Entrypoint"), command)
        }
    };
    let mut args = entrypoint.clone().unwrap_or_default();
    args.extend(command.clone().unwrap_or_default());
    if args.first().is_none_or(String::is_empty) {
        return Err(Error::invalid(
            "no command specified: give one, or use an image that has CMD or ENTRYPOINT",
        ));
    }
    config.entrypoint = entrypoint;
    config.cmd = command;
    config.env = Some(environment(config.env.take(), words(of, "Env"))?);
    config.labels = Some(maps(strings(of, "Labels"), config.labels.take()));
    config.exposed_ports = sets(of, "ExposedPorts", config.exposed_ports.take());
    config.volumes = sets(of, "Volumes", config.volumes.take());
    for (field, name) in [
        (&mut config.user, "User"),
        (&mut config.working_dir, "WorkingDir"),
        (&mut config.stop_signal, "StopSignal"),
    ] {
        if field.as_deref().unwrap_or_default().is_empty() {
            *field = of.get(name).and_then(Value::as_str).map(String::from);
        }
    }
    config.healthcheck = health(config.healthcheck.take(), of);
    if config.shell.is_none() {
        config.shell = words(of, "Shell");
    }
    if config.hostname.as_deref().unwrap_or_default().is_empty() {
        let host_s = [&host.network_mode, &host.uts_mode];
        let of_host = host_s.into_iter().flatten().any(|mode| mode == "host");
        config.hostname = Some(if of_host { host_name() } else { id[..12].to_string() });
    }
    Ok((config, args))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The part of a creation's body that is the container's configuration.
fn own(body: wire::ContainerCreateBody) -> Result<wire::ContainerConfig> {
    let value = serde_json::to_value(body);
    let config = value.and_then(serde_json::from_value);
    config.map_err(|error| Error::invalid(format!("invalid configuration: {error}")))
}

fn words(config: &Value, name: &str) -> Option<Vec<String>> {
    let list = config.get(name)?.as_array()?;
    let words: Vec<String> = list.iter().filter_map(Value::as_str).map(String::from).collect();
    Some(words).filter(|words| !words.is_empty())
}

fn strings(config: &Value, name: &str) -> HashMap<String, String> {
    let map = config.get(name).and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_string())))
        .collect()
}

fn maps(
    mut image: HashMap<String, String>,
    given: Option<HashMap<String, String>>,
) -> HashMap<String, String> {
    image.extend(given.unwrap_or_default());
    image
}

type Set = HashMap<String, HashMap<(), ()>>;

fn sets(config: &Value, name: &str, given: Option<Set>) -> Option<Set> {
    let map = config.get(name).and_then(Value::as_object);
    let mut set: Set =
        map.into_iter().flatten().map(|(key, _)| (key.clone(), HashMap::new())).collect();
    set.extend(given.unwrap_or_default());
    Some(set).filter(|set| !set.is_empty())
}

/// The given variables, then those of the image that they do not name. A name without a value is kept: it
/// takes the variable away when the container starts.
fn environment(given: Option<Vec<String>>, image: Option<Vec<String>>) -> Result<Vec<String>> {
    let mut all = given.unwrap_or_default();
    for entry in &all {
        if entry.starts_with('=') || entry.is_empty() || entry.contains('\0') {
            return Err(Error::invalid(format!("invalid environment variable: {entry}")));
        }
    }
    for entry in image.unwrap_or_default() {
        if !all.iter().any(|other| variable(other) == variable(&entry)) {
            all.push(entry);
        }
    }
    Ok(all)
}

/// The name of an entry such as `NAME=value`.
fn variable(entry: &str) -> &str {
    entry.split('=').next().unwrap_or_default()
}

/// The health check: what is not given of it is the image's.
fn health(given: Option<wire::HealthConfig>, of: &Value) -> Option<wire::HealthConfig> {
    let image = of.get("Healthcheck").cloned();
    let image: Option<wire::HealthConfig> =
        image.and_then(|check| serde_json::from_value(check).ok());
    let (given, image) = match (given, image) {
        (Some(given), Some(image)) => (given, image),
        (given, image) => return given.or(image),
    };
    let number =
        |given: Option<i64>, image: Option<i64>| given.filter(|value| *value != 0).or(image);
    Some(wire::HealthConfig {
        test: given.test.filter(|test| !test.is_empty()).or(image.test),
        interval: number(given.interval, image.interval),
        timeout: number(given.timeout, image.timeout),
        retries: number(given.retries, image.retries),
        start_period: number(given.start_period, image.start_period),
        start_interval: number(given.start_interval, image.start_interval),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn list(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|word| word.to_string()).collect())
    }

    fn merge(body: wire::ContainerCreateBody) -> (wire::ContainerConfig, Vec<String>) {
        let image = json!({"config": {
            "Cmd": ["serve", "-x"], "Entrypoint": ["/init"], "Env": ["PATH=/bin", "A=1"],
            "WorkingDir": "/srv", "User": "web", "Labels": {"a": "1"},
            "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"
        }});
        merged(body, &image, &"a".repeat(64), &wire::HostConfig::default()).unwrap()
    }

    #[test]
    fn the_program_follows_dockers_rules() {
        let args = |entrypoint: Option<Vec<String>>, cmd: Option<Vec<String>>| {
            merge(wire::ContainerCreateBody { entrypoint, cmd, ..Default::default() }).1
        };
        assert_eq!(args(None, None), ["/init", "serve", "-x"]);
        assert_eq!(args(None, list(&["other"])), ["/init", "other"]);
        assert_eq!(args(list(&["sh"]), None), ["sh"]);
        assert_eq!(args(list(&[""]), list(&["ls"])), ["ls"]);
        assert_eq!(args(list(&[]), None), ["serve", "-x"]);
        let empty = wire::ContainerCreateBody::default();
        let host = wire::HostConfig::default();
        let error = merged(empty, &json!({}), &"a".repeat(64), &host).unwrap_err();
        assert!(error.message.starts_with("no command specified"));
    }

    #[test]
    fn given_variables_come_first_and_win() {
        let env = list(&["A=2", "B=x=y", "C"]);
        let (config, _) = merge(wire::ContainerCreateBody { env, ..Default::default() });
        assert_eq!(config.env.unwrap(), ["A=2", "B=x=y", "C", "PATH=/bin"]);
        assert!(environment(list(&["=x"]), None).is_err());
    }

    #[test]
    fn a_health_check_is_completed() {
        let image = json!({"Healthcheck": {"Test": ["CMD", "ok"], "Interval": 5, "Retries": 3}});
        let given = wire::HealthConfig { interval: Some(9), ..Default::default() };
        let check = health(Some(given), &image).unwrap();
        assert_eq!(check.test.unwrap(), ["CMD", "ok"]);
        assert_eq!((check.interval, check.retries), (Some(9), Some(3)));
        assert!(health(None, &json!({})).is_none());
    }

    #[test]
    fn what_is_not_given_is_the_images() {
        let (config, _) = merge(wire::ContainerCreateBody::default());
        assert_eq!(config.working_dir.as_deref(), Some("/srv"));
        assert_eq!(config.user.as_deref(), Some("web"));
        assert_eq!(config.hostname.as_deref(), Some("aaaaaaaaaaaa"));
        assert!(config.exposed_ports.unwrap().contains_key("80/tcp"));
        assert_eq!(config.labels.unwrap()["a"], "1");
    }
}
