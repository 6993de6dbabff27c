//! What Docker is asked to create: a pod's specs in its terms.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount,
    MountBindOptions, MountBindOptionsPropagationEnum, MountType, PortBinding, RestartPolicy,
    RestartPolicyNameEnum,
};

use crate::runtime::{ContainerSpec, Limits, SandboxSpec, pause};

pub(super) fn sandbox_body(
    spec: &SandboxSpec,
    labels: HashMap<String, String>,
    oom_score_adj_min: i64,
) -> ContainerCreateBody {
    let (exposed, bindings) = port_bindings(spec);
    let host = |on: bool| on.then(|| "host".to_owned());
    let host_config = HostConfig {
        network_mode: Some(host(spec.host_network).unwrap_or_else(|| "bridge".to_owned())),
        ipc_mode: Some(host(spec.host_ipc).unwrap_or_else(|| "shareable".to_owned())),
        pid_mode: host(spec.host_pid),
        port_bindings: Some(bindings),
        oom_score_adj: Some(oom_score_adj_min.max(-998)),
        cpu_shares: Some(2),
        security_opt: Some(vec!["seccomp=unconfined".to_owned()]),
        sysctls: Some(spec.sysctls.clone().into_iter().collect()),
        log_config: Some(HostConfigLogConfig {
            typ: Some("none".to_owned()),
            config: None,
        }),
        restart_policy: Some(no_restart()),
        ..HostConfig::default()
    };
    ContainerCreateBody {
        image: Some(pause::IMAGE.to_owned()),
        entrypoint: Some(vec![pause::PROGRAM.to_owned()]),
        // Docker refuses a hostname in the host's network namespace: the pod has the node's.
        hostname: (!spec.host_network).then(|| spec.hostname.clone()),
        labels: Some(labels),
        exposed_ports: Some(exposed),
        host_config: Some(host_config),
        ..ContainerCreateBody::default()
    }
}

pub(super) fn container_body(
    sandbox: &str,
    spec: &ContainerSpec,
    labels: HashMap<String, String>,
    oom_score_adj_min: i64,
) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        entrypoint: (!spec.command.is_empty()).then(|| spec.command.clone()),
        cmd: (!spec.args.is_empty()).then(|| spec.args.clone()),
        env: Some(
            spec.env
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
        ),
        working_dir: (!spec.working_dir.is_empty()).then(|| spec.working_dir.clone()),
        user: (!spec.user.is_empty()).then(|| spec.user.clone()),
        labels: Some(labels),
        open_stdin: Some(spec.stdin),
        stdin_once: Some(spec.stdin_once),
        tty: Some(spec.tty),
        stop_signal: spec.stop_signal.clone(),
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        host_config: Some(container_host_config(sandbox, spec, oom_score_adj_min)),
        ..ContainerCreateBody::default()
    }
}

fn no_restart() -> RestartPolicy {
    RestartPolicy {
        name: Some(RestartPolicyNameEnum::NO),
        maximum_retry_count: None,
    }
}

fn port_bindings(spec: &SandboxSpec) -> (Vec<String>, HashMap<String, Option<Vec<PortBinding>>>) {
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    if !spec.host_network {
        for port in &spec.ports {
            let binding = PortBinding {
                host_ip: (!port.host_ip.is_empty()).then(|| port.host_ip.clone()),
                host_port: Some(port.host_port.to_string()),
            };
            let key = format!("{}/{}", port.container_port, port.protocol);
            bindings
                .entry(key)
                .or_default()
                .get_or_insert_with(Vec::new)
                .push(binding);
        }
    }
    (bindings.keys().cloned().collect(), bindings)
}

