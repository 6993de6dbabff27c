//! Horizontal pod autoscalers in both shapes.

use schema::Object;
use serde_json::Value;

use super::Column;
use super::{AGE, NAME, NONE, UNKNOWN, UNSET, age, count, name, text};
use crate::defaults::storage::canonical;
use crate::look::{Look, spec, status};

pub(crate) const SCALER: &[Column] = &[
    NAME,
    text("Reference", "What is scaled."),
    text("Targets", "Measured and wanted values of the metrics."),
    text("MinPods", "Fewest replicas."),
    text("MaxPods", "Most replicas."),
    text("Replicas", "Replicas that exist."),
    AGE,
];

fn row(object: &Object, targets: String, now: i64) -> Vec<Value> {
    let spec = spec(object);
    let target = spec.at("scaleTargetRef");
    vec![
        name(object),
        format!("{}/{}", target.text("kind"), target.text("name")).into(),
        targets.into(),
        spec.int("minReplicas")
            .map_or_else(|| UNSET.into(), |least| least.to_string().into()),
        count(spec, "maxReplicas"),
        count(status(object), "currentReplicas"),
        age(object, now),
    ]
}

pub(crate) fn scaler_v2(object: &Object, now: i64) -> Vec<Value> {
    let current = status(object).list("currentMetrics");
    let metrics: Vec<String> = spec(object)
        .list("metrics")
        .iter()
        .enumerate()
        .map(|(at, metric)| describe(metric, current.get(at).unwrap_or(&Value::Null)))
        .collect();
    let targets = match metrics.len() {
        0 => NONE.to_owned(),
        1 | 2 => metrics.join(", "),
        many => format!("{} + {} more...", metrics[..2].join(", "), many - 2),
    };
    row(object, targets, now)
}

/// `measured/wanted` of one metric.
fn describe(metric: &Value, measured: &Value) -> String {
    let (source, prefix) = match metric.text("type") {
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "External" => ("external", false),
        _ => return "<unknown type>".to_owned(),
    };
    let target = metric.at(source).at("target");
    let current = measured.at(source).at("current");
    let amount = |value: &Value, field: &str| match canonical(value.at(field)) {
        text if text.is_empty() => UNKNOWN.to_owned(),
        text => text,
    };
    let text = if prefix && !target.has("averageValue") {
        let now = current
            .int("averageUtilization")
            .map_or_else(|| UNKNOWN.to_owned(), |percent| format!("{percent}%"));
        let wanted = target
            .int("averageUtilization")
            .map_or_else(|| "<auto>".to_owned(), |percent| format!("{percent}%"));
        format!("{now}/{wanted}")
    } else if target.has("averageValue") {
        let average = if matches!(source, "object" | "external") {
            " (avg)"
        } else {
            ""
        };
        format!(
            "{}/{}{average}",
            amount(current, "averageValue"),
            amount(target, "averageValue")
        )
    } else {
        format!("{}/{}", amount(current, "value"), amount(target, "value"))
    };
    if prefix {
        format!("{}: {text}", metric.at(source).text("name"))
    } else {
        text
    }
}

pub(crate) fn scaler_v1(object: &Object, now: i64) -> Vec<Value> {
    let percent = |value: Option<i64>| {
        value.map_or_else(|| UNKNOWN.to_owned(), |percent| format!("{percent}%"))
    };
    let wanted = spec(object).int("targetCPUUtilizationPercentage");
    let targets = match wanted {
        Some(_) => {
            format!(
                "cpu: {}/{}",
                percent(status(object).int("currentCPUUtilizationPercentage")),
                percent(wanted)
            )
        }
        None => NONE.to_owned(),
    };
    row(object, targets, now)
}
