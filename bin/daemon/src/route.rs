//! The table of routes: a method and a path to the function that answers.

use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request};
use percent_encoding::percent_decode_str;

use crate::call::{Call, Shared};
use crate::hold::Upload;
use crate::query::Query;
use crate::reply::{Failure, Reply, Result};
use crate::routes::{
    archive, attach, build, commit, containers, events, exec, images, lifecycle, networks,
    registry, stats, swarm, system, transfers, volumes,
};
use crate::version::{self, Version};

/// Answers a request, whatever it is.
pub async fn answer(shared: Shared, request: Request<Upload>) -> Reply {
    let (method, path) = (request.method().clone(), request.uri().path().to_string());
    let mut reply = match dispatch(shared, request).await {
        Ok(reply) => reply,
        Err(failure) => {
            tracing::debug!("{method} {path}: {} {}", failure.status, failure.message);
            failure.into()
        }
    };
    if let Reply::Response(response) = &mut reply {
        describe(response.headers_mut());
    }
    reply
}

async fn dispatch(shared: Shared, request: Request<Upload>) -> Result<Reply> {
    let (parts, body) = request.into_parts();
    let mut segments = segments(parts.uri.path())?;
    let version = version::split(&mut segments)?;
    let query = Query::parse(parts.uri.query());
    tracing::debug!("{} {}", parts.method, parts.uri);
    let call = Call { shared, version, query, headers: parts.headers, body };
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let method = if parts.method == Method::HEAD { "HEAD" } else { parts.method.as_str() };
    match segments.split_first() {
        Some((&"containers", rest)) => container(call, method, rest).await,
        Some((&"images", rest)) => image(call, method, rest).await,
        _ => other(call, method, &segments).await,
    }
}

async fn container(call: Call, method: &str, path: &[&str]) -> Result<Reply> {
    match (method, path) {
        ("GET", ["json"]) => containers::list(call).await,
        ("POST", ["create"]) => containers::create(call).await,
        ("POST", ["prune"]) => containers::prune(call).await,
        ("GET", [name, "json"]) => containers::inspect(call, name).await,
        ("GET", [name, "top"]) => containers::top(call, name).await,
        ("GET", [name, "logs"]) => containers::logs(call, name).await,
        ("GET", [name, "changes"]) => containers::changes(call, name).await,
        ("GET", [name, "export"]) => archive::export(call, name).await,
        ("GET", [name, "stats"]) => stats::stats(call, name).await,
        ("GET", [_, "attach", "ws"]) => attach::web_socket(),
        ("HEAD", [name, "archive"]) => archive::stat(call, name).await,
        ("GET", [name, "archive"]) => archive::get(call, name).await,
        ("PUT", [name, "archive"]) => archive::put(call, name).await,
        ("POST", [name, "attach"]) => attach::attach(call, name).await,
        ("POST", [name, "exec"]) => exec::create(call, name).await,
        ("POST", [name, "start"]) => lifecycle::start(call, name).await,
        ("POST", [name, "stop"]) => lifecycle::stop(call, name).await,
        ("POST", [name, "restart"]) => lifecycle::restart(call, name).await,
        ("POST", [name, "kill"]) => lifecycle::kill(call, name).await,
        ("POST", [name, "pause"]) => lifecycle::pause(call, name).await,
        ("POST", [name, "unpause"]) => lifecycle::unpause(call, name).await,
        ("POST", [name, "rename"]) => lifecycle::rename(call, name).await,
        ("POST", [name, "resize"]) => lifecycle::resize(call, name).await,
        ("POST", [name, "update"]) => lifecycle::update(call, name).await,
        ("POST", [name, "wait"]) => lifecycle::wait(call, name).await,
        ("DELETE", [name]) => lifecycle::remove(call, name).await,
        _ => Err(Failure::no_page()),
    }
}

/// An image's name may have slashes: it is what is between the first word and the last.
async fn image(call: Call, method: &str, path: &[&str]) -> Result<Reply> {
    match (method, path) {
        ("GET", ["json"]) => images::list(call).await,
        ("GET", ["search"]) => registry::search(&call),
        ("GET", ["get"]) => {
            let names = call.query.all("names");
            transfers::save(call, names).await
        }
        ("POST", ["create"]) => transfers::create(call).await,
        ("POST", ["load"]) => transfers::load(call).await,
        ("POST", ["prune"]) => images::prune(call).await,
        ("GET", [name @ .., "get"]) => transfers::save(call, vec![name.join("/")]).await,
        ("GET", [name @ .., "json"]) => images::inspect(call, &name.join("/")).await,
        ("GET", [name @ .., "history"]) => images::history(call, &name.join("/")).await,
        ("POST", [name @ .., "push"]) => registry::push(&call, &name.join("/")),
        ("POST", [name @ .., "tag"]) => images::tag(call, &name.join("/")).await,
        ("DELETE", name) if !name.is_empty() => images::remove(call, &name.join("/")).await,
        _ => Err(Failure::no_page()),
    }
}

