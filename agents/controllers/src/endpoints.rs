//! Endpoints: the older form of EndpointSlices, still read by `kubectl get endpoints` and old programs.

use crate::endpoint_slice::{
    HEADLESS, address, enqueue_services_of_pods, is_selecting, or_tcp, pod_reference, target_port,
};
use crate::manager::{Body, Controller};
use crate::world::{Caches, World};
use agent_runtime::kinds::{EndpointAddress, EndpointSubset, EndpointsPort, Labels, Pod, Service};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::ENDPOINTS;
use agent_runtime::{Key, Queue};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "endpoint-controller",
    help: "keeps the Endpoints of services with a selector",
    workers: 5,
    body: Body::Keyed { wire, reconcile },
};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const ADDRESSES_MAX: usize = 1000;

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches
        .services
        .subscribe(move |change| keys.add(Key::of(&change.latest().metadata)));
    let keys = queue.clone();
    caches
        .endpoints
        .subscribe(move |change| keys.add(Key::of(&change.latest().metadata)));
    enqueue_services_of_pods(caches, queue);
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let existing = world.caches.endpoints.by_key(key);
    let Some(service) = world.caches.services.by_key(key) else {
        // Ours go with their service; those that somebody made by hand are not ours to delete.
        let ours = existing.filter(|e| {
            e.metadata
                .labels
                .get(MANAGED_BY)
                .is_some_and(|m| m == MANAGER)
                && !e.metadata.is_deleting()
        });
        return Plan::of(
            ours.map(|e| Op::delete(&ENDPOINTS, &e.metadata))
                .into_iter()
                .collect(),
        );
    };
    if !is_selecting(&service) || service.metadata.is_deleting() {
        return Plan::none();
    }
    let (subsets, truncated) = subsets(&service, world);
    let labels = labels(&service);
    let annotation = if truncated {
        Value::from("truncated")
    } else {
        Value::Null
    };
    match existing {
        None => {
            let mut metadata = json!({"name": service.metadata.name, "namespace": service.metadata.namespace, "labels": labels});
            if truncated {
                metadata["annotations"] = json!({OVER_CAPACITY: annotation});
            }
            let body = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets});
            Plan::of(vec![Op::create(
                &ENDPOINTS,
                &service.metadata.namespace,
                body,
            )])
        }
        Some(old) => {
            let was_truncated = old.metadata.annotations.contains_key(OVER_CAPACITY);
            if old.subsets == subsets && old.metadata.labels == labels && was_truncated == truncated
            {
                return Plan::none();
            }
            let gone = old
                .metadata
                .labels
                .keys()
                .filter(|key| !labels.contains_key(*key))
                .map(|key| (key.clone(), Value::Null));
            let wanted = labels
                .iter()
                .map(|(key, value)| (key.clone(), value.as_str().into()));
            let mut metadata =
                json!({"uid": old.metadata.uid, "resourceVersion": old.metadata.resource_version});
            metadata["labels"] = gone.chain(wanted).collect::<serde_json::Map<_, _>>().into();
            metadata["annotations"] = json!({OVER_CAPACITY: annotation});
            let subsets = if subsets.is_empty() {
                Value::Null
            } else {
                json!(subsets)
            };
            Plan::of(vec![Op::merge(
                &ENDPOINTS,
                &old.metadata,
                json!({"metadata": metadata, "subsets": subsets}),
            )])
        }
    }
}

