//! Where a proxied request goes: decided from stored objects alone. Whoever may use a proxy chooses a pod, a Service or a
//! node by its name, never an address.

use std::net::{IpAddr, SocketAddr};

use schema::Object;
use serde_json::Value;

use crate::status::{ApiError, ApiResult, quoted};

/// Names the Service of an EndpointSlice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The name in the path of a request: `name`, `name:port` or `scheme:name:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id<'a> {
    pub(crate) https: bool,
    pub(crate) name: &'a str,
    /// A number or a name; empty where none was given.
    pub(crate) port: &'a str,
}

impl<'a> Id<'a> {
    /// `what` is said of one that cannot be read: pod, service or node.
    pub(crate) fn parse(id: &'a str, what: &str) -> ApiResult<Id<'a>> {
        let parts: Vec<&str> = id.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => ("?", "", ""),
        };
        if name.is_empty() || !matches!(scheme, "" | "http" | "https") {
            let text = format!("invalid {what} request {}", quoted(id));
            return Err(ApiError::bad_request(text));
        }
        Ok(Id {
            https: scheme == "https",
            name,
            port,
        })
    }
}

/// Whether requests may be sent there: not to this machine itself, and not to neighbours that only a link away have
/// (metadata services of clouds are among them).
pub(crate) fn is_proxyable(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast() || is_link_local)
}

/// The refusal of an address that is not proxyable.
pub(crate) fn not_allowed() -> ApiError {
    ApiError::bad_request("address not allowed")
}

/// The address of a pod: its first IP, and the port that was asked for or the first that its containers declare.
pub(crate) fn of_pod(
    pod: &Object,
    id: &Id<'_>,
    allowed: fn(IpAddr) -> bool,
) -> ApiResult<SocketAddr> {
    let ip = pod_ips(pod)
        .first()
        .and_then(|ip| ip.parse::<IpAddr>().ok());
    let ip = ip.filter(|ip| allowed(*ip)).ok_or_else(not_allowed)?;
    let port = match id.port {
        "" => first_port(pod),
        port => Some(number(port)?),
    };
    let port = port.unwrap_or(if id.https { 443 } else { 80 });
    Ok(SocketAddr::new(ip, port))
}

fn number(port: &str) -> ApiResult<u16> {
    port.parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| ApiError::unreachable(format!("dial tcp: unknown port tcp/{port}")))
}

/// The port number that an [`Id`] names, for kinds whose ports have no names.
pub(crate) fn port_number(id: &Id<'_>) -> ApiResult<u16> {
    number(id.port)
}

/// As in Kubernetes, the first declared port of the first container that declares any.
fn first_port(pod: &Object) -> Option<u16> {
    let containers = list(pod.get(&["spec", "containers"]));
    let mut ports = containers.iter().map(|one| list(one.get("ports")));
    let first = ports.find(|ports| !ports.is_empty())?.first()?;
    first.get("containerPort")?.as_u64()?.try_into().ok()
}

/// The addresses of a pod, the primary one first.
pub(crate) fn pod_ips(pod: &Object) -> Vec<&str> {
    let all = list(pod.get(&["status", "podIPs"]));
    let mut ips: Vec<&str> = all
        .iter()
        .filter_map(|one| one.get("ip").and_then(Value::as_str))
        .collect();
    if ips.is_empty() {
        ips.extend(
            pod.get_str(&["status", "podIP"])
                .filter(|ip| !ip.is_empty()),
        );
    }
    ips
}

/// One ready endpoint of a Service: a pod that is said to have this address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) pod: String,
}

/// What Kubernetes says of a Service that leads nowhere.
pub(crate) fn no_endpoints(service: &str) -> ApiError {
    let service = quoted(service);
    ApiError::unreachable(format!("no endpoints available for service {service}"))
}

/// The ready pods behind a port of a Service. Endpoints that are no pod of the Service's namespace are left out: anybody
/// who may write EndpointSlices could point them anywhere.
pub(crate) fn of_service(
    service: &Object,
    slices: &[Object],
    id: &Id<'_>,
) -> ApiResult<Vec<Endpoint>> {
    let port = match id.port.parse::<i64>() {
        Ok(number) => port_name(service, number).ok_or_else(|| {
            let name = quoted(id.name);
            ApiError::unreachable(format!("no service port {number} found for service {name}"))
        })?,
        Err(_) => id.port,
    };
    let slices: Vec<&Object> = slices
        .iter()
        .filter(|slice| slice.label(SERVICE_NAME) == Some(service.name()))
        .collect();
    if slices.is_empty() {
        return Err(no_endpoints(id.name));
    }
    let found: Vec<Endpoint> = slices
        .into_iter()
        .flat_map(|slice| ready(slice, port, service.namespace()))
        .collect();
    if found.is_empty() {
        let port = match port {
            "" => String::new(),
            _ => format!(":{}", id.port),
        };
        return Err(no_endpoints(&format!("{}{port}", id.name)));
    }
    Ok(found)
}

/// The name under which the endpoints of a Service's port are found.
fn port_name(service: &Object, number: i64) -> Option<&str> {
    let ports = list(service.get(&["spec", "ports"]));
    let is_it = |port: &&Value| port.get("port").and_then(Value::as_i64) == Some(number);
    ports.iter().find(is_it).map(|port| text(port, "name"))
}

