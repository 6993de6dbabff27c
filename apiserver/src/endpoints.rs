//! The endpoints of the `kubernetes` Service: the API servers that are alive.
//!
//! Each server keeps a key under a short lease of the store. Every server reads all these keys every few seconds and
//! writes Endpoints and EndpointSlice when they differ, so the list is right while any one server lives.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv::{PutRequest, RangeRequest, Request, RequestOp, TxnRequest};
use resources::Resource;
use schema::Object;
use serde_json::{Value, json};

use crate::ApiServer;
use crate::bootstrap;
use crate::managed::{self, Owner};
use crate::status::{ApiError, ApiResult};
use crate::verbs::create;
use crate::write::{Extra, Step};

const PREFIX: &str = "/kontiki/apiservers/";
const PREFIX_END: &str = "/kontiki/apiservers0";
/// A server that is silent for this long is taken out.
const TTL_SECONDS: i64 = 15;
const EVERY: Duration = Duration::from_secs(5);

pub(crate) async fn run(server: Arc<ApiServer>) {
    server.started.wait().await;
    let mut lease = 0;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = turn(&server, &mut lease).await {
            tracing::debug!(
                message = error.message,
                "endpoints of the kubernetes service are tried again"
            );
        }
    }
}

async fn turn(server: &Arc<ApiServer>, lease: &mut i64) -> ApiResult<()> {
    let alive = *lease != 0
        && server
            .store
            .lease_keep_alive(*lease)
            .await
            .is_ok_and(|answer| answer.body > 0);
    if !alive {
        *lease = server.store.lease_grant(0, TTL_SECONDS).await?.body.0;
        let own = SocketAddr::new(
            server.config.advertise_address,
            server.config.advertise_port,
        )
        .to_string();
        let put = PutRequest {
            key: Bytes::from(format!("{PREFIX}{own}")),
            value: Bytes::from(own),
            lease: *lease,
            ..PutRequest::default()
        };
        let op = RequestOp {
            request: Some(Request::Put(put)),
        };
        server
            .store
            .txn(TxnRequest {
                success: vec![op],
                ..TxnRequest::default()
            })
            .await?;
    }
    let request = RangeRequest {
        key: Bytes::from_static(PREFIX.as_bytes()),
        range_end: Bytes::from_static(PREFIX_END.as_bytes()),
        ..RangeRequest::default()
    };
    let keys = server.store.range(request).await?.body.kvs;
    let mut addresses: Vec<SocketAddr> = keys
        .iter()
        .filter_map(|pair| std::str::from_utf8(&pair.value).ok()?.parse().ok())
        .collect();
    addresses.sort();
    if addresses.is_empty() {
        return Ok(());
    }
    let endpoints =
        resources::find("", "v1", "endpoints").ok_or_else(ApiError::no_such_resource)?;
    let slices = resources::find("discovery.k8s.io", "v1", "endpointslices")
        .ok_or_else(ApiError::no_such_resource)?;
    ensure(server, endpoints, endpoints_of(&addresses)).await?;
    ensure(server, slices, slice_of(&addresses)).await
}

/// Servers with the same port share a subset; on one machine each has its own port.
fn endpoints_of(addresses: &[SocketAddr]) -> Value {
    let mut ports: Vec<u16> = addresses.iter().map(SocketAddr::port).collect();
    ports.sort_unstable();
    ports.dedup();
    let subsets: Vec<Value> = ports
        .iter()
        .map(|port| {
            let ips: Vec<Value> = addresses
                .iter()
                .filter(|address| address.port() == *port)
                .map(|address| json!({ "ip": address.ip().to_string() }))
                .collect();
            json!({ "addresses": ips, "ports": [{ "name": "https", "port": port, "protocol": "TCP" }] })
        })
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" }
        },
        "subsets": subsets
    })
}

