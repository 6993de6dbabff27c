//! Admission policies as the suite writes them: each for the namespace of its test alone.

use serde_json::{Value, json};

use crate::policies::{
    DEPLOYMENTS, GROUP, binding, deployment, is_refused, policy, rules, until, validate_with,
};
use crate::server::Server;

const ELSEWHERE: &str = "/apis/apps/v1/namespaces/kube-system/deployments";

fn selector() -> Value {
    json!({"matchLabels": {"kubernetes.io/metadata.name": "default"}})
}

fn matched() -> Value {
    let mut matched = rules("apps", "deployments");
    matched["namespaceSelector"] = selector();
    matched
}

/// The expression of the message adds a number to a text, which fails when it is wanted, and not before.
#[tokio::test]
async fn a_message_that_fails_is_replaced_and_the_namespace_is_seen() {
    let server = Server::start().await;
    let spec = json!({"validations": [
        {"expression": "object.spec.replicas > 1", "messageExpression": "'wants replicas > 1, got ' + object.spec.replicas"},
        {"expression": "namespaceObject.metadata.name == 'default'", "message": "another namespace"},
    ]});
    let policy = policy("ValidatingAdmissionPolicy", "many", matched(), spec);
    let bound =
        json!({"validationActions": ["Deny"], "matchResources": {"namespaceSelector": selector()}});
    validate_with(&server, policy, bound).await;
    let refused = until(&server, DEPLOYMENTS, deployment("one", 1), is_refused).await;
    let (code, reason, message) = refused.refused();
    assert_eq!((code, reason), (422, "Invalid"));
    let end = "denied request: failed expression: object.spec.replicas > 1";
    assert!(message.ends_with(end), "{message}");
    server.post(DEPLOYMENTS, deployment("two", 2)).await.ok();
    server.post(ELSEWHERE, deployment("one", 1)).await.ok();
}

#[tokio::test]
async fn a_deployment_gets_annotations_and_replicas() {
    let server = Server::start().await;
    let annotate = r#"
        Object{
            metadata: Object.metadata{
                annotations: {
                    "mutated-by": "policy"
                }
            }
        }"#;
    let scale = "Object{spec: Object.spec{replicas: 1337}}";
    for (name, expression) in [("annotate", annotate), ("scale", scale)] {
        let spec = json!({"reinvocationPolicy": "Never", "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}]});
        let policy = policy("MutatingAdmissionPolicy", name, matched(), spec);
        let policies = format!("{GROUP}/mutatingadmissionpolicies");
        let made = server.post(&policies, policy).await.ok();
        assert_eq!(made["spec"]["failurePolicy"], "Fail");
        let bound = json!({"matchResources": {"namespaceSelector": selector()}});
        let bound = binding("MutatingAdmissionPolicyBinding", name, bound);
        let bindings = format!("{GROUP}/mutatingadmissionpolicybindings");
        server.post(&bindings, bound).await.ok();
    }
    let mut given = deployment("web", 1);
    given["metadata"]["annotations"] = json!({"own": "kept"});
    let both = |object: &Value| {
        object["metadata"]["annotations"]["mutated-by"] == "policy"
            && object["spec"]["replicas"] == 1337
    };
    let changed = until(&server, DEPLOYMENTS, given, |answer| both(&answer.body)).await;
    let annotations = &changed.ok()["metadata"]["annotations"];
    assert_eq!(annotations, &json!({"own": "kept", "mutated-by": "policy"}));
    let stored = server.post(DEPLOYMENTS, deployment("web", 1)).await.ok();
    assert!(both(&stored), "{stored}");
    let other = server.post(ELSEWHERE, deployment("web", 1)).await.ok();
    assert_eq!(other["spec"]["replicas"], 1);
    assert_eq!(other["metadata"].get("annotations"), None);
}
