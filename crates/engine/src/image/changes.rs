//! Changes of an image's configuration, given as lines of a Dockerfile (`docker import -c`, `commit -c`).

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// Applies them to a configuration, in order.
pub(crate) fn apply_changes(config: &mut Value, changes: &[String]) -> Result<()> {
    if !config.is_object() {
        *config = Value::Object(Map::new());
    }
    let mut command_set = false;
    for change in changes.iter().flat_map(|text| text.lines()) {
        let change = change.trim();
        if !change.is_empty() && !change.starts_with('#') {
            apply(config, change, &mut command_set)?;
        }
    }
    Ok(())
}

fn apply(config: &mut Value, change: &str, command_set: &mut bool) -> Result<()> {
    let (verb, rest) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
    let (verb, rest) = (verb.to_ascii_uppercase(), rest.trim());
    let invalid = |why: &str| Error::invalid(format!("invalid change {change:?}: {why}"));
    if rest.is_empty() {
        return Err(invalid("it requires an argument"));
    }
    match verb.as_str() {
        "CMD" | "ENTRYPOINT" => {
            let words = command(config, rest);
            if verb == "CMD" {
                config["Cmd"] = json!(words);
                *command_set = true;
            } else {
                config["Entrypoint"] = json!(words);
                // The command was meant for another entrypoint.
                if !*command_set {
                    config["Cmd"] = Value::Null;
                }
            }
        }
        "ENV" | "LABEL" => {
            for (name, value) in pairs(rest).ok_or_else(|| invalid("it needs NAME=VALUE"))? {
                if verb == "ENV" {
                    set_variable(config, &name, &value);
                } else {
                    object(config, "Labels").insert(name, json!(value));
                }
            }
        }
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                let (number, protocol) = crate::create::container_port(port)?;
                object(config, "ExposedPorts").insert(format!("{number}/{protocol}"), json!({}));
            }
        }
        "VOLUME" => {
            for path in command_or_words(rest) {
                object(config, "Volumes").insert(path, json!({}));
            }
        }
        "USER" => config["User"] = json!(rest),
        "WORKDIR" => {
            let base = config.get("WorkingDir").and_then(Value::as_str).unwrap_or("/");
            config["WorkingDir"] = json!(std::path::Path::new(base).join(rest));
        }
        "STOPSIGNAL" => {
            crate::kill::signal(rest)?;
            config["StopSignal"] = json!(rest);
        }
        "SHELL" => {
            let words: Vec<String> =
                serde_json::from_str(rest).map_err(|_| invalid("it needs a JSON array"))?;
            config["Shell"] = json!(words);
        }
        "ONBUILD" => {
            let mut list = config.get("OnBuild").and_then(Value::as_array).cloned();
            list.get_or_insert_default().push(json!(rest));
            config["OnBuild"] = json!(list);
        }
        "HEALTHCHECK" => {
            config["Healthcheck"] = health(rest).ok_or_else(|| {
                invalid("it needs NONE, or CMD and a command, with options before it")
            })?;
        }
        _ => return Err(invalid(&format!("{verb} is not a valid change command"))),
    }
    Ok(())
}

fn object<'a>(config: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    if !config[name].is_object() {
        config[name] = json!({});
    }
    match &mut config[name] {
        Value::Object(map) => map,
        _ => unreachable!("it has just been made an object"),
    }
}

fn set_variable(config: &mut Value, name: &str, value: &str) {
    let mut list: Vec<Value> =
        config.get("Env").and_then(Value::as_array).cloned().unwrap_or_default();
    let prefix = format!("{name}=");
    list.retain(|entry| !entry.as_str().is_some_and(|text| text.starts_with(&prefix)));
    list.push(json!(format!("{prefix}{value}")));
    config["Env"] = Value::Array(list);
}

/// A JSON array is the words; anything else is for the image's shell.
fn command(config: &Value, text: &str) -> Vec<String> {
    let shell = config.get("Shell").and_then(|shell| serde_json::from_value(shell.clone()).ok());
    let shell = shell.unwrap_or_else(|| vec!["/bin/sh".to_string(), "-c".into()]);
    let by_shell = || shell.into_iter().chain([text.to_string()]).collect();
    serde_json::from_str(text).unwrap_or_else(|_| by_shell())
}

