//! autoscaling/v2. Amounts stay JSON: they may be written as text or as numbers.

use super::{Condition, LabelSelector, ObjectMeta, fields, kind};
use crate::resource_ref::HORIZONTAL_POD_AUTOSCALERS;
use serde_json::Value;

fields! {
    /// A HorizontalPodAutoscaler.
    pub struct HorizontalPodAutoscaler {
        pub metadata: ObjectMeta,
        pub spec: HorizontalPodAutoscalerSpec,
        pub status: HorizontalPodAutoscalerStatus,
    }
    /// What it scales, and by what.
    pub struct HorizontalPodAutoscalerSpec {
        pub scale_target_ref: CrossVersionObjectReference,
        pub min_replicas: Option<i32>,
        pub max_replicas: i32,
        pub metrics: Vec<MetricSpec>,
        pub behavior: Option<HorizontalPodAutoscalerBehavior>,
    }
    /// An object in the namespace of another.
    pub struct CrossVersionObjectReference {
        pub kind: String,
        pub name: String,
        pub api_version: String,
    }
    /// One measure; the field of its type is set.
    pub struct MetricSpec {
        #[serde(rename = "type")]
        pub kind: String,
        pub object: Option<ObjectMetricSource>,
        pub pods: Option<PodsMetricSource>,
        pub resource: Option<ResourceMetricSource>,
        pub container_resource: Option<ContainerResourceMetricSource>,
        pub external: Option<ExternalMetricSource>,
    }
    /// A figure about an object.
    pub struct ObjectMetricSource {
        pub described_object: CrossVersionObjectReference,
        pub target: MetricTarget,
        pub metric: MetricIdentifier,
    }
    /// A figure about each pod.
    pub struct PodsMetricSource {
        pub metric: MetricIdentifier,
        pub target: MetricTarget,
    }
    /// What pods use of a resource.
    pub struct ResourceMetricSource {
        pub name: String,
        pub target: MetricTarget,
    }
    /// What a container of each pod uses of a resource.
    pub struct ContainerResourceMetricSource {
        pub name: String,
        pub container: String,
        pub target: MetricTarget,
    }
    /// A figure about something outside of the cluster.
    pub struct ExternalMetricSource {
        pub metric: MetricIdentifier,
        pub target: MetricTarget,
    }
    /// The name of a figure.
    pub struct MetricIdentifier {
        pub name: String,
        pub selector: Option<LabelSelector>,
    }
    /// What it should be: `Utilization`, `Value` or `AverageValue`.
    pub struct MetricTarget {
        #[serde(rename = "type")]
        pub kind: String,
        pub value: Option<Value>,
        pub average_value: Option<Value>,
        pub average_utilization: Option<i32>,
    }
    /// How fast it may scale.
    pub struct HorizontalPodAutoscalerBehavior {
        pub scale_up: Option<ScalingRules>,
        pub scale_down: Option<ScalingRules>,
    }
    /// The same in one direction.
    pub struct ScalingRules {
        pub stabilization_window_seconds: Option<i32>,
        pub select_policy: Option<String>,
        pub policies: Vec<ScalingPolicy>,
        pub tolerance: Option<Value>,
    }
    /// `Pods` or `Percent` within a period.
    pub struct ScalingPolicy {
        #[serde(rename = "type")]
        pub kind: String,
        pub value: i32,
        pub period_seconds: i32,
    }
    /// What became of it.
    pub struct HorizontalPodAutoscalerStatus {
        pub last_scale_time: Option<String>,
        pub current_replicas: i32,
        pub desired_replicas: i32,
        pub current_metrics: Vec<Value>,
        pub conditions: Vec<Condition>,
    }
}
kind!(HorizontalPodAutoscaler, HORIZONTAL_POD_AUTOSCALERS);
