//! From a container in a pod's spec to what the runtime shall create: the mapping table of the node.
//!
//! Pure. References are resolved and paths are prepared by the caller.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::env::expand;
use crate::quantity;
use crate::runtime::{
    BindMount, ContainerSpec, HostPort, Identity, Image, Limits, SANDBOX, SandboxSpec, hex,
};
use crate::spec::{Container, Pod, Resources, Role, SeccompProfile};

/// The sandbox that a container was made for.
pub(crate) const LABEL_SANDBOX: &str = "io.kontiki.sandbox";
/// Fingerprint of what may change in a running container's definition.
pub(crate) const LABEL_HASH: &str = "io.kontiki.definition";

const CPU_PERIOD_US: i64 = 100_000;
const CPU_QUOTA_US_MIN: i64 = 1000;
const CPU_SHARES_MIN: i64 = 2;

/// Quality of service: how a pod's resources are guaranteed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }

    pub(crate) fn of(pod: &Pod) -> Qos {
        let amount = |map: &BTreeMap<String, serde_json::Value>, name: &str| {
            map.get(name)
                .and_then(quantity::milli_of)
                .filter(|amount| *amount > 0)
        };
        let mut any = false;
        let mut guaranteed = true;
        let counted = pod
            .all_containers()
            .filter(|(role, _)| *role != Role::Ephemeral);
        for (_, container) in counted {
            for resource in ["cpu", "memory"] {
                let request = amount(&container.resources.requests, resource);
                let limit = amount(&container.resources.limits, resource);
                any |= request.is_some() || limit.is_some();
                guaranteed &= limit.is_some() && (request.is_none() || request == limit);
            }
        }
        match (any, guaranteed) {
            (false, _) => Qos::BestEffort,
            (true, true) => Qos::Guaranteed,
            (true, false) => Qos::Burstable,
        }
    }
}

/// Changes when the container has to be replaced although it runs: with the image, and with the amounts of those resources for
/// which it asks to be restarted. These stand in a part of their own, after a hyphen.
pub(crate) fn definition_hash(container: &Container) -> String {
    let image = fingerprint(&format!("{}\0{}", container.name, container.image));
    let policies = container.resize_policy.iter();
    let restarting = policies.filter(|policy| policy.restart_policy == "RestartContainer");
    let amounts: Vec<String> = restarting
        .map(|policy| {
            let name = &policy.resource_name;
            let amount = |map: &BTreeMap<String, serde_json::Value>| {
                map.get(name).and_then(quantity::milli_of).unwrap_or(0)
            };
            let Resources { requests, limits } = &container.resources;
            format!("{name}\0{}\0{}", amount(requests), amount(limits))
        })
        .collect();
    match amounts.is_empty() {
        true => image,
        false => format!("{image}-{}", fingerprint(&amounts.join("\0"))),
    }
}

/// Whether these fingerprints of a definition differ in amounts only.
pub(crate) fn is_resized(before: &str, after: &str) -> bool {
    let image = |hash: &str| hash.split('-').next().map(str::to_owned);
    before != after && image(before) == image(after)
}

fn fingerprint(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    hex(&digest[..8])
}

pub(crate) fn identity(pod: &Pod, container: &str, attempt: u32) -> Identity {
    Identity {
        pod_name: pod.metadata.name.clone(),
        pod_namespace: pod.metadata.namespace.clone(),
        pod_uid: pod.metadata.uid.clone(),
        container: container.to_owned(),
        attempt,
    }
}

pub(crate) fn sandbox(pod: &Pod, attempt: u32, hostname: String) -> SandboxSpec {
    let spec = &pod.spec;
    let ports = pod
        .all_containers()
        .flat_map(|(_, container)| &container.ports);
    SandboxSpec {
        identity: identity(pod, SANDBOX, attempt),
        hostname,
        host_network: spec.host_network,
        host_ipc: spec.host_ipc,
        host_pid: spec.host_pid,
        sysctls: spec
            .security_context
            .sysctls
            .iter()
            .map(|s| (s.name.clone(), s.value.clone()))
            .collect(),
        ports: ports
            .filter(|port| port.host_port > 0)
            .map(|port| HostPort {
                container_port: port.container_port,
                host_port: port.host_port,
                host_ip: port.host_ip.clone(),
                protocol: if port.protocol.is_empty() {
                    "tcp".to_owned()
                } else {
                    port.protocol.to_lowercase()
                },
            })
            .collect(),
    }
}

