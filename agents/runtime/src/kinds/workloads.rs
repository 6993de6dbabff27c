//! Controllers of pods. Pod templates stay JSON: they are copied into pods and compared as a whole.

use super::{Condition, IntOrString, LabelSelector, Labels, ObjectMeta, fields, kind};
use crate::resource_ref::{
    DAEMON_SETS, DEPLOYMENTS, JOBS, POD_DISRUPTION_BUDGETS, REPLICA_SETS, REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
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
    /// A StatefulSet, as far as others look at it.
    pub struct StatefulSet {
        pub metadata: ObjectMeta,
        pub spec: StatefulSetSpec,
    }
    /// What it wants.
    pub struct StatefulSetSpec {
        pub replicas: Option<i32>,
        pub selector: Option<LabelSelector>,
        pub template: Value,
    }
    /// A DaemonSet, as far as others look at it.
    pub struct DaemonSet {
        pub metadata: ObjectMeta,
        pub spec: DaemonSetSpec,
    }
    /// What it wants.
    pub struct DaemonSetSpec {
        pub selector: Option<LabelSelector>,
        pub template: Value,
    }
    /// A Job, as far as others look at it.
    pub struct Job {
        pub metadata: ObjectMeta,
        pub spec: Value,
        pub status: Value,
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
kind!(ReplicaSet, REPLICA_SETS);
kind!(ReplicationController, REPLICATION_CONTROLLERS);
kind!(Deployment, DEPLOYMENTS);
kind!(StatefulSet, STATEFUL_SETS);
kind!(DaemonSet, DAEMON_SETS);
kind!(Job, JOBS);
kind!(PodDisruptionBudget, POD_DISRUPTION_BUDGETS);
