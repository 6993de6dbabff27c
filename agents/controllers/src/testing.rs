//! Worlds from YAML, for the tests of the controllers.

use crate::node_log::NodeLog;
use crate::pod_tally::PodTally;
use crate::world::{Caches, World};
use agent_runtime::Cache;
use agent_runtime::kinds::{Kind, Node, Pod};
use agent_runtime::timestamp::{self, Moment};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::time::Instant;

/// The time of every test world.
pub(crate) const NOW: &str = "2026-01-01T10:00:00Z";

/// So many seconds after [`NOW`], by both clocks.
pub(crate) fn after(seconds: u64) -> Moment {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let wall = timestamp::seconds(seconds.try_into().expect("a test is short"));
    Moment {
        wall: timestamp::parse(NOW).expect("a time") + wall,
        steady: *BEGAN + Duration::from_secs(seconds),
    }
}

/// One object from YAML.
pub(crate) fn object<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_value(yaml(text)).expect("test object")
}

fn cache<T: Kind>(documents: &[Value], kind: &str) -> Arc<Cache<T>> {
    let cache = Cache::new(T::resource());
    for document in documents.iter().filter(|d| d["kind"] == kind) {
        cache.apply(serde_json::from_value(document.clone()).expect("test object"));
    }
    cache.set_synced(1);
    Arc::new(cache)
}

/// The objects of a YAML stream.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    text.split("---\n")
        .filter(|d| !d.trim().is_empty())
        .map(yaml)
        .collect()
}

/// A world that holds the objects of a YAML stream.
pub(crate) fn world(text: &str) -> World {
    world_of(&documents(text))
}

/// A world that holds these objects.
pub(crate) fn world_of(documents: &[Value]) -> World {
    let nodes = cache::<Node>(documents, "Node");
    let pods = cache::<Pod>(documents, "Pod");
    let caches = Caches {
        node_log: NodeLog::of(&nodes),
        pod_tally: PodTally::of(&pods),
        pods,
        nodes,
        leases: cache(documents, "Lease"),
        namespaces: cache(documents, "Namespace"),
        services: cache(documents, "Service"),
        endpoints: cache(documents, "Endpoints"),
        endpoint_slices: cache(documents, "EndpointSlice"),
        service_accounts: cache(documents, "ServiceAccount"),
        root_ca_config_maps: cache(documents, "ConfigMap"),
        replica_sets: cache(documents, "ReplicaSet"),
        replication_controllers: cache(documents, "ReplicationController"),
        deployments: cache(documents, "Deployment"),
        stateful_sets: cache(documents, "StatefulSet"),
        daemon_sets: cache(documents, "DaemonSet"),
        controller_revisions: cache(documents, "ControllerRevision"),
        jobs: cache(documents, "Job"),
        cron_jobs: cache(documents, "CronJob"),
        disruption_budgets: cache(documents, "PodDisruptionBudget"),
        claims: cache(documents, "PersistentVolumeClaim"),
        volumes: cache(documents, "PersistentVolume"),
        storage_classes: cache(documents, "StorageClass"),
        resource_claims: cache(documents, "ResourceClaim"),
        resource_claim_templates: cache(documents, "ResourceClaimTemplate"),
        resource_slices: cache(documents, "ResourceSlice"),
        service_cidrs: cache(documents, "ServiceCIDR"),
        ip_addresses: cache(documents, "IPAddress"),
        signing_requests: cache(documents, "CertificateSigningRequest"),
        bootstrap_tokens: cache(documents, "Secret"),
        account_secrets: cache(documents, "Secret"),
        cluster_infos: cache(documents, "ConfigMap"),
        route_tables: cache(documents, "ConfigMap"),
        route_roles: cache(documents, "Role"),
        route_role_bindings: cache(documents, "RoleBinding"),
        autoscalers: cache(documents, "HorizontalPodAutoscaler"),
    };
    World::new(
        Arc::new(caches),
        Arc::default(),
        after(0),
        None,
        "CA".into(),
        1,
    )
}

/// YAML 1.2: `n` is text, not `false`.
fn yaml(text: &str) -> Value {
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { strict_booleans: true })
        .expect("test YAML")
}