/// `NONE`, or `--interval=5s --retries=3 CMD COMMAND`.
fn health(text: &str) -> Option<Value> {
    let mut health = Map::new();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, more) = option.split_once(char::is_whitespace)?;
        let (name, value) = option.split_once('=')?;
        let field = match name {
            "interval" => "Interval",
            "timeout" => "Timeout",
            "start-period" => "StartPeriod",
            "start-interval" => "StartInterval",
            "retries" => "Retries",
            _ => return None,
        };
        let number = match name {
            "retries" => value.parse().ok(),
            _ => caisson_api::time::parse_duration(value).ok(),
        };
        health.insert(field.into(), json!(number?));
        rest = more.trim_start();
    }
    let (verb, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let test = match verb.to_ascii_uppercase().as_str() {
        "NONE" if command.is_empty() && health.is_empty() => vec!["NONE".to_string()],
        "CMD" if !command.is_empty() => match serde_json::from_str::<Vec<String>>(command) {
            Ok(words) => [vec!["CMD".to_string()], words].concat(),
            Err(_) => vec!["CMD-SHELL".into(), command.trim().into()],
        },
        _ => return None,
    };
    health.insert("Test".into(), json!(test));
    Some(Value::Object(health))
}

fn command_or_words(text: &str) -> Vec<String> {
    let words = || text.split_whitespace().map(String::from).collect();
    serde_json::from_str(text).unwrap_or_else(|_| words())
}

/// `A=1 B="2 3"`, or the old form `A 1 2`.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let first = text.split_whitespace().next()?;
    if !first.contains('=') {
        let (name, value) = text.split_once(char::is_whitespace)?;
        return Some(vec![(name.into(), value.trim().into())]);
    }
    let mut pairs = Vec::new();
    for word in shlex::split(text)? {
        let (name, value) = word.split_once('=')?;
        if name.is_empty() {
            return None;
        }
        pairs.push((name.to_string(), value.to_string()));
    }
    Some(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Value {
        let mut config = json!({"Env": ["A=0"], "Cmd": ["old"]});
        let changes: Vec<String> = changes.iter().map(|change| change.to_string()).collect();
        apply_changes(&mut config, &changes).unwrap();
        config
    }

    #[test]
    fn lines_change_the_configuration() {
        let config = changed(&[
            "CMD [\"a\", \"b\"]",
            "env A=1 B=\"2 3\"",
            "LABEL x=y",
            "EXPOSE 80 53/udp",
            "WORKDIR /srv\nWORKDIR sub",
            "VOLUME /data",
            "USER web",
            "STOPSIGNAL SIGQUIT",
        ]);
        assert_eq!(config["Cmd"], json!(["a", "b"]));
        assert_eq!(config["Env"], json!(["A=1", "B=2 3"]));
        assert_eq!(config["Labels"], json!({"x": "y"}));
        assert_eq!(config["ExposedPorts"], json!({"80/tcp": {}, "53/udp": {}}));
        assert_eq!(config["WorkingDir"], "/srv/sub");
        assert_eq!(config["Volumes"], json!({"/data": {}}));
        assert_eq!((&config["User"], &config["StopSignal"]), (&json!("web"), &json!("SIGQUIT")));
        let config = changed(&["ENTRYPOINT run it", "ENV OLD form of it"]);
        assert_eq!(config["Entrypoint"], json!(["/bin/sh", "-c", "run it"]));
        assert_eq!(
            (&config["Cmd"], &config["Env"]),
            (&Value::Null, &json!(["A=0", "OLD=form of it"]))
        );
    }

    #[test]
    fn an_entrypoint_keeps_a_command_given_with_it() {
        let config = changed(&["CMD [\"b\"]", "ENTRYPOINT [\"a\"]"]);
        assert_eq!((&config["Entrypoint"], &config["Cmd"]), (&json!(["a"]), &json!(["b"])));
        let config = changed(&["SHELL [\"/bin/bash\", \"-c\"]", "CMD echo $A"]);
        assert_eq!(config["Cmd"], json!(["/bin/bash", "-c", "echo $A"]));
    }

    #[test]
    fn health_checks_are_read() {
        let config = changed(&["HEALTHCHECK --interval=5s --retries=3 CMD curl -f localhost"]);
        assert_eq!(
            config["Healthcheck"],
            json!({"Interval": 5_000_000_000_i64, "Retries": 3, "Test": ["CMD-SHELL", "curl -f localhost"]})
        );
        let config = changed(&["HEALTHCHECK CMD [\"true\"]"]);
        assert_eq!(config["Healthcheck"], json!({"Test": ["CMD", "true"]}));
        assert_eq!(changed(&["HEALTHCHECK none"])["Healthcheck"], json!({"Test": ["NONE"]}));
    }

    #[test]
    fn what_is_no_change_is_named() {
        for bad in [
            "HEALTHCHECK x",
            "HEALTHCHECK --retries=x CMD y",
            "RUN x",
            "ENV",
            "ENV A",
            "EXPOSE x",
            "STOPSIGNAL SIGNONE",
            "SHELL sh",
        ] {
            let error = apply_changes(&mut json!({}), &[bad.to_string()]).unwrap_err();
            assert_eq!(error.kind, crate::Kind::Invalid, "{bad}");
        }
    }
}
