//! `proxy` of pods, Services and nodes: finds the address, asks admission, and lets [`crate::proxy`] pass the request on.

use std::net::{IpAddr, SocketAddr};

use axum::response::Response;
use resources::Resource;
use schema::Object;

use super::current;
use crate::admission::{self, Admission, Operation};
use crate::context::Context;
use crate::decode::Expected;
use crate::kubelet::NodeAddress;
use crate::proxy::target::{self, Id};
use crate::proxy::{self, Arrival, Passage, Stream};
use crate::request::percent_encode;
use crate::status::{ApiError, ApiResult};

/// Where a request leads.
enum Backend {
    Address(SocketAddr),
    /// The port of a node's agent.
    Node(NodeAddress),
}

pub(super) async fn connect(
    context: &Context,
    resource: &Resource,
    arrival: Arrival<'_>,
) -> ApiResult<Response> {
    let admitted = admit(context, resource, arrival.uri.path()).await?;
    let id = Id::parse(&context.info.name, &resource.singular)?;
    let backend = match &*resource.plural {
        "pods" => pod(context, resource, &id).await?,
        "services" => service(context, resource, &id).await?,
        "nodes" => node(context, resource, &id).await?,
        _ => return Err(ApiError::no_such_resource()),
    };
    let (prefix, rest) = proxy::split(arrival.uri.path(), context.info.segments);
    if let Some(redirect) = proxy::to_root(context, &arrival, rest) {
        return Ok(redirect);
    }
    let query = arrival.uri.query().map(|query| format!("?{query}"));
    let passage = Passage {
        authority: match &backend {
            Backend::Address(address) => address.to_string(),
            Backend::Node(address) => address.authority(),
        },
        path: format!(
            "{}{}",
            proxy::clean(admitted.as_deref().unwrap_or(rest)),
            query.unwrap_or_default()
        ),
        prefix: prefix.to_owned(),
    };
    let open = async {
        match &backend {
            Backend::Address(address) => proxy::open(*address, id.https).await,
            Backend::Node(address) => {
                let stream = context.server.kubelets.connect(address).await?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            }
        }
    };
    proxy::pass(context, arrival, passage, open).await
}

/// Policies and webhooks may refuse the connection, or lead it to another path, which is answered then.
async fn admit(context: &Context, resource: &Resource, asked: &str) -> ApiResult<Option<String>> {
    let kind = match &*resource.plural {
        "pods" => "PodProxyOptions",
        "services" => "ServiceProxyOptions",
        _ => "NodeProxyOptions",
    };
    let expected = Expected {
        group: "",
        version: "v1",
        kind,
        custom: None,
    };
    let mut options = Object::empty("v1", kind);
    let path = path_option(&context.info.rest, asked);
    if !path.is_empty() {
        options.set(&["path"], path.as_str());
    }
    let admission =
        Admission::new(context, Operation::Connect, resource, "proxy", false).carrying(expected);
    admission::mutate(&admission, Some(&mut options)).await?;
    admission::validate(&admission, Some(&options)).await?;
    let admitted = options.get_str(&["path"]).unwrap_or_default();
    Ok((admitted != path).then(|| encoded(admitted)))
}

/// What the options say of the path at the backend: from its root, with the slash that the request ends with.
fn path_option(rest: &str, asked: &str) -> String {
    let mut path = match rest {
        "" => String::new(),
        rest => format!("/{rest}"),
    };
    if asked.ends_with('/') {
        path.push('/');
    }
    path
}

/// A path as a request has it.
fn encoded(path: &str) -> String {
    let segments: Vec<String> = path.split('/').map(percent_encode).collect();
    segments.join("/")
}

/// The addresses that may be dialed.
fn allowed(context: &Context) -> fn(IpAddr) -> bool {
    match context.server.config.proxy_to_loopback {
        true => |_| true,
        false => target::is_proxyable,
    }
}

async fn pod(context: &Context, resource: &Resource, id: &Id<'_>) -> ApiResult<Backend> {
    let pod = current(context, resource, id.name).await?;
    target::of_pod(&pod, id, allowed(context)).map(Backend::Address)
}

async fn service(context: &Context, resource: &Resource, id: &Id<'_>) -> ApiResult<Backend> {
    let service = current(context, resource, id.name).await?;
    let world = &context.server.world;
    let namespace = context.info.namespace.as_str();
    let slices: Vec<Object> = world
        .list("discovery.k8s.io", "endpointslices", namespace)
        .iter()
        .map(|entry| entry.object())
        .collect();
    let mut endpoints = target::of_service(&service, &slices, id)?;
    let start = host::random::<u64>() as usize % endpoints.len();
    endpoints.rotate_left(start);
    let is_allowed = allowed(context);
    // The pod has to say so too.
    let found = endpoints.iter().find(|endpoint| {
        let ip = endpoint.address.ip();
        let pod = world.get("", "pods", namespace, &endpoint.pod);
        is_allowed(ip)
            && pod.is_some_and(|pod| {
                let pod = pod.object();
                let ips = target::pod_ips(&pod);
                ips.iter().any(|own| own.parse() == Ok(ip))
            })
    });
    match found {
        Some(endpoint) => Ok(Backend::Address(endpoint.address)),
        None => Err(target::no_endpoints(&context.info.name)),
    }
}

async fn node(context: &Context, resource: &Resource, id: &Id<'_>) -> ApiResult<Backend> {
    let node = current(context, resource, id.name).await?;
    let name = id.name;
    let address = NodeAddress::of(&node).ok_or_else(|| {
        ApiError::internal(format!(
            "no preferred addresses found; known addresses: [] (node {name})"
        ))
    })?;
    if id.port.is_empty() || id.port.parse() == Ok(address.port()) {
        return Ok(Backend::Node(address));
    }
    let port = target::port_number(id)?;
    let found = tokio::net::lookup_host((address.host(), port)).await;
    let found: Vec<SocketAddr> = found.into_iter().flatten().collect();
    let is_allowed = allowed(context);
    if found.iter().any(|address| !is_allowed(address.ip())) {
        return Err(target::not_allowed());
    }
    // Dialed by its address: a second look at the name could find another one.
    match found.first() {
        Some(address) => Ok(Backend::Address(*address)),
        None => Err(ApiError::bad_request("no addresses for hostname")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_a_proxy_name_the_path_from_the_root() {
        assert_eq!(path_option("", "/api/v1/nodes/n/proxy"), "");
        assert_eq!(path_option("", "/api/v1/nodes/n/proxy/"), "/");
        assert_eq!(path_option("a/b", "/api/v1/nodes/n/proxy/a/b"), "/a/b");
        assert_eq!(path_option("a", "/api/v1/nodes/n/proxy/a/"), "/a/");
    }

    #[test]
    fn a_path_that_admission_chose_stays_a_path() {
        let passed = |path: &str| proxy::clean(&encoded(path));
        assert_eq!(passed("/a b/c?d#e"), "/a%20b/c%3Fd%23e");
        assert_eq!(passed("/a/../../b/"), "/b/");
        assert_eq!(passed("x\r\nHost: y"), "/x%0D%0AHost%3A%20y");
        assert_eq!(passed(""), "/");
    }
}
