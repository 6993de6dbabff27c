//! Defaults of horizontal pod autoscalers in both shapes.

use schema::Object;
use serde_json::{Map, Value, json};

use crate::look::{Look, fill, make_map, with_spec};

/// At least one replica, and CPU at 80 % when no metric is named.
pub(crate) fn v2(object: &mut Object) {
    with_spec(object, |spec| {
        fill(spec, "minReplicas", 1);
        if spec.list("metrics").is_empty() {
            spec.insert(
                "metrics".to_owned(),
                json!([{"type": "Resource", "resource": {"name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": 80}}}]),
            );
        }
        if let Some(behavior) = spec.get_mut("behavior").and_then(Value::as_object_mut) {
            if let Some(up) = make_map(behavior, "scaleUp") {
                fill(up, "stabilizationWindowSeconds", 0);
                rules(
                    up,
                    json!([{"type": "Pods", "value": 4, "periodSeconds": 15},
                        {"type": "Percent", "value": 100, "periodSeconds": 15}]),
                );
            }
            if let Some(down) = make_map(behavior, "scaleDown") {
                rules(
                    down,
                    json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]),
                );
            }
        }
    });
}

fn rules(rules: &mut Map<String, Value>, policies: Value) {
    fill(rules, "selectPolicy", "Max");
    if rules.list("policies").is_empty() {
        rules.insert("policies".to_owned(), policies);
    }
}

/// At least one replica; the CPU target is added by the conversion to v2.
pub(crate) fn v1(object: &mut Object) {
    with_spec(object, |spec| fill(spec, "minReplicas", 1));
}
