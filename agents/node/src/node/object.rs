//! The Node object, and what its status says.

use serde_json::{Map, Value, json};

use super::{Capacity, Health, Machine};
use crate::local_path;
use crate::{KUBELET_VERSION, NodeConfig, RuntimeKind};

const IMAGE_NAMES_MAX: usize = 5;

/// The Node object without its status.
pub(crate) fn object(config: &NodeConfig) -> Value {
    let architecture = architecture();
    let mut labels = config.labels.clone();
    for (key, value) in [
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    let mut annotations = json!({
        "volumes.kubernetes.io/controller-managed-attach-detach": "true",
        agent_runtime::local_path::ROOT: local_path::root(&config.data_dir),
    });
    if matches!(config.runtime, RuntimeKind::Hollow(_)) {
        labels.insert("type".to_owned(), "hollow".to_owned());
        annotations[agent_runtime::local_path::SIMULATED] =
            json!("containers on this node are simulated, nothing runs");
    }
    let taints: Vec<Value> = config
        .taints
        .iter()
        .map(|taint| json!({"key": taint.key, "value": taint.value, "effect": taint.effect}))
        .collect();
    let mut node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": config.node_name, "labels": labels, "annotations": annotations},
        "spec": {},
    });
    if !taints.is_empty() {
        node["spec"]["taints"] = Value::Array(taints);
    }
    node
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The node's status but for the times of its conditions.
pub(crate) fn status(
    config: &NodeConfig,
    capacity: &Capacity,
    machine: &Machine,
    health: &Health,
    port: u16,
) -> Value {
    let hollow = matches!(config.runtime, RuntimeKind::Hollow(_));
    let images = health.images.iter().map(|image| {
        let names: Vec<&String> = image.names.iter().take(IMAGE_NAMES_MAX).collect();
        json!({"names": names, "sizeBytes": image.size_bytes})
    });
    json!({
        "capacity": capacity.quantities(false),
        "allocatable": capacity.quantities(true),
        "conditions": conditions(health, hollow),
        "addresses": [
            {"type": "InternalIP", "address": config.node_ip.to_string()},
            {"type": "Hostname", "address": config.node_name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": info(machine, health, hollow),
        "images": images.collect::<Vec<Value>>(),
    })
}

/// A pressure and what is said of it, each with a reason and a message.
struct Pressure {
    kind: &'static str,
    here: (&'static str, &'static str),
    absent: (&'static str, &'static str),
}

const MEMORY: Pressure = Pressure {
    kind: "MemoryPressure",
    here: (
        "KubeletHasInsufficientMemory",
        "kubelet has insufficient memory available",
    ),
    absent: (
        "KubeletHasSufficientMemory",
        "kubelet has sufficient memory available",
    ),
};
const DISK: Pressure = Pressure {
    kind: "DiskPressure",
    here: ("KubeletHasDiskPressure", "kubelet has disk pressure"),
    absent: ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
};
const PID: Pressure = Pressure {
    kind: "PIDPressure",
    here: (
        "KubeletHasInsufficientPID",
        "kubelet has insufficient PID available",
    ),
    absent: (
        "KubeletHasSufficientPID",
        "kubelet has sufficient PID available",
    ),
};

fn condition(kind: &str, is_true: bool, reason: &str, message: &str) -> Value {
    let status = if is_true { "True" } else { "False" };
    json!({"status": status, "reason": reason, "message": message, "type": kind})
}

fn conditions(health: &Health, hollow: bool) -> Vec<Value> {
    let pressures = [
        (MEMORY, health.memory_pressure),
        (DISK, health.disk_pressure),
        // Nobody counts processes.
        (PID, false),
    ];
    let mut conditions: Vec<Value> = Vec::new();
    for (pressure, is_here) in pressures {
        let (reason, message) = match is_here {
            true => pressure.here,
            false => pressure.absent,
        };
        conditions.push(condition(pressure.kind, is_here, reason, message));
    }
    if hollow {
        let message = "this node is hollow: containers are simulated, nothing runs";
        let simulated = condition("ContainersSimulated", true, "HollowRuntime", message);
        conditions.push(simulated);
    }
    conditions.push(readiness(health, hollow));
    conditions
}

fn readiness(health: &Health, hollow: bool) -> Value {
    match &health.runtime {
        Ok(_) => {
            let mut message = "kubelet is posting ready status".to_owned();
            if hollow {
                message.push_str("; containers are SIMULATED");
            }
            condition("Ready", true, "KubeletReady", &message)
        }
        Err(text) => {
            let message = format!("container runtime is down: {text}");
            condition("Ready", false, "KubeletNotReady", &message)
        }
    }
}

/// What the node is.
fn info(machine: &Machine, health: &Health, hollow: bool) -> Value {
    let version = health.runtime.as_ref().map(|runtime| &*runtime.version);
    let version = version.unwrap_or_default();
    json!({
        "machineID": machine.machine_id,
        "systemUUID": machine.system_uuid,
        "bootID": machine.boot_id,
        "kernelVersion": machine.kernel_version,
        "osImage": if hollow { "simulated" } else { machine.os_image.as_str() },
        "containerRuntimeVersion": if version.is_empty() { "docker://unknown" } else { version },
        "kubeletVersion": KUBELET_VERSION,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": architecture(),
    })
}

/// What a node's allocatable lacks of the extended resources that somebody has written to its capacity, all of which pods
/// may have as of a kubelet; null for those that are gone from there.
pub(crate) fn extended(node: &Value) -> Map<String, Value> {
    let is_extended = |name: &str| name.contains('/') && !name.contains("kubernetes.io/");
    let none = Map::new();
    let [capacity, allocatable] =
        ["capacity", "allocatable"].map(|list| node["status"][list].as_object().unwrap_or(&none));
    let told = capacity
        .iter()
        .filter(|(name, amount)| is_extended(name) && allocatable.get(*name) != Some(*amount))
        .map(|(name, amount)| (name.clone(), amount.clone()));
    let gone = allocatable
        .keys()
        .filter(|name| is_extended(name) && !capacity.contains_key(*name))
        .map(|name| (name.clone(), Value::Null));
    told.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::RuntimeInfo;
    use crate::{EvictionHard, HollowConfig, ServerIdentity, Taint};

    #[test]
    fn extended_resources_of_the_capacity_are_allocatable() {
        let node = |capacity: Value, allocatable: Value| {
            extended(&json!({"status": {"capacity": capacity, "allocatable": allocatable}}))
        };
        let capacity = json!({"cpu": "2", "example.com/dongle": "4", "example.com/lens": "1"});
        let lacks = node(
            capacity.clone(),
            json!({"cpu": "1", "example.com/lens": "1"}),
        );
        assert_eq!(Value::from(lacks), json!({"example.com/dongle": "4"}));
        assert!(node(capacity.clone(), capacity.clone()).is_empty());
        let gone = node(json!({"cpu": "2"}), capacity);
        assert_eq!(
            Value::from(gone),
            json!({"example.com/dongle": null, "example.com/lens": null})
        );
        assert!(extended(&json!({})).is_empty());
    }

    fn config(runtime: RuntimeKind) -> NodeConfig {
        NodeConfig {
            node_name: "n1".into(),
            data_dir: "/nowhere".into(),
            listen: ([127, 0, 0, 1], 0).into(),
            runtime,
            node_ip: [10, 0, 0, 1].into(),
            cluster_domain: "cluster.local".into(),
            cluster_dns: Vec::new(),
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            taints: vec![Taint {
                key: "k".into(),
                value: "v".into(),
                effect: "NoSchedule".into(),
            }],
            max_pods: 110,
            eviction_hard: EvictionHard::default(),
            pod_routes: false,
            server: tokio::sync::watch::Sender::new(ServerIdentity {
                certificate_pem: String::new(),
                key_pem: String::new(),
                client_ca_pem: String::new(),
                client_names: Vec::new(),
            })
            .subscribe(),
        }
    }

    fn health(runtime: Result<RuntimeInfo, String>) -> Health {
        Health {
            runtime,
            memory_pressure: false,
            disk_pressure: true,
            images: Vec::new(),
        }
    }

    fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
        status["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .find(|c| c["type"] == kind)
            .unwrap()
    }

    #[test]
    fn a_node_without_its_runtime_is_not_ready() {
        let config = config(RuntimeKind::Docker);
        let capacity = Capacity {
            cpu_count: 2,
            memory_bytes: 1 << 30,
            disk_bytes: 1 << 30,
            pods: 110,
            eviction_hard: config.eviction_hard,
        };
        let down = health(Err("no socket".into()));
        let status = status(&config, &capacity, &Machine::default(), &down, 10250);
        assert_eq!(condition(&status, "Ready")["status"], "False");
        assert_eq!(
            condition(&status, "Ready")["message"],
            "container runtime is down: no socket"
        );
        assert_eq!(condition(&status, "DiskPressure")["status"], "True");
        assert_eq!(status["capacity"]["memory"], "1048576Ki");
        assert_eq!(status["allocatable"]["memory"], "946176Ki");
        assert_eq!(status["allocatable"]["ephemeral-storage"], "1020054733");
        assert_eq!(status["daemonEndpoints"]["kubeletEndpoint"]["Port"], 10250);
    }

    #[test]
    fn a_hollow_node_says_so_loudly() {
        let config = config(RuntimeKind::Hollow(HollowConfig::default()));
        let up = health(Ok(RuntimeInfo {
            version: "hollow://1".into(),
            ..RuntimeInfo::default()
        }));
        let status = status(&config, &Capacity::of(&config), &Machine::default(), &up, 1);
        assert_eq!(condition(&status, "ContainersSimulated")["status"], "True");
        assert!(
            condition(&status, "Ready")["message"]
                .as_str()
                .unwrap()
                .contains("SIMULATED")
        );
        let node = object(&config);
        assert_eq!(node["metadata"]["labels"]["type"], "hollow");
        assert_eq!(node["metadata"]["labels"]["zone"], "a");
        assert_eq!(node["spec"]["taints"][0]["effect"], "NoSchedule");
    }
}