async fn other(call: Call, method: &str, path: &[&str]) -> Result<Reply> {
    match (method, path) {
        ("GET" | "HEAD", ["_ping"]) => system::ping(),
        ("GET", ["version"]) => system::version(call).await,
        ("GET", ["info"]) => system::info(call).await,
        ("GET", ["events"]) => events::events(call).await,
        ("GET", ["system", "df"]) => system::disk_usage(call).await,
        ("GET", ["plugins"]) => system::no_plugins(),
        ("POST", ["auth"]) => registry::login(call).await,
        ("GET", ["distribution", name @ .., "json"]) => registry::distribution(&name.join("/")),

        ("GET", ["exec", id, "json"]) => exec::inspect(call, id).await,
        ("POST", ["exec", id, "start"]) => exec::start(call, id).await,
        ("POST", ["exec", id, "resize"]) => exec::resize(call, id).await,

        ("GET", ["networks"]) => networks::list(call).await,
        ("POST", ["networks", "create"]) => networks::create(call).await,
        ("POST", ["networks", "prune"]) => networks::prune(call).await,
        ("GET", ["networks", name]) => networks::inspect(call, name).await,
        ("DELETE", ["networks", name]) => networks::remove(call, name).await,
        ("POST", ["networks", name, "connect"]) => networks::connect(call, name).await,
        ("POST", ["networks", name, "disconnect"]) => networks::disconnect(call, name).await,

        ("GET", ["volumes"]) => volumes::list(call).await,
        ("POST", ["volumes", "create"]) => volumes::create(call).await,
        ("POST", ["volumes", "prune"]) => volumes::prune(call).await,
        ("GET", ["volumes", name]) => volumes::inspect(call, name).await,
        ("DELETE", ["volumes", name]) => volumes::remove(call, name).await,

        ("POST", ["commit"]) => commit::commit(call).await,
        ("POST", ["build"]) => build::build(),
        ("POST", ["build", "prune"]) => build::prune(),
        (_, ["swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs", ..]) => {
            swarm::refuse()
        }
        _ => Err(Failure::no_page()),
    }
}

/// A path's parts, decoded; an encoded slash is as good as a plain one.
fn segments(path: &str) -> Result<Vec<String>> {
    let decoded = percent_decode_str(path)
        .decode_utf8()
        .map_err(|_| Failure::invalid(format!("the path {path:?} is not UTF-8")))?;
    Ok(decoded.split('/').filter(|part| !part.is_empty()).map(String::from).collect())
}

/// What every answer says of this engine.
fn describe(headers: &mut HeaderMap) {
    let own = std::mem::take(headers);
    for (name, value) in own_headers() {
        headers.insert(name, value);
    }
    headers.extend(own);
}

/// The headers of this engine, as whole lines.
pub fn own_lines() -> String {
    own_headers()
        .map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap_or("")))
        .concat()
}

fn own_headers() -> [(HeaderName, HeaderValue); 4] {
    let version = HeaderValue::try_from(Version::NEWEST.to_string());
    [
        (HeaderName::from_static("api-version"), version.expect("a version is ASCII")),
        (HeaderName::from_static("docker-experimental"), HeaderValue::from_static("false")),
        (HeaderName::from_static("ostype"), HeaderValue::from_static("linux")),
        (
            HeaderName::from_static("server"),
            HeaderValue::from_static(concat!("Caisson/", env!("CARGO_PKG_VERSION"), " (linux)")),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_and_split() {
        assert_eq!(
            segments("/v1.43/images/a%2Fb:c/json").unwrap(),
            ["v1.43", "images", "a", "b:c", "json"]
        );
        assert_eq!(segments("//x//").unwrap(), ["x"]);
        assert!(segments("/%ff").is_err());
    }

    #[test]
    fn what_describes_this_engine_comes_first() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("a/b"));
        describe(&mut headers);
        let names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(
            names,
            ["api-version", "docker-experimental", "ostype", "server", "content-type"]
        );
    }
}
