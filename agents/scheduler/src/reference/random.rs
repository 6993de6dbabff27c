//! Random clusters and pods.

use super::Cluster;
use serde_json::{Value, json};

/// Throws from a row of numbers, so that a failure shrinks to the shortest and smallest row.
pub(super) struct Dice {
    row: Vec<u32>,
    at: usize,
}

impl Dice {
    pub(super) fn new(row: Vec<u32>) -> Dice {
        Dice { row, at: 0 }
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        let thrown = self.row.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        thrown as usize % n
    }

    pub(super) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    pub(super) fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// Up to `most` of what `make` makes.
    fn some(&mut self, most: usize, mut make: impl FnMut(&mut Dice) -> Value) -> Value {
        let count = self.below(most + 1);
        (0..count).map(|_| make(self)).collect()
    }
}

const ZONE: &str = "topology.kubernetes.io/zone";
const HOSTNAME: &str = "kubernetes.io/hostname";
const APPS: &[&str] = &["web", "db", "cache"];
const KEYS: &[&str] = &[ZONE, HOSTNAME, "rack"];

/// When the clusters begin.
const BEGIN: i64 = 1_767_225_600_000_000;

/// What a node says of the pressure on it: nothing, lies, something old, something of the future, or the truth.
fn told(dice: &mut Dice, now: i64) -> Value {
    let age = [0, 30, 400, 659, 660, 5_000, -60, -100_000][dice.below(8)];
    let at = agent_runtime::timestamp::time(now - age * 1_000_000);
    let mut figure = || [0, 10, 50, 51, 80, 81, 90, 91, 100][dice.below(9)];
    let told = json!({"at": at, "cpu": figure(), "memory": figure(), "io": figure()});
    match dice.below(8) {
        0 => json!(null),
        1 => json!(told.to_string().replace("\"io\":", "\"io\":1")),
        2 => json!("calm"),
        _ => json!(told.to_string()),
    }
}

pub(super) fn node(dice: &mut Dice, at: usize, now: i64) -> Value {
    let name = format!("n{at}");
    let mut labels = json!({HOSTNAME: name, "rank": dice.below(4).to_string()});
    for (key, values) in [
        (ZONE, &["a", "b"] as &[&str]),
        ("rack", &["x", "y"]),
        ("disk", &["ssd", "hdd"]),
    ] {
        if !dice.once_in(4) {
            labels[key] = json!(dice.one(values));
        }
    }
    let mut spec = json!({"unschedulable": dice.once_in(8)});
    spec["taints"] = dice.some(2, |dice| {
        json!({"key": dice.one(&["t", "u"]), "value": dice.one(&["", "v"]),
            "effect": dice.one(&["PreferNoSchedule", "PreferNoSchedule", "NoSchedule", "NoExecute"])})
    });
    let mut images = Vec::new();
    for name in ["web:1", "db:1", "web:latest"] {
        if dice.once_in(2) {
            let size = (dice.below(40) + 1) * 50_000_000;
            images.push(json!({"names": [name], "sizeBytes": size}));
        }
    }
    let annotations = json!({"node.kontiki.io/pressure": told(dice, now)});
    json!({"metadata": {"name": name, "labels": labels, "annotations": annotations}, "spec": spec, "status": {
        "images": images,
        "allocatable": {"cpu": (2 + dice.below(6)).to_string(), "memory": format!("{}Gi", 2 + dice.below(14)),
            "ephemeral-storage": format!("{}Gi", 1 + dice.below(9)), "pods": (1 + dice.below(9)).to_string(),
            "example.com/gpu": dice.below(3).to_string()}}})
}

fn requirement(dice: &mut Dice) -> Value {
    match dice.below(6) {
        0 => json!({"key": "disk", "operator": "In", "values": ["ssd"]}),
        1 => json!({"key": "disk", "operator": "NotIn", "values": ["ssd"]}),
        2 => json!({"key": "rack", "operator": "Exists"}),
        3 => json!({"key": "rack", "operator": "DoesNotExist"}),
        4 => json!({"key": "rank", "operator": "Gt", "values": ["1"]}),
        _ => json!({"key": "rank", "operator": "Lt", "values": ["3"]}),
    }
}

/// What a node is called, or not called.
fn field(dice: &mut Dice) -> Value {
    let operator = dice.one(&["In", "In", "NotIn"]);
    json!({"key": "metadata.name", "operator": operator, "values": [format!("n{}", dice.below(6))]})
}

