//! Facts about a pod that more than one rule needs.

use schema::quantity::Quantity;
use serde_json::Value;

use crate::look::Look;

/// Quality of service: Guaranteed when every container limits what it requests, BestEffort when none asks for
/// anything, Burstable between. Only CPU and memory count. Pod-level resources, when set, decide instead.
pub fn qos_class(spec: &Value) -> &'static str {
    let pod_level = spec.at("resources");
    if pod_level.has("requests") || pod_level.has("limits") {
        return class(&[pod_level]);
    }
    let containers: Vec<&Value> = spec
        .list("containers")
        .iter()
        .chain(spec.list("initContainers"))
        .map(|container| container.at("resources"))
        .collect();
    class(&containers)
}

fn class(all: &[&Value]) -> &'static str {
    let amount = |resources: &Value, kind: &str, name: &str| {
        Quantity::from_json(resources.at(kind).at(name))
            .ok()
            .filter(|quantity| quantity.sign() > 0)
    };
    let (mut any, mut guaranteed) = (false, !all.is_empty());
    for resources in all {
        for name in ["cpu", "memory"] {
            let (request, limit) = (
                amount(resources, "requests", name),
                amount(resources, "limits", name),
            );
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::qos_class;

    #[test]
    fn classes() {
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}});
        let pod = |resources: &[serde_json::Value]| {
            let list: Vec<_> = resources.iter().map(|r| json!({"resources": r})).collect();
            json!({"containers": list})
        };
        assert_eq!(qos_class(&pod(std::slice::from_ref(&full))), "Guaranteed");
        assert_eq!(qos_class(&pod(&[full.clone(), json!({})])), "Burstable");
        assert_eq!(
            qos_class(&pod(&[json!({"requests": {"cpu": "1m"}})])),
            "Burstable"
        );
        assert_eq!(
            qos_class(&pod(&[json!({}), json!({"limits": {"cpu": "0"}})])),
            "BestEffort"
        );
        assert_eq!(qos_class(&json!("odd")), "BestEffort");
    }
}
