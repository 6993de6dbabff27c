//! Whatever Services, nodes and endpoints do, and wherever leaders are behind or cut off: who is only looked at when something
//! wakes him comes to have all addresses that he may have and none that he may not, no port of an address has two, who wants
//! none any more has none and may go, and then nothing is written.

use super::*;
use crate::simulation::{Leader, Woken};
use agent_runtime::{ControllerOptions, timestamp};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// The last one is of a class of somebody else.
const NAMES: [&str; 4] = ["s0", "s1", "s2", "s3"];
const NODES: [&str; 3] = ["n0", "n1", "n2"];
/// The node port of the first Service, which another one may want as its port.
const NODE_PORT: i64 = 30080;

struct Model {
    woken: Woken,
}

fn ip(node: &str) -> String {
    format!("10.0.0.{}", node.trim_start_matches('n'))
}

fn ports(service: &Value) -> BTreeSet<(String, i64)> {
    let ports = service["spec"]["ports"].as_array().unwrap().iter();
    let text = |port: &Value| port["protocol"].as_str().unwrap().to_owned();
    ports
        .map(|port| (text(port), port["port"].as_i64().unwrap()))
        .collect()
}

fn node_port(service: &Value) -> Option<(String, i64)> {
    let spec = &service["spec"];
    let number = spec["ports"][0]["nodePort"].as_i64()?;
    let has = spec["type"] == "LoadBalancer" || spec["type"] == "NodePort";
    has.then(|| ("TCP".to_owned(), number))
}

fn wants_any(service: &Value) -> bool {
    let spec = &service["spec"];
    spec["type"] == "LoadBalancer" && spec["loadBalancerClass"].is_null()
}

fn held(service: &Value) -> BTreeSet<String> {
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
    let ingress = ingress.into_iter().flatten();
    ingress
        .map(|place| place["ip"].as_str().unwrap().to_owned())
        .collect()
}

impl Model {
    fn new() -> Self {
        let options = ControllerOptions {
            local_cloud: true,
            ..ControllerOptions::default()
        };
        Self {
            woken: Woken::new(&CONTROLLER, options),
        }
    }

    fn ports_of(name: &str, how: usize) -> Value {
        let protocol = if how.is_multiple_of(5) { "UDP" } else { "TCP" };
        if name == NAMES[0] {
            return json!([{"port": 80, "protocol": "TCP", "nodePort": NODE_PORT}]);
        }
        let number = [80, 81, NODE_PORT][how % 3];
        json!([{"port": number, "protocol": protocol}])
    }

    fn put_service(&mut self, name: &str, how: usize) {
        let (uid, now) = (self.woken.uid(), self.woken.cluster.world().now);
        let class = (name == NAMES[3]).then_some("example.com/other");
        let finalizers = class.map(|_| json!([FINALIZER]));
        let metadata = json!({
            "name": name, "namespace": "a", "uid": uid, "creationTimestamp": timestamp::time(now),
            "finalizers": finalizers,
        });
        let spec = json!({
            "type": if how.is_multiple_of(4) { "ClusterIP" } else { "LoadBalancer" }, "ports": Self::ports_of(name, how),
            "loadBalancerClass": class, "externalTrafficPolicy": if how.is_multiple_of(7) { "Local" } else { "Cluster" },
        });
        self.woken
            .cluster
            .put(json!({"kind": "Service", "metadata": metadata, "spec": spec}));
    }

    /// A user changes the type, the ports or the policy, or deletes it.
    fn change(&mut self, name: &str, how: usize) {
        let service = self.woken.cluster.get("Service", name).unwrap();
        let is_held = !service["metadata"]["finalizers"].is_null();
        let patch = match how % 5 {
            0 if name != NAMES[3] => json!({"spec": {"type": "ClusterIP"}}),
            1 if name != NAMES[3] => json!({"spec": {"type": "LoadBalancer"}}),
            2 => json!({"spec": {"ports": Self::ports_of(name, how / 5)}}),
            3 => {
                let policy = ["Local", "Cluster"][how / 5 % 2];
                json!({"spec": {"externalTrafficPolicy": policy}})
            }
            4 if !is_held => return self.woken.cluster.remove("Service", name),
            4 => json!({"metadata": {"deletionTimestamp": "2026-01-01T10:00:00Z"}}),
            _ => return,
        };
        self.woken.cluster.patch("Service", name, &patch);
    }

