//! EndpointSlices: the addresses behind a service, at most 100 to a slice, changed as little as possible.

mod packing;
mod topology;
mod waking;
mod written;

use crate::manager::{Body, Controller};
use crate::world::{Caches, World};
pub(crate) use agent_runtime::kinds::SERVICE_NAME;
use agent_runtime::kinds::{
    Endpoint, EndpointConditions, EndpointPort, EndpointSlice, IntOrString, Labels, Mention, Node,
    Pod, Service, ServicePort,
};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::ENDPOINT_SLICES;
use agent_runtime::{Key, Queue, timestamp};
use packing::{Packing, contents, parts, recall_hints};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use waking::enqueue_services_of_nodes;
pub(crate) use waking::enqueue_services_of_pods;
pub(crate) use written::{same_ports, written, written_ports};

pub(crate) const CONTROLLER: Controller = Controller {
    name: "endpoint-slice-controller",
    help: "keeps the EndpointSlices of services with a selector",
    workers: 5,
    body: Body::Keyed { wire, reconcile },
};

pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// When the last change happened that the endpoints follow, so that it can be measured how long they took.
pub(crate) const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const ZONE: &str = "topology.kubernetes.io/zone";

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    topology::wire(caches, queue);
    let keys = queue.clone();
    caches
        .services
        .subscribe(move |change| keys.add(Key::of(&change.latest().metadata)));
    let keys = queue.clone();
    caches.endpoint_slices.subscribe(move |change| {
        for slice in change.sides().filter(|slice| {
            slice
                .metadata
                .labels
                .get(MANAGED_BY)
                .is_some_and(|m| m == MANAGER)
        }) {
            if let Some(service) = slice.metadata.labels.get(SERVICE_NAME) {
                keys.add(Key::new(&slice.metadata.namespace, service));
            }
        }
    });
    enqueue_services_of_pods(caches, queue);
    enqueue_services_of_nodes(caches, queue);
}

/// Whether this controller serves the service at all.
pub(crate) fn is_selecting(service: &Service) -> bool {
    !service.spec.selector.is_empty() && service.spec.kind != "ExternalName"
}

/// The number that a service port leads to at a pod.
pub(crate) fn target_port(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::Text(name)) => {
            let protocol = or_tcp(&port.protocol);
            let sidecars = pod
                .spec
                .init_containers
                .iter()
                .filter(|c| c.restart_policy.as_deref() == Some("Always"));
            let ports = pod
                .spec
                .containers
                .iter()
                .chain(sidecars)
                .flat_map(|c| &c.ports);
            ports
                .into_iter()
                .find(|p| p.name == *name && or_tcp(&p.protocol) == protocol)
                .map(|p| p.container_port)
        }
    }
}

pub(crate) fn or_tcp(protocol: &str) -> &str {
    if protocol.is_empty() { "TCP" } else { protocol }
}

type Ports = Vec<EndpointPort>;

fn reconcile(key: &Key, world: &World) -> Plan {
    // The slices of a service that is gone go with their owner.
    let Some(service) = world
        .caches
        .services
        .by_key(key)
        .filter(|service| is_selecting(service))
    else {
        world.ages(key, &[]);
        world.forget(key);
        return Plan::none();
    };
    if service.metadata.is_deleting() {
        return Plan::none();
    }
    let pods = selected(&service, world);
    let trigger_time = trigger_time(key, &service, &pods, world);
    let owned = |slice: &EndpointSlice| {
        slice
            .metadata
            .labels
            .get(MANAGED_BY)
            .is_some_and(|m| m == MANAGER)
    };
    let existing: Vec<_> = world
        .caches
        .endpoint_slices
        .mentioning(&Mention::Service(key.clone()))
        .into_iter()
        .filter(|slice| owned(slice))
        .collect();
    let is_auto = topology::is_auto(&service);
    let nodes = &world.caches.nodes;
    let shares = is_auto.then(|| topology::shares(&nodes.list())).flatten();
    let mut plan = Plan::none();
    for family in families(&service) {
        let (matching, _) = existing
            .iter()
            .cloned()
            .partition::<Vec<_>, _>(|slice| slice.address_type == family);
        let mut groups = desired(&service, &pods, family, world);
        if is_auto {
            recall_hints(&mut groups, &matching);
        }
        let mut contents = contents(groups, &matching);
        let outcome = is_auto
            .then(|| topology::share_out(&mut parts(&mut contents, &matching), shares.as_ref()));
        // Events first: they are told though a write fails, and then not again.
        plan.ops
            .extend(topology::told(outcome, &service, family, world));
        let packing = Packing {
            service: &service,
            family,
            labels: labels(&service),
            world,
            trigger_time: trigger_time.as_deref(),
        };
        plan.ops.extend(packing.plan(&contents, &matching));
    }
    let families = families(&service);
    plan.ops.extend(
        existing
            .iter()
            .filter(|slice| !families.contains(&slice.address_type.as_str()))
            .map(|slice| Op::delete(&ENDPOINT_SLICES, &slice.metadata)),
    );
    plan
}

