//! From a Service and its EndpointSlices to the addresses that serve one of its ports.

use std::net::{IpAddr, SocketAddr};

use schema::Object;
use serde_json::Value;

/// Names the Service of an EndpointSlice.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Where a Service leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    Addresses(Vec<SocketAddr>),
    /// An ExternalName: a name to look up.
    Name(String, u16),
}

/// Why a Service leads nowhere, in Kubernetes' words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("service {0:?} not found")]
    NoService(String),
    #[error("no service port {0} found for service {1:?}")]
    NoPort(u16, String),
    #[error("no endpoints available for service {0:?}")]
    NoEndpoints(String),
    #[error("unsupported service type {0:?}")]
    Type(String),
}

/// The ready endpoints of a port of the service.
pub(crate) fn resolve(
    service: &Object,
    slices: &[Object],
    port: u16,
) -> Result<Resolved, ResolveError> {
    match service.get_str(&["spec", "type"]).unwrap_or("ClusterIP") {
        "ClusterIP" | "NodePort" | "LoadBalancer" => {}
        "ExternalName" => {
            let name = service.get_str(&["spec", "externalName"]).unwrap_or("");
            return Ok(Resolved::Name(name.to_owned(), port));
        }
        other => return Err(ResolveError::Type(other.to_owned())),
    }
    let ports = list(service.get(&["spec", "ports"]));
    let Some(found) = ports.iter().find(|one| number(one, "port") == Some(port)) else {
        return Err(ResolveError::NoPort(port, service.name().to_owned()));
    };
    let name = text(found, "name");
    let addresses: Vec<SocketAddr> = slices
        .iter()
        .filter(|slice| slice.label(SERVICE_NAME) == Some(service.name()))
        .flat_map(|slice| ready(slice, name))
        .collect();
    if addresses.is_empty() {
        return Err(ResolveError::NoEndpoints(service.name().to_owned()));
    }
    Ok(Resolved::Addresses(addresses))
}

/// The ready addresses of a slice, with the port of that name: it is the one number for all of them.
fn ready(slice: &Object, port_name: &str) -> Vec<SocketAddr> {
    let port = list(slice.get(&["ports"]))
        .iter()
        .find(|port| text(port, "name") == port_name && is_tcp(port))
        .and_then(|port| number(port, "port"));
    let Some(port) = port else {
        return Vec::new();
    };
    list(slice.get(&["endpoints"]))
        .iter()
        .filter(|endpoint| {
            // Unknown counts as ready.
            endpoint
                .pointer("/conditions/ready")
                .and_then(Value::as_bool)
                != Some(false)
        })
        .filter_map(|endpoint| {
            let address = list(endpoint.get("addresses")).first()?.as_str()?;
            Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, port))
        })
        .collect()
}

fn is_tcp(port: &Value) -> bool {
    matches!(text(port, "protocol"), "" | "TCP")
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, field: &str) -> Option<u16> {
    value.get(field)?.as_u64()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(spec: Value) -> Object {
        Object::new(json!({"metadata": {"name": "hook", "namespace": "n"}, "spec": spec})).unwrap()
    }

    fn slice(service: &str, endpoints: Value, ports: Value) -> Object {
        Object::new(json!({
            "metadata": {"name": "x", "labels": {"kubernetes.io/service-name": service}},
            "endpoints": endpoints, "ports": ports
        }))
        .unwrap()
    }

    #[test]
    fn ready_endpoints_of_the_named_port() {
        let service = service(json!({"ports": [
            {"name": "metrics", "port": 80}, {"name": "hook", "port": 443, "targetPort": "https"}]}));
        let slices = [
            slice(
                "hook",
                json!([
                    {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
                    {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
                    {"addresses": ["10.0.0.3"]},
                    {"addresses": ["no address"]}
                ]),
                json!([{"name": "hook", "port": 8443, "protocol": "UDP"},
                    {"name": "metrics", "port": 8080}, {"name": "hook", "port": 9443}]),
            ),
            slice(
                "hook",
                json!([{"addresses": ["fd00::1"]}]),
                json!([{"name": "hook", "port": 9444, "protocol": "TCP"}]),
            ),
            slice(
                "other",
                json!([{"addresses": ["10.0.0.9"]}]),
                json!([{"name": "hook", "port": 9443}]),
            ),
        ];
        let addresses = ["10.0.0.1:9443", "10.0.0.3:9443", "[fd00::1]:9444"];
        let addresses = addresses.map(|address| address.parse().unwrap());
        assert_eq!(
            resolve(&service, &slices, 443).unwrap(),
            Resolved::Addresses(addresses.to_vec())
        );
        assert_eq!(
            resolve(&service, &slices, 444).unwrap_err().to_string(),
            "no service port 444 found for service \"hook\""
        );
        assert_eq!(
            resolve(&service, &slices[2..], 443)
                .unwrap_err()
                .to_string(),
            "no endpoints available for service \"hook\""
        );
    }

    #[test]
    fn external_names_are_looked_up() {
        let service = service(json!({"type": "ExternalName", "externalName": "example.com"}));
        assert_eq!(
            resolve(&service, &[], 8443).unwrap(),
            Resolved::Name("example.com".to_owned(), 8443)
        );
    }
}
