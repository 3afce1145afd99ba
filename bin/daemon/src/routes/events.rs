//! `/events`: what happens, as it happens.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use caisson_api::filters::Filters;
use caisson_engine::{Event, wire::EventMessageTypeEnum as Type};
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::call::Call;
use crate::reply::{self, Failure, Reply, Result};

const KEYS: [&str; 14] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

pub async fn events(call: Call) -> Result<Reply> {
    let (since, until) = (call.query.moment("since")?, call.query.moment("until")?);
    let since = since.filter(|since| *since > 0);
    let until = until.filter(|until| *until > 0);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        let seconds = |time: i64| time / 1_000_000_000;
        return Err(Failure::invalid(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            seconds(since),
            seconds(until)
        )));
    }
    let filters = call.filters()?;
    filters.check(&KEYS)?;
    let (past, future) = call.engine().events().listen(since);
    let left = until.map(|until| Duration::from_nanos(until.saturating_sub(now()).max(0) as u64));
    let events = stream::iter(past).chain(live(future, left));
    let lines = events.filter_map(move |event| {
        let fits =
            until.is_none_or(|until| event.time_nano <= Some(until)) && matches(&event, &filters);
        let line = fits.then(|| reply::line(&Told::from(event)).ok()).flatten();
        std::future::ready(line.map(|line| Ok(Bytes::from(line))))
    });
    Ok(reply::stream("application/json", lines))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// What comes from now on, for as long as there is time left.
fn live(future: broadcast::Receiver<Event>, left: Option<Duration>) -> impl Stream<Item = Event> {
    let end = async move {
        match left {
            Some(left) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
    };
    let events = stream::unfold(future, async |mut future| {
        loop {
            match future.recv().await {
                Ok(event) => return Some((event, future)),
                Err(RecvError::Lagged(lost)) => {
                    tracing::warn!("a client lost {lost} events: it reads too slowly")
                }
                Err(RecvError::Closed) => return None,
            }
        }
    });
    Box::pin(events).take_until(Box::pin(end))
}

/// Whether one of a filter's values fits, or the filter was not given.
fn any(filters: &Filters, name: &str, fits: impl Fn(&str) -> bool) -> bool {
    !filters.contains(name) || filters.get(name).any(fits)
}

/// Whether an event fits the filters.
fn matches(event: &Event, filters: &Filters) -> bool {
    let empty = HashMap::new();
    let actor = event.actor.as_ref();
    let id = actor.and_then(|actor| actor.id.as_deref()).unwrap_or_default();
    let attributes = actor.and_then(|actor| actor.attributes.as_ref()).unwrap_or(&empty);
    let attribute = |key: &str| attributes.get(key).map_or("", String::as_str);
    let action = event.action.as_deref().unwrap_or_default();
    let kind = event.typ.map(|kind| kind.to_string()).unwrap_or_default();
    let object = |of: &str, word: &str| {
        any(filters, word, |value| {
            kind == of
                && (value == id
                    || value == attribute("name")
                    || (!value.is_empty() && id.starts_with(value)))
        })
    };
    let image = |value: &str| {
        let name = attribute(if kind == "image" { "name" } else { "image" });
        value == id || value == name || name.rsplit_once(':').is_some_and(|(bare, _)| bare == value)
    };
    any(filters, "event", |value| value == action || action.split(':').next() == Some(value))
        && any(filters, "type", |value| value == kind)
        && any(filters, "scope", |value| value == "local")
        && any(filters, "daemon", |value| {
            kind == "daemon" && (value == id || value == attribute("name"))
        })
        && any(filters, "image", |value| {
            matches!(kind.as_str(), "image" | "container") && image(value)
        })
        && filters.labels(attributes)
        && object("container", "container")
        && object("network", "network")
        && object("volume", "volume")
        && object("plugin", "plugin")
        && ["config", "node", "secret", "service"].iter().all(|word| object(word, word))
}

/// An event with what Docker's older clients look at.
#[derive(Serialize)]
struct Told {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(rename = "Type")]
    typ: Option<Type>,
    #[serde(rename = "Action")]
    action: Option<String>,
    #[serde(rename = "Actor")]
    actor: Option<caisson_engine::wire::EventActor>,
    scope: &'static str,
    time: Option<i64>,
    #[serde(rename = "timeNano")]
    time_nano: Option<i64>,
}

impl From<Event> for Told {
    fn from(event: Event) -> Self {
        let old = matches!(event.typ, Some(Type::CONTAINER | Type::IMAGE));
        let container = event.typ == Some(Type::CONTAINER);
        let actor = event.actor.as_ref();
        let attributes = actor.and_then(|actor| actor.attributes.as_ref());
        Told {
            status: event.action.clone().filter(|_| old),
            id: actor.and_then(|actor| actor.id.clone()).filter(|_| old),
            from: attributes
                .and_then(|attributes| attributes.get("image").cloned())
                .filter(|_| container),
            typ: event.typ,
            action: event.action,
            actor: event.actor,
            scope: "local",
            time: event.time,
            time_nano: event.time_nano,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: Type, action: &str, id: &str, attributes: &[(&str, &str)]) -> Event {
        let attributes = attributes.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        Event {
            typ: Some(kind),
            action: Some(action.into()),
            actor: Some(caisson_engine::wire::EventActor {
                id: Some(id.into()),
                attributes: Some(attributes.collect()),
            }),
            time: Some(1),
            time_nano: Some(1_000_000_001),
            ..Default::default()
        }
    }

    #[test]
    fn filters_look_at_type_action_name_and_image() {
        let event = event(
            Type::CONTAINER,
            "exec_create: sh",
            "abcdef",
            &[("name", "web"), ("image", "busybox:1")],
        );
        let fits = |filters: &str| matches(&event, &Filters::parse(filters).unwrap());
        for yes in [
            "{}",
            r#"{"container":["web"]}"#,
            r#"{"container":["x","abc"]}"#,
            r#"{"event":["exec_create"],"type":["container"]}"#,
            r#"{"image":["busybox"]}"#,
            r#"{"image":["busybox:1"],"scope":["local"]}"#,
            r#"{"label":["name"]}"#,
        ] {
            assert!(fits(yes), "{yes}");
        }
        for no in [
            r#"{"container":["we"]}"#,
            r#"{"event":["exec"]}"#,
            r#"{"type":["network"]}"#,
            r#"{"network":["web"]}"#,
            r#"{"scope":["swarm"]}"#,
            r#"{"daemon":["abc"]}"#,
        ] {
            assert!(!fits(no), "{no}");
        }
    }

    #[test]
    fn older_fields_come_first_and_only_where_docker_has_them() {
        let told = |event| serde_json::to_string(&Told::from(event)).unwrap();
        assert_eq!(
            told(event(Type::CONTAINER, "kill", "i", &[("image", "b")])),
            r#"{"status":"kill","id":"i","from":"b","Type":"container","Action":"kill","Actor":{"ID":"i","Attributes":{"image":"b"}},"scope":"local","time":1,"timeNano":1000000001}"#
        );
        assert_eq!(
            told(event(Type::NETWORK, "create", "i", &[])),
            r#"{"Type":"network","Action":"create","Actor":{"ID":"i","Attributes":{}},"scope":"local","time":1,"timeNano":1000000001}"#
        );
    }
}
