//! The two kinds that exist in two shapes: events (core/v1 and events.k8s.io/v1) and horizontal pod autoscalers
//! (autoscaling/v1 and v2). One shape is stored; these functions rewrite the other.

use schema::Object;
use serde_json::{Map, Value, json};

use crate::look::{Look, make_map, with_map};

/// Names of the same field in core/v1 and in events.k8s.io/v1.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// Texts that core/v1 writes even where they are empty, and events.k8s.io/v1 does not. By their names in core/v1.
const EVENT_TEXTS: [&str; 2] = ["reportingComponent", "reportingInstance"];

fn rename(object: &mut Object, from: &str, to: &str) {
    if let Some(value) = object.fields_mut().remove(from) {
        object.fields_mut().insert(to.to_owned(), value);
    }
}

/// events.k8s.io/v1 to core/v1.
pub(crate) fn event_to_core(object: &mut Object) {
    object.set_api_version("v1");
    for (old, new) in EVENT_FIELDS {
        rename(object, new, old);
    }
    let fields = object.fields_mut();
    // Parts of an event stay parts: an event as a whole says what it is about.
    if fields.contains_key("involvedObject") {
        for name in EVENT_TEXTS {
            fields.entry(name).or_insert_with(|| "".into());
        }
    }
}

/// core/v1 to events.k8s.io/v1.
pub(crate) fn event_from_core(object: &mut Object) {
    object.set_api_version("events.k8s.io/v1");
    for name in EVENT_TEXTS {
        if object.at(name) == "" {
            object.fields_mut().remove(name);
        }
    }
    for (old, new) in EVENT_FIELDS {
        rename(object, old, new);
    }
}

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

fn take_annotation(object: &mut Object, key: &str) -> Option<Value> {
    let text = object.remove_annotation(key)?;
    serde_json::from_str(&text).ok()
}

fn is_cpu(metric: &Value) -> bool {
    metric.text("type") == "Resource" && metric.at("resource").text("name") == "cpu"
}

/// autoscaling/v1 to v2: the CPU target becomes a metric; what v1 has no field for comes back from annotations.
pub(crate) fn scaler_to_v2(object: &mut Object) {
    object.set_api_version("autoscaling/v2");
    let others = take_annotation(object, METRICS);
    let current = take_annotation(object, CURRENT_METRICS);
    let conditions = take_annotation(object, CONDITIONS);
    let behavior = take_annotation(object, BEHAVIOR);
    with_map(object, &["spec"], |spec| {
        let target = spec
            .remove("targetCPUUtilizationPercentage")
            .filter(|target| !target.is_null());
        let mut metrics = others
            .as_ref()
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let target = if target.is_none() && metrics.is_empty() {
            Some(80.into())
        } else {
            target
        };
        if let Some(target) = target {
            metrics.push(json!({"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": target}}}));
        }
        spec.insert("metrics".to_owned(), Value::Array(metrics));
        if let Some(behavior @ Value::Object(_)) = behavior {
            spec.insert("behavior".to_owned(), behavior);
        }
    });
    let has_status = object.at("status").is_object();
    if (has_status || current.is_some() || conditions.is_some())
        && let Some(status) = make_map(object.fields_mut(), "status")
    {
        let mut metrics = current
            .and_then(|c| c.as_array().cloned())
            .unwrap_or_default();
        if let Some(percent) = status
            .remove("currentCPUUtilizationPercentage")
            .filter(|p| !p.is_null())
        {
            metrics.push(json!({"type": "Resource", "resource": {"name": "cpu",
                    "current": {"averageUtilization": percent}}}));
        }
        if !metrics.is_empty() {
            status.insert("currentMetrics".to_owned(), Value::Array(metrics));
        }
        if let Some(conditions @ Value::Array(_)) = conditions {
            status.insert("conditions".to_owned(), conditions);
        }
    }
}