/// The pods behind a service, finished ones too.
pub(crate) fn selected(service: &Service, world: &World) -> Vec<Arc<Pod>> {
    let pods = &world.caches.pods;
    pods.with_labels(&service.metadata.namespace, &service.spec.selector)
}

/// The earliest of the changes that a reconcile is the first to follow: the service was made, or a pod of it became ready or
/// unready. `None` where it was woken by something else, such as a label.
///
/// Asked once in each reconcile, also where nothing comes to be written: what one has seen the next does not follow.
pub(crate) fn trigger_time(
    key: &Key,
    service: &Service,
    pods: &[Arc<Pod>],
    world: &World,
) -> Option<String> {
    let made = service.metadata.creation_timestamp.text();
    let made = made.as_deref().unwrap_or_default();
    let turned = pods.iter().filter_map(|pod| {
        let time = pod.condition("Ready")?.last_transition_time.as_deref()?;
        Some((pod.metadata.uid.as_str(), time))
    });
    let changes: Vec<(&str, &str)> = std::iter::once((service.metadata.uid.as_str(), made))
        .chain(turned)
        .collect();
    let sighting = |(uid, time): &(&str, &str)| format!("{uid}@{time}");
    let sightings: Vec<String> = changes.iter().map(sighting).collect();
    let news = world.news(key, &sightings);
    let times: Vec<&str> = if news[0] {
        // What was followed before is not known: the service is new, or whoever follows it is.
        vec![made]
    } else {
        let new = changes.iter().zip(news).filter(|(_, is_new)| *is_new);
        new.map(|((_, time), _)| *time).collect()
    };
    let times = times.into_iter();
    let earliest = times.filter_map(|text| Some((timestamp::parse(text)?, text)));
    earliest.min().map(|(_, text)| text.to_owned())
}

/// The annotation of [`TRIGGER_TIME`] in a patch of what has these annotations: what is not known of this change is not left
/// standing from an earlier one.
pub(crate) fn stamp(metadata: &mut Value, time: Option<&str>, old: &Labels) {
    match time {
        Some(time) => metadata["annotations"][TRIGGER_TIME] = time.into(),
        None if old.contains_key(TRIGGER_TIME) => {
            metadata["annotations"][TRIGGER_TIME] = Value::Null;
        }
        None => {}
    }
}

fn families(service: &Service) -> Vec<&'static str> {
    let mut families: Vec<&'static str> = service
        .spec
        .ip_families
        .iter()
        .map(|f| if f == "IPv6" { "IPv6" } else { "IPv4" })
        .collect();
    if families.is_empty() {
        families.push(if service.spec.cluster_ip.contains(':') {
            "IPv6"
        } else {
            "IPv4"
        });
    }
    families
}