fn node_affinity(dice: &mut Dice) -> Value {
    let term = |dice: &mut Dice| {
        let mut term = json!({"matchExpressions": dice.some(2, requirement)});
        if dice.once_in(4) {
            term["matchFields"] = json!([field(dice)]);
        }
        term
    };
    let mut affinity = json!({});
    if dice.once_in(3) {
        let terms = dice.some(2, term);
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] =
            json!({"nodeSelectorTerms": terms});
    }
    affinity["preferredDuringSchedulingIgnoredDuringExecution"] = dice.some(2, |dice| {
        let preference = match dice.below(4) {
            3 => json!({"matchFields": [field(dice)]}),
            _ => json!({"matchExpressions": [requirement(dice)]}),
        };
        json!({"weight": 1 + dice.below(100), "preference": preference})
    });
    affinity
}

pub(super) fn selector(dice: &mut Dice) -> Value {
    match dice.below(6) {
        0 => json!({"matchLabels": {"app": dice.one(APPS)}}),
        1 => {
            json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]})
        }
        2 => json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
        3 => json!({"matchLabels": {"app": "web", "version": "1"}}),
        4 => json!(null),
        _ => json!({}),
    }
}

fn pod_affinity(dice: &mut Dice) -> Value {
    let term = |dice: &mut Dice| {
        let mut term = json!({"topologyKey": dice.one(KEYS), "labelSelector": selector(dice)});
        match dice.below(7) {
            3 => term["namespaces"] = json!(["other"]),
            4 => term["namespaceSelector"] = json!({"matchLabels": {"team": "red"}}),
            // All of them, and those of either kind.
            5 => term["namespaceSelector"] = json!({}),
            6 => {
                term["namespaces"] = json!(["default"]);
                term["namespaceSelector"] = json!({"matchLabels": {"team": "red"}});
            }
            _ => {}
        }
        term
    };
    let weighted =
        |dice: &mut Dice| json!({"weight": 1 + dice.below(100), "podAffinityTerm": term(dice)});
    json!({
        "requiredDuringSchedulingIgnoredDuringExecution": dice.some(1, term),
        "preferredDuringSchedulingIgnoredDuringExecution": dice.some(2, weighted),
    })
}

fn spread(dice: &mut Dice) -> Value {
    let mut constraint = json!({"maxSkew": 1 + dice.below(3), "topologyKey": dice.one(KEYS),
        "whenUnsatisfiable": dice.one(&["ScheduleAnyway", "DoNotSchedule"]), "labelSelector": selector(dice),
        "nodeAffinityPolicy": dice.one(&["Honor", "Ignore"]), "nodeTaintsPolicy": dice.one(&["Ignore", "Honor"])});
    if constraint["whenUnsatisfiable"] == "DoNotSchedule" && dice.once_in(3) {
        constraint["minDomains"] = json!(1 + dice.below(4));
    }
    if dice.once_in(3) {
        constraint["matchLabelKeys"] = json!(["version"]);
    }
    constraint
}

fn container(dice: &mut Dice) -> Value {
    let mut requests = json!({});
    for (resource, amounts) in [
        ("cpu", &["250m", "1", "2"] as &[&str]),
        ("memory", &["256Mi", "1Gi", "3Gi"]),
    ] {
        if !dice.once_in(3) {
            requests[resource] = json!(dice.one(amounts));
        }
    }
    if dice.once_in(5) {
        requests["ephemeral-storage"] = json!("2Gi");
    }
    if dice.once_in(6) {
        requests["example.com/gpu"] = json!("1");
    }
    let image = dice.one(&["web:1", "db:1", "none:1", "web"]);
    json!({"image": image, "ports": ports(dice), "resources": {"requests": requests}})
}

fn ports(dice: &mut Dice) -> Value {
    dice.some(1, |dice| {
        json!({"hostPort": dice.below(3), "protocol": dice.one(&["TCP", "UDP"]), "hostIP": dice.one(&["", "10.0.0.1", "10.0.0.2"])})
    })
}

/// One that ends before the containers begin, or one that runs on beside them.
fn init_container(dice: &mut Dice) -> Value {
    let requests = json!({"cpu": dice.one(&["250m", "2"]), "memory": dice.one(&["256Mi", "2Gi"])});
    let mut container =
        json!({"image": dice.one(&["db:1", ""]), "resources": {"requests": requests}});
    if dice.once_in(2) {
        container["restartPolicy"] = json!("Always");
        container["ports"] = ports(dice);
    }
    container
}

/// A claim, or a disk of the old kinds.
fn pod_volume(dice: &mut Dice) -> Value {
    match dice.below(8) {
        6 => json!({"gcePersistentDisk": {"pdName": "g", "readOnly": dice.once_in(2)}}),
        7 => json!({"awsElasticBlockStore": {"volumeID": "a", "readOnly": dice.once_in(2)}}),
        _ => json!({"persistentVolumeClaim": {"claimName": format!("c{}", dice.below(6))}}),
    }
}