/// A slice has one list of ports for all its endpoints. Servers that share their address have all theirs in it; else it is
/// the first server's port, and the servers that have it too.
fn slice_of(addresses: &[SocketAddr]) -> Value {
    let first = addresses.first();
    let together = addresses
        .iter()
        .all(|address| Some(address.ip()) == first.map(SocketAddr::ip));
    let listening: Vec<&SocketAddr> = addresses
        .iter()
        .filter(|address| together || Some(address.port()) == first.map(SocketAddr::port))
        .collect();
    let ips: BTreeSet<IpAddr> = listening.iter().map(|address| address.ip()).collect();
    let ports: BTreeSet<u16> = listening.iter().map(|address| address.port()).collect();
    let endpoints: Vec<Value> = ips
        .iter()
        .map(|ip| json!({ "addresses": [ip.to_string()], "conditions": { "ready": true } }))
        .collect();
    // Names of ports are unique in a slice; the service's own is the first one's.
    let ports: Vec<Value> = ports
        .iter()
        .enumerate()
        .map(|(number, port)| {
            let name = match number {
                0 => "https".to_owned(),
                _ => format!("https-{port}"),
            };
            json!({ "name": name, "port": port, "protocol": "TCP" })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": { "kubernetes.io/service-name": "kubernetes" }
        },
        "addressType": if addresses.first().is_some_and(SocketAddr::is_ipv6) { "IPv6" } else { "IPv4" },
        "endpoints": endpoints,
        "ports": ports
    })
}

async fn ensure(server: &Arc<ApiServer>, resource: &Resource, wanted: Value) -> ApiResult<()> {
    let wanted =
        Object::new(wanted).map_err(|_| ApiError::internal("endpoints are not an object"))?;
    let mut decide = |old: &Object| {
        let mut new = old.clone();
        for (field, value) in wanted.value().as_object().into_iter().flatten() {
            if !matches!(field.as_str(), "apiVersion" | "kind" | "metadata") {
                new.set(&[field], value.clone());
            }
        }
        for (key, value) in wanted.labels() {
            new.set_label(key, value);
        }
        resource.default(&mut new);
        Ok(if new == *old {
            Step::Keep(new)
        } else {
            Step::Write(new, Extra::default())
        })
    };
    let changed = server
        .change(resource, "default", "kubernetes", false, &mut decide)
        .await;
    match changed {
        Err(error) if error.code == 404 => {
            let context = bootstrap::internal(server, resource, "default", "");
            let owner = Owner::Manager(managed::SERVER, "");
            match create::create_object(&context, resource, wanted.clone(), false, owner).await {
                Err(error) if error.reason == "AlreadyExists" => Ok(()),
                other => other.map(|_| ()),
            }
        }
        other => other.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_grouped_by_port() {
        let addresses: Vec<SocketAddr> = ["10.0.0.1:6443", "10.0.0.2:6443", "10.0.0.3:7443"]
            .iter()
            .map(|a| a.parse().unwrap())
            .collect();
        let endpoints = endpoints_of(&addresses);
        assert_eq!(endpoints["subsets"].as_array().unwrap().len(), 2);
        assert_eq!(
            endpoints["subsets"][0]["addresses"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
        assert_eq!(
            slice_of(&addresses)["endpoints"].as_array().unwrap().len(),
            2
        );
    }

    #[test]
    fn servers_of_one_machine_are_one_endpoint_with_all_their_ports() {
        let addresses: Vec<SocketAddr> = ["10.0.0.1:6443", "10.0.0.1:6444", "10.0.0.1:6445"]
            .iter()
            .map(|a| a.parse().unwrap())
            .collect();
        let slice = slice_of(&addresses);
        assert_eq!(slice["endpoints"].as_array().unwrap().len(), 1);
        let ports = slice["ports"].as_array().unwrap();
        let ports: Vec<(&str, u64)> = ports
            .iter()
            .map(|port| {
                (
                    port["name"].as_str().unwrap(),
                    port["port"].as_u64().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            ports,
            [("https", 6443), ("https-6444", 6444), ("https-6445", 6445)]
        );
    }
}