fn ready(slice: &Object, port_name: &str, namespace: &str) -> Vec<Endpoint> {
    let ports = list(slice.get(&["ports"]));
    let port = ports
        .iter()
        .find(|port| text(port, "name") == port_name)
        .and_then(|port| port.get("port")?.as_u64()?.try_into().ok());
    let Some(port) = port else {
        return Vec::new();
    };
    let endpoints = list(slice.get(&["endpoints"])).iter();
    endpoints
        // Unknown counts as ready.
        .filter(|one| one.pointer("/conditions/ready").and_then(Value::as_bool) != Some(false))
        .filter_map(|one| {
            let target = one.get("targetRef")?;
            let is_own = text(target, "kind") == "Pod" && text(target, "namespace") == namespace;
            let ip: IpAddr = list(one.get("addresses")).first()?.as_str()?.parse().ok()?;
            is_own.then(|| Endpoint {
                address: SocketAddr::new(ip, port),
                pod: text(target, "name").to_owned(),
            })
        })
        .collect()
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn id(text: &str) -> Id<'_> {
        Id::parse(text, "pod").unwrap()
    }

    fn object(value: Value) -> Object {
        Object::new(value).unwrap()
    }

    #[test]
    fn names_have_schemes_and_ports() {
        let seen = |text| Id::parse(text, "service").map(|id| (id.https, id.name, id.port));
        assert_eq!(seen("web").unwrap(), (false, "web", ""));
        assert_eq!(seen("web:http").unwrap(), (false, "web", "http"));
        assert_eq!(seen("https:web:443").unwrap(), (true, "web", "443"));
        assert_eq!(seen("http:web:").unwrap(), (false, "web", ""));
        for bad in ["ftp:web:21", "a:b:c:d", ":80", "https::443"] {
            let error = seen(bad).unwrap_err();
            let text = format!("invalid service request \"{bad}\"");
            assert_eq!((error.code, error.message), (400, text));
        }
    }

    #[test]
    fn only_addresses_of_others_are_dialed() {
        for (ip, allowed) in [
            ("10.0.0.1", true),
            ("fd00::1", true),
            ("127.0.0.1", false),
            ("127.9.9.9", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("169.254.169.254", false),
            ("::ffff:169.254.169.254", false),
            ("fe80::1", false),
            ("224.0.0.1", false),
            ("ff01::1", false),
            ("0.0.0.0", false),
            ("::", false),
            ("255.255.255.255", false),
        ] {
            assert_eq!(is_proxyable(ip.parse().unwrap()), allowed, "{ip}");
        }
    }

    #[test]
    fn a_pod_is_reached_at_its_first_address() {
        let pod = |ip: &str, containers: Value| {
            object(
                json!({"metadata": {"name": "p"}, "spec": {"containers": containers},
                "status": {"podIP": ip, "podIPs": [{"ip": ip}]}}),
            )
        };
        let of = |pod: &Object, text| {
            of_pod(pod, &id(text), is_proxyable).map(|address| address.to_string())
        };
        let declared = json!([{"name": "a"}, {"name": "b", "ports": [{"containerPort": 8080}, {"containerPort": 1}]}]);
        let web = pod("10.0.0.1", declared);
        assert_eq!(of(&web, "p").unwrap(), "10.0.0.1:8080");
        assert_eq!(of(&web, "p:99").unwrap(), "10.0.0.1:99");
        let bare = pod("fd00::1", json!([{"name": "a"}]));
        assert_eq!(of(&bare, "p").unwrap(), "[fd00::1]:80");
        assert_eq!(of(&bare, "https:p:").unwrap(), "[fd00::1]:443");
        assert_eq!(of(&web, "p:0").unwrap_err().code, 503);
        assert_eq!(of(&web, "p:http").unwrap_err().code, 503);
        for ip in ["127.0.0.1", "", "169.254.169.254"] {
            let error = of(&pod(ip, json!([])), "p").unwrap_err();
            assert_eq!(
                (error.code, error.message.as_str()),
                (400, "address not allowed")
            );
        }
    }

    #[test]
    fn a_service_leads_to_its_ready_pods() {
        let service = object(
            json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {"ports": [
            {"name": "http", "port": 80}, {"name": "admin", "port": 81}]}}),
        );
        let pod = |name: &str| json!({"kind": "Pod", "namespace": "n", "name": name});
        let slice = object(
            json!({"metadata": {"name": "x", "labels": {SERVICE_NAME: "web"}}, "endpoints": [
            {"addresses": ["10.0.0.1"], "targetRef": pod("a")},
            {"addresses": ["10.0.0.2"], "targetRef": pod("b"), "conditions": {"ready": false}},
            {"addresses": ["10.0.0.3"]},
            {"addresses": ["10.0.0.4"], "targetRef": {"kind": "Pod", "namespace": "other", "name": "c"}},
            {"addresses": ["10.0.0.5"], "targetRef": {"kind": "Node", "namespace": "n", "name": "d"}}],
            "ports": [{"name": "http", "port": 8080}]}),
        );
        let slices = [slice];
        let found = |text| of_service(&service, &slices, &id(text));
        let wanted = vec![Endpoint {
            address: "10.0.0.1:8080".parse().unwrap(),
            pod: "a".to_owned(),
        }];
        assert_eq!(found("web:80").unwrap(), wanted);
        assert_eq!(found("web:http").unwrap(), wanted);
        let said = |text| {
            let error = found(text).unwrap_err();
            assert_eq!((error.code, error.retry_after), (503, None));
            error.message
        };
        let none = |name: &str| format!("no endpoints available for service \"{name}\"");
        assert_eq!(said("web:81"), none("web:81"));
        assert_eq!(said("web"), none("web"));
        assert_eq!(said("web:other"), none("web:other"));
        assert_eq!(
            said("web:82"),
            "no service port 82 found for service \"web\""
        );
        let empty = of_service(&service, &[], &id("web:80")).unwrap_err();
        assert_eq!(empty.message, none("web"));
    }
}
