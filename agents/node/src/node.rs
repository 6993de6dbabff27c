//! The Node object: registration, status, and the Lease that says that the node lives.
//!
//! The lease is renewed every ten seconds and is all that the node controller needs to see; the status is written when
//! it changes, when the API shows another one, and every five minutes, since it is large. A node that was taken for dead is
//! so ready again at once, and not after its pods have been driven out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_runtime::pressure::{self, Pressure};
use agent_runtime::resource_ref::{LEASES, NODES};
use agent_runtime::{ApiError, EventType, PatchType, timestamp};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::clock;
use crate::local_path;
use crate::pod::admission::site::Site;
use crate::runtime::{Image, RuntimeInfo};
use crate::stats;
use crate::{KUBELET_VERSION, NodeConfig, RuntimeKind};

const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_SECONDS: i64 = 40;
const LEASE_PERIOD: Duration = Duration::from_secs(10);
const LEASE_RETRY: Duration = Duration::from_secs(1);
/// How often the node looks at itself.
const CHECK_PERIOD: Duration = Duration::from_secs(10);
/// How often an unchanged status is written.
const REPORT_PERIOD: Duration = Duration::from_secs(300);
const RUNTIME_PATIENCE: Duration = Duration::from_secs(10);
const IMAGES_MAX: usize = 50;
const IMAGE_NAMES_MAX: usize = 5;
/// Memory kept for the system and the agent itself.
const RESERVED_MEMORY_BYTES: i64 = 100 << 20;
const MEMORY_AVAILABLE_BYTES_MIN: i64 = 100 << 20;
const DISK_AVAILABLE_PERCENT_MIN: u64 = 5;
const INODES_FREE_PERCENT_MIN: u64 = 5;
const RESERVED_DISK_PERCENT: i64 = 10;

/// What the machine has; read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) cpu_count: i64,
    pub(crate) memory_bytes: i64,
    disk_bytes: i64,
    pods: u32,
}

impl Capacity {
    pub(crate) fn of(config: &NodeConfig) -> Capacity {
        match &config.runtime {
            RuntimeKind::Hollow(hollow) => Capacity {
                cpu_count: i64::from(hollow.cpu_count),
                memory_bytes: i64::try_from(hollow.memory_bytes).unwrap_or(i64::MAX),
                disk_bytes: 1 << 40,
                pods: config.max_pods,
            },
            RuntimeKind::Docker | RuntimeKind::DockerAt(_) => Capacity {
                cpu_count: std::thread::available_parallelism()
                    .map_or(1, |n| i64::try_from(n.get()).unwrap_or(1)),
                memory_bytes: memory("MemTotal").unwrap_or(0),
                disk_bytes: Space::of(&config.data_dir)
                    .and_then(|space| i64::try_from(space.bytes).ok())
                    .unwrap_or(0),
                pods: config.max_pods,
            },
        }
    }

    pub(crate) fn allocatable_memory_bytes(&self) -> i64 {
        (self.memory_bytes - RESERVED_MEMORY_BYTES).max(0)
    }

    fn quantities(&self, allocatable: bool) -> Value {
        let memory = if allocatable {
            self.allocatable_memory_bytes()
        } else {
            self.memory_bytes
        };
        let kept = if allocatable {
            self.disk_bytes / 100 * RESERVED_DISK_PERCENT
        } else {
            0
        };
        let disk = match allocatable {
            true => (self.disk_bytes - kept).to_string(),
            false => format!("{}Ki", self.disk_bytes / 1024),
        };
        json!({
            "cpu": self.cpu_count.to_string(),
            "memory": format!("{}Ki", memory / 1024),
            "ephemeral-storage": disk,
            "hugepages-1Gi": "0",
            "hugepages-2Mi": "0",
            "pods": self.pods.to_string(),
        })
    }
}

/// A line of `/proc/meminfo`, in bytes.
fn memory(field: &str) -> Option<i64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<i64>()
        .ok()?
        .checked_mul(1024)
}

/// A file system: its size and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Space {
    bytes: u64,
    bytes_free: u64,
    /// Zero where the file system makes them as it needs them.
    inodes: u64,
    inodes_free: u64,
}

