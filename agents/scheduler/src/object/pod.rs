//! Pods.

use super::affinity::{preferred_terms, required_terms, weight};
use super::group;
use super::port::host_ports;
use super::pressure::sensitivity;
use super::taint::toleration;
use super::template::Template;
use super::{
    AffinityTerm, DEFAULT_SCHEDULER, SpreadConstraint, Taint, alike, controller_uid, field, text,
};
use crate::devices::claim::{ClaimSource, PodClaim, pod_claims};
use crate::devices::extended::askings;
use crate::resources::{items, pod_requests};
use crate::selector::{Labels, labels};
use crate::volume::object::{PodVolume, pod_volumes};
use agent_runtime::kinds::{Few, Time};
use agent_runtime::timestamp::{self, Micros};
use serde::Deserializer;
use serde_json::Value;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A pod, compiled.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The identity of this incarnation.
    pub uid: String,
    /// The revision that this was read from.
    pub resource_version: Box<str>,
    /// `metadata.generation`.
    pub generation: i64,
    /// Labels.
    pub labels: Labels,
    /// `metadata.creationTimestamp`, 0 where there is none.
    pub created: Micros,
    /// Whether deletion was asked for.
    pub deleting: bool,
    /// Whether it ran to its end (`Succeeded` or `Failed`) and uses nothing any more.
    pub finished: bool,
    /// Whether that end was a good one.
    pub succeeded: bool,
    /// `spec.nodeName`, empty when not yet bound.
    pub node_name: String,
    /// `spec.priority`.
    pub priority: i32,
    /// `status.nominatedNodeName`.
    pub nominated_node: Box<str>,
    /// `status.startTime`, 0 when not started.
    pub started: Micros,
    /// By when it should be through, for the profiles that sort by that.
    pub deadline: Time,
    /// What it has alike with others, whose fields are this pod's.
    pub template: Arc<Template>,
    /// Volumes that matter to where it runs.
    pub volumes: Few<PodVolume>,
    /// Claims on devices.
    pub resource_claims: Few<PodClaim>,
    /// The `PodScheduled` condition as (status, reason, message), where it is `False`.
    pub scheduled_condition: Option<Box<(String, String, String)>>,
}

/// Reads as if its template's fields were its own.
impl Deref for Pod {
    type Target = Template;

    fn deref(&self) -> &Template {
        &self.template
    }
}

/// A change is of this pod alone.
impl DerefMut for Pod {
    fn deref_mut(&mut self) -> &mut Template {
        Arc::make_mut(&mut self.template)
    }
}

impl Pod {
    /// Compiles an API object, which may lack what the list of unread fields names.
    pub fn compile(object: &Value) -> Pod {
        let namespace = text(object, "/metadata/namespace");
        let pod_labels = labels(field(object, "/metadata/labels"));
        let template = Template::compile(object, &namespace, &pod_labels).shared();
        let spec = object.get("spec").unwrap_or(&Value::Null);
        Pod::of_template(object, spec, namespace, pod_labels, template)
    }

    /// Reads an API object, and compiles it.
    ///
    /// # Errors
    /// What is read is no JSON object.
    pub(crate) fn read<'de, D: Deserializer<'de>>(decoder: D) -> Result<Pod, D::Error> {
        alike::read(decoder)
    }