/// What a container needs besides its spec.
pub(crate) struct Prepared<'a> {
    pub(crate) sandbox: &'a str,
    pub(crate) image: &'a Image,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) mounts: Vec<BindMount>,
    /// Docker's text for the seccomp profile, when it is not the runtime's default.
    pub(crate) seccomp: Option<String>,
    /// Id of the container whose processes it sees.
    pub(crate) target: Option<String>,
    /// Memory of the node, in bytes.
    pub(crate) node_memory_bytes: i64,
}

/// The runtime's view of a container; the error goes into `CreateContainerConfigError`.
pub(crate) fn spec(
    pod: &Pod,
    role: Role,
    container: &Container,
    prepared: Prepared<'_>,
) -> Result<ContainerSpec, String> {
    verify_non_root(pod, container, prepared.image)?;
    let security = &container.security_context;
    let pod_security = &pod.spec.security_context;
    let lookup = |name: &str| {
        prepared
            .env
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    };
    let expand_all = |words: &[String]| {
        words
            .iter()
            .map(|word| expand(word, &lookup))
            .collect::<Vec<_>>()
    };
    let privileged = security.privileged == Some(true);
    let mut security_options = Vec::new();
    security_options.extend(
        prepared
            .seccomp
            .filter(|_| !privileged)
            .map(|profile| format!("seccomp={profile}")),
    );
    if security.allow_privilege_escalation == Some(false) {
        security_options.push("no-new-privileges".to_owned());
    }
    let groups = pod_security
        .supplemental_groups
        .iter()
        .chain(&pod_security.fs_group);
    let labels = [
        (LABEL_SANDBOX.to_owned(), prepared.sandbox.to_owned()),
        (LABEL_HASH.to_owned(), definition_hash(container)),
    ];
    Ok(ContainerSpec {
        image: prepared.image.id.clone(),
        command: expand_all(&container.command),
        args: expand_all(&container.args),
        working_dir: container.working_dir.clone(),
        mounts: prepared.mounts,
        user: user(pod, container, prepared.image),
        groups: groups.map(ToString::to_string).collect(),
        privileged,
        read_only_root: security.read_only_root_filesystem == Some(true),
        capabilities_add: security.capabilities.add.clone(),
        capabilities_drop: security.capabilities.drop.clone(),
        security_options,
        unmask_proc: privileged || security.proc_mount.as_deref() == Some("Unmasked"),
        share_pid_with_sandbox: pod.spec.share_process_namespace,
        pid_of: prepared.target,
        host_network: pod.spec.host_network,
        host_pid: pod.spec.host_pid,
        host_ipc: pod.spec.host_ipc,
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        tty: container.tty,
        stop_signal: container.lifecycle.stop_signal.clone(),
        resources: limits(pod, role, container, prepared.node_memory_bytes),
        labels: labels.into(),
        env: prepared.env,
    })
}

/// `user[:group]`; Docker knows no group without a user, so root stands in for an image that names none.
fn user(pod: &Pod, container: &Container, image: &Image) -> String {
    let security = &container.security_context;
    let pod_security = &pod.spec.security_context;
    let user = security.run_as_user.or(pod_security.run_as_user);
    let group = security.run_as_group.or(pod_security.run_as_group);
    match (user, group) {
        (None, None) => String::new(),
        (Some(user), None) => user.to_string(),
        (Some(user), Some(group)) => format!("{user}:{group}"),
        (None, Some(group)) => {
            let image_user = image
                .user
                .split(':')
                .next()
                .filter(|name| !name.is_empty())
                .unwrap_or("0");
            format!("{image_user}:{group}")
        }
    }
}

