//! Labels that a pod shares with the pods it goes together with, or does not, become part of the selectors that name them:
//! [`merge`] is what a create does to `matchLabelKeys` and `mismatchLabelKeys`.

use schema::Object;
use serde_json::{Map, Value, json};

use crate::look::{Look, each_map, map_in, with_map};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Adds what the keys stand for to the selectors of affinity and of spread.
pub(crate) fn merge(pod: &mut Object) {
    let spec = pod.at("spec");
    if !spec.has("affinity") && !spec.has("topologySpreadConstraints") {
        return;
    }
    let labels = pod.at("metadata").at("labels").clone();
    with_map(pod, &["spec"], |spec| {
        each_map(spec, "topologySpreadConstraints", |term| {
            add(term, &labels);
        });
        let Some(affinity) = map_in(spec, "affinity") else {
            return;
        };
        for kind in ["podAffinity", "podAntiAffinity"] {
            let Some(pods) = map_in(affinity, kind) else {
                continue;
            };
            each_map(pods, REQUIRED, |term| add(term, &labels));
            each_map(pods, PREFERRED, |weighted| {
                if let Some(term) = map_in(weighted, "podAffinityTerm") {
                    add(term, &labels);
                }
            });
        }
    });
}

fn add(term: &mut Map<String, Value>, labels: &Value) {
    let mut more = Vec::new();
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in term.texts(field) {
            if let Some(value) = labels.at(key).as_str() {
                more.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    // A selector that is not there selects nothing, and goes on doing so.
    let Some(selector) = map_in(term, "labelSelector").filter(|_| !more.is_empty()) else {
        return;
    };
    let list = selector
        .entry("matchExpressions")
        .or_insert_with(|| Value::Array(Vec::new()));
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    if let Value::Array(list) = list {
        list.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_expressions() {
        let term = json!({"topologyKey": "zone", "matchLabelKeys": ["hash", "absent"], "mismatchLabelKeys": ["tenant"],
            "labelSelector": {"matchLabels": {"app": "a"}}});
        let mut pod = Object::new(
            json!({"metadata": {"labels": {"hash": "h", "tenant": "t"}}, "spec": {
            "affinity": {"podAntiAffinity": {
                PREFERRED: [{"weight": 1, "podAffinityTerm": term}],
                REQUIRED: [{"topologyKey": "zone", "matchLabelKeys": ["hash"]}]}},
            "topologySpreadConstraints": [{"matchLabelKeys": ["hash"], "labelSelector": {}}]}}),
        )
        .unwrap();
        merge(&mut pod);
        let hash = json!({"key": "hash", "operator": "In", "values": ["h"]});
        let spec = pod.at("spec");
        let terms = spec.at("affinity").at("podAntiAffinity");
        assert_eq!(
            terms[PREFERRED][0]["podAffinityTerm"]["labelSelector"],
            json!({"matchLabels": {"app": "a"}, "matchExpressions": [
                hash, {"key": "tenant", "operator": "NotIn", "values": ["t"]}]})
        );
        assert!(!terms[REQUIRED][0].has("labelSelector"));
        let spread = &spec.at("topologySpreadConstraints")[0]["labelSelector"];
        assert_eq!(spread, &json!({"matchExpressions": [hash]}));
    }
}
