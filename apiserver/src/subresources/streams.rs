//! `log`, `exec`, `attach` and `portforward`: found here, served by the node agent that runs the pod.

use auth::Attributes;
use axum::body::Body;
use axum::response::Response;
use http::{Extensions, Method, StatusCode};
use resources::Resource;
use schema::Object;
use schema::field::{FieldError, Path};
use serde_json::Value;

use super::log;
use crate::admission::{self, Admission, Operation};
use crate::context::Context;
use crate::decode::Expected;
use crate::kubelet::NodeAddress;
use crate::request::{Query, percent_encode};
use crate::status::{ApiError, ApiResult};
use crate::{port_forward, read_version, spdy, websocket};

const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

pub(super) async fn connect(
    context: &Context,
    resource: &Resource,
    method: &Method,
    extensions: &mut Extensions,
) -> ApiResult<Response> {
    let action = context.info.subresource.as_str();
    let (namespace, name) = (context.info.namespace.as_str(), context.info.name.as_str());
    if action == "log" {
        check_log_options(name, &context.query)?;
    } else {
        // A WebSocket begins with GET, which was authorized as a read; what it opens is none.
        let create = Attributes {
            verb: "create",
            group: &context.info.group,
            version: &context.info.version,
            resource: &context.info.resource,
            subresource: action,
            namespace,
            name,
            ..Attributes::default()
        };
        let authorizer = &context.server.authorizer;
        authorizer.require(&context.user, &create).await?;
    }
    let admitted = match action {
        "log" => None,
        _ => admit(context, resource, action).await?,
    };
    let query = admitted.as_ref().unwrap_or(&context.query);
    let pod = super::current(context, resource, name).await?;
    let container = if action == "portforward" {
        String::new()
    } else {
        container_of(query, &pod, action)?
    };
    let Some(address) = node_of(context, &pod)? else {
        if action == "log" {
            // Nothing has been written by a pod that runs nowhere.
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            return Ok(response);
        }
        return Err(ApiError::bad_request(format!(
            "pod {name} does not have a host assigned"
        )));
    };
    let path = agent_path(action, namespace, name, &container, query);
    if action == "log" {
        return log::serve(context, &address, &path, extensions).await;
    }
    if action == "portforward" && port_forward::is_requested(&context.headers) {
        let path = format!("/portForward/{namespace}/{name}");
        return port_forward::serve(context, address, path, extensions).await;
    }
    if spdy::is_requested(&context.headers) {
        return spdy::bridge(context, query, (&address, &path), extensions).await;
    }
    if *method != Method::GET || !websocket::is_requested(&context.headers) {
        return Err(ApiError::bad_request("Upgrade request required"));
    }
    websocket::bridge(context, &address, &path, extensions).await
}

/// Policies and webhooks may refuse the connection, or make it another one: then what follows goes by the query that is
/// answered.
async fn admit(context: &Context, resource: &Resource, action: &str) -> ApiResult<Option<Query>> {
    let kind = match action {
        "exec" => "PodExecOptions",
        "attach" => "PodAttachOptions",
        _ => "PodPortForwardOptions",
    };
    let expected = Expected {
        group: "",
        version: "v1",
        kind,
        custom: None,
    };
    let asked = connect_options(kind, &context.query);
    let mut options = asked.clone();
    let admission =
        Admission::new(context, Operation::Connect, resource, action, false).carrying(expected);
    admission::mutate(&admission, Some(&mut options)).await?;
    admission::validate(&admission, Some(&options)).await?;
    Ok((options != asked).then(|| query_of(&options)))
}

/// The query that such options stand for.
fn query_of(options: &Object) -> Query {
    let mut pairs = Vec::new();
    let mut put = |name: &str, value: String| pairs.push((name.to_owned(), value));
    for stream in ["stdin", "stdout", "stderr", "tty"] {
        if options.get(&[stream]).and_then(Value::as_bool) == Some(true) {
            put(stream, "true".to_owned());
        }
    }
    if let Some(container) = options.get_str(&["container"]) {
        put("container", container.to_owned());
    }
    for word in options.get_array(&["command"]).into_iter().flatten() {
        put("command", word.as_str().unwrap_or_default().to_owned());
    }
    for port in options.get_array(&["ports"]).into_iter().flatten() {
        put("ports", port.to_string());
    }
    Query::of(pairs)
}

/// What the query says, as the object that it stands for.
fn connect_options(kind: &str, query: &Query) -> Object {
    let mut options = Object::empty("v1", kind);
    if kind == "PodPortForwardOptions" {
        let ports: Vec<i64> = query
            .all("ports")
            .flat_map(|list| list.split(','))
            .filter_map(|port| port.parse().ok())
            .collect();
        if !ports.is_empty() {
            options.set(&["ports"], ports);
        }
        return options;
    }
    for stream in ["stdin", "stdout", "stderr", "tty"] {
        if query.flag(stream) {
            options.set(&[stream], true);
        }
    }
    if let Some(container) = query.get("container").filter(|name| !name.is_empty()) {
        options.set(&["container"], container);
    }
    let command: Vec<&str> = query.all("command").collect();
    if kind == "PodExecOptions" && !command.is_empty() {
        options.set(&["command"], command);
    }
    options
}