    /// Compiles what is not of its template. The spec is given besides the object, which may have none.
    pub(super) fn of_template(
        object: &Value,
        spec: &Value,
        namespace: String,
        labels: Labels,
        template: Arc<Template>,
    ) -> Pod {
        let status = object.get("status").unwrap_or(&Value::Null);
        Pod {
            template,
            name: text(object, "/metadata/name"),
            uid: text(object, "/metadata/uid"),
            resource_version: text(object, "/metadata/resourceVersion").into(),
            generation: field(object, "/metadata/generation")
                .and_then(Value::as_i64)
                .unwrap_or(0),
            created: moment(object, "/metadata/creationTimestamp"),
            deleting: field(object, "/metadata/deletionTimestamp").is_some_and(Value::is_string),
            finished: matches!(
                text(object, "/status/phase").as_str(),
                "Succeeded" | "Failed"
            ),
            node_name: text(spec, "/nodeName"),
            priority: spec
                .get("priority")
                .and_then(Value::as_i64)
                .and_then(|p| p.try_into().ok())
                .unwrap_or(0),
            nominated_node: text(object, "/status/nominatedNodeName").into(),
            started: moment(object, "/status/startTime"),
            succeeded: group::succeeded(object),
            deadline: group::deadline(object, spec).into(),
            volumes: pod_volumes(&text(object, "/metadata/name"), spec).into(),
            resource_claims: pod_claims(spec, status).into(),
            scheduled_condition: field(object, "/status/conditions")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .find(|condition| text(condition, "/type") == "PodScheduled")
                .map(|c| (text(c, "/status"), text(c, "/reason"), text(c, "/message")))
                .filter(|(status, ..)| status == "False")
                .map(Box::new),
            labels,
            namespace,
        }
    }

    /// Whether it counts for the same as the other does, where both occupy the same node: all but how it fares there.
    pub(crate) fn counts_as(&self, other: &Pod) -> bool {
        // Named one by one, so that a field that is added has to be put on one side or the other.
        let Pod {
            namespace,
            name,
            uid,
            resource_version: _,
            generation: _,
            labels,
            created,
            deleting,
            finished,
            succeeded,
            node_name: _,
            priority,
            nominated_node: _,
            started: _,
            deadline,
            template,
            volumes,
            resource_claims,
            scheduled_condition: _,
        } = self;
        *namespace == other.namespace
            && *name == other.name
            && *uid == other.uid
            && *labels == other.labels
            && *created == other.created
            && *deleting == other.deleting
            && *finished == other.finished
            && *succeeded == other.succeeded
            && *priority == other.priority
            && *deadline == other.deadline
            && (Arc::ptr_eq(template, &other.template) || *template == other.template)
            && *volumes == other.volumes
            && *resource_claims == other.resource_claims
    }

    /// Since when it runs. One that has not started yet comes after all that have, as if it started now.
    pub(crate) fn running_since(&self) -> Micros {
        match self.started {
            0 => Micros::MAX,
            started => started,
        }
    }

    /// Whether a node with this name and these labels satisfies `nodeSelector` and required node affinity.
    pub fn wants_node(&self, name: &str, labels: &Labels) -> bool {
        self.node_selector
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
            && self
                .required_nodes
                .as_ref()
                .is_none_or(|terms| terms.iter().any(|term| term.matches(name, labels)))
    }

    /// Whether every taint that keeps pods out (`NoSchedule`, `NoExecute`) is tolerated.
    pub fn tolerates_all(&self, taints: &[Taint]) -> bool {
        let keeps_out =
            |taint: &&Taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute";
        taints
            .iter()
            .filter(keeps_out)
            .all(|taint| self.tolerations.iter().any(|t| t.tolerates(taint)))
    }

    /// The names of the claims that it uses, those made for it included.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.volumes.iter().filter_map(|volume| match volume {
            PodVolume::Claim(name) | PodVolume::Ephemeral(name) => Some(name.as_str()),
            PodVolume::Disk(_) => None,
        })
    }

    /// The names of the claims that it names itself.
    pub fn named_claims(&self) -> impl Iterator<Item = &str> {
        self.volumes.iter().filter_map(|volume| match volume {
            PodVolume::Claim(name) => Some(name.as_str()),
            PodVolume::Ephemeral(_) | PodVolume::Disk(_) => None,
        })
    }

    /// The names of the claims on devices that it names itself, or that are known to be made for it.
    pub fn device_claims(&self) -> impl Iterator<Item = &str> {
        self.resource_claims
            .iter()
            .filter_map(|claim| match &claim.source {
                ClaimSource::Named(name) | ClaimSource::Made(Some(name)) => Some(name.as_str()),
                ClaimSource::Made(None) | ClaimSource::Needless | ClaimSource::Unknown => None,
            })
    }

    /// Whether it needs what is claimed: volumes or devices.
    pub fn has_claims(&self) -> bool {
        !self.volumes.is_empty() || !self.resource_claims.is_empty()
    }

    /// Whether it takes part in affinity in either direction.
    pub fn has_affinity(&self) -> bool {
        !self.affinity.is_empty()
            || !self.anti_affinity.is_empty()
            || !self.preferred_affinity.is_empty()
    }
}