impl Space {
    fn of(dir: &Path) -> Option<Space> {
        let found = rustix::fs::statvfs(dir).ok()?;
        Some(Space {
            bytes: found.f_blocks.checked_mul(found.f_frsize)?,
            bytes_free: found.f_bavail.checked_mul(found.f_frsize)?,
            inodes: found.f_files,
            inodes_free: found.f_favail,
        })
    }

    fn is_short(&self) -> bool {
        let short = |free: u64, all: u64, percent: u64| free < all / 100 * percent;
        short(self.bytes_free, self.bytes, DISK_AVAILABLE_PERCENT_MIN)
            || short(self.inodes_free, self.inodes, INODES_FREE_PERCENT_MIN)
    }
}

/// How the node is, measured now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Health {
    /// Versions of the runtime, or why it does not answer.
    runtime: Result<RuntimeInfo, String>,
    memory_pressure: bool,
    disk_pressure: bool,
    images: Vec<Image>,
}

impl Health {
    /// Of a node on which nothing is ever short.
    pub(crate) fn of(runtime: Result<RuntimeInfo, String>) -> Health {
        Health {
            runtime,
            memory_pressure: false,
            disk_pressure: false,
            images: Vec::new(),
        }
    }
}

/// What does not change while the machine runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Machine {
    machine_id: String,
    system_uuid: String,
    boot_id: String,
    kernel_version: String,
    os_image: String,
}

