//! Endpoints: the older form of EndpointSlices, still read by `kubectl get endpoints` and old programs.

use crate::endpoint_slice::{
    address, enqueue_services_of_pods, is_selecting, labels_of, or_tcp, pod_reference, selected,
    stamp, target_port, trigger_time,
};
use crate::manager::{Body, Controller};
use crate::world::{Caches, World};
use agent_runtime::kinds::{
    EndpointAddress, EndpointSubset, EndpointsPort, Labels, ObjectMeta, Pod, Service,
};
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
/// A record of leader election: such Endpoints never have a service.
pub(crate) const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const ADDRESSES_MAX: usize = 1000;

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches
        .services
        .subscribe(move |change| keys.add(Key::of(&change.latest().metadata)));
    let (services, keys) = (caches.services.clone(), queue.clone());
    caches.endpoints.subscribe(move |change| {
        let meta = &change.latest().metadata;
        // Whoever makes Endpoints by hand may do so before the service.
        if is_ours(meta) || services.get(&meta.namespace, &meta.name).is_some() {
            keys.add(Key::of(meta));
        }
    });
    enqueue_services_of_pods(caches, queue);
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let existing = world.caches.endpoints.by_key(key);
    let Some(service) = world.caches.services.by_key(key) else {
        world.ages(key, &[]);
        // They go with their service, those that somebody made by hand too.
        let left = existing.filter(|endpoints| {
            !endpoints.metadata.is_deleting()
                && !endpoints.metadata.annotations.contains_key(LEADER)
        });
        return Plan::of(
            left.map(|endpoints| Op::delete(&ENDPOINTS, &endpoints.metadata))
                .into_iter()
                .collect(),
        );
    };
    if !is_selecting(&service) || service.metadata.is_deleting() {
        return Plan::none();
    }
    let pods = selected(&service, world);
    let trigger_time = trigger_time(key, &service, &pods, world);
    let (subsets, truncated) = subsets(&service, pods);
    let labels = labels(&service);
    let annotation = if truncated {
        Value::from("truncated")
    } else {
        Value::Null
    };
    match existing {
        None => {
            let mut metadata = json!({"name": service.metadata.name, "namespace": service.metadata.namespace, "labels": labels});
            stamp(&mut metadata, trigger_time.as_deref(), &Labels::new());
            if truncated {
                metadata["annotations"][OVER_CAPACITY] = annotation;
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
            stamp(
                &mut metadata,
                trigger_time.as_deref(),
                &old.metadata.annotations,
            );
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
    let mut labels = labels_of(service);
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

fn is_ours(meta: &ObjectMeta) -> bool {
    meta.labels.get(MANAGED_BY).is_some_and(|m| m == MANAGER)
}

/// Addresses grouped by the ports they have in common, everything ordered, and whether some had to be left out.
fn subsets(service: &Service, pods: Vec<Arc<Pod>>) -> (Vec<EndpointSubset>, bool) {
    let family = service.spec.ip_families.first().map_or(
        if service.spec.cluster_ip.contains(':') {
            "IPv6"
        } else {
            "IPv4"
        },
        String::as_str,
    );
    let tolerated = service.spec.publish_not_ready_addresses;
    let mut found: Vec<(bool, Arc<Pod>, String)> = pods
        .into_iter()
        .filter(|pod| !pod.is_finished() && (!pod.metadata.is_deleting() || tolerated))
        .filter_map(|pod| Some((pod.is_ready() || tolerated, address(&pod, family)?, pod)))
        .map(|(ready, ip, pod)| (ready, pod, ip))
        .collect();
    // What does not fit is rather left out of those that get no traffic.
    found.sort_by_key(|(ready, ..)| !ready);
    let truncated = found.len() > ADDRESSES_MAX;
    found.truncate(ADDRESSES_MAX);
    let mut subsets: Vec<_> = by_common_ports(service, &found)
        .into_iter()
        .map(|(addresses, ports)| subset(service, &found, &addresses, ports))
        .collect();
    subsets.sort_by_cached_key(|subset| json!(subset).to_string());
    (subsets, truncated)
}

/// The sets of pods (by their place in `found`) that have the same ports, and these ports. A pod with none of the
/// service's ports is in no set, unless the service is one without ports.
fn by_common_ports(
    service: &Service,
    found: &[(bool, Arc<Pod>, String)],
) -> BTreeMap<Vec<usize>, Vec<EndpointsPort>> {
    if service.spec.ports.is_empty() && service.spec.cluster_ip == "None" && !found.is_empty() {
        return [((0..found.len()).collect(), Vec::new())].into();
    }
    let mut holders: Vec<(EndpointsPort, Vec<usize>)> = Vec::new();
    for (index, (_, pod, _)) in found.iter().enumerate() {
        for port in ports(service, pod) {
            match holders.iter_mut().find(|(known, _)| *known == port) {
                Some((_, pods)) => pods.push(index),
                None => holders.push((port, vec![index])),
            }
        }
    }
    let mut groups: BTreeMap<Vec<usize>, Vec<EndpointsPort>> = BTreeMap::new();
    for (port, pods) in holders {
        groups.entry(pods).or_default().push(port);
    }
    groups
}

fn subset(
    service: &Service,
    found: &[(bool, Arc<Pod>, String)],
    pods: &[usize],
    mut ports: Vec<EndpointsPort>,
) -> EndpointSubset {
    let of = |wanted: bool| {
        let mut addresses: Vec<_> = pods
            .iter()
            .map(|index| &found[*index])
            .filter(|(ready, ..)| *ready == wanted)
            .map(|(_, pod, ip)| endpoint_address(service, pod, ip.clone()))
            .collect();
        addresses.sort_by(|a, b| a.ip.cmp(&b.ip));
        addresses
    };
    ports.sort_by_cached_key(|port| json!(port).to_string());
    EndpointSubset {
        addresses: of(true),
        not_ready_addresses: of(false),
        ports,
    }
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
            pod.spec.hostname.to_string()
        } else {
            String::new()
        },
        node_name: (!pod.spec.node_name.is_empty()).then(|| pod.spec.node_name.to_string()),
        target_ref: Some(pod_reference(pod)),
    }
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint_slice::TRIGGER_TIME;
    use crate::testing::{object, world};

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
    fn the_earliest_change_that_they_are_the_first_to_follow_is_on_them() {
        let service = SERVICE.replace(
            "namespace: a}",
            "namespace: a, creationTimestamp: '2026-01-01T00:01:00Z'}",
        );
        let world = world(&[&service, PODS].concat());
        let key = Key::new("a", "web");
        let time = |plan: &Plan| {
            let (Op::Create { body, .. } | Op::Patch { body, .. }) = &plan.ops[0] else {
                panic!("{plan:?}")
            };
            body["metadata"]["annotations"].get(TRIGGER_TIME).cloned()
        };
        let at = |time: &str| Some(Value::from(format!("2026-01-01T00:{time}Z")));
        let made = reconcile(&key, &world);
        assert_eq!(time(&made), at("01:00"), "the service is new");
        let Op::Create { body, .. } = &made.ops[0] else {
            panic!("{made:?}")
        };
        world.caches.endpoints.apply(object(&body.to_string()));
        let turned = |name: &str, ip: &str, minute: &str| {
            let text = format!(
                "{{metadata: {{name: {name}, namespace: a, uid: {name}, labels: {{app: web}}}}, status: {{podIP: 10.1.0.{ip}, conditions: [{{type: Ready, status: 'True', lastTransitionTime: '2026-01-01T00:{minute}Z'}}]}}}}"
            );
            world.caches.pods.apply(object(&text));
        };
        turned("p1", "1", "04:00");
        turned("p2", "2", "03:00");
        assert_eq!(
            time(&reconcile(&key, &world)),
            at("03:00"),
            "the earlier of two"
        );
        assert_eq!(time(&reconcile(&key, &world)), Some(Value::Null), "once");
    }

    #[test]
    fn they_go_with_the_service_but_records_of_leaders_have_none() {
        let left = |more: &str| {
            let text = format!("kind: Endpoints\nmetadata: {{name: web, namespace: a{more}}}\n");
            reconcile(&Key::new("a", "web"), &world(&text)).lines()
        };
        assert_eq!(left(""), ["delete endpoints a/web"]);
        assert!(left(&format!(", annotations: {{{LEADER}: x}}")).is_empty());
        assert!(left(", deletionTimestamp: '2026-01-01T00:00:00Z'").is_empty());
    }

    #[test]
    fn endpoints_made_by_hand_before_their_service_wake_nobody() {
        let text = |labels: &str| {
            format!(
                "kind: Endpoints\nmetadata: {{name: web, namespace: a, labels: {{{labels}}}}}\n"
            )
        };
        let woken = |text: &str| {
            let queue = Arc::new(Queue::new());
            wire(&world(text).caches, &queue);
            !queue.is_empty()
        };
        assert!(!woken(&text("")));
        assert!(woken(&text(&format!("{MANAGED_BY}: {MANAGER}"))));
        assert!(woken(SERVICE));
    }

    fn subsets_of(service: &str, pods: &str) -> Vec<String> {
        let plan = reconcile(&Key::new("a", "web"), &world(&[service, pods].concat()));
        let Op::Create { body, .. } = &plan.ops[0] else {
            panic!("{plan:?}")
        };
        let texts = |subset: &Value, list: &str, field: &str| -> Vec<String> {
            let entries = subset[list].as_array().into_iter().flatten();
            entries.map(|e| e[field].to_string()).collect()
        };
        let subsets = body["subsets"].as_array().unwrap().iter();
        subsets
            .map(|s| {
                format!(
                    "{} not {} at {}",
                    texts(s, "addresses", "ip").join(" "),
                    texts(s, "notReadyAddresses", "ip").join(" "),
                    texts(s, "ports", "port").join(" ")
                )
                .replace('"', "")
            })
            .collect()
    }

    #[test]
    fn services_may_publish_what_is_not_ready_and_what_is_leaving() {
        let leaving = PODS.replace(
            "name: p1, ",
            "name: p1, deletionTimestamp: '2026-01-01T00:00:00Z', ",
        );
        assert_eq!(subsets_of(SERVICE, &leaving), [" not 10.1.0.2 at 8080"]);
        let publishing = SERVICE.replace("selector:", "publishNotReadyAddresses: true, selector:");
        assert_eq!(
            subsets_of(&publishing, &leaving),
            ["10.1.0.1 10.1.0.2 not  at 8080"]
        );
        let ended = PODS.replace("podIP: 10.1.0.1,", "podIP: 10.1.0.1, phase: Failed,");
        assert_eq!(subsets_of(&publishing, &ended), ["10.1.0.2 not  at 8080"]);
    }

    #[test]
    fn a_pod_without_the_named_port_is_no_address_of_it() {
        let named = SERVICE.replace(
            "{port: 80, targetPort: 8080}",
            "{name: a, port: 80, targetPort: one}, {name: b, port: 81, targetPort: two}",
        );
        assert!(subsets_of(&named, PODS).is_empty());
        let with =
            |ports: &str| format!("spec: {{nodeName: n, containers: [{{ports: [{ports}]}}]}}");
        let one = with("{name: one, containerPort: 1}");
        let both = with("{name: one, containerPort: 1}, {name: two, containerPort: 2}");
        let pods = PODS.replace("spec: {nodeName: n}", &one).replace(
            "labels: {app: web}}\nstatus: {podIP: 10.1.0.2}",
            &format!("labels: {{app: web}}}}\n{both}\nstatus: {{podIP: 10.1.0.2}}"),
        );
        assert_eq!(
            subsets_of(&named, &pods),
            ["10.1.0.1 not 10.1.0.2 at 1", " not 10.1.0.2 at 2"]
        );
        let portless = SERVICE
            .replace("10.0.0.1", "None")
            .replace("ports: [{port: 80, targetPort: 8080}]", "ports: []");
        assert_eq!(subsets_of(&portless, PODS), ["10.1.0.1 not 10.1.0.2 at "]);
    }

    #[test]
    fn beyond_the_capacity_the_ready_come_first() {
        let pods: String = (0..1001)
            .map(|i| {
                let ready = if i == 1000 { "True" } else { "False" };
                format!("---\nkind: Pod\nmetadata: {{name: p{i:04}, namespace: a, uid: p{i}, labels: {{app: web}}}}\nstatus: {{podIP: 10.1.{}.{}, conditions: [{{type: Ready, status: '{ready}'}}]}}\n", i / 250, i % 250)
            })
            .collect();
        let plan = reconcile(&Key::new("a", "web"), &world(&[SERVICE, &pods].concat()));
        let Op::Create { body, .. } = &plan.ops[0] else {
            panic!("{plan:?}")
        };
        assert_eq!(body["metadata"]["annotations"][OVER_CAPACITY], "truncated");
        let subset = &body["subsets"][0];
        assert_eq!(subset["addresses"].as_array().unwrap().len(), 1);
        assert_eq!(subset["notReadyAddresses"].as_array().unwrap().len(), 999);
    }
}
