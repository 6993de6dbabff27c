//! Validation rules of custom resources, and policies about them.

use serde_json::{Value, json};

use crate::definitions::{DEFINITIONS, WIDGETS, definition, widget};
use crate::server::Server;

fn schema() -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object",
        "x-kubernetes-validations": [
            {"rule": "self.min <= self.max", "messageExpression": "'min ' + string(self.min) + ' is above max'", "fieldPath": ".min"}],
        "required": ["min"],
        "properties": {
            "min": {"type": "integer"}, "max": {"type": "integer", "default": 5},
            "kind-of": {"type": "string", "maxLength": 20, "x-kubernetes-validations": [
                {"rule": "self == oldSelf", "message": "kind-of is immutable", "reason": "FieldValueForbidden"}]},
            "parts": {"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 10,
                "x-kubernetes-validations": [{"rule": "self.startsWith('p')"}]}}}}}})
}

async fn start(schema: Value) -> Server {
    let server = Server::start().await;
    server
        .post(DEFINITIONS, definition("example.com", "Widget", schema))
        .await
        .ok();
    server
}

#[tokio::test]
async fn rules_judge_what_is_written() {
    let server = start(schema()).await;
    let refused = server.post(WIDGETS, widget("a", json!({"min": 6}))).await;
    let head = "Widget.example.com \"a\" is invalid: ";
    let text = format!("{head}spec.min: Invalid value: min 6 is above max");
    assert_eq!(refused.refused(), (422, "Invalid", &*text));
    let refused = server
        .post(WIDGETS, widget("a", json!({"max": 1, "parts": ["q"]})))
        .await;
    let text = refused.refused().2;
    assert!(text.contains("spec.min: Required value"), "{text}");
    assert!(text.contains("<nil>: Invalid value: null: some validation rules were not checked because the object was invalid"), "{text}");
    server
        .post(
            WIDGETS,
            widget("a", json!({"min": 1, "kind-of": "x", "parts": ["p1"]})),
        )
        .await
        .ok();
    let path = format!("{WIDGETS}/a");
    let patch = json!({"spec": {"kind-of": "y", "parts": ["p1", "q"]}});
    let refused = server.patch(&path, "merge-patch+json", patch).await;
    let text = format!(
        "{head}[spec.kind-of: Forbidden: kind-of is immutable, spec.parts[1]: Invalid value: \"q\": failed rule: self.startsWith('p')]"
    );
    assert_eq!(refused.refused(), (422, "Invalid", &*text));
}

#[tokio::test]
async fn rules_that_came_later_only_warn_of_what_stays_as_it_was() {
    let mut before = schema();
    before["properties"]["spec"]
        .as_object_mut()
        .unwrap()
        .remove("x-kubernetes-validations");
    before["properties"]["spec"]["properties"]["parts"]["items"] = json!({"type": "string"});
    let server = start(before).await;
    let spec = json!({"min": 6, "max": 5, "parts": ["q"]});
    server.post(WIDGETS, widget("a", spec)).await.ok();
    let mut newer = definition("example.com", "Widget", schema());
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let current = server.get(&path).await.ok();
    newer["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"].clone();
    server.put(&path, newer).await.ok();
    let path = format!("{WIDGETS}/a");
    let patch = json!({"metadata": {"labels": {"a": "b"}}});
    let answer = server.patch(&path, "merge-patch+json", patch).await;
    let warning = answer
        .headers
        .get("warning")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    assert!(warning.contains("min 6 is above max"), "{warning}");
    answer.ok();
    let patch = json!({"spec": {"max": 4}});
    let refused = server.patch(&path, "merge-patch+json", patch).await;
    assert_eq!(refused.code, 422, "{}", refused.text);
    // What stays as it was is told of here, too.
    let warning = refused.headers.get("warning").unwrap();
    let warning = warning.to_str().unwrap();
    assert!(
        warning.contains("spec.parts[0]: Invalid value"),
        "{warning}"
    );
}

#[tokio::test]
async fn definitions_with_wrong_rules_are_refused() {
    let server = Server::start().await;
    let refusal = |rule: &str| {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "list": {"type": "array", "items": {"type": "string"}, "x-kubernetes-validations": [{"rule": rule}]}}}}});
        let definition = definition("example.com", "Widget", schema);
        let server = &server;
        async move {
            let refused = server.post(DEFINITIONS, definition).await;
            let (code, reason, text) = refused.refused();
            assert_eq!((code, reason), (422, "Invalid"));
            text.to_owned()
        }
    };
    let path = "spec.validation.openAPIV3Schema.properties[spec].properties[list].x-kubernetes-validations[0].rule: ";
    let head = "CustomResourceDefinition.apiextensions.k8s.io \"widgets.example.com\" is invalid: ";
    assert_eq!(
        refusal("self.x == 1").await,
        format!(
            "{head}{path}Invalid value: \"self.x == 1\": compilation failed: ERROR: <input>:1:5: type 'list(string)' does not support field selection\n | self.x == 1\n | ....^"
        )
    );
    let text = refusal("self.all(x, self.all(y, self.all(z, x == y || y == z)))").await;
    assert!(
        text.contains(&format!(
            "{path}Forbidden: estimated rule cost exceeds budget by factor of more than 100x"
        )),
        "{text}"
    );
}

#[tokio::test]
async fn policies_concern_custom_resources_and_take_parameters_from_them() {
    let server = start(schema()).await;
    let group = "/apis/admissionregistration.k8s.io/v1";
    let rules = json!({"resourceRules": [{"apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["widgets"]}]});
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "p"},
        "spec": {"matchConstraints": rules, "paramKind": {"apiVersion": "example.com/v1", "kind": "Widget"},
            "validations": [{"expression": "object.spec.max <= params.spec.max", "messageExpression": "'more than ' + string(params.spec.max)"}]}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "p"},
        "spec": {"policyName": "p", "validationActions": ["Deny"], "paramRef": {"name": "limits", "parameterNotFoundAction": "Allow"}}});
    server
        .post(WIDGETS, widget("limits", json!({"min": 1, "max": 7})))
        .await
        .ok();
    server
        .post(&format!("{group}/validatingadmissionpolicies"), policy)
        .await
        .ok();
    server
        .post(
            &format!("{group}/validatingadmissionpolicybindings"),
            binding,
        )
        .await
        .ok();
    let mutation = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": {"name": "m"},
        "spec": {"matchConstraints": rules, "reinvocationPolicy": "Never", "failurePolicy": "Fail", "mutations": [{"patchType": "ApplyConfiguration",
            "applyConfiguration": {"expression": "Object{metadata: Object.metadata{labels: {'seen': 'yes'}}}"}}]}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": "m"}, "spec": {"policyName": "m"}});
    server
        .post(&format!("{group}/mutatingadmissionpolicies"), mutation)
        .await
        .ok();
    server
        .post(&format!("{group}/mutatingadmissionpolicybindings"), binding)
        .await
        .ok();
    // Whoever reads after a write sees it in the caches.
    server.get(WIDGETS).await.ok();
    let refused = server
        .post(WIDGETS, widget("a", json!({"min": 1, "max": 8})))
        .await;
    assert!(
        refused.refused().2.ends_with("denied request: more than 7"),
        "{}",
        refused.text
    );
    let made = server
        .post(WIDGETS, widget("b", json!({"min": 1})))
        .await
        .ok();
    assert_eq!(made["metadata"]["labels"], json!({"seen": "yes"}));
}
