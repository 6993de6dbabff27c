//! Which caches hold the objects of a kind.

use crate::world::Caches;
use agent_runtime::kinds::Kind;
use agent_runtime::{Cache, Key};
use serde_json::Value;

/// A cache of whatever kind.
pub(super) trait Holds {
    fn hold(&self, object: &Value);
    fn lose(&self, key: &Key);
}

impl<T: Kind> Holds for Cache<T> {
    fn hold(&self, object: &Value) {
        self.apply(serde_json::from_value(object.clone()).expect("an object of the simulation"));
    }

    fn lose(&self, key: &Key) {
        self.remove(key);
    }
}

/// The caches that hold objects of the kind.
pub(super) fn of<'a>(caches: &'a Caches, kind: &str) -> Vec<&'a dyn Holds> {
    let one: &dyn Holds = match kind {
        "Pod" => &*caches.pods,
        "Node" => &*caches.nodes,
        "Namespace" => &*caches.namespaces,
        "ServiceAccount" => &*caches.service_accounts,
        "Lease" => &*caches.leases,
        "Role" => &*caches.route_roles,
        "RoleBinding" => &*caches.route_role_bindings,
        "CertificateSigningRequest" => &*caches.signing_requests,
        "ReplicaSet" => &*caches.replica_sets,
        "Deployment" => &*caches.deployments,
        "Service" => &*caches.services,
        "Endpoints" => &*caches.endpoints,
        "EndpointSlice" => &*caches.endpoint_slices,
        "Job" => &*caches.jobs,
        "CronJob" => &*caches.cron_jobs,
        "ControllerRevision" => &*caches.controller_revisions,
        "PersistentVolumeClaim" => &*caches.claims,
        "DaemonSet" => &*caches.daemon_sets,
        "StatefulSet" => &*caches.stateful_sets,
        "PersistentVolume" => &*caches.volumes,
        "PodDisruptionBudget" => &*caches.disruption_budgets,
        "ResourceClaim" => &*caches.resource_claims,
        "ResourceClaimTemplate" => &*caches.resource_claim_templates,
        "ResourceSlice" => &*caches.resource_slices,
        "StorageClass" => &*caches.storage_classes,
        "ServiceCIDR" => &*caches.service_cidrs,
        "IPAddress" => &*caches.ip_addresses,
        "ConfigMap" => {
            let all: [&dyn Holds; 3] = [
                &*caches.root_ca_config_maps,
                &*caches.cluster_infos,
                &*caches.route_tables,
            ];
            return all.to_vec();
        }
        "Secret" => {
            let all: [&dyn Holds; 2] = [&*caches.bootstrap_tokens, &*caches.account_secrets];
            return all.to_vec();
        }
        other => panic!("no {other} in the simulation"),
    };
    vec![one]
}
