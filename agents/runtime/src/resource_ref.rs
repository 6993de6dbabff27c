//! Names of API resources: what a path, a watch or an owner reference needs to know of a kind.

use std::borrow::Cow;
use std::fmt;

/// A served resource. `group` is empty for the core group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceRef {
    /// API group, empty for core.
    pub group: Cow<'static, str>,
    /// API version, such as `v1`.
    pub version: Cow<'static, str>,
    /// Plural resource name, such as `pods`.
    pub plural: Cow<'static, str>,
    /// Kind, such as `Pod`.
    pub kind: Cow<'static, str>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
}

/// Paths are hardly ever longer, so that their room is taken at once.
const PATH_BYTES: usize = 128;

const fn of(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
) -> ResourceRef {
    ResourceRef {
        group: Cow::Borrowed(group),
        version: Cow::Borrowed(version),
        plural: Cow::Borrowed(plural),
        kind: Cow::Borrowed(kind),
        namespaced,
    }
}

/// Pods.
pub const PODS: ResourceRef = of("", "v1", "pods", "Pod", true);
/// Nodes.
pub const NODES: ResourceRef = of("", "v1", "nodes", "Node", false);
/// Namespaces.
pub const NAMESPACES: ResourceRef = of("", "v1", "namespaces", "Namespace", false);
/// Services.
pub const SERVICES: ResourceRef = of("", "v1", "services", "Service", true);
/// Endpoints (the older form of EndpointSlices).
pub const ENDPOINTS: ResourceRef = of("", "v1", "endpoints", "Endpoints", true);
/// Events in their core form.
pub const EVENTS: ResourceRef = of("", "v1", "events", "Event", true);
/// ConfigMaps.
pub const CONFIG_MAPS: ResourceRef = of("", "v1", "configmaps", "ConfigMap", true);
/// Secrets.
pub const SECRETS: ResourceRef = of("", "v1", "secrets", "Secret", true);
/// ServiceAccounts.
pub const SERVICE_ACCOUNTS: ResourceRef = of("", "v1", "serviceaccounts", "ServiceAccount", true);
/// ReplicationControllers.
pub const REPLICATION_CONTROLLERS: ResourceRef = of(
    "",
    "v1",
    "replicationcontrollers",
    "ReplicationController",
    true,
);
/// PersistentVolumeClaims.
pub const PERSISTENT_VOLUME_CLAIMS: ResourceRef = of(
    "",
    "v1",
    "persistentvolumeclaims",
    "PersistentVolumeClaim",
    true,
);
/// PersistentVolumes.
pub const PERSISTENT_VOLUMES: ResourceRef =
    of("", "v1", "persistentvolumes", "PersistentVolume", false);