/// A pod; with volumes only where claims are.
pub(super) fn pod(dice: &mut Dice, name: &str) -> Value {
    let namespace = dice.one(&["default", "default", "other"]);
    let mut spec = json!({"containers": [container(dice)]});
    if dice.once_in(4) {
        spec["containers"]
            .as_array_mut()
            .unwrap()
            .push(container(dice));
    }
    if dice.once_in(3) {
        spec["initContainers"] = dice.some(3, init_container);
    }
    if dice.once_in(8) {
        spec["overhead"] = json!({"cpu": "250m", "memory": "256Mi"});
    }
    if dice.once_in(8) {
        spec["resources"] = json!({"requests": {"cpu": dice.one(&["1", "3"])}});
    }
    spec["tolerations"] = dice.some(2, |dice| match dice.below(4) {
        0 => json!({"operator": "Exists"}),
        1 => json!({"key": "t", "operator": "Exists", "effect": dice.one(&["", "NoSchedule", "PreferNoSchedule"])}),
        2 => json!({"key": "u", "value": "v"}),
        _ => json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}),
    });
    if dice.once_in(4) {
        spec["nodeSelector"] = json!({"disk": dice.one(&["ssd", "hdd"])});
    }
    if dice.once_in(2) {
        spec["affinity"] = json!({"nodeAffinity": node_affinity(dice)});
    }
    if dice.once_in(3) {
        spec["affinity"]["podAffinity"] = pod_affinity(dice);
    }
    if dice.once_in(3) {
        spec["affinity"]["podAntiAffinity"] = pod_affinity(dice);
    }
    if dice.once_in(3) {
        spec["topologySpreadConstraints"] = dice.some(2, spread);
    }
    if namespace == "default" && dice.once_in(2) {
        spec["volumes"] = dice.some(2, pod_volume);
    }
    if dice.once_in(8) {
        spec["priority"] = json!(2_000_000_000);
    }
    let mut labels = json!({"app": dice.one(APPS)});
    if dice.once_in(2) {
        labels["version"] = json!(dice.one(&["1", "2"]));
    }
    let mut metadata = json!({"name": name, "namespace": namespace, "uid": name, "labels": labels});
    if dice.once_in(3) {
        let minds = dice.one(&["none", "io", "memory=3,cpu", "cpu=100"]);
        metadata["annotations"] = json!({"scheduling.kontiki.io/pressure-sensitivity": minds});
    }
    json!({"metadata": metadata, "spec": spec})
}

/// Claims and volumes have this in common or do not come together.
fn suit(dice: &mut Dice, object: &mut Value) {
    if dice.once_in(6) {
        object["spec"]["volumeMode"] = json!("Block");
    }
    if dice.once_in(6) {
        object["spec"]["volumeAttributesClassName"] = json!("gold");
    }
}

fn volume(dice: &mut Dice, at: usize) -> Value {
    let mut volume = json!({
        "metadata": {"name": format!("v{at}"), "resourceVersion": "1", "labels": {}},
        "spec": {"storageClassName": dice.one(&["", "hand", "made"]), "capacity": {"storage": format!("{}Gi", 1 + dice.below(4))},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"]},
        "status": {"phase": if dice.once_in(4) { "Released" } else { "Available" }}});
    if dice.once_in(2) {
        volume["spec"]["csi"] = json!({"driver": "disks", "volumeHandle": format!("h{at}")});
    }
    if dice.once_in(2) {
        let term = json!({"matchExpressions": [requirement(dice)]});
        volume["spec"]["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": [term]}});
    }
    if dice.once_in(2) {
        volume["metadata"]["labels"][ZONE] = json!(dice.one(&["a", "b", "a__b"]));
    }
    if dice.once_in(2) {
        volume["metadata"]["labels"]["tier"] = json!(dice.one(&["x", "y"]));
    }
    if dice.once_in(10) {
        volume["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    suit(dice, &mut volume);
    if dice.once_in(3) {
        volume["spec"]["claimRef"] =
            json!({"namespace": "default", "name": format!("c{}", dice.below(6))});
    }
    volume
}

pub(super) fn claim(dice: &mut Dice, at: usize) -> Value {
    let mut claim = json!({
        "metadata": {"name": format!("c{at}"), "namespace": "default", "uid": format!("c{at}"), "resourceVersion": "1", "annotations": {}},
        "spec": {"storageClassName": dice.one(&["hand", "made", "now", ""]),
            "accessModes": [dice.one(&["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"])],
            "resources": {"requests": {"storage": format!("{}Gi", 1 + dice.below(3))}}}});
    if dice.once_in(2) {
        claim["spec"]["volumeName"] = json!(format!("v{}", dice.below(6)));
        claim["metadata"]["annotations"] = json!({"pv.kubernetes.io/bind-completed": "yes"});
    } else if dice.once_in(4) {
        claim["metadata"]["annotations"] =
            json!({"volume.kubernetes.io/selected-node": format!("n{}", dice.below(4))});
    }
    if dice.once_in(10) {
        claim["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    if dice.once_in(5) {
        claim["spec"]["selector"] = json!({"matchLabels": {"tier": dice.one(&["x", "y"])}});
    }
    if dice.once_in(12) {
        claim["status"] = json!({"phase": "Lost"});
    }
    suit(dice, &mut claim);
    claim
}

fn class(name: &str, provisioner: &str, mode: &str) -> Value {
    json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode})
}