/// Refuses what would run as root where the pod forbids that; the error goes into `CreateContainerConfigError`.
pub(crate) fn verify_non_root(
    pod: &Pod,
    container: &Container,
    image: &Image,
) -> Result<(), String> {
    let security = &container.security_context;
    let pod_security = &pod.spec.security_context;
    if !security
        .run_as_non_root
        .or(pod_security.run_as_non_root)
        .unwrap_or(false)
    {
        return Ok(());
    }
    let who = format!(
        "(pod: \"{}\", container: {})",
        pod.display(),
        container.name
    );
    match security.run_as_user.or(pod_security.run_as_user) {
        Some(0) => {
            return Err(format!(
                "container's runAsUser breaks non-root policy {who}"
            ));
        }
        Some(_) => return Ok(()),
        None => {}
    }
    let name = image.user.split(':').next().unwrap_or_default();
    match name.parse::<u64>() {
        Ok(0) => Err(format!(
            "container has runAsNonRoot and image will run as root {who}"
        )),
        Ok(_) => Ok(()),
        Err(_) if name.is_empty() => Err(format!(
            "container has runAsNonRoot and image will run as root {who}"
        )),
        Err(_) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {who}"
        )),
    }
}

/// Cgroup values from requests and limits.
pub(crate) fn limits(
    pod: &Pod,
    role: Role,
    container: &Container,
    node_memory_bytes: i64,
) -> Limits {
    let resources = &container.resources;
    let cpu = |map: &BTreeMap<String, serde_json::Value>| {
        map.get("cpu").and_then(quantity::milli_of).unwrap_or(0)
    };
    let memory = |map: &BTreeMap<String, serde_json::Value>| {
        map.get("memory")
            .and_then(quantity::units_of)
            .and_then(|bytes| i64::try_from(bytes).ok())
            .unwrap_or(0)
    };
    let cpu_limit = i64::try_from(cpu(&resources.limits)).unwrap_or(i64::MAX / CPU_PERIOD_US);
    let cpu_request = match i64::try_from(cpu(&resources.requests)).unwrap_or(i64::MAX / 1024) {
        0 => cpu_limit,
        request => request,
    };
    let quota = cpu_limit.saturating_mul(CPU_PERIOD_US) / 1000;
    Limits {
        cpu_shares: (cpu_request.saturating_mul(1024) / 1000).max(CPU_SHARES_MIN),
        cpu_quota_us: if cpu_limit > 0 {
            quota.max(CPU_QUOTA_US_MIN)
        } else {
            0
        },
        cpu_period_us: if cpu_limit > 0 { CPU_PERIOD_US } else { 0 },
        memory_bytes: memory(&resources.limits),
        oom_score_adj: oom_score_adj(pod, role, memory(&resources.requests), node_memory_bytes),
    }
}

/// How readily the kernel kills the container when memory runs out: the more it asked for, the later.
fn oom_score_adj(pod: &Pod, role: Role, request_bytes: i64, node_memory_bytes: i64) -> i64 {
    let score = |request: i64| {
        let share = i128::from(request) * 1000 / i128::from(node_memory_bytes.max(1));
        (1000 - i64::try_from(share).unwrap_or(1000)).clamp(3, 999)
    };
    match Qos::of(pod) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        // A sidecar must not be killed before the container that it serves.
        Qos::Burstable if role == Role::Sidecar => {
            let requests = pod
                .spec
                .containers
                .iter()
                .filter_map(|c| c.resources.requests.get("memory"));
            let least = requests
                .filter_map(quantity::units_of)
                .filter_map(|b| i64::try_from(b).ok())
                .min();
            score(request_bytes).min(score(least.unwrap_or(0)))
        }
        Qos::Burstable => score(request_bytes),
    }
}

/// Which seccomp profile applies: Kubernetes' default is none at all, unlike Docker's.
pub(crate) fn seccomp_profile<'a>(
    pod: &'a Pod,
    container: &'a Container,
) -> Option<&'a SeccompProfile> {
    container.security_context.seccomp_profile.as_ref().or(pod
        .spec
        .security_context
        .seccomp_profile
        .as_ref())
}

#[cfg(test)]
mod tests;