/// ReplicaSets.
pub const REPLICA_SETS: ResourceRef = of("apps", "v1", "replicasets", "ReplicaSet", true);
/// Deployments.
pub const DEPLOYMENTS: ResourceRef = of("apps", "v1", "deployments", "Deployment", true);
/// StatefulSets.
pub const STATEFUL_SETS: ResourceRef = of("apps", "v1", "statefulsets", "StatefulSet", true);
/// DaemonSets.
pub const DAEMON_SETS: ResourceRef = of("apps", "v1", "daemonsets", "DaemonSet", true);
/// ControllerRevisions.
pub const CONTROLLER_REVISIONS: ResourceRef = of(
    "apps",
    "v1",
    "controllerrevisions",
    "ControllerRevision",
    true,
);
/// Jobs.
pub const JOBS: ResourceRef = of("batch", "v1", "jobs", "Job", true);
/// CronJobs.
pub const CRON_JOBS: ResourceRef = of("batch", "v1", "cronjobs", "CronJob", true);
/// HorizontalPodAutoscalers.
pub const HORIZONTAL_POD_AUTOSCALERS: ResourceRef = of(
    "autoscaling",
    "v2",
    "horizontalpodautoscalers",
    "HorizontalPodAutoscaler",
    true,
);
/// EndpointSlices.
pub const ENDPOINT_SLICES: ResourceRef = of(
    "discovery.k8s.io",
    "v1",
    "endpointslices",
    "EndpointSlice",
    true,
);
/// Leases.
pub const LEASES: ResourceRef = of("coordination.k8s.io", "v1", "leases", "Lease", true);
/// PodDisruptionBudgets.
pub const POD_DISRUPTION_BUDGETS: ResourceRef = of(
    "policy",
    "v1",
    "poddisruptionbudgets",
    "PodDisruptionBudget",
    true,
);
/// PriorityClasses.
pub const PRIORITY_CLASSES: ResourceRef = of(
    "scheduling.k8s.io",
    "v1",
    "priorityclasses",
    "PriorityClass",
    false,
);
/// CertificateSigningRequests.
pub const CERTIFICATE_SIGNING_REQUESTS: ResourceRef = of(
    "certificates.k8s.io",
    "v1",
    "certificatesigningrequests",
    "CertificateSigningRequest",
    false,
);
/// StorageClasses.
pub const STORAGE_CLASSES: ResourceRef = of(
    "storage.k8s.io",
    "v1",
    "storageclasses",
    "StorageClass",
    false,
);
/// ResourceClaims.
pub const RESOURCE_CLAIMS: ResourceRef = of(
    "resource.k8s.io",
    "v1",
    "resourceclaims",
    "ResourceClaim",
    true,
);
/// ResourceSlices.
pub const RESOURCE_SLICES: ResourceRef = of(
    "resource.k8s.io",
    "v1",
    "resourceslices",
    "ResourceSlice",
    false,
);
/// DeviceClasses.
pub const DEVICE_CLASSES: ResourceRef = of(
    "resource.k8s.io",
    "v1",
    "deviceclasses",
    "DeviceClass",
    false,
);
/// CSINodes.
pub const CSI_NODES: ResourceRef = of("storage.k8s.io", "v1", "csinodes", "CSINode", false);
/// CSIDrivers.
pub const CSI_DRIVERS: ResourceRef = of("storage.k8s.io", "v1", "csidrivers", "CSIDriver", false);
/// CSIStorageCapacities.
pub const CSI_STORAGE_CAPACITIES: ResourceRef = of(
    "storage.k8s.io",
    "v1",
    "csistoragecapacities",
    "CSIStorageCapacity",
    true,
);
/// VolumeAttachments.
pub const VOLUME_ATTACHMENTS: ResourceRef = of(
    "storage.k8s.io",
    "v1",
    "volumeattachments",
    "VolumeAttachment",
    false,
);
/// Roles.
pub const ROLES: ResourceRef = of("rbac.authorization.k8s.io", "v1", "roles", "Role", true);
/// RoleBindings.
pub const ROLE_BINDINGS: ResourceRef = of(
    "rbac.authorization.k8s.io",
    "v1",
    "rolebindings",
    "RoleBinding",
    true,
);
/// SubjectAccessReviews.
pub const SUBJECT_ACCESS_REVIEWS: ResourceRef = of(
    "authorization.k8s.io",
    "v1",
    "subjectaccessreviews",
    "SubjectAccessReview",
    false,
);
/// ClusterRoles.
pub const CLUSTER_ROLES: ResourceRef = of(
    "rbac.authorization.k8s.io",
    "v1",
    "clusterroles",
    "ClusterRole",
    false,
);
/// ResourceClaimTemplates.
pub const RESOURCE_CLAIM_TEMPLATES: ResourceRef = of(
    "resource.k8s.io",
    "v1",
    "resourceclaimtemplates",
    "ResourceClaimTemplate",
    true,
);
/// ServiceCIDRs: ranges for the addresses of Services.
pub const SERVICE_CIDRS: ResourceRef = of(
    "networking.k8s.io",
    "v1",
    "servicecidrs",
    "ServiceCIDR",
    false,
);
/// IPAddresses.
pub const IP_ADDRESSES: ResourceRef =
    of("networking.k8s.io", "v1", "ipaddresses", "IPAddress", false);

impl ResourceRef {
    /// A resource known only at run time (discovery).
    pub fn new(group: &str, version: &str, plural: &str, kind: &str, namespaced: bool) -> Self {
        Self {
            group: Cow::Owned(group.to_owned()),
            version: Cow::Owned(version.to_owned()),
            plural: Cow::Owned(plural.to_owned()),
            kind: Cow::Owned(kind.to_owned()),
            namespaced,
        }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The path of the collection (in `namespace`, or of all namespaces when it is empty).
    pub fn collection_path(&self, namespace: &str) -> String {
        let mut path = String::with_capacity(PATH_BYTES);
        if self.group.is_empty() {
            path.push_str("/api/");
        } else {
            path.push_str("/apis/");
            path.push_str(&self.group);
            path.push('/');
        }
        path.push_str(&self.version);
        if self.namespaced && !namespace.is_empty() {
            path.push_str("/namespaces/");
            push_escaped(&mut path, namespace);
        }
        path.push('/');
        path.push_str(&self.plural);
        path
    }

    /// The path of one object, or of a subresource of it.
    pub fn object_path(&self, namespace: &str, name: &str, subresource: Option<&str>) -> String {
        let mut path = self.collection_path(namespace);
        path.push('/');
        push_escaped(&mut path, name);
        if let Some(sub) = subresource {
            path.push('/');
            path.push_str(sub);
        }
        path
    }
}

impl fmt::Display for ResourceRef {
    /// `pods` or `deployments.apps`, as RBAC and error texts name resources.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.write_str(&self.plural)
        } else {
            write!(f, "{}.{}", self.plural, self.group)
        }
    }
}

/// Appends `text` with everything but unreserved characters percent-encoded, so that it is one path segment or one
/// query value whatever it contains.
pub fn push_escaped(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let is_unreserved =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    if text.bytes().all(is_unreserved) {
        // All names are like that.
        out.push_str(text);
        return;
    }
    for byte in text.bytes() {
        if is_unreserved(byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        assert_eq!(PODS.collection_path("a"), "/api/v1/namespaces/a/pods");
        assert_eq!(PODS.collection_path(""), "/api/v1/pods");
        assert_eq!(
            NODES.object_path("", "n1", Some("status")),
            "/api/v1/nodes/n1/status"
        );
        assert_eq!(
            DEPLOYMENTS.object_path("a", "x/../y", None),
            "/apis/apps/v1/namespaces/a/deployments/x%2F..%2Fy"
        );
        assert_eq!(DEPLOYMENTS.to_string(), "deployments.apps");
        assert_eq!(PODS.to_string(), "pods");
    }
}