/// autoscaling/v2 to v1: everything that has no field there is kept in annotations.
pub(crate) fn scaler_from_v2(object: &mut Object) {
    object.set_api_version("autoscaling/v1");
    let mut notes: Vec<(&str, Value)> = Vec::new();
    with_map(object, &["spec"], |spec| {
        let (cpu, others) = split(spec, "metrics", |metric| {
            metric.at("resource").at("target").has("averageUtilization")
        });
        if let Some(cpu) = cpu {
            let target = cpu
                .at("resource")
                .at("target")
                .at("averageUtilization")
                .clone();
            spec.insert("targetCPUUtilizationPercentage".to_owned(), target);
        }
        if !others.is_empty() {
            notes.push((METRICS, Value::Array(others)));
        }
        if let Some(behavior) = spec.remove("behavior").filter(Value::is_object) {
            notes.push((BEHAVIOR, behavior));
        }
    });
    with_map(object, &["status"], |status| {
        let (cpu, others) = split(status, "currentMetrics", |metric| {
            metric
                .at("resource")
                .at("current")
                .has("averageUtilization")
        });
        if let Some(cpu) = cpu {
            let percent = cpu
                .at("resource")
                .at("current")
                .at("averageUtilization")
                .clone();
            status.insert("currentCPUUtilizationPercentage".to_owned(), percent);
        }
        if !others.is_empty() {
            notes.push((CURRENT_METRICS, Value::Array(others)));
        }
        if let Some(conditions) = status
            .remove("conditions")
            .filter(|c| c.as_array().is_some_and(|c| !c.is_empty()))
        {
            notes.push((CONDITIONS, conditions));
        }
    });
    for (key, value) in notes {
        object.set_annotation(key, &value.to_string());
    }
}

/// Takes the list out; gives its first CPU metric that fits, and the others.
fn split(
    map: &mut Map<String, Value>,
    key: &str,
    fits: impl Fn(&Value) -> bool,
) -> (Option<Value>, Vec<Value>) {
    let Some(Value::Array(mut list)) = map.remove(key) else {
        return (None, Vec::new());
    };
    match list
        .iter()
        .position(|metric| is_cpu(metric) && fits(metric))
    {
        Some(at) => (Some(list.remove(at)), list),
        None => (None, list),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_go_there_and_back() {
        let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "note": "n",
            "regarding": {"kind": "Pod"}, "reportingController": "c", "deprecatedCount": 2, "eventTime": "t", "action": "a"});
        let mut object = Object::new(event.clone()).unwrap();
        event_to_core(&mut object);
        assert_eq!(object.get_str(&["involvedObject", "kind"]), Some("Pod"));
        assert_eq!(
            (object.api_version(), object.get_str(&["message"])),
            ("v1", Some("n"))
        );
        assert_eq!(object.get_str(&["reportingInstance"]), Some(""));
        event_from_core(&mut object);
        assert_eq!(object.into_value(), event);
        let bare = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": {},
            "reportingComponent": "", "reportingInstance": ""});
        let mut object = Object::new(bare.clone()).unwrap();
        event_from_core(&mut object);
        let texts = [
            "reportingController",
            "reportingComponent",
            "reportingInstance",
        ];
        assert!(texts.iter().all(|name| object.at(name).is_null()));
        event_to_core(&mut object);
        assert_eq!(object.into_value(), bare);
    }

    #[test]
    fn autoscalers_go_there_and_back() {
        let v2 = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "behavior": {"scaleUp": {"selectPolicy": "Max"}}, "metrics": [
                {"type": "Pods", "pods": {"metric": {"name": "m"}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]},
            "status": {"currentReplicas": 1, "conditions": [{"type": "AbleToScale"}], "currentMetrics": [
                {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 9}}}]}});
        let mut object = Object::new(v2.clone()).unwrap();
        scaler_from_v2(&mut object);
        assert_eq!(
            object.get_i64(&["spec", "targetCPUUtilizationPercentage"]),
            Some(50)
        );
        assert_eq!(
            object.get_i64(&["status", "currentCPUUtilizationPercentage"]),
            Some(9)
        );
        assert!(
            object
                .annotation(METRICS)
                .is_some_and(|text| text.contains("Pods"))
        );
        scaler_to_v2(&mut object);
        let mut back = object.into_value();
        if let Some(metadata) = back["metadata"].as_object_mut() {
            metadata.retain(|key, value| {
                key != "annotations" || value.as_object().is_some_and(|map| !map.is_empty())
            });
        }
        assert_eq!(back, v2);
        let mut plain = Object::new(json!({"metadata": {}, "spec": {"maxReplicas": 2}})).unwrap();
        scaler_to_v2(&mut plain);
        assert_eq!(
            plain.at("spec").list("metrics")[0]["resource"]["target"]["averageUtilization"],
            80
        );
    }
}
