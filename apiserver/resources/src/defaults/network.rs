//! Defaults of networking.k8s.io.

use schema::Object;
use serde_json::json;

use crate::look::{Look, each_map, fill_zero, with_map, with_spec};

/// A policy with no types speaks of ingress, and of egress when it has egress rules.
pub(crate) fn network_policy(object: &mut Object) {
    with_spec(object, |spec| {
        for rules in ["ingress", "egress"] {
            each_map(spec, rules, |rule| {
                each_map(rule, "ports", |port| fill_zero(port, "protocol", "TCP"))
            });
        }
        if spec.list("policyTypes").is_empty() {
            let types = if spec.list("egress").is_empty() {
                json!(["Ingress"])
            } else {
                json!(["Ingress", "Egress"])
            };
            spec.insert("policyTypes".to_owned(), types);
        }
    });
}

/// Parameters are cluster-scoped.
pub(crate) fn ingress_class(object: &mut Object) {
    with_map(object, &["spec", "parameters"], |parameters| {
        fill_zero(parameters, "scope", "Cluster")
    });
}
