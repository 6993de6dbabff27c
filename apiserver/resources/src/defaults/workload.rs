//! Defaults of the kinds that make pods and keep them.

use schema::Object;
use serde_json::{Map, Value, json};

use super::{pod, storage};
use crate::look::{Look, each_map, fill, fill_zero, make_map, map_in, with_spec};

/// A stored template.
pub(crate) fn pod_template(object: &mut Object) {
    pod::required_template(object.fields_mut(), "template");
}

/// RollingUpdate with a quarter down and a quarter extra.
pub(crate) fn deployment(object: &mut Object) {
    with_spec(object, |spec| {
        fill(spec, "replicas", 1);
        fill(spec, "revisionHistoryLimit", 10);
        fill(spec, "progressDeadlineSeconds", 600);
        if let Some(strategy) = make_map(spec, "strategy") {
            fill_zero(strategy, "type", "RollingUpdate");
            if strategy.text("type") == "RollingUpdate"
                && let Some(rolling) = make_map(strategy, "rollingUpdate")
            {
                fill(rolling, "maxUnavailable", "25%");
                fill(rolling, "maxSurge", "25%");
            }
        }
        pod::required_template(spec, "template");
    });
}

/// One replica.
pub(crate) fn replica_set(object: &mut Object) {
    with_spec(object, |spec| {
        fill(spec, "replicas", 1);
        pod::required_template(spec, "template");
    });
}

/// Ordered, rolling, and claims are retained.
pub(crate) fn stateful_set(object: &mut Object) {
    with_spec(object, |spec| {
        fill(spec, "replicas", 1);
        fill(spec, "revisionHistoryLimit", 10);
        fill_zero(spec, "podManagementPolicy", "OrderedReady");
        if let Some(strategy) = make_map(spec, "updateStrategy") {
            fill_zero(strategy, "type", "RollingUpdate");
            if strategy.text("type") == "RollingUpdate"
                && let Some(rolling) = make_map(strategy, "rollingUpdate")
            {
                fill(rolling, "partition", 0);
            }
        }
        if let Some(policy) = make_map(spec, "persistentVolumeClaimRetentionPolicy") {
            fill_zero(policy, "whenDeleted", "Retain");
            fill_zero(policy, "whenScaled", "Retain");
        }
        each_map(spec, "volumeClaimTemplates", |claim| {
            fill_zero(claim, "apiVersion", "v1");
            fill_zero(claim, "kind", "PersistentVolumeClaim");
            if let Some(spec) = map_in(claim, "spec") {
                storage::claim_spec(spec);
            }
            if let Some(status) = make_map(claim, "status") {
                fill_zero(status, "phase", "Pending");
            }
        });
        pod::required_template(spec, "template");
    });
}

/// One node at a time.
pub(crate) fn daemon_set(object: &mut Object) {
    with_spec(object, |spec| {
        fill(spec, "revisionHistoryLimit", 10);
        if let Some(strategy) = make_map(spec, "updateStrategy") {
            fill_zero(strategy, "type", "RollingUpdate");
            if strategy.text("type") == "RollingUpdate"
                && let Some(rolling) = make_map(strategy, "rollingUpdate")
            {
                fill(rolling, "maxUnavailable", 1);
                fill(rolling, "maxSurge", 0);
            }
        }
        pod::required_template(spec, "template");
    });
}

/// The only workload that takes its selector and labels from its template.
pub(crate) fn replication_controller(object: &mut Object) {
    let labels: Option<Map<String, Value>> = object
        .get_object(&["spec", "template", "metadata", "labels"])
        .filter(|labels| !labels.is_empty())
        .cloned();
    with_spec(object, |spec| {
        fill(spec, "replicas", 1);
        if let Some(labels) = &labels
            && spec.at("selector").as_object().is_none_or(Map::is_empty)
        {
            spec.insert("selector".to_owned(), json!(labels));
        }
        pod::template(spec, "template");
    });
    if let Some(labels) = labels {
        inherit_labels(object, labels);
    }
}

/// Labels of the template become the object's own when it has none.
pub(super) fn inherit_labels(object: &mut Object, labels: Map<String, Value>) {
    if object.labels().next().is_none() {
        object
            .metadata_mut()
            .insert("labels".to_owned(), Value::Object(labels));
    }
}