impl Machine {
    /// Of a node that has no machine: ids that follow from its name.
    pub(crate) fn pretended(name: &str) -> Machine {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(name.as_bytes());
        let id: String = digest[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Machine {
            system_uuid: id.clone(),
            boot_id: id.clone(),
            machine_id: id,
            ..Machine::default()
        }
    }

    fn read() -> Machine {
        let text = |path: &str| {
            std::fs::read_to_string(path)
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let release = text("/etc/os-release");
        let pretty = release
            .lines()
            .find_map(|line| line.strip_prefix("PRETTY_NAME="));
        Machine {
            machine_id: text("/etc/machine-id"),
            system_uuid: text("/sys/class/dmi/id/product_uuid"),
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            kernel_version: text("/proc/sys/kernel/osrelease"),
            os_image: pretty.unwrap_or("Linux").trim_matches('"').to_owned(),
        }
    }
}

/// Registers the node and keeps its status current; runs until dropped.
pub(crate) async fn keep_status(agent: Arc<Agent>, port: u16) {
    let machine = Machine::read();
    while let Err(error) = register(&agent).await {
        tracing::warn!(error = %error.message, "cannot register the node yet");
        tokio::time::sleep(LEASE_RETRY).await;
    }
    agent.node_event(
        EventType::Normal,
        "Starting",
        "Starting kubelet.".to_owned(),
    );
    if agent.is_hollow() {
        let text = "This node is hollow: its containers are simulated, nothing runs.".to_owned();
        agent.node_event(EventType::Warning, "HollowNode", text);
    }
    let mut recorded: Option<(Health, Instant)> = None;
    // What was told of how long work waits here; it goes with the status.
    let mut told_pressure: Option<Pressure> = None;
    let mut transitions = transitions_of(&shown(&agent).await.unwrap_or_default());
    let on_record = transitions
        .iter()
        .map(|(kind, (status, _))| (kind.clone(), status.clone()));
    let mut told: Conditions = on_record.collect();
    loop {
        let health = measure(&agent).await;
        let pressure = measured_pressure(&agent).await;
        if recorded.is_some()
            && let Some(node) = shown(&agent).await
            && is_contradicted(&told, &node)
        {
            (told, transitions) = (conditions_of(&node["status"]), transitions_of(&node));
            recorded = None;
        }
        let due = recorded.as_ref().is_none_or(|(old, at)| {
            *old != health
                || at.elapsed() >= REPORT_PERIOD
                || stats::pressure::is_news(told_pressure, pressure, at.elapsed())
        });
        if due {
            let now = clock::now();
            let mut status = status(&agent.config, &agent.capacity, &machine, &health, port);
            stamp(&mut status, &mut transitions, now);
            let mut patch = json!({"status": &status});
            if !agent.is_hollow() {
                patch["metadata"] = told_of(pressure, timestamp::now());
            }
            let name = &agent.config.node_name;
            match agent
                .client
                .patch_status(&NODES, "", name, PatchType::Strategic, &patch)
                .await
            {
                Ok(_) => {
                    let current = conditions_of(&status);
                    for reason in news(&told, &current) {
                        announce(&agent, reason);
                    }
                    told = current;
                    told_pressure = pressure;
                    recorded = Some((health, Instant::now()));
                }
                Err(error) if error.is_not_found() => {
                    // Somebody has deleted the node; it is here, so it comes back.
                    if let Err(error) = register(&agent).await {
                        tracing::warn!(error = %error.message, "cannot register the node again");
                    }
                    tokio::time::sleep(LEASE_RETRY).await;
                    continue;
                }
                Err(error) => {
                    tracing::warn!(error = %error.message, "cannot write the node's status");
                    tokio::time::sleep(LEASE_RETRY).await;
                    continue;
                }
            }
        }
        tokio::time::sleep(CHECK_PERIOD).await;
    }
}

/// Status by type of the node's conditions.
pub(crate) type Conditions = BTreeMap<String, String>;

pub(crate) fn conditions_of(status: &Value) -> Conditions {
    let list = status.get("conditions").and_then(Value::as_array);
    let text = |condition: &Value, field: &str| {
        let text = condition.get(field).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    list.into_iter()
        .flatten()
        .map(|condition| (text(condition, "type"), text(condition, "status")))
        .collect()
}

/// Whether the API says something else than it was told last: the node controller has taken the node for dead.
fn is_contradicted(told: &Conditions, node: &Value) -> bool {
    let shown = conditions_of(&node["status"]);
    told.iter()
        .any(|(kind, status)| shown.get(kind) != Some(status))
}

/// The reasons of the events that tell what has changed since the conditions were told last.
fn news(told: &Conditions, current: &Conditions) -> Vec<&'static str> {
    const REASONS: [(&str, &str, &str); 4] = [
        (
            "MemoryPressure",
            "NodeHasInsufficientMemory",
            "NodeHasSufficientMemory",
        ),
        (
            "DiskPressure",
            "NodeHasDiskPressure",
            "NodeHasNoDiskPressure",
        ),
        (
            "PIDPressure",
            "NodeHasInsufficientPID",
            "NodeHasSufficientPID",
        ),
        ("Ready", "NodeReady", "NodeNotReady"),
    ];
    let changed = REASONS
        .iter()
        .filter(|(kind, ..)| told.get(*kind) != current.get(*kind));
    changed
        .map(
            |(kind, yes, no)| match current.get(*kind).map(String::as_str) {
                Some("True") => *yes,
                _ => *no,
            },
        )
        .collect()
}

fn announce(agent: &Agent, reason: &'static str) {
    let name = &agent.config.node_name;
    let text = format!("Node {name} status is now: {reason}");
    agent.node_event(EventType::Normal, reason, text);
}

async fn measure(agent: &Arc<Agent>) -> Health {
    let timed_out = || "container runtime did not answer in time".to_owned();
    let runtime = match tokio::time::timeout(RUNTIME_PATIENCE, agent.runtime.info()).await {
        Ok(info) => info.map_err(|error| error.to_string()),
        Err(_) => Err(timed_out()),
    };
    let images = match runtime.is_ok() {
        true => agent.runtime.images().await.unwrap_or_default(),
        false => Vec::new(),
    };
    let mut health = Health {
        runtime,
        memory_pressure: false,
        disk_pressure: false,
        images,
    };
    health.images.sort_by(|a, b| {
        b.size_bytes
            .cmp(&a.size_bytes)
            .then_with(|| a.id.cmp(&b.id))
    });
    health.images.truncate(IMAGES_MAX);
    if !agent.is_hollow() {
        let dir = agent.config.data_dir.clone();
        let space = tokio::task::spawn_blocking(move || Space::of(&dir))
            .await
            .ok()
            .flatten();
        health.disk_pressure = space.is_some_and(|space| space.is_short());
        health.memory_pressure =
            memory("MemAvailable").is_some_and(|bytes| bytes < MEMORY_AVAILABLE_BYTES_MIN);
    }
    health
}

/// How long work waits on this machine; of a hollow node nothing is known.
async fn measured_pressure(agent: &Agent) -> Option<Pressure> {
    if agent.is_hollow() {
        return None;
    }
    let measured = tokio::task::spawn_blocking(stats::pressure::measure).await;
    measured.ok().flatten()
}

/// The metadata that says it; what was said before is taken away where nothing is known.
pub(crate) fn told_of(pressure: Option<Pressure>, now: timestamp::Micros) -> Value {
    let told = pressure.map(|pressure| pressure.tell(now));
    json!({"annotations": {pressure::ANNOTATION: told}})
}

/// Makes the Node object, or brings the labels of an existing one up to date.
async fn register(agent: &Agent) -> Result<(), ApiError> {
    let node = object(&agent.config);
    let name = &agent.config.node_name;
    match agent.client.create(&NODES, "", &node).await {
        Ok(_) => {
            tracing::info!(node = %name, "registered the node");
            Ok(())
        }
        Err(error) if error.is_already_exists() => {
            let metadata = json!({"labels": node["metadata"]["labels"], "annotations": node["metadata"]["annotations"]});
            let patch = json!({"metadata": metadata});
            agent
                .client
                .patch(&NODES, "", name, PatchType::Merge, &patch)
                .await
                .map(|_| ())
        }
        Err(error) => Err(error),
    }
}

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
    let info = health.runtime.clone().unwrap_or_default();
    let pick = |pressure: bool, yes: (&str, &str), no: (&str, &str)| {
        let (status, (reason, message)) = if pressure {
            ("True", yes)
        } else {
            ("False", no)
        };
        json!({"status": status, "reason": reason, "message": message})
    };
    let mut conditions = vec![
        (
            "MemoryPressure",
            pick(
                health.memory_pressure,
                (
                    "KubeletHasInsufficientMemory",
                    "kubelet has insufficient memory available",
                ),
                (
                    "KubeletHasSufficientMemory",
                    "kubelet has sufficient memory available",
                ),
            ),
        ),
        (
            "DiskPressure",
            pick(
                health.disk_pressure,
                ("KubeletHasDiskPressure", "kubelet has disk pressure"),
                ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ),
        ),
        (
            "PIDPressure",
            pick(
                false,
                (
                    "KubeletHasInsufficientPID",
                    "kubelet has insufficient PID available",
                ),
                (
                    "KubeletHasSufficientPID",
                    "kubelet has sufficient PID available",
                ),
            ),
        ),
    ];
    if hollow {
        let message = "this node is hollow: containers are simulated, nothing runs";
        conditions.push((
            "ContainersSimulated",
            json!({"status": "True", "reason": "HollowRuntime", "message": message}),
        ));
    }
    conditions.push((
        "Ready",
        match &health.runtime {
            Ok(_) => {
                let mut message = "kubelet is posting ready status".to_owned();
                if hollow {
                    message.push_str("; containers are SIMULATED");
                }
                json!({"status": "True", "reason": "KubeletReady", "message": message})
            }
            Err(text) => {
                let message = format!("container runtime is down: {text}");
                json!({"status": "False", "reason": "KubeletNotReady", "message": message})
            }
        },
    ));
    let conditions: Vec<Value> = conditions
        .into_iter()
        .map(|(kind, mut condition)| {
            condition["type"] = json!(kind);
            condition
        })
        .collect();
    let runtime_version = if info.version.is_empty() {
        "docker://unknown".to_owned()
    } else {
        info.version
    };
    let images: Vec<Value> = health
        .images
        .iter()
        .map(|image| {
            let names: Vec<&String> = image.names.iter().take(IMAGE_NAMES_MAX).collect();
            json!({"names": names, "sizeBytes": image.size_bytes})
        })
        .collect();
    json!({
        "capacity": capacity.quantities(false),
        "allocatable": capacity.quantities(true),
        "conditions": conditions,
        "addresses": [
            {"type": "InternalIP", "address": config.node_ip.to_string()},
            {"type": "Hostname", "address": config.node_name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": {
            "machineID": machine.machine_id,
            "systemUUID": machine.system_uuid,
            "bootID": machine.boot_id,
            "kernelVersion": machine.kernel_version,
            "osImage": if hollow { "simulated" } else { machine.os_image.as_str() },
            "containerRuntimeVersion": runtime_version,
            "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": architecture(),
        },
        "images": images,
    })
}

/// The node as the API shows it, from what the server that is asked knows; none where there is none, or no answer.
async fn shown(agent: &Agent) -> Option<Value> {
    let path = NODES.object_path("", &agent.config.node_name, None);
    let asked = agent
        .client
        .get_path(&format!("{path}?resourceVersion=0"))
        .await;
    let node = asked.ok()?;
    let site = site(Some(&node), &agent.config, &agent.capacity);
    agent.see_site(Arc::new(site));
    Some(node)
}

/// The node as it decides about pods, as the API has it now; where that does not answer, as it was seen last.
pub(crate) async fn look(agent: &Agent) -> Arc<Site> {
    let asked = agent.client.get(&NODES, "", &agent.config.node_name).await;
    let seen = match (asked, agent.site()) {
        (Err(_), Some(seen)) => return seen,
        (asked, _) => asked.ok(),
    };
    let site = Arc::new(site(seen.as_ref(), &agent.config, &agent.capacity));
    agent.see_site(site.clone());
    site
}

/// What of a node decides about pods. What the API does not say of it yet is what it will be told.
pub(crate) fn site(node: Option<&Value>, config: &NodeConfig, capacity: &Capacity) -> Site {
    match node {
        Some(node) if node["status"]["allocatable"].is_object() => Site::of(node),
        Some(node) => {
            let (metadata, spec) = (&node["metadata"], &node["spec"]);
            let status = json!({"allocatable": capacity.quantities(true)});
            Site::of(&json!({"metadata": metadata, "spec": spec, "status": status}))
        }
        None => site(Some(&object(config)), config, capacity),
    }
}

/// Statuses and times by type of condition, as last changed.
pub(crate) type Transitions = BTreeMap<String, (String, OffsetDateTime)>;

/// Those on record, so that a restart of the agent does not look like a change.
pub(crate) fn transitions_of(node: &Value) -> Transitions {
    let conditions = node
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let read = |condition: &Value| {
        let text = |field: &str| condition.get(field).and_then(Value::as_str);
        Some((
            text("type")?.to_owned(),
            (
                text("status")?.to_owned(),
                clock::parse(text("lastTransitionTime")?)?,
            ),
        ))
    };
    conditions.iter().filter_map(read).collect()
}

pub(crate) fn stamp(status: &mut Value, transitions: &mut Transitions, now: OffsetDateTime) {
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        let text = |field: &str| {
            condition
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (kind, value) = (text("type"), text("status"));
        let entry = transitions
            .entry(kind)
            .or_insert_with(|| (value.clone(), now));
        if entry.0 != value {
            *entry = (value, now);
        }
        let since = entry.1;
        condition["lastTransitionTime"] = json!(clock::format(since));
        condition["lastHeartbeatTime"] = json!(clock::format(now));
    }
}

/// Renews the node's lease; runs until dropped.
pub(crate) async fn keep_lease(agent: Arc<Agent>) {
    let mut current: Option<Value> = None;
    loop {
        let pause = match renew(&agent, current.take()).await {
            Ok(lease) => {
                current = Some(lease);
                LEASE_PERIOD
            }
            Err(error) => {
                tracing::warn!(error = %error.message, "cannot renew the node's lease");
                LEASE_RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Updates the lease that was read or written last, or reads or makes it.
async fn renew(agent: &Agent, current: Option<Value>) -> Result<Value, ApiError> {
    let name = agent.config.node_name.as_str();
    let known = match current {
        Some(lease) => Some(lease),
        None => match agent.client.get(&LEASES, LEASE_NAMESPACE, name).await {
            Ok(lease) => Some(lease),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        },
    };
    let spec = json!({
        "holderIdentity": name,
        "leaseDurationSeconds": LEASE_SECONDS,
        "renewTime": clock::format_micro(clock::now()),
    });
    if let Some(mut lease) = known {
        lease["spec"] = spec;
        return agent
            .client
            .update(&LEASES, LEASE_NAMESPACE, name, &lease)
            .await;
    }
    // The node owns its lease, so that both go together; before the node exists the lease waits for it.
    let node = agent.client.get(&NODES, "", name).await?;
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": LEASE_NAMESPACE, "ownerReferences": [{
            "apiVersion": "v1", "kind": "Node", "name": name, "uid": node.pointer("/metadata/uid"),
        }]},
        "spec": spec,
    });
    agent.client.create(&LEASES, LEASE_NAMESPACE, &lease).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HollowConfig, ServerIdentity, Taint};

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