    fn put_node(&mut self, name: &str, how: usize) {
        let ready = if how.is_multiple_of(3) {
            "False"
        } else {
            "True"
        };
        let label = how.is_multiple_of(4).then_some("true");
        let labels = json!({"node.kubernetes.io/exclude-from-external-load-balancers": label});
        let labels = if label.is_some() { labels } else { json!({}) };
        self.woken.cluster.put(json!({
            "kind": "Node", "metadata": {"name": name, "uid": name, "labels": labels},
            "status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "addresses": [{"type": "InternalIP", "address": ip(name)}],
            },
        }));
    }

    fn put_slice(&mut self, service: &str, how: usize) {
        let chosen = NODES
            .iter()
            .enumerate()
            .filter(|(at, _)| (how >> at) & 1 == 1);
        let endpoint = |node: &str| json!({"addresses": ["10.1.0.1"], "nodeName": node, "conditions": {"ready": true}});
        let endpoints: Vec<Value> = chosen.map(|(_, node)| endpoint(node)).collect();
        let name = format!("{service}-x");
        let labels = json!({ SERVICE_NAME: service });
        self.woken.cluster.put(json!({
            "kind": "EndpointSlice", "metadata": {"name": name, "namespace": "a", "uid": name, "labels": labels},
            "addressType": "IPv4", "endpoints": endpoints,
        }));
    }

    fn act(&mut self, (what, who, how): (u8, usize, usize)) {
        let (name, node) = (NAMES[who], NODES[who % 3]);
        let is_there = self.woken.cluster.get("Service", name).is_some();
        match what {
            0..=2 if is_there => self.change(name, how),
            0..=2 => self.put_service(name, how),
            3 => self.put_node(node, how),
            4 => self.woken.cluster.remove("Node", node),
            5 => self.put_slice(name, how),
            6 => self
                .woken
                .cluster
                .remove("EndpointSlice", &format!("{name}-x")),
            7 => self.woken.fall_behind(),
            8 => self.woken.led_by(Leader::Behind, &Key::new("a", name)),
            9 => self.woken.led_by(Leader::CutOff(0), &Key::new("a", name)),
            10 => self.woken.cluster.seconds += 1,
            _ => self.woken.settle(),
        }
    }

    /// Nodes at which a Service could be reached.
    fn hosts(&self, service: &Value) -> Vec<String> {
        let name = service["metadata"]["name"].as_str().unwrap();
        let slice = self
            .woken
            .cluster
            .get("EndpointSlice", &format!("{name}-x"));
        let endpoints = slice
            .as_ref()
            .and_then(|slice| slice["endpoints"].as_array());
        let endpoints = endpoints.into_iter().flatten();
        let local: Vec<&str> = endpoints
            .map(|endpoint| endpoint["nodeName"].as_str().unwrap())
            .collect();
        let is_local = service["spec"]["externalTrafficPolicy"] == "Local";
        let mut nodes = self.woken.cluster.all("Node");
        nodes.retain(|node| {
            let labels = node["metadata"]["labels"].as_object();
            let is_open = labels.is_none_or(serde_json::Map::is_empty);
            let is_ready = node["status"]["conditions"][0]["status"] == "True";
            let name = node["metadata"]["name"].as_str().unwrap();
            is_open && is_ready && (!is_local || local.contains(&name))
        });
        nodes
            .iter()
            .map(|node| ip(node["metadata"]["name"].as_str().unwrap()))
            .collect()
    }

    fn check(&self) {
        let services = self.woken.cluster.all("Service");
        for service in services
            .iter()
            .filter(|service| service["spec"]["loadBalancerClass"].is_null())
        {
            let held_here = held(service);
            let finalizers = service["metadata"]["finalizers"].as_array();
            let has_finalizer = finalizers.is_some_and(|all| !all.is_empty());
            assert!(
                service["metadata"]["deletionTimestamp"].is_null(),
                "it may go: {service}"
            );
            assert_eq!(has_finalizer, wants_any(service), "{service}");
            if !wants_any(service) {
                assert!(held_here.is_empty(), "{service}");
                continue;
            }
            let hosts = self.hosts(service);
            for ip in &held_here {
                assert!(hosts.contains(ip), "{ip} is no host of {service}");
            }
            let is_other = |other: &&Value| other["metadata"]["uid"] != service["metadata"]["uid"];
            let others: Vec<&Value> = services.iter().filter(is_other).collect();
            for ip in &hosts {
                let is_taken = others.iter().any(|other| has_port(other, ip, service));
                // Who had it before a younger one got that number as its node port keeps it.
                let is_barred = others.iter().any(|other| {
                    let is_younger = held_here.contains(ip) && age(service) < age(other);
                    node_port(other)
                        .is_some_and(|port| ports(service).contains(&port) && !is_younger)
                });
                assert_eq!(
                    held_here.contains(ip),
                    !is_taken && !is_barred,
                    "{ip}: {service}"
                );
            }
        }
    }
}

/// Whether one Service has a port of an address that another one wants.
fn has_port(other: &Value, ip: &str, service: &Value) -> bool {
    wants_any(other) && held(other).contains(ip) && !ports(service).is_disjoint(&ports(other))
}

fn age(service: &Value) -> [&str; 2] {
    ["creationTimestamp", "uid"].map(|field| service["metadata"][field].as_str().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]
    #[test]
    fn who_may_have_an_address_has_it_and_nobody_else(
        acts in prop::collection::vec((0_u8..14, 0_usize..4, 0_usize..40), 0..80),
    ) {
        let mut model = Model::new();
        for act in acts {
            model.act(act);
        }
        model.woken.come_to_rest();
        model.check();
        model.woken.stays(NAMES.map(|name| Key::new("a", name)));
    }
}
