//! Under which names the queues of controllers are counted: dashboards and alerts know those of Kubernetes, which are
//! others than the controllers'.

use agent_runtime::Queue;
use std::hash::Hash;
use std::sync::Arc;

/// The queue of a controller.
pub(crate) fn queue_of<K>(controller: &'static str) -> Arc<Queue<K>>
where
    K: Clone + Eq + Hash + Send + 'static,
{
    Queue::named(queue_name(controller))
}

/// Where a controller has several queues there, the name is that of the one which brings the objects.
fn queue_name(controller: &'static str) -> &'static str {
    match controller {
        "namespace-controller" => "namespace",
        "serviceaccount-controller" => "serviceaccount",
        "serviceaccount-token-controller" => "serviceaccount_tokens_secret",
        "root-ca-certificate-publisher-controller" => "root_ca_cert_publisher",
        "replicaset-controller" => "replicaset",
        "replication-controller" => "replicationmanager",
        "deployment-controller" => "deployment",
        "daemonset-controller" => "daemonset",
        "statefulset-controller" => "statefulset",
        "cronjob-controller" => "cronjob",
        "job-controller" => "job",
        "job-orphan-pods" => "job_orphan_pod",
        "endpoint-slice-controller" => "endpoint_slice",
        "endpoint-slice-mirroring-controller" => "endpoint_slice_mirroring",
        "endpoint-controller" => "endpoint",
        "garbage-collector-controller" => "garbage_collector_attempt_to_delete",
        "taint-eviction-controller" => "noexec_taint_pod",
        "disruption-controller" => "disruption",
        "ttl-after-finished-controller" => "ttl_jobs_to_delete",
        "persistentvolume-controller" => "claims",
        "horizontal-pod-autoscaler-controller" => "horizontalpodautoscaler",
        "persistentvolumeclaim-protection-controller" => "pvcprotection",
        "persistentvolume-protection-controller" => "pvprotection",
        "token-cleaner" => "token_cleaner",
        "certificatesigningrequest-approving-controller"
        | "certificatesigningrequest-signing-controller" => "certificate",
        "node-ipam-controller" => "cidrallocator_node",
        "bootstrap-signer-controller" => "bootstrap_signer_queue",
        "service-lb-controller" => "service",
        "resourceclaim-controller" => "resource_claim",
        "service-cidr-controller" => "ipaddresses",
        // Those that have no queue there, and those that are called alike.
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CONTROLLERS;

    #[test]
    fn no_name_is_of_a_controller_that_is_not_there() {
        let source = include_str!("queue_names.rs");
        let table = source.split("match controller {").nth(1).unwrap();
        let table = table.split("other => other").next().unwrap();
        let named = table.lines().filter_map(|line| line.split('"').nth(1));
        let known = |name: &str| CONTROLLERS.iter().any(|controller| controller.name == name);
        let unknown: Vec<&str> = named.filter(|name| !known(name)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        assert_eq!(queue_name("deployment-controller"), "deployment");
    }
}
