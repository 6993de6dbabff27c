//! Services and their endpoints.

use schema::Object;
use serde_json::Value;

use super::Column;
use super::{AGE, NAME, NONE, UNSET, age, first_of, labels, name, or, or_none, text, wide};
use crate::look::{Look, spec, status};

pub(crate) const SERVICE: &[Column] = &[
    NAME,
    text("Type", "How the service is exposed."),
    text("Cluster-IP", "Address inside the cluster."),
    text("External-IP", "Addresses or name outside the cluster."),
    text("Port(s)", "Ports, with the node port after a colon."),
    AGE,
    wide("Selector", "Labels of the pods behind the service."),
];
pub(crate) const ENDPOINTS: &[Column] = &[
    NAME,
    text("Endpoints", "Addresses and ports that are ready."),
    AGE,
];
pub(crate) const ENDPOINT_SLICE: &[Column] = &[
    NAME,
    text("AddressType", "Kind of the addresses in the slice."),
    text("Ports", "Ports of each endpoint."),
    text("Endpoints", "Addresses in the slice."),
    AGE,
];

pub(crate) fn service(object: &Object, now: i64) -> Vec<Value> {
    let spec = spec(object);
    let ports: Vec<String> = spec.list("ports").iter().map(port).collect();
    vec![
        name(object),
        spec.text("type").into(),
        or_none(spec.text("clusterIP")),
        external_ip(object).into(),
        if ports.is_empty() {
            NONE.into()
        } else {
            ports.join(",").into()
        },
        age(object, now),
        labels(spec.at("selector")).into(),
    ]
}

fn port(port: &Value) -> String {
    let number = port.int("port").unwrap_or(0);
    let protocol = port.text("protocol");
    match port.int("nodePort").unwrap_or(0) {
        node if node > 0 => format!("{number}:{node}/{protocol}"),
        _ => format!("{number}/{protocol}"),
    }
}

fn external_ip(object: &Object) -> String {
    let spec = spec(object);
    let given = spec.texts("externalIPs");
    match spec.text("type") {
        "ClusterIP" | "NodePort" if given.is_empty() => NONE.to_owned(),
        "ClusterIP" | "NodePort" => given.join(","),
        "LoadBalancer" => {
            let balancer = balancer_addresses(status(object));
            let all: Vec<&str> = balancer.iter().map(String::as_str).chain(given).collect();
            if all.is_empty() {
                "<pending>".to_owned()
            } else {
                all.join(",")
            }
        }
        "ExternalName" => spec.text("externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

/// Addresses or names in `status.loadBalancer`, without repetitions.
pub(super) fn balancer_addresses(status: &Value) -> Vec<String> {
    let mut addresses: Vec<String> = Vec::new();
    for ingress in status.at("loadBalancer").list("ingress") {
        let address = if ingress.text("ip").is_empty() {
            ingress.text("hostname")
        } else {
            ingress.text("ip")
        };
        if !address.is_empty() && !addresses.iter().any(|known| known == address) {
            addresses.push(address.to_owned());
        }
    }
    addresses.sort_unstable();
    addresses
}

fn with_port(ip: &str, port: i64) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

pub(crate) fn endpoints(object: &Object, now: i64) -> Vec<Value> {
    let mut all: Vec<String> = Vec::new();
    for subset in object.at("subsets").as_array().into_iter().flatten() {
        let addresses: Vec<&str> = subset
            .list("addresses")
            .iter()
            .map(|address| address.text("ip"))
            .collect();
        let ports = subset.list("ports");
        if ports.is_empty() {
            all.extend(addresses.iter().map(|ip| (*ip).to_owned()));
        }
        for port in ports {
            all.extend(
                addresses
                    .iter()
                    .map(|ip| with_port(ip, port.int("port").unwrap_or(0))),
            );
        }
    }
    vec![
        name(object),
        first_of(&all, 3, NONE).into(),
        age(object, now),
    ]
}

pub(crate) fn endpoint_slice(object: &Object, now: i64) -> Vec<Value> {
    let items = |field: &str| object.at(field).as_array().map_or(&[][..], Vec::as_slice);
    let ports: Vec<String> = items("ports")
        .iter()
        .map(|port| match (port.int("port"), port.text("name")) {
            (Some(number), _) => number.to_string(),
            (None, "") => "*".to_owned(),
            (None, name) => name.to_owned(),
        })
        .collect();
    let addresses: Vec<String> = items("endpoints")
        .iter()
        .flat_map(|e| e.texts("addresses"))
        .map(str::to_owned)
        .collect();
    vec![
        name(object),
        or(object.at("addressType").as_str().unwrap_or(""), ""),
        first_of(&ports, 3, UNSET).into(),
        first_of(&addresses, 3, UNSET).into(),
        age(object, now),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cells(spec: Value, status: Value) -> Vec<Value> {
        super::service(
            &Object::new(json!({"metadata": {"name": "s"}, "spec": spec, "status": status}))
                .unwrap(),
            0,
        )
    }

    #[test]
    fn addresses_and_ports_of_services() {
        let row = cells(
            json!({"type": "NodePort", "clusterIP": "10.0.0.1", "selector": {"a": "b"},
                "ports": [{"port": 80, "nodePort": 30000, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}),
            json!({}),
        );
        assert_eq!(
            row[1..5],
            [
                json!("NodePort"),
                json!("10.0.0.1"),
                json!("<none>"),
                json!("80:30000/TCP,53/UDP")
            ]
        );
        assert_eq!(row[6], "a=b");
        let row = cells(
            json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1"}),
            json!({"loadBalancer": {}}),
        );
        assert_eq!(row[3], "<pending>");
        let row = cells(
            json!({"type": "LoadBalancer", "externalIPs": ["9.9.9.9"]}),
            json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}),
        );
        assert_eq!(row[2..4], [json!("<none>"), json!("1.2.3.4,9.9.9.9")]);
        assert_eq!(
            cells(
                json!({"type": "ExternalName", "externalName": "x.y"}),
                json!({})
            )[3],
            "x.y"
        );
    }

    #[test]
    fn many_endpoints_are_cut() {
        let addresses: Vec<Value> = (1..6)
            .map(|n| json!({"ip": format!("10.0.0.{n}")}))
            .collect();
        let object =
            Object::new(json!({"subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]}))
                .unwrap();
        assert_eq!(
            endpoints(&object, 0)[1],
            "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more..."
        );
        assert_eq!(endpoints(&Object::empty("v1", "Endpoints"), 0)[1], "<none>");
    }
}