/// The first container is being resized.
fn resize(dice: &mut Dice, pod: &mut Value) {
    let amounts = |dice: &mut Dice| json!({"cpu": dice.one(&["250m", "1", "3"]), "memory": dice.one(&["256Mi", "3Gi"])});
    let mut told = json!({"name": "c", "resources": {"requests": amounts(dice)}});
    if dice.once_in(2) {
        told["allocatedResources"] = amounts(dice);
    }
    let reason = dice.one(&["Deferred", "Infeasible"]);
    let pending = json!({"type": "PodResizePending", "status": "True", "reason": reason});
    pod["spec"]["containers"][0]["name"] = json!("c");
    pod["status"] = json!({"containerStatuses": [told], "conditions": [pending]});
}

/// How much room there is for volumes of a class.
fn capacity(dice: &mut Dice, at: usize) -> Value {
    let class = dice.one(&["made", "now"]);
    let mut capacity = json!({"metadata": {"name": format!("r{at}"), "namespace": "default"}, "storageClassName": class,
        "capacity": format!("{}Gi", 1 + dice.below(4))});
    if dice.once_in(3) {
        capacity["maximumVolumeSize"] = json!(format!("{}Gi", 1 + dice.below(2)));
    }
    match dice.below(3) {
        0 => capacity["nodeTopology"] = json!({"matchLabels": {ZONE: "a"}}),
        1 => capacity["nodeTopology"] = json!({}),
        _ => {}
    }
    capacity
}

fn attachment(dice: &mut Dice, at: usize) -> Value {
    let source = json!({"persistentVolumeName": format!("v{}", dice.below(6))});
    let node = format!("n{}", dice.below(6));
    json!({"metadata": {"name": format!("a{at}")}, "spec": {"attacher": "disks", "nodeName": node, "source": source}})
}

pub(super) fn cluster(dice: &mut Dice) -> Cluster {
    let nodes: Vec<Value> = (0..1 + dice.below(6))
        .map(|at| node(dice, at, BEGIN))
        .collect();
    let mut made = class("made", "disks", "WaitForFirstConsumer");
    if dice.once_in(2) {
        made["allowedTopologies"] =
            json!([{"matchLabelExpressions": [{"key": ZONE, "values": ["a"]}]}]);
    }
    let service = |name: &str, app: &str| json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"selector": {"app": app}}});
    let mut cluster = Cluster {
        now: BEGIN,
        namespaces: vec![
            json!({"metadata": {"name": "default", "labels": {"team": "blue"}}}),
            json!({"metadata": {"name": "other", "labels": {"team": "red"}}}),
        ],
        services: vec![service("web", "web")],
        claims: (0..5).map(|at| claim(dice, at)).collect(),
        volumes: (0..5).map(|at| volume(dice, at)).collect(),
        classes: vec![
            class(
                "hand",
                "kubernetes.io/no-provisioner",
                "WaitForFirstConsumer",
            ),
            made,
            class("now", "disks", "Immediate"),
        ],
        drivers: vec![
            json!({"metadata": {"name": "disks"}, "spec": {"storageCapacity": dice.once_in(2)}}),
        ],
        capacities: (0..dice.below(4)).map(|at| capacity(dice, at)).collect(),
        attachments: (0..dice.below(3)).map(|at| attachment(dice, at)).collect(),
        ..Cluster::default()
    };
    for node in &nodes {
        if dice.once_in(2) {
            let limit = json!({"name": "disks", "allocatable": {"count": 1 + dice.below(2)}});
            let name = &node["metadata"]["name"];
            cluster
                .csi_nodes
                .push(json!({"metadata": {"name": name}, "spec": {"drivers": [limit]}}));
        }
    }
    for at in 0..dice.below(12) {
        let mut placed = pod(dice, &format!("p{at}"));
        let node = &nodes[dice.below(nodes.len())];
        placed["spec"]["nodeName"] = node["metadata"]["name"].clone();
        if dice.once_in(5) {
            resize(dice, &mut placed);
        }
        if dice.once_in(8) {
            placed["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        cluster.pods.push(placed);
    }
    cluster.nodes = nodes;
    cluster
}
