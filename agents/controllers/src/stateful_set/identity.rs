//! What makes a pod the one of its ordinal: name, labels, host name, and the volumes that are its own.

use super::{Replicas, claims};
use crate::history::{self, REVISION_LABEL};
use crate::pod_control::{pod_body, reported};
use agent_runtime::kinds::{ControllerRevision, Labels, ObjectMeta, StatefulSet};
use agent_runtime::plan::Op;
use agent_runtime::resource_ref::{PODS, STATEFUL_SETS};
use serde_json::{Map, Value, json};

const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The set and the ordinal that a name tells of. An ordinal has one form only, or two names would have the same.
pub(super) fn member(name: &str) -> Option<(&str, i64)> {
    let (parent, digits) = name.rsplit_once('-')?;
    let ordinal: i32 = digits.parse().ok().filter(|ordinal| *ordinal >= 0)?;
    (ordinal.to_string() == digits).then(|| (parent, ordinal.into()))
}

/// Whether a pod has a name of the set.
pub(super) fn is_member(set: &StatefulSet, pod: &ObjectMeta) -> bool {
    member(&pod.name).is_some_and(|(parent, _)| parent == set.metadata.name)
}

impl Replicas<'_> {
    pub(super) fn pod_name(&self, ordinal: i64) -> String {
        format!("{}-{ordinal}", self.set.metadata.name)
    }

    /// An operation on a pod with the events that tell of it.
    pub(super) fn told(&self, verb: &str, pod: &str, op: Op) -> Op {
        let (success, failure) = match verb {
            "create" => ("SuccessfulCreate", "FailedCreate"),
            "update" => ("SuccessfulUpdate", "FailedUpdate"),
            _ => ("SuccessfulDelete", "FailedDelete"),
        };
        let told = format!("{verb} Pod {pod} in StatefulSet {}", self.set.metadata.name);
        reported(
            &STATEFUL_SETS,
            &self.set.metadata,
            op,
            (success, format!("{told} successful")),
            (failure, &format!("{told} failed error: ")),
        )
    }

    pub(super) fn delete(&self, pod: &ObjectMeta) -> Op {
        self.told("delete", &pod.name, Op::delete(&PODS, pod))
    }

    /// The revision of which the pod of an ordinal is made: below the partition of a rolling update the current one.
    fn revision_for(&self, ordinal: i64) -> &ControllerRevision {
        let strategy = &self.set.spec.update_strategy;
        let partition = match (&*strategy.kind, &strategy.rolling_update) {
            ("RollingUpdate", Some(rolling)) => rolling.partition.unwrap_or(0),
            ("RollingUpdate", None) => self.set.status.current_replicas,
            _ => 0,
        };
        if ordinal < self.start + i64::from(partition) {
            &self.history.current
        } else {
            &self.history.update
        }
    }

    /// The pod of an ordinal.
    pub(super) fn pod(&self, ordinal: i64) -> Value {
        let name = self.pod_name(ordinal);
        let revision = self.revision_for(ordinal);
        let template = history::template(revision);
        let template = template.as_ref().unwrap_or(&self.set.spec.template);
        let mut pod = pod_body(&STATEFUL_SETS, &self.set.metadata, template, &name);
        let labels = object_at(&mut pod["metadata"], "labels");
        for (key, value) in identity(&name, ordinal) {
            labels.insert(key, value.into());
        }
        let revision = revision.metadata.name.as_str();
        labels.insert(REVISION_LABEL.into(), revision.into());
        let spec = object_at(&mut pod, "spec");
        spec.insert("hostname".into(), name.into());
        if !self.set.spec.service_name.is_empty() {
            spec.insert(
                "subdomain".into(),
                self.set.spec.service_name.as_str().into(),
            );
        }
        self.mount(spec, ordinal);
        pod
    }

    /// The volumes of the claims, in the place of those of the template that have their names.
    fn mount(&self, spec: &mut Map<String, Value>, ordinal: i64) {
        let mut volumes: Vec<Value> = claims::names(self.set, ordinal)
            .map(|(volume, claim)| json!({"name": volume, "persistentVolumeClaim": {"claimName": claim}}))
            .collect();
        if volumes.is_empty() {
            return;
        }
        let own = volumes.len();
        let others = spec.get("volumes").and_then(Value::as_array);
        for volume in others.into_iter().flatten() {
            if volumes[..own].iter().all(|v| v["name"] != volume["name"]) {
                volumes.push(volume.clone());
            }
        }
        spec.insert("volumes".into(), volumes.into());
    }

    /// Gives an adopted pod the labels of its name.
    pub(super) fn identify(&self, pod: &ObjectMeta, ordinal: i64) -> Option<Op> {
        if pod.labels.get(NAME_LABEL) == Some(&pod.name) {
            return None;
        }
        let body = json!({"metadata": {"uid": pod.uid, "labels": identity(&pod.name, ordinal)}});
        Some(self.told("update", &pod.name, Op::merge(&PODS, pod, body)))
    }
}

fn identity(name: &str, ordinal: i64) -> Labels {
    [
        (NAME_LABEL.to_owned(), name.to_owned()),
        (INDEX_LABEL.to_owned(), ordinal.to_string()),
    ]
    .into()
}

fn object_at<'a>(value: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    let place = &mut value[field];
    if !place.is_object() {
        *place = json!({});
    }
    place.as_object_mut().expect("it was made one above")
}