fn labels(service: &Service) -> Labels {
    let mut labels = service.metadata.labels.clone();
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    if service.spec.cluster_ip == "None" {
        labels.insert(HEADLESS.into(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels
}

/// Addresses grouped by their ports, everything ordered, and whether some had to be left out.
fn subsets(service: &Service, world: &World) -> (Vec<EndpointSubset>, bool) {
    let family = service.spec.ip_families.first().map_or(
        if service.spec.cluster_ip.contains(':') {
            "IPv6"
        } else {
            "IPv4"
        },
        String::as_str,
    );
    let mut groups: BTreeMap<String, EndpointSubset> = BTreeMap::new();
    let mut count = 0;
    let mut truncated = false;
    for pod in world
        .caches
        .pods
        .with_labels(&service.metadata.namespace, &service.spec.selector)
    {
        let tolerated = service.spec.publish_not_ready_addresses;
        if pod.is_finished() || (pod.metadata.is_deleting() && !tolerated) {
            continue;
        }
        let Some(ip) = address(&pod, family) else {
            continue;
        };
        if count == ADDRESSES_MAX {
            truncated = true;
            break;
        }
        count += 1;
        let ports = ports(service, &pod);
        let subset = groups
            .entry(json!(ports).to_string())
            .or_insert_with(|| EndpointSubset {
                ports,
                ..EndpointSubset::default()
            });
        let entry = endpoint_address(service, &pod, ip);
        if pod.is_ready() || tolerated {
            subset.addresses.push(entry)
        } else {
            subset.not_ready_addresses.push(entry)
        }
    }
    let mut subsets: Vec<_> = groups.into_values().collect();
    for subset in &mut subsets {
        subset.addresses.sort_by(|a, b| a.ip.cmp(&b.ip));
        subset.not_ready_addresses.sort_by(|a, b| a.ip.cmp(&b.ip));
    }
    (subsets, truncated)
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointsPort> {
    let all = service.spec.ports.iter();
    all.filter_map(|port| {
        Some(EndpointsPort {
            name: port.name.clone(),
            port: target_port(port, pod)?,
            protocol: or_tcp(&port.protocol).to_owned(),
            app_protocol: port.app_protocol.clone(),
        })
    })
    .collect()
}

fn endpoint_address(service: &Service, pod: &Pod, ip: String) -> EndpointAddress {
    let has_name = !pod.spec.hostname.is_empty() && pod.spec.subdomain == service.metadata.name;
    EndpointAddress {
        ip,
        hostname: if has_name {
            pod.spec.hostname.clone()
        } else {
            String::new()
        },
        node_name: (!pod.spec.node_name.is_empty()).then(|| pod.spec.node_name.clone()),
        target_ref: Some(pod_reference(pod)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    const SERVICE: &str = "kind: Service\nmetadata: {name: web, namespace: a}\nspec: {selector: {app: web}, clusterIP: 10.0.0.1, ports: [{port: 80, targetPort: 8080}]}\n";
    const PODS: &str = "---\nkind: Pod\nmetadata: {name: p1, namespace: a, uid: p1, labels: {app: web}}\nspec: {nodeName: n}\nstatus: {podIP: 10.1.0.1, conditions: [{type: Ready, status: 'True'}]}\n\
---\nkind: Pod\nmetadata: {name: p2, namespace: a, uid: p2, labels: {app: web}}\nstatus: {podIP: 10.1.0.2}\n";

    #[test]
    fn ready_and_unready_addresses_are_apart_and_nothing_is_written_twice() {
        let plan = reconcile(&Key::new("a", "web"), &world(&[SERVICE, PODS].concat()));
        let Op::Create { body, .. } = &plan.ops[0] else {
            panic!("{plan:?}")
        };
        assert_eq!(body["subsets"][0]["addresses"][0]["ip"], "10.1.0.1");
        assert_eq!(body["subsets"][0]["notReadyAddresses"][0]["ip"], "10.1.0.2");
        assert_eq!(
            body["subsets"][0]["ports"].to_string(),
            r#"[{"port":8080,"protocol":"TCP"}]"#
        );
        let again = reconcile(
            &Key::new("a", "web"),
            &world(&[SERVICE, PODS, &format!("---\n{body}\n")].concat()),
        );
        assert_eq!(again, Plan::none());
    }

    #[test]
    fn only_our_own_go_with_the_service() {
        let mine = "kind: Endpoints\nmetadata: {name: web, namespace: a, labels: {endpoints.kubernetes.io/managed-by: endpoint-controller}}\n";
        assert_eq!(
            reconcile(&Key::new("a", "web"), &world(mine)).lines(),
            ["delete endpoints a/web"]
        );
        assert_eq!(
            reconcile(
                &Key::new("a", "web"),
                &world("kind: Endpoints\nmetadata: {name: web, namespace: a}\n")
            ),
            Plan::none()
        );
    }
}
