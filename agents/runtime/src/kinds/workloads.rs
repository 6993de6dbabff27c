//! Controllers of pods. Pod templates stay JSON: they are copied into pods and compared as a whole.

use super::{Condition, IntOrString, LabelSelector, Labels, ObjectMeta, fields, kind, mention};
use crate::resource_ref::{
    CONTROLLER_REVISIONS, DAEMON_SETS, DEPLOYMENTS, POD_DISRUPTION_BUDGETS, REPLICA_SETS,
    REPLICATION_CONTROLLERS, STATEFUL_SETS,
};
use serde_json::Value;

fields! {
    /// A ReplicaSet.
    pub struct ReplicaSet {
        pub metadata: ObjectMeta,
        pub spec: ReplicaSetSpec,
        pub status: ReplicaSetStatus,
    }
    /// What it wants.
    pub struct ReplicaSetSpec {
        pub replicas: Option<i32>,
        pub min_ready_seconds: i32,
        pub selector: Option<LabelSelector>,
        pub template: Value,
    }
    /// What it has.
    pub struct ReplicaSetStatus {
        pub replicas: i32,
        pub fully_labeled_replicas: i32,
        pub ready_replicas: i32,
        pub available_replicas: i32,
        pub terminating_replicas: Option<i32>,
        pub observed_generation: i64,
        pub conditions: Vec<Condition>,
    }
    /// A ReplicationController.
    pub struct ReplicationController {
        pub metadata: ObjectMeta,
        pub spec: ReplicationControllerSpec,
        pub status: ReplicaSetStatus,
    }
    /// What it wants.
    pub struct ReplicationControllerSpec {
        pub replicas: Option<i32>,
        pub min_ready_seconds: i32,
        pub selector: Labels,
        pub template: Value,
    }
    /// A Deployment.
    pub struct Deployment {
        pub metadata: ObjectMeta,
        pub spec: DeploymentSpec,
        pub status: DeploymentStatus,
    }
    /// What it wants.
    pub struct DeploymentSpec {
        pub replicas: Option<i32>,
        pub selector: Option<LabelSelector>,
        pub template: Value,
        pub strategy: DeploymentStrategy,
        pub min_ready_seconds: i32,
        pub revision_history_limit: Option<i32>,
        pub paused: bool,
        pub progress_deadline_seconds: Option<i32>,
    }
    /// `RollingUpdate` or `Recreate`.
    pub struct DeploymentStrategy {
        #[serde(rename = "type")]
        pub kind: String,
        pub rolling_update: Option<RollingUpdateDeployment>,
    }
    /// Bounds of a rolling update.
    pub struct RollingUpdateDeployment {
        pub max_unavailable: Option<IntOrString>,
        pub max_surge: Option<IntOrString>,
    }
    /// What it has.
    pub struct DeploymentStatus {
        pub observed_generation: i64,
        pub replicas: i32,
        pub updated_replicas: i32,
        pub ready_replicas: i32,
        pub available_replicas: i32,
        pub unavailable_replicas: i32,
        pub terminating_replicas: Option<i32>,
        pub conditions: Vec<Condition>,
        pub collision_count: Option<i32>,
    }
    /// A StatefulSet.
    pub struct StatefulSet {
        pub metadata: ObjectMeta,
        pub spec: StatefulSetSpec,
        pub status: StatefulSetStatus,
    }
    /// What it wants.
    pub struct StatefulSetSpec {
        pub replicas: Option<i32>,
        pub selector: Option<LabelSelector>,
        pub template: Value,
        pub volume_claim_templates: Vec<Value>,
        pub service_name: String,
        pub pod_management_policy: String,
        pub update_strategy: StatefulSetUpdateStrategy,
        pub revision_history_limit: Option<i32>,
        pub min_ready_seconds: i32,
        pub persistent_volume_claim_retention_policy: Option<ClaimRetentionPolicy>,
        pub ordinals: Option<StatefulSetOrdinals>,
    }
    /// `RollingUpdate` or `OnDelete`.
    pub struct StatefulSetUpdateStrategy {
        #[serde(rename = "type")]
        pub kind: String,
        pub rolling_update: Option<RollingUpdateStatefulSet>,
    }
    /// Bounds of a rolling update.
    pub struct RollingUpdateStatefulSet {
        pub partition: Option<i32>,
        pub max_unavailable: Option<IntOrString>,
    }
    /// `Retain` or `Delete`, for either end of a claim.
    pub struct ClaimRetentionPolicy {
        pub when_deleted: String,
        pub when_scaled: String,
    }
    /// Where the ordinals begin.
    pub struct StatefulSetOrdinals {
        pub start: i32,
    }
    /// What it has.
    pub struct StatefulSetStatus {
        pub observed_generation: i64,
        pub replicas: i32,
        pub ready_replicas: i32,
        pub current_replicas: i32,
        pub updated_replicas: i32,
        pub available_replicas: i32,
        pub current_revision: String,
        pub update_revision: String,
        pub collision_count: Option<i32>,
    }
    /// A DaemonSet.
    pub struct DaemonSet {
        pub metadata: ObjectMeta,
        pub spec: DaemonSetSpec,
        pub status: DaemonSetStatus,
    }
    /// What it wants.
    pub struct DaemonSetSpec {
        pub selector: Option<LabelSelector>,
        pub template: Value,
        pub update_strategy: DaemonSetUpdateStrategy,
        pub min_ready_seconds: i32,
        pub revision_history_limit: Option<i32>,
    }
    /// `RollingUpdate` or `OnDelete`.
    pub struct DaemonSetUpdateStrategy {
        #[serde(rename = "type")]
        pub kind: String,
        pub rolling_update: Option<RollingUpdateDaemonSet>,
    }
    /// Bounds of a rolling update.
    pub struct RollingUpdateDaemonSet {
        pub max_unavailable: Option<IntOrString>,
        pub max_surge: Option<IntOrString>,
    }
    /// What it has.
    pub struct DaemonSetStatus {
        pub current_number_scheduled: i32,
        pub number_misscheduled: i32,
        pub desired_number_scheduled: i32,
        pub number_ready: i32,
        pub observed_generation: i64,
        pub updated_number_scheduled: i32,
        pub number_available: i32,
        pub number_unavailable: i32,
        pub collision_count: Option<i32>,
    }
    /// A template that a StatefulSet or DaemonSet has or had, as the patch that brings it back.
    pub struct ControllerRevision {
        pub metadata: ObjectMeta,
        pub data: Value,
        pub revision: i64,
    }
    /// A PodDisruptionBudget.
    pub struct PodDisruptionBudget {
        pub metadata: ObjectMeta,
        pub spec: PodDisruptionBudgetSpec,
        pub status: PodDisruptionBudgetStatus,
    }
    /// What it protects.
    pub struct PodDisruptionBudgetSpec {
        pub min_available: Option<IntOrString>,
        pub max_unavailable: Option<IntOrString>,
        pub selector: Option<LabelSelector>,
    }
    /// What it allows.
    pub struct PodDisruptionBudgetStatus {
        pub observed_generation: i64,
        pub disruptions_allowed: i32,
        pub current_healthy: i32,
        pub desired_healthy: i32,
        pub expected_pods: i32,
        pub disrupted_pods: Labels,
        pub conditions: Vec<Condition>,
    }
}
kind!(
    ReplicaSet,
    REPLICA_SETS,
    mentions: |one| mention::of_selector(&one.metadata, one.spec.selector.as_ref())
);
kind!(
    ReplicationController,
    REPLICATION_CONTROLLERS,
    mentions: |one| mention::of_pairs(&one.metadata, &one.spec.selector)
);
kind!(
    Deployment,
    DEPLOYMENTS,
    mentions: |one| mention::of_selector(&one.metadata, one.spec.selector.as_ref())
);
kind!(
    StatefulSet,
    STATEFUL_SETS,
    mentions: |one| mention::of_selector(&one.metadata, one.spec.selector.as_ref())
);
kind!(
    DaemonSet,
    DAEMON_SETS,
    mentions: |one| mention::of_selector(&one.metadata, one.spec.selector.as_ref())
);
kind!(ControllerRevision, CONTROLLER_REVISIONS);
kind!(
    PodDisruptionBudget,
    POD_DISRUPTION_BUDGETS,
    mentions: |one| mention::of_selector(&one.metadata, one.spec.selector.as_ref())
);