    #[test]
    fn what_is_new_is_told_once() {
        let conditions = |ready: &str, disk: &str| -> Conditions {
            let all = [
                ("Ready", ready),
                ("DiskPressure", disk),
                ("MemoryPressure", "False"),
                ("PIDPressure", "False"),
            ];
            all.map(|(kind, status)| (kind.to_owned(), status.to_owned()))
                .into()
        };
        let first = conditions("True", "False");
        assert_eq!(
            news(&Conditions::new(), &first),
            [
                "NodeHasSufficientMemory",
                "NodeHasNoDiskPressure",
                "NodeHasSufficientPID",
                "NodeReady"
            ]
        );
        assert!(
            news(&first, &first).is_empty(),
            "nor after a restart of the agent"
        );
        assert_eq!(
            news(&first, &conditions("False", "True")),
            ["NodeHasDiskPressure", "NodeNotReady"]
        );
    }

    #[test]
    fn a_node_that_was_taken_for_dead_has_become_ready_now() {
        let node = |ready: &str| {
            json!({"status": {"conditions": [
                {"type": "Ready", "status": ready, "lastTransitionTime": "1970-01-01T00:00:05Z"},
                {"type": "NetworkUnavailable", "status": "True", "lastTransitionTime": "1970-01-01T00:00:05Z"},
            ]}})
        };
        let told: Conditions = [("Ready".to_owned(), "True".to_owned())].into();
        assert!(!is_contradicted(&told, &node("True")));
        assert!(is_contradicted(&told, &node("Unknown")));
        assert!(is_contradicted(&told, &json!({})));
        let mut transitions = transitions_of(&node("Unknown"));
        let mut value = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let now = OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(70);
        stamp(&mut value, &mut transitions, now);
        assert_eq!(
            value["conditions"][0]["lastTransitionTime"],
            "1970-01-01T00:01:10Z"
        );
        let shown = conditions_of(&node("Unknown")["status"]);
        assert_eq!(
            news(&shown, &told).last(),
            Some(&"NodeReady"),
            "which is an event"
        );
    }