/// The path and query at the node agent.
fn agent_path(action: &str, namespace: &str, pod: &str, container: &str, query: &Query) -> String {
    let head = match action {
        "log" => format!("/containerLogs/{namespace}/{pod}/{container}"),
        "portforward" => format!("/portForward/{namespace}/{pod}"),
        other => format!("/{other}/{namespace}/{pod}/{container}"),
    };
    let mut pairs: Vec<String> = Vec::new();
    let names: &[&str] = match action {
        "log" => &[
            "follow",
            "previous",
            "sinceSeconds",
            "sinceTime",
            "timestamps",
            "tailLines",
            "limitBytes",
            "stream",
        ],
        "portforward" => &["port", "ports"],
        _ => &["command"],
    };
    for name in names {
        for value in query.all(name) {
            pairs.push(format!("{name}={}", percent_encode(value)));
        }
    }
    if matches!(action, "exec" | "attach") {
        // The node agent knows the streams under both the API's and the kubelet's names.
        for (name, kubelet_name) in [
            ("stdin", "input"),
            ("stdout", "output"),
            ("stderr", "error"),
            ("tty", "tty"),
        ] {
            if query.flag(name) {
                pairs.push(format!("{kubelet_name}=1"));
                if kubelet_name != name {
                    pairs.push(format!("{name}=true"));
                }
            }
        }
    }
    if pairs.is_empty() {
        head
    } else {
        format!("{head}?{}", pairs.join("&"))
    }
}

/// The bounds of a log's options.
fn check_log_options(pod: &str, query: &Query) -> ApiResult<()> {
    let mut errors = Vec::new();
    for (name, least, text) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ] {
        if let Some(number) = read_version::number(query, name)?.filter(|number| *number < least) {
            errors.push(FieldError::invalid(&Path::new(name), number, text));
        }
    }
    if query.get("sinceSeconds").is_some() && query.get("sinceTime").is_some() {
        let text = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden(&Path::new("sinceTime"), text));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid("", "PodLogOptions", pod, &errors))
    }
}

fn names_of(pod: &Object, list: &str) -> Vec<String> {
    let containers = pod
        .get_array(&["spec", list])
        .map(Vec::as_slice)
        .unwrap_or_default();
    containers
        .iter()
        .filter_map(|one| one.get("name").and_then(Value::as_str))
        .map(str::to_owned)
        .collect()
}

/// The container that was asked for, or the only one.
fn container_of(query: &Query, pod: &Object, action: &str) -> ApiResult<String> {
    let main = names_of(pod, "containers");
    let init = names_of(pod, "initContainers");
    let ephemeral = names_of(pod, "ephemeralContainers");
    let asked = query.get("container").unwrap_or_default();
    let all = || main.iter().chain(&init).chain(&ephemeral);
    if !asked.is_empty() {
        if all().any(|name| name == asked) {
            return Ok(asked.to_owned());
        }
        return Err(ApiError::bad_request(format!(
            "container {asked} is not valid for pod {}",
            pod.name()
        )));
    }
    if let [only] = main.as_slice() {
        return Ok(only.clone());
    }
    if let Some(name) = pod
        .annotation(DEFAULT_CONTAINER)
        .filter(|name| action != "log" || main.iter().any(|one| one == name))
        && all().any(|one| one == name)
    {
        return Ok(name.to_owned());
    }
    let mut text = format!(
        "a container name must be specified for pod {}, choose one of: [{}]",
        pod.name(),
        main.join(" ")
    );
    if !init.is_empty() {
        text.push_str(&format!(
            " or one of the init containers: [{}]",
            init.join(" ")
        ));
    }
    Err(ApiError::bad_request(text))
}

/// Where the node agent of the pod's node listens; none while the pod has no node.
fn node_of(context: &Context, pod: &Object) -> ApiResult<Option<NodeAddress>> {
    let Some(name) = pod
        .get_str(&["spec", "nodeName"])
        .filter(|name| !name.is_empty())
    else {
        return Ok(None);
    };
    let entry = context
        .server
        .world
        .get("", "nodes", "", name)
        .ok_or_else(|| ApiError::not_found("", "nodes", name))?;
    NodeAddress::of(&entry.object()).map(Some).ok_or_else(|| {
        ApiError::internal(format!(
            "no preferred addresses found; known addresses: [] (node {name})"
        ))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(kind: &str, action: &str, query: &str, change: Value) -> String {
        let query = Query::parse(Some(query));
        let mut options = connect_options(kind, &query).into_value();
        for (field, value) in change.as_object().unwrap() {
            options[field] = value.clone();
        }
        let query = query_of(&Object::new(options).unwrap());
        let container = query.get("container").unwrap_or_default();
        agent_path(action, "n", "p", container, &query)
    }

    #[test]
    fn the_options_that_admission_leaves_are_what_the_node_is_asked_for() {
        let query = "command=sh&command=-c&stdin=1&stdout=true&tty=false&container=a";
        let exec = |change: Value| path("PodExecOptions", "exec", query, change);
        let streams = "input=1&stdin=true&output=1&stdout=true";
        assert_eq!(
            exec(json!({})),
            format!("/exec/n/p/a?command=sh&command=-c&{streams}")
        );
        assert_eq!(
            exec(json!({"container": "b", "command": ["ls", "/a b"], "stdin": false, "tty": true})),
            "/exec/n/p/b?command=ls&command=%2Fa%20b&output=1&stdout=true&tty=1"
        );
        let attach = path("PodAttachOptions", "attach", query, json!({"stderr": true}));
        assert_eq!(
            attach,
            format!("/attach/n/p/a?{streams}&error=1&stderr=true")
        );
        let ports = path(
            "PodPortForwardOptions",
            "portforward",
            "ports=1,2",
            json!({"ports": [3]}),
        );
        assert_eq!(ports, "/portForward/n/p?ports=3");
        // Of any other form there is nothing.
        let odd = exec(
            json!({"command": "ls", "stdin": "yes", "stdout": null, "container": 1, "ports": {}}),
        );
        assert_eq!(odd, "/exec/n/p/");
    }
}
