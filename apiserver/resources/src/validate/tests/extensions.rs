//! What extends the API: definitions of kinds, and policies of admission.

use super::*;

#[test]
fn a_definition_does_not_keep_unknown_fields_as_a_whole() {
    let found = errors(
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "crons.stable.example.com"},
            "spec": {"group": "stable.example.com", "scope": "Namespaced", "names": {"plural": "crons", "kind": "Cron"},
            "preserveUnknownFields": true,
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}}),
    );
    assert_eq!(
        found,
        [
            "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        ]
    );
}

#[test]
fn mutating_policies_mutate_in_one_way_and_nothing_that_is_deleted() {
    let policy = |operation: &str, mutation: Value| {
        errors(
            json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": "p"}, "spec": {"reinvocationPolicy": "Never", "mutations": [mutation],
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                "operations": [operation], "resources": ["pods"]}]}}}),
        )
    };
    let apply = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}});
    assert_eq!(policy("CREATE", apply.clone()), [""; 0]);
    assert_eq!(
        policy("DELETE", apply.clone()),
        [
            r#"spec.operations: Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE", "UPDATE""#
        ]
    );
    let mut both = apply;
    both["jsonPatch"] = json!({"expression": "[]"});
    assert_eq!(
        policy("CREATE", both),
        [
            r#"spec.mutations[0].jsonPatch: Invalid value: "{jsonPatch}": must not be specified when patchType is ApplyConfiguration"#
        ]
    );
}
