//! What nodes and pods use.

use schema::Object;
use schema::quantity::{Format, Quantity};
use serde_json::Value;

use super::Column;
use super::{NAME, name, quantity, text};
use crate::look::Look;

pub(crate) const FIGURES: &[Column] = &[
    NAME,
    quantity("cpu", "Processors in use."),
    quantity("memory", "Memory in use that cannot be taken back."),
    text(
        "Window",
        "The time over which the use of processors was measured.",
    ),
];

pub(crate) fn node(object: &Object, _now: i64) -> Vec<Value> {
    row(object, &[object.at("usage")])
}

/// The sum over the containers.
pub(crate) fn pod(object: &Object, _now: i64) -> Vec<Value> {
    let containers = object.at("containers").as_array().into_iter().flatten();
    let usages: Vec<&Value> = containers.map(|one| one.at("usage")).collect();
    row(object, &usages)
}

fn row(object: &Object, usages: &[&Value]) -> Vec<Value> {
    let sum = |resource: &str, format: Format| {
        let read = |usage: &&Value| Quantity::from_json(usage.at(resource)).ok();
        let nanos = usages.iter().filter_map(read).map(Quantity::nanos);
        let total = nanos.fold(0, i128::saturating_add);
        Value::from(Quantity::from_nanos(total, format).to_string())
    };
    vec![
        name(object),
        sum("cpu", Format::DecimalSi),
        sum("memory", Format::BinarySi),
        object.at("window").as_str().unwrap_or_default().into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_uses_what_its_containers_use() {
        let usage = |cpu: &str, memory: &str| json!({"usage": {"cpu": cpu, "memory": memory}});
        let object = json!({"metadata": {"name": "web"}, "window": "10.5s",
            "containers": [usage("1500000n", "1Mi"), usage("250m", "512Ki"), {"usage": 1}, 7]});
        let row = pod(&Object::new(object).unwrap(), 0);
        assert_eq!(row, ["web", "251500u", "1536Ki", "10.5s"].map(Value::from));
    }
}