/// The labels of a service's slices: those of the service, and ours.
fn labels(service: &Service) -> Labels {
    let mut labels = labels_of(service);
    labels.insert(SERVICE_NAME.into(), service.metadata.name.clone());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

/// The labels of a service, and whether it has no address.
pub(crate) fn labels_of(service: &Service) -> Labels {
    let mut labels = service.metadata.labels.clone();
    if service.spec.cluster_ip == "None" {
        labels.insert(HEADLESS.into(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels
}

/// The endpoints of a family, by the ports they have (a named port may differ from pod to pod), ordered by pod. As in the
/// EndpointSlice controller of Kubernetes 1.36, a pod whose node does not exist has none, unless the service wants pods that are
/// not ready too: nobody keeps its status true any more. Endpoints show such pods there as well.
fn desired(
    service: &Service,
    pods: &[Arc<Pod>],
    family: &str,
    world: &World,
) -> Vec<(Ports, Vec<Endpoint>)> {
    let mut groups: BTreeMap<String, (Ports, Vec<Endpoint>)> = BTreeMap::new();
    let mut last: Option<(Ports, String)> = None;
    for pod in pods {
        if pod.is_finished() {
            continue;
        }
        let Some(address) = address(pod, family) else {
            continue;
        };
        let node = world.caches.nodes.get("", &pod.spec.node_name);
        if node.is_none() && !service.spec.publish_not_ready_addresses {
            continue;
        }
        let ports = ports(service, pod);
        // Mostly all have the same, which then need not be written for each of thousands.
        let key = match last.take() {
            Some((known, key)) if known == ports => key,
            _ => json!(ports).to_string(),
        };
        groups
            .entry(key.clone())
            .or_insert_with(|| (ports.clone(), Vec::new()))
            .1
            .push(endpoint(service, pod, address, node.as_deref()));
        last = Some((ports, key));
    }
    groups.into_values().collect()
}

/// The pod's address of a family.
pub(crate) fn address(pod: &Pod, family: &str) -> Option<String> {
    let all = pod
        .status
        .pod_ips
        .iter()
        .map(|ip| ip.ip.as_str())
        .chain([pod.status.pod_ip.as_str()]);
    let fits = |text: &&str| {
        text.parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_ipv6() == (family == "IPv6"))
    };
    all.into_iter().find(fits).map(str::to_owned)
}

fn ports(service: &Service, pod: &Pod) -> Ports {
    let port = |port: &ServicePort| {
        Some(EndpointPort {
            name: Some(port.name.clone()),
            protocol: Some(or_tcp(&port.protocol).to_owned()),
            port: Some(target_port(port, pod)?),
            app_protocol: port.app_protocol.clone(),
        })
    };
    service.spec.ports.iter().filter_map(port).collect()
}

/// The endpoint of a pod; `on` is its node, if it exists.
fn endpoint(service: &Service, pod: &Pod, address: String, on: Option<&Node>) -> Endpoint {
    let serving = pod.is_ready();
    let terminating = pod.metadata.is_deleting();
    let ready = service.spec.publish_not_ready_addresses || (serving && !terminating);
    let node = (!pod.spec.node_name.is_empty()).then(|| pod.spec.node_name.to_string());
    let zone = on
        .and_then(|node| node.metadata.labels.get(ZONE).cloned())
        .filter(|zone| !zone.is_empty());
    let hints = if ready {
        hints(service, node.as_deref(), zone.as_deref())
    } else {
        None
    };
    let has_name = !pod.spec.hostname.is_empty() && pod.spec.subdomain == service.metadata.name;
    Endpoint {
        addresses: vec![address],
        conditions: EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        },
        hostname: has_name.then(|| pod.spec.hostname.to_string()),
        target_ref: Some(pod_reference(pod)),
        node_name: node,
        zone,
        hints,
        ..Endpoint::default()
    }
}

/// Whose traffic an endpoint is for where the service wants it to stay close (`spec.trafficDistribution`): that of its zone,
/// and before that of its node if the service asks for it. As in Kubernetes only what is ready has hints, and those that all
/// endpoints of a service decide together win ([`topology`]).
fn hints(service: &Service, node: Option<&str>, zone: Option<&str>) -> Option<Value> {
    if topology::is_auto(service) {
        return None;
    }
    let by_node = match service.spec.traffic_distribution.as_deref()? {
        "PreferClose" | "PreferSameZone" => false,
        "PreferSameNode" => true,
        _ => return None,
    };
    let mut hints = serde_json::Map::new();
    if let Some(zone) = zone {
        hints.insert("forZones".into(), json!([{"name": zone}]));
    }
    if let Some(node) = node.filter(|_| by_node) {
        hints.insert("forNodes".into(), json!([{"name": node}]));
    }
    (!hints.is_empty()).then_some(Value::Object(hints))
}

/// A reference to a pod as endpoints carry it: without version, or every status update would change endpoints.
pub(crate) fn pod_reference(pod: &Pod) -> agent_runtime::kinds::ObjectReference {
    agent_runtime::kinds::ObjectReference {
        kind: "Pod".into(),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..Default::default()
    }
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    const SERVICE: &str = "
kind: Service
metadata: {name: web, namespace: a, uid: s, labels: {team: x}}
spec: {selector: {app: web}, clusterIP: 10.0.0.1, ports: [{name: http, port: 80, targetPort: 8080}]}
";

    const NODE: &str = "---\nkind: Node\nmetadata: {name: n}\n";

    fn pod(name: &str, ip: &str, ready: &str, more: &str) -> String {
        format!(
            "---\nkind: Pod\nmetadata: {{name: {name}, namespace: a, uid: {name}, labels: {{app: web}}{more}}}\nspec: {{nodeName: n, containers: [{{name: c, ports: [{{name: named, containerPort: 9{ip}}}]}}]}}\nstatus: {{phase: Running, podIP: 10.1.0.{ip}, conditions: [{{type: Ready, status: '{ready}'}}]}}\n"
        )
    }

    /// What is wanted in a world of these objects, in which there is the node of the pods.
    fn ops(text: &str) -> Vec<Op> {
        wanted(&[text, NODE].concat())
    }

    fn wanted(text: &str) -> Vec<Op> {
        reconcile(&Key::new("a", "web"), &world(text)).ops
    }

    fn body(op: &Op) -> &Value {
        let (Op::Create { body, .. } | Op::Patch { body, .. }) = op else {
            panic!("{op:?}")
        };
        body
    }

    #[test]
    fn ready_endpoints_bear_the_hints_that_the_service_asks_for() {
        let node =
            "---\nkind: Node\nmetadata: {name: n, labels: {topology.kubernetes.io/zone: z}}\n";
        let zone = json!({"forZones": [{"name": "z"}]});
        let both = json!({"forZones": [{"name": "z"}], "forNodes": [{"name": "n"}]});
        for (distribution, node, expected) in [
            ("", node, Value::Null),
            ("trafficDistribution: PreferClose, ", node, zone.clone()),
            ("trafficDistribution: PreferSameZone, ", node, zone),
            ("trafficDistribution: PreferSameNode, ", node, both),
            ("trafficDistribution: PreferSameZone, ", NODE, Value::Null),
            (
                "trafficDistribution: PreferSameNode, ",
                NODE,
                json!({"forNodes": [{"name": "n"}]}),
            ),
        ] {
            let service = SERVICE.replace("spec: {", &format!("spec: {{{distribution}"));
            let text = [
                service.as_str(),
                &pod("p1", "1", "True", ""),
                &pod("p2", "2", "False", ""),
                node,
            ]
            .concat();
            let ops = wanted(&text);
            let endpoints = &body(&ops[0])["endpoints"];
            assert_eq!(endpoints[0]["hints"], expected, "{distribution}");
            assert_eq!(endpoints[1]["hints"], Value::Null, "{distribution}");
            // What was written is what is wanted, and hints that are wanted no more go.
            let again = [text.as_str(), &stored(&ops[0])].concat();
            assert_eq!(wanted(&again), []);
            let plain = [SERVICE, &text[service.len()..], &stored(&ops[0])].concat();
            let changes = usize::from(!expected.is_null());
            assert_eq!(wanted(&plain).len(), changes);
        }
    }

    /// What the first create makes, put back into the world as YAML.
    fn stored(op: &Op) -> String {
        let mut object = body(op).clone();
        object["metadata"]["uid"] = "slice".into();
        format!("---\n{object}\n")
    }

    #[test]
    fn the_earliest_change_that_a_slice_is_the_first_to_follow_is_on_it() {
        let service = SERVICE.replace(
            "uid: s,",
            "uid: s, creationTimestamp: '2026-01-01T00:01:00Z',",
        );
        let pod_at = |name: &str, ip: &str, ready: &str, time: &str| {
            let changed = format!("type: Ready, lastTransitionTime: '2026-01-01T00:{time}Z'");
            pod(name, ip, ready, "").replace("type: Ready", &changed)
        };
        let text = [
            &service,
            &pod_at("p1", "1", "True", "02:00"),
            &pod_at("p2", "2", "True", "02:30"),
        ]
        .map(String::as_str)
        .concat();
        let world = world(&[text.as_str(), NODE].concat());
        let key = Key::new("a", "web");
        let apply = |text: &str| {
            let pod = text.strip_prefix("---\n").unwrap();
            world.caches.pods.apply(crate::testing::object(pod));
        };
        let time = |op: &Op| {
            body(op)["metadata"]["annotations"]
                .get(TRIGGER_TIME)
                .cloned()
        };
        let at = |time: &str| Some(Value::from(format!("2026-01-01T00:{time}Z")));
        let made = reconcile(&key, &world).ops;
        assert_eq!(time(&made[0]), at("01:00"), "the service is new");
        let slice = |op: &Op| {
            let text = stored(op);
            world
                .caches
                .endpoint_slices
                .apply(crate::testing::object(text.strip_prefix("---\n").unwrap()));
        };
        slice(&made[0]);
        assert_eq!(reconcile(&key, &world).ops, []);
        apply(&pod_at("p1", "1", "False", "04:00"));
        apply(&pod_at("p2", "2", "False", "03:00"));
        let written = reconcile(&key, &world).ops;
        assert_eq!(time(&written[0]), at("03:00"), "the earlier of two");
        // Written or not, these two are followed; what is written next is so for its labels.
        let mut labelled: Service = (*world.caches.services.by_key(&key).unwrap()).clone();
        labelled.metadata.labels = Labels::new();
        labelled.metadata.resource_version = "9".into();
        world.caches.services.apply(labelled);
        let written = reconcile(&key, &world).ops;
        assert_eq!(time(&written[0]), Some(Value::Null));
        // A new pod counts by its own time, though others have changed later.
        apply(&pod_at("p3", "3", "True", "02:10"));
        assert_eq!(time(&reconcile(&key, &world).ops[0]), at("02:10"));
    }

    #[test]
    fn conditions_and_references_tell_of_each_pod() {
        let text = [
            SERVICE,
            &pod("p1", "1", "True", ""),
            &pod("p2", "2", "False", ""),
            &pod(
                "p3",
                "3",
                "True",
                ", deletionTimestamp: '2026-01-01T00:00:00Z'",
            ),
        ]
        .concat();
        let made = ops(&text);
        let slice = body(&made[0]);
        let flags: Vec<_> = slice["endpoints"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["conditions"].to_string())
            .collect();
        assert_eq!(
            flags,
            [
                r#"{"ready":true,"serving":true,"terminating":false}"#,
                r#"{"ready":false,"serving":false,"terminating":false}"#,
                r#"{"ready":false,"serving":true,"terminating":true}"#
            ]
        );
        assert_eq!(slice["endpoints"][0]["targetRef"]["name"], "p1");
        assert_eq!(slice["endpoints"][0]["nodeName"], "n");
        assert_eq!(
            slice["ports"].to_string(),
            r#"[{"name":"http","port":8080,"protocol":"TCP"}]"#
        );
        assert_eq!(
            slice["metadata"]["labels"].to_string(),
            r#"{"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io","kubernetes.io/service-name":"web","team":"x"}"#
        );
        assert_eq!(made.len(), 1);
        // What is written is what is wanted: no second write.
        assert_eq!(ops(&[text, stored(&made[0])].concat()), []);
    }

    #[test]
    fn a_change_touches_one_slice_and_none_is_left_behind() {
        let one = [SERVICE, &pod("p1", "1", "True", "")].concat();
        let slice = stored(&ops(&one)[0]);
        let lines = Plan::of(ops(&[SERVICE, &pod("p2", "2", "True", ""), &slice].concat())).lines();
        assert!(
            lines.len() == 1
                && lines[0].starts_with("patch endpointslices")
                && lines[0].contains("10.1.0.2"),
            "{lines:#?}"
        );
        let lines = Plan::of(ops(&[SERVICE, &slice].concat())).lines();
        assert!(
            lines[0].starts_with("create endpointslices")
                && lines[1].starts_with("delete endpointslices"),
            "{lines:#?}"
        );
    }

    #[test]
    fn named_ports_that_differ_make_slices_of_their_own() {
        let service = SERVICE.replace("targetPort: 8080", "targetPort: named");
        let made = ops(&[
            &service,
            &pod("p1", "1", "True", ""),
            &pod("p2", "2", "True", ""),
        ]
        .map(String::as_str)
        .concat());
        let ports: Vec<_> = made
            .iter()
            .map(|op| body(op)["ports"][0]["port"].clone())
            .collect();
        assert_eq!(ports, [91, 92]);
    }

    #[test]
    fn a_slice_holds_a_hundred() {
        let pods: String = (0..250)
            .map(|i| pod(&format!("p{i:03}"), &format!("{i}"), "True", ""))
            .collect();
        let sizes: Vec<_> = ops(&[SERVICE, &pods].concat())
            .iter()
            .map(|op| body(op)["endpoints"].as_array().unwrap().len())
            .collect();
        assert_eq!(sizes, [100, 100, 50]);
    }

    #[test]
    fn a_pod_whose_node_does_not_exist_is_left_out_unless_all_are_wanted() {
        let all = SERVICE.replace("selector:", "publishNotReadyAddresses: true, selector:");
        let elsewhere = pod("p2", "2", "True", "").replace("nodeName: n,", "nodeName: m,");
        let nowhere = pod("p3", "3", "True", "").replace("nodeName: n,", "");
        for (service, node, expected) in [
            (SERVICE, NODE, vec!["p1"]),
            (SERVICE, "", vec![]),
            (all.as_str(), NODE, vec!["p1", "p2", "p3"]),
            (all.as_str(), "", vec!["p1", "p2", "p3"]),
        ] {
            let here = pod("p1", "1", "True", "");
            let text = [service, &here, &elsewhere, &nowhere, node].concat();
            let made = wanted(&text);
            assert_eq!(made.len(), 1, "an empty slice too");
            let endpoints = body(&made[0])["endpoints"].as_array().unwrap();
            let named = endpoints.iter().map(|e| &e["targetRef"]["name"]);
            assert_eq!(named.collect::<Vec<_>>(), expected, "{service} {node}");
        }
    }

    #[test]
    fn a_node_that_comes_or_goes_or_gets_a_zone_wakes_the_services_of_its_pods() {
        let world = world(&[SERVICE, &pod("p1", "1", "True", "")].concat());
        let queue = Arc::new(Queue::new());
        let node = |zone: &str| {
            let mut node: Node = crate::testing::object("{metadata: {name: n}}");
            if !zone.is_empty() {
                node.metadata.labels.insert(ZONE.into(), zone.into());
            }
            node
        };
        wire(&world.caches, &queue);
        let drain = |queue: &Queue<Key>| {
            let woken = queue.len();
            while let Some(Some(key)) = futures::FutureExt::now_or_never(queue.next()) {
                queue.done(&key);
            }
            woken
        };
        assert_eq!(drain(&queue), 1, "the service itself");
        for (zone, woken) in [("", 1), ("", 0), ("z", 1), ("z", 0)] {
            world.caches.nodes.apply(node(zone));
            assert_eq!(drain(&queue), woken, "zone {zone}");
        }
        world.caches.nodes.remove(&Key::new("", "n"));
        assert_eq!(drain(&queue), 1, "it is gone");
    }

    #[test]
    fn headless_unready_and_selectorless_services() {
        let headless = SERVICE
            .replace("10.0.0.1", "None")
            .replace("selector:", "publishNotReadyAddresses: true, selector:");
        let made = ops(&[&headless, &pod("p1", "1", "False", "")]
            .map(String::as_str)
            .concat());
        assert_eq!(body(&made[0])["metadata"]["labels"][HEADLESS], "");
        assert_eq!(body(&made[0])["endpoints"][0]["conditions"]["ready"], true);
        assert_eq!(
            ops(&SERVICE.replace("selector: {app: web}", "type: ClusterIP")),
            []
        );
        assert_eq!(
            ops(&SERVICE.replace("selector:", "type: ExternalName, selector:")),
            []
        );
    }
}