    #[test]
    fn a_disk_is_short_of_bytes_or_of_inodes() {
        let roomy = Space {
            bytes: 1000,
            bytes_free: 50,
            inodes: 1000,
            inodes_free: 50,
        };
        assert!(!roomy.is_short());
        assert!(
            Space {
                bytes_free: 49,
                ..roomy
            }
            .is_short()
        );
        assert!(
            Space {
                inodes_free: 49,
                ..roomy
            }
            .is_short()
        );
        let dynamic = Space {
            inodes: 0,
            inodes_free: 0,
            ..roomy
        };
        assert!(!dynamic.is_short());
        let here = Space::of(Path::new("/")).unwrap();
        assert!(here.bytes > 0 && here.bytes_free <= here.bytes);
    }

    #[test]
    fn transition_times_move_only_with_the_status() {
        let at = |seconds| OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds);
        let mut transitions = [("Ready".to_owned(), ("True".to_owned(), at(5)))].into();
        let mut value = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        stamp(&mut value, &mut transitions, at(60));
        assert_eq!(
            value["conditions"][0]["lastTransitionTime"],
            "1970-01-01T00:00:05Z"
        );
        value["conditions"][0]["status"] = json!("False");
        stamp(&mut value, &mut transitions, at(70));
        assert_eq!(
            value["conditions"][0]["lastTransitionTime"],
            "1970-01-01T00:01:10Z"
        );
    }
}