impl Template {
    /// Compiles that of an API object in a namespace and with these labels.
    pub(super) fn compile(object: &Value, namespace: &str, pod_labels: &Labels) -> Template {
        let null = Value::Null;
        let spec = object.get("spec").unwrap_or(&null);
        let terms = |path: &str| -> Vec<AffinityTerm> {
            let terms = field(spec, path)
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            terms
                .map(|term| AffinityTerm::parse(term, namespace, pod_labels))
                .collect()
        };
        let weighted = |path: &str, sign: i64| -> Vec<(i64, AffinityTerm)> {
            let terms = field(spec, path)
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            let empty = Value::Null;
            terms
                .map(|term| {
                    let inner = term.get("podAffinityTerm").unwrap_or(&empty);
                    (
                        sign * weight(term),
                        AffinityTerm::parse(inner, namespace, pod_labels),
                    )
                })
                .collect()
        };
        let node_affinity = field(spec, "/affinity/nodeAffinity").unwrap_or(&null);
        let status = object.get("status").unwrap_or(&null);
        let scored = pod_requests(spec, status, true);
        let mut preferred_affinity = weighted(
            "/affinity/podAffinity/preferredDuringSchedulingIgnoredDuringExecution",
            1,
        );
        preferred_affinity.extend(weighted(
            "/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution",
            -1,
        ));
        Template {
            controller_uid: controller_uid(object),
            scheduler_name: Some(text(spec, "/schedulerName"))
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| DEFAULT_SCHEDULER.into()),
            group: group::group(object, spec),
            may_preempt: text(spec, "/preemptionPolicy") != "Never",
            gates: group::gates(spec),
            pressure_sensitivity: sensitivity(object),
            requests: pod_requests(spec, status, false),
            scored: (scored.milli_cpu, scored.memory),
            host_ports: host_ports(spec),
            images: images(spec),
            node_selector: labels(spec.get("nodeSelector")),
            required_nodes: required_terms(node_affinity),
            preferred_nodes: preferred_terms(node_affinity),
            tolerations: items(spec, "tolerations").map(toleration).collect(),
            affinity: terms("/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution"),
            anti_affinity: terms(
                "/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution",
            ),
            preferred_affinity,
            extended: askings(spec),
            spread: items(spec, "topologySpreadConstraints")
                .map(|c| SpreadConstraint::parse(c, pod_labels))
                .collect(),
        }
    }
}

/// The time at a JSON pointer, 0 when there is none.
fn moment(object: &Value, pointer: &str) -> Micros {
    let text = field(object, pointer).and_then(Value::as_str);
    text.and_then(timestamp::parse).unwrap_or(0)
}

/// Image names as nodes report them: with `:latest` when neither tag nor digest is given.
fn images(spec: &Value) -> Vec<String> {
    let containers = items(spec, "initContainers")
        .chain(items(spec, "containers"))
        .map(|c| text(c, "/image"));
    let volumes = items(spec, "volumes")
        .map(|v| text(v, "/image/reference"))
        .filter(|image| !image.is_empty());
    containers
        .chain(volumes)
        .map(|image| {
            let tagged = image.rfind(':') > image.rfind('/');
            if tagged {
                image
            } else {
                format!("{image}:latest")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn images_without_tag_mean_latest() {
        let spec = json!({"containers": [{"image": "nginx"}, {"image": "reg:5000/app"}, {"image": "reg:5000/app:1"}]});
        assert_eq!(
            images(&spec),
            ["nginx:latest", "reg:5000/app:latest", "reg:5000/app:1"]
        );
    }
}