fn container_host_config(
    sandbox: &str,
    spec: &ContainerSpec,
    oom_score_adj_min: i64,
) -> HostConfig {
    let joined = format!("container:{sandbox}");
    let namespace = |host: bool| {
        Some(if host {
            "host".to_owned()
        } else {
            joined.clone()
        })
    };
    let mounts = spec.mounts.iter().map(|mount| Mount {
        typ: Some(MountType::BIND),
        source: Some(mount.source.clone()),
        target: Some(mount.target.clone()),
        read_only: Some(mount.read_only),
        bind_options: Some(MountBindOptions {
            // Unsaid it is private, but for a directory that holds Docker's own, such as `/`, which Docker refuses to
            // mount privately and then mounts as a slave.
            propagation: match mount.propagation {
                "rshared" => Some(MountBindOptionsPropagationEnum::RSHARED),
                "rslave" => Some(MountBindOptionsPropagationEnum::RSLAVE),
                _ => None,
            },
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    });
    let nonzero = |value: i64| (value != 0).then_some(value);
    let log_options =
        [("max-size", "10m"), ("max-file", "5")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    HostConfig {
        network_mode: namespace(spec.host_network),
        ipc_mode: namespace(spec.host_ipc),
        pid_mode: match (spec.host_pid, spec.share_pid_with_sandbox) {
            (true, _) => Some("host".to_owned()),
            (false, true) => Some(joined.clone()),
            (false, false) => spec.pid_of.as_ref().map(|id| format!("container:{id}")),
        },
        mounts: Some(mounts.collect()),
        privileged: Some(spec.privileged),
        readonly_rootfs: Some(spec.read_only_root),
        cap_add: Some(spec.capabilities_add.clone()),
        cap_drop: Some(spec.capabilities_drop.clone()),
        security_opt: Some(spec.security_options.clone()),
        masked_paths: spec.unmask_proc.then(Vec::new),
        readonly_paths: spec.unmask_proc.then(Vec::new),
        group_add: Some(spec.groups.clone()),
        cpu_shares: nonzero(spec.resources.cpu_shares),
        cpu_quota: nonzero(spec.resources.cpu_quota_us),
        cpu_period: nonzero(spec.resources.cpu_period_us),
        memory: nonzero(spec.resources.memory_bytes),
        // Swap would let a container exceed its limit quietly.
        memory_swap: nonzero(spec.resources.memory_bytes),
        oom_score_adj: nonzero(spec.resources.oom_score_adj.max(oom_score_adj_min)),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(log_options.into()),
        }),
        restart_policy: Some(no_restart()),
        ..HostConfig::default()
    }
}

/// What a container that runs shall keep to from now on. Docker leaves alone what is not named.
pub(super) fn container_update(limits: &Limits) -> ContainerUpdateBody {
    let nonzero = |value: i64| (value != 0).then_some(value);
    ContainerUpdateBody {
        cpu_shares: nonzero(limits.cpu_shares),
        cpu_quota: nonzero(limits.cpu_quota_us),
        cpu_period: nonzero(limits.cpu_period_us),
        memory: nonzero(limits.memory_bytes),
        // Docker refuses a limit of memory above the one that counts swap in, so both are moved.
        memory_swap: nonzero(limits.memory_bytes),
        ..ContainerUpdateBody::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::BindMount;

    #[test]
    fn private_mounts_are_left_to_docker() {
        let of = |propagation| {
            let mount = BindMount {
                source: "/".into(),
                target: "/host".into(),
                read_only: false,
                propagation,
            };
            let spec = ContainerSpec {
                mounts: vec![mount],
                ..ContainerSpec::default()
            };
            let mounts = container_host_config("box", &spec, 0).mounts.unwrap();
            mounts[0].bind_options.clone().unwrap().propagation
        };
        let slave = MountBindOptionsPropagationEnum::RSLAVE;
        assert_eq!(of("rprivate"), None);
        assert_eq!(of("rslave"), Some(slave));
    }

    #[test]
    fn an_update_names_only_what_is_limited() {
        let body = container_update(&Limits {
            cpu_shares: 512,
            memory_bytes: 1 << 20,
            ..Limits::default()
        });
        assert_eq!((body.cpu_shares, body.cpu_quota), (Some(512), None));
        assert_eq!(
            (body.memory, body.memory_swap),
            (Some(1 << 20), Some(1 << 20))
        );
    }

    #[test]
    fn a_container_sees_the_processes_that_it_asks_for() {
        for (host_pid, share, wanted) in [
            (false, false, "container:other"),
            (false, true, "container:box"),
            (true, true, "host"),
        ] {
            let spec = ContainerSpec {
                host_pid,
                share_pid_with_sandbox: share,
                pid_of: Some("other".into()),
                ..ContainerSpec::default()
            };
            let mode = container_host_config("box", &spec, 0).pid_mode;
            assert_eq!(mode.as_deref(), Some(wanted));
        }
    }
}
