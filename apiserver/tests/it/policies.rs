//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy.

use std::time::Duration;

use auth::User;
use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::server::{Answer, PODS, Server, pod};

pub(crate) const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MERGE: &str = "merge-patch+json";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

pub(crate) fn rules(group: &str, plural: &str) -> Value {
    json!({"resourceRules": [{"apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": [plural]}]})
}

/// A policy of this kind with what `spec` says beside the rules.
pub(crate) fn policy(kind: &str, name: &str, matched: Value, spec: Value) -> Value {
    let mut whole = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    whole["spec"]["matchConstraints"] = matched;
    whole
}

fn validating(name: &str, spec: Value) -> Value {
    policy(
        "ValidatingAdmissionPolicy",
        name,
        rules("", "configmaps"),
        spec,
    )
}

pub(crate) fn binding(kind: &str, policy: &str, spec: Value) -> Value {
    let mut whole = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": format!("{policy}-binding")}, "spec": spec});
    whole["spec"]["policyName"] = policy.into();
    whole
}

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

pub(crate) fn deployment(name: &str, replicas: i64) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": replicas,
        "selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

pub(crate) async fn validate_with(server: &Server, policy: Value, spec: Value) {
    let name = policy["metadata"]["name"].as_str().unwrap().to_owned();
    server
        .post(&format!("{GROUP}/validatingadmissionpolicies"), policy)
        .await
        .ok();
    let binding = binding("ValidatingAdmissionPolicyBinding", &name, spec);
    server
        .post(
            &format!("{GROUP}/validatingadmissionpolicybindings"),
            binding,
        )
        .await
        .ok();
}

async fn mutate_with(server: &Server, name: &str, matched: Value, spec: Value) {
    let policy = policy("MutatingAdmissionPolicy", name, matched, spec);
    server
        .post(&format!("{GROUP}/mutatingadmissionpolicies"), policy)
        .await
        .ok();
    let binding = binding("MutatingAdmissionPolicyBinding", name, json!({}));
    server
        .post(&format!("{GROUP}/mutatingadmissionpolicybindings"), binding)
        .await
        .ok();
}

/// Tries with dry runs until the answer is one that the policies give, which are in force once the caches have them.
pub(crate) async fn until(
    server: &Server,
    path: &str,
    object: Value,
    is_it: impl Fn(&Answer) -> bool,
) -> Answer {
    let tries = async {
        loop {
            let answer = server
                .post(&format!("{path}?dryRun=All"), object.clone())
                .await;
            if is_it(&answer) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), tries)
        .await
        .expect("the policies come into force")
}

pub(crate) fn is_refused(answer: &Answer) -> bool {
    answer.code.is_client_error()
}

#[tokio::test]
async fn a_validation_that_does_not_hold_refuses() {
    let server = Server::start().await;
    let spec = json!({"variables": [
        {"name": "replicas", "expression": "object.spec.replicas"},
        {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"},
    ], "validations": [
        {"expression": "variables.replicas > 1"},
        {"expression": "variables.oddReplicas", "messageExpression": "'not odd: ' + string(variables.replicas)", "reason": "Forbidden"},
    ]});
    let policy = policy(
        "ValidatingAdmissionPolicy",
        "odd",
        rules("apps", "deployments"),
        spec,
    );
    validate_with(&server, policy, json!({"validationActions": ["Deny"]})).await;
    let refused = until(&server, DEPLOYMENTS, deployment("one", 1), is_refused).await;
    let text = "deployments.apps \"one\" is forbidden: ValidatingAdmissionPolicy 'odd' with binding 'odd-binding' denied request: ";
    assert_eq!(
        refused.refused(),
        (
            422,
            "Invalid",
            &*format!("{text}failed expression: variables.replicas > 1")
        )
    );
    let cause = refused.body["details"]["causes"][0]["message"]
        .as_str()
        .unwrap();
    assert!(
        cause.starts_with("ValidatingAdmissionPolicy 'odd' with binding"),
        "{cause}"
    );
    let text = text.replace("one", "four");
    let refused = server.post(DEPLOYMENTS, deployment("four", 4)).await;
    assert_eq!(
        refused.refused(),
        (403, "Forbidden", &*format!("{text}not odd: 4"))
    );
    server.post(DEPLOYMENTS, deployment("three", 3)).await.ok();
    let mut update = deployment("three", 6);
    let refused = server
        .put(&format!("{DEPLOYMENTS}/three"), update.clone())
        .await;
    assert_eq!(refused.code, 403, "{}", refused.text);
    update["spec"]["replicas"] = 5.into();
    server
        .put(&format!("{DEPLOYMENTS}/three"), update)
        .await
        .ok();
}

#[tokio::test]
async fn bindings_say_what_becomes_of_a_refusal_and_whom_it_concerns() {
    let server = Server::start().await;
    let warns = validating(
        "warns",
        json!({"validations": [{"expression": "object.metadata.name != 'bad'", "message": "bad name"}]}),
    );
    validate_with(
        &server,
        warns,
        json!({"validationActions": ["Warn", "Audit"]}),
    )
    .await;
    let warned = until(&server, MAPS, map("bad", json!({})), |answer| {
        answer.headers.contains_key("warning")
    })
    .await;
    let warning = warned.headers["warning"].to_str().unwrap().to_owned();
    assert_eq!(
        warning,
        "299 - \"Validation failed for ValidatingAdmissionPolicy 'warns' with binding 'warns-binding': bad name\""
    );
    assert!(warned.code.is_success());
    let narrow = validating(
        "narrow",
        json!({"matchConditions": [{"name": "named", "expression": "object.metadata.name.startsWith('x')"}],
        "validations": [{"expression": "false", "message": "never"}]}),
    );
    let selector = json!({"validationActions": ["Deny"], "matchResources": {"objectSelector": {"matchLabels": {"strict": "yes"}}}});
    validate_with(&server, narrow, selector).await;
    let mut labelled = map("x1", json!({}));
    labelled["metadata"]["labels"] = json!({"strict": "yes"});
    until(&server, MAPS, labelled.clone(), is_refused).await;
    server.post(MAPS, map("x2", json!({}))).await.ok();
    labelled["metadata"]["name"] = "y1".into();
    server.post(MAPS, labelled).await.ok();
}

#[tokio::test]
async fn parameters_come_from_objects() {
    let server = Server::start().await;
    let limited = || {
        validating(
            "limited",
            json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "matchConditions": [
                {"name": "no-params", "expression": "!has(object.metadata.labels) || !('param' in object.metadata.labels)"}],
                "validations": [{"expression": "object.data.size() <= int(params.data.max)",
                    "messageExpression": "'at most ' + params.data.max"}]}),
        )
    };
    let params = |name: &str, max: &str| {
        let mut params = map(name, json!({"max": max}));
        params["metadata"]["labels"] = json!({"param": name});
        params
    };
    let refers = json!({"validationActions": ["Deny"], "paramRef": {"name": "limits", "parameterNotFoundAction": "Deny"}});
    validate_with(&server, limited(), refers).await;
    let absent = until(&server, MAPS, map("a", json!({"k": "v"})), is_refused).await;
    let text = "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    assert!(absent.refused().2.ends_with(text), "{}", absent.text);
    let path = format!("{GROUP}/validatingadmissionpolicybindings/limited-binding");
    let patch =
        json!({"spec": {"paramRef": {"name": "limits", "parameterNotFoundAction": "Allow"}}});
    server.patch(&path, MERGE, patch).await.ok();
    until(&server, MAPS, params("limits", "1"), |answer| {
        answer.code.is_success()
    })
    .await;
    server.post(MAPS, params("limits", "1")).await.ok();
    let refused = until(
        &server,
        MAPS,
        map("a", json!({"k": "v", "l": "v"})),
        is_refused,
    )
    .await;
    assert!(
        refused.refused().2.ends_with("denied request: at most 1"),
        "{}",
        refused.text
    );
    server.post(MAPS, map("b", json!({"k": "v"}))).await.ok();
    let patch = json!({"spec": {"paramRef": {"name": null, "selector": {"matchLabels": {"param": "other"}}}}});
    server.patch(&path, MERGE, patch).await.ok();
    until(
        &server,
        MAPS,
        map("a", json!({"k": "v", "l": "v"})),
        |answer| answer.code.is_success(),
    )
    .await;
}

#[tokio::test]
async fn what_policies_decide_is_counted() {
    let server = Server::start().await;
    let spec = |policy: &str| json!({"failurePolicy": policy, "validations": [{"expression": "object.data.missing == ''"}]});
    validate_with(
        &server,
        validating("ignores", spec("Ignore")),
        json!({"validationActions": ["Deny"]}),
    )
    .await;
    validate_with(
        &server,
        validating("warns", spec("Fail")),
        json!({"validationActions": ["Warn", "Audit"]}),
    )
    .await;
    let no = json!({"validations": [{"expression": "object.metadata.name != 'no'"}]});
    validate_with(
        &server,
        validating("refuses", no),
        json!({"validationActions": ["Deny"]}),
    )
    .await;
    until(&server, MAPS, map("no", json!({"a": "b"})), is_refused).await;
    let metrics = server.get("/metrics").await.text;
    let name = "apiserver_validating_admission_policy_check_total";
    for (policy, error, action) in [
        ("ignores", "invalid_error", "allow"),
        ("warns", "invalid_error", "warn"),
        ("warns", "invalid_error", "audit"),
        ("refuses", "no_error", "deny"),
    ] {
        let series = format!(
            "{name}{{enforcement_action=\"{action}\",error_type=\"{error}\",policy=\"{policy}\",policy_binding=\"{policy}-binding\"}} "
        );
        assert!(metrics.contains(&series), "{series}");
    }
    let bodies = "apiserver_request_body_size_bytes_count{group=\"\",resource=\"configmaps\",verb=\"create\"} ";
    assert!(metrics.contains(bodies));
}

#[tokio::test]
async fn failures_count_by_the_failure_policy() {
    let server = Server::start().await;
    let spec = |policy: &str| json!({"failurePolicy": policy, "validations": [{"expression": "object.data.missing == 'x'"}]});
    validate_with(
        &server,
        validating("ignores", spec("Ignore")),
        json!({"validationActions": ["Deny"]}),
    )
    .await;
    let conditional = json!({"failurePolicy": "Fail", "matchConditions": [{"name": "c", "expression": "object.data.name == 'bad'"}],
        "validations": [{"expression": "object.data.missing == 'x'"}]});
    validate_with(
        &server,
        validating("fails", conditional),
        json!({"validationActions": ["Deny"]}),
    )
    .await;
    let refused = until(&server, MAPS, map("a", json!({"name": "bad"})), is_refused).await;
    assert!(
        refused.refused().2.ends_with("denied request: expression 'object.data.missing == 'x'' resulted in error: no such key: missing"),
        "{}",
        refused.text
    );
    server
        .post(MAPS, map("b", json!({"name": "good"})))
        .await
        .ok();
}

#[tokio::test]
async fn policies_are_refused_when_their_expressions_are_wrong() {
    let server = Server::start().await;
    let wrong = validating(
        "wrong",
        json!({"validations": [{"expression": "object.x +"}]}),
    );
    let refused = server
        .post(&format!("{GROUP}/validatingadmissionpolicies"), wrong)
        .await;
    let (code, reason, text) = refused.refused();
    assert_eq!((code, reason), (422, "Invalid"));
    assert!(
        text.starts_with("ValidatingAdmissionPolicy.admissionregistration.k8s.io \"wrong\" is invalid: spec.validations[0].expression: Invalid value: \"object.x +\": compilation failed: ERROR: <input>:1:11: Syntax error: mismatched input '<EOF>' expecting"),
        "{text}"
    );
    let hook = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "h"},
        "webhooks": [{"name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://a.example.com"},
            "matchConditions": [{"name": "c", "expression": "1"}]}]});
    let refused = server
        .post(&format!("{GROUP}/validatingwebhookconfigurations"), hook)
        .await;
    assert!(
        refused.refused().2.contains("webhooks[0].matchConditions[0].expression: Invalid value: \"1\": must evaluate to bool but got int"),
        "{}",
        refused.text
    );
}

#[tokio::test]
async fn rights_can_be_asked_for() {
    let server = Server::start().await;
    let spec = json!({"validations": [
        {"expression": "authorizer.group('').resource('secrets').namespace('default').check('get').allowed()", "message": "may not read secrets"},
        {"expression": "authorizer.requestResource.check('never').allowed() || request.userInfo.username != 'jane'"},
    ]});
    validate_with(
        &server,
        validating("rights", spec),
        json!({"validationActions": ["Deny"]}),
    )
    .await;
    let bad = validating(
        "never",
        json!({"validations": [{"expression": "object.metadata.name != 'marker'"}]}),
    );
    validate_with(&server, bad, json!({"validationActions": ["Deny"]})).await;
    until(&server, MAPS, map("marker", json!({})), is_refused).await;
    server.post(MAPS, map("by-the-admin", json!({}))).await.ok();
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "maps"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}]});
    let grant = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "maps"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "maps"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}]});
    for (plural, object) in [("clusterroles", role), ("clusterrolebindings", grant)] {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/{plural}");
        server.post(&path, object).await.ok();
    }
    let by_jane = || {
        let body = Body::from(map("by-jane", json!({})).to_string());
        let request = Request::post(MAPS).header("content-type", "application/json");
        request
            .extension(User::new("jane", ["dev"]))
            .body(body)
            .unwrap()
    };
    let tries = async {
        loop {
            let answer = server.read(by_jane()).await;
            if answer.code == 422 {
                return answer;
            }
            assert_eq!(answer.code, 403, "{}", answer.text);
            tokio::task::yield_now().await;
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(30), tries)
        .await
        .expect("jane may write");
    assert!(
        refused
            .refused()
            .2
            .ends_with("denied request: may not read secrets"),
        "{}",
        refused.text
    );
}

#[tokio::test]
async fn mutations_change_what_is_written() {
    let server = Server::start().await;
    let spec = json!({"failurePolicy": "Fail", "reinvocationPolicy": "Never", "variables": [{"name": "team", "expression": "'red'"}], "mutations": [
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{metadata: Object.metadata{labels: {'team': variables.team}}, spec: Object.spec{replicas: object.spec.replicas + 1}}"}},
        {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'test', path: '/metadata/labels/team', value: 'red'}, JSONPatch{op: 'add', path: '/metadata/annotations', value: {'a/b': string(object.spec.replicas)}}]"}},
        {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'test', path: '/metadata/labels/team', value: 'blue'}, JSONPatch{op: 'remove', path: '/metadata/labels/team'}]"}},
    ]});
    mutate_with(&server, "team", rules("apps", "deployments"), spec).await;
    let changed = until(&server, DEPLOYMENTS, deployment("web", 1), |answer| {
        answer.body["spec"]["replicas"] == 2
    })
    .await
    .ok();
    assert_eq!(changed["metadata"]["labels"], json!({"team": "red"}));
    assert_eq!(changed["metadata"]["annotations"], json!({"a/b": "2"}));
    let stored = server.post(DEPLOYMENTS, deployment("web", 1)).await.ok();
    assert_eq!(stored["spec"]["replicas"], 2);
    let atomic = json!({"failurePolicy": "Fail", "reinvocationPolicy": "Never", "matchConditions": [{"name": "n", "expression": "object.metadata.name == 'atomic'"}], "mutations": [
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: [Object.spec.template.spec.containers{name: 'c', args: ['a']}]}}}}"}},
    ]});
    mutate_with(&server, "whole", rules("apps", "deployments"), atomic).await;
    let refused = until(&server, DEPLOYMENTS, deployment("atomic", 1), is_refused).await;
    let (code, reason, text) = refused.refused();
    assert_eq!((code, reason), (403, "Invalid"));
    assert_eq!(
        text,
        "policy 'whole' with binding 'whole-binding' denied request: error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.template.spec.containers[0].args"
    );
    let causes = json!([{ "message": text }]);
    assert_eq!(refused.body["details"]["causes"], causes);
}

#[tokio::test]
async fn what_one_policy_changes_brings_no_other_one_in() {
    let server = Server::start().await;
    let add = |path: &str| {
        json!({"failurePolicy": "Fail", "reinvocationPolicy": "Never", "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression":
            format!("[JSONPatch{{op: 'add', path: '{path}', value: 'yes'}}]")}}]})
    };
    let with_label = |name: &str, label: &str| {
        let mut object = map(name, json!({"k": "v"}));
        object["metadata"]["labels"] = json!({ label: "yes" });
        object
    };
    let mut of_marked = rules("", "configmaps");
    of_marked["objectSelector"] = json!({"matchLabels": {"marked": "yes"}});
    mutate_with(&server, "b", of_marked, add("/data/seen")).await;
    let is_seen = |answer: &Answer| answer.body["data"]["seen"] == "yes";
    let marked = with_label("one", "marked");
    until(&server, MAPS, marked, is_seen).await.ok();
    let marker = add("/metadata/labels/marked");
    mutate_with(&server, "a", rules("", "configmaps"), marker).await;
    let is_marked = |answer: &Answer| answer.body["metadata"]["labels"]["marked"] == "yes";
    let other = with_label("two", "other");
    let changed = until(&server, MAPS, other, is_marked).await.ok();
    assert_eq!(changed["data"], json!({"k": "v"}));
}

#[tokio::test]
async fn policies_that_wish_to_see_later_changes_are_asked_again() {
    let server = Server::start().await;
    let append = |letter: &str, policy: &str| {
        json!({"failurePolicy": "Fail", "reinvocationPolicy": policy, "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression":
            format!("[JSONPatch{{op: 'add', path: '/data/trace', value: (has(object.data.trace) ? object.data.trace : '') + '{letter}'}}]")}}]})
    };
    mutate_with(
        &server,
        "a",
        rules("", "configmaps"),
        append("a", "IfNeeded"),
    )
    .await;
    mutate_with(&server, "b", rules("", "configmaps"), append("b", "Never")).await;
    let object = map("m", json!({"k": "v"}));
    let both = |answer: &Answer| {
        answer.body["data"]["trace"]
            .as_str()
            .is_some_and(|trace| trace.contains('b'))
    };
    let changed = until(&server, MAPS, object, both).await.ok();
    assert_eq!(changed["data"]["trace"], "aba");
}

#[tokio::test]
async fn the_status_says_what_is_wrong_for_the_kinds_that_are_named() {
    let server = Server::start().await;
    let path = format!("{GROUP}/validatingadmissionpolicies/checked");
    let spec = json!({"validations": [{"expression": "object.spec.replicas > '1'"}, {"expression": "object.spec.replicas > 1"}]});
    let policy = policy(
        "ValidatingAdmissionPolicy",
        "checked",
        json!({"resourceRules": [
        {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}]}),
        spec,
    );
    let made = server
        .post(&format!("{GROUP}/validatingadmissionpolicies"), policy)
        .await
        .ok();
    let status = &made["status"];
    assert_eq!(status["observedGeneration"], 1);
    let warnings = status["typeChecking"]["expressionWarnings"]
        .as_array()
        .unwrap();
    assert_eq!(warnings.len(), 1, "{status}");
    assert_eq!(warnings[0]["fieldRef"], "spec.validations[0].expression");
    let text = warnings[0]["warning"].as_str().unwrap();
    assert!(text.starts_with("apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'"), "{text}");
    let patch = json!([{"op": "replace", "path": "/spec/validations/0/expression", "value": "object.spec.replicas > 2"}]);
    let patched = server.patch(&path, "json-patch+json", patch).await.ok();
    let status = json!({"observedGeneration": 2, "typeChecking": {}});
    assert_eq!(patched["status"], status);
}

#[tokio::test]
async fn reviews_are_judged_by_no_policy() {
    let server = Server::start().await;
    let everything = policy(
        "ValidatingAdmissionPolicy",
        "nothing",
        rules("*", "*"),
        json!({"validations": [{"expression": "false"}]}),
    );
    validate_with(&server, everything, json!({"validationActions": ["Deny"]})).await;
    until(&server, MAPS, map("a", json!({})), is_refused).await;
    let attributes = json!({"resourceAttributes": {"verb": "get", "resource": "pods"}});
    for (group, plural, kind, spec) in [
        (
            "authentication",
            "selfsubjectreviews",
            "SelfSubjectReview",
            json!({}),
        ),
        (
            "authentication",
            "tokenreviews",
            "TokenReview",
            json!({"token": "x"}),
        ),
        (
            "authorization",
            "selfsubjectaccessreviews",
            "SelfSubjectAccessReview",
            attributes,
        ),
    ] {
        let review =
            json!({"apiVersion": format!("{group}.k8s.io/v1"), "kind": kind, "spec": spec});
        let path = format!("/apis/{group}.k8s.io/v1/{plural}");
        server.post(&path, review).await.ok();
    }
}

#[tokio::test]
async fn who_writes_a_policy_may_read_its_parameters() {
    let server = Server::start().await;
    let all = |name: &str, rules: Value| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules});
    let grant = async |name: &str, rules: Value| {
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}]});
        for (plural, object) in [
            ("clusterroles", all(name, rules)),
            ("clusterrolebindings", binding),
        ] {
            let path = format!("/apis/rbac.authorization.k8s.io/v1/{plural}");
            server.post(&path, object).await.ok();
            // A list is no older than what was written.
            server.get(&path).await.ok();
        }
    };
    grant("policies", json!([{"apiGroups": ["admissionregistration.k8s.io"], "resources": ["*"], "verbs": ["*"]}])).await;
    let as_jane = async |method: &str, path: &str, object: Value| {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("content-type", "application/json");
        let request = request.extension(User::new("jane", ["dev"]));
        server
            .read(request.body(Body::from(object.to_string())).unwrap())
            .await
    };
    let spec = json!({"paramKind": {"apiVersion": "v1", "kind": "Secret"}, "validations": [{"expression": "params != null"}]});
    let policies = format!("{GROUP}/validatingadmissionpolicies");
    let bindings = format!("{GROUP}/validatingadmissionpolicybindings");
    let refused = as_jane("POST", &policies, validating("own", spec.clone())).await;
    assert_eq!(
        refused.refused(),
        (
            422,
            "Invalid",
            "ValidatingAdmissionPolicy.admissionregistration.k8s.io \"own\" is invalid: spec.paramKind: Forbidden: user \"jane\" must have \"get\" permission on all objects of the referenced paramKind (kind=Secret, apiVersion=v1)"
        )
    );
    // A policy of somebody else's is no way around it.
    server
        .post(&policies, validating("theirs", spec.clone()))
        .await
        .ok();
    let bound = |name: &str| {
        let reference =
            json!({"name": name, "namespace": "default", "parameterNotFoundAction": "Allow"});
        let spec = json!({"validationActions": ["Warn"], "paramRef": reference});
        binding("ValidatingAdmissionPolicyBinding", "theirs", spec)
    };
    let refused = as_jane("POST", &bindings, bound("one")).await;
    assert_eq!(
        refused.refused(),
        (
            422,
            "Invalid",
            "ValidatingAdmissionPolicyBinding.admissionregistration.k8s.io \"theirs-binding\" is invalid: spec.paramRef: Forbidden: user \"jane\" does not have \"get\" permission on the object referenced by paramRef"
        )
    );
    grant("one", json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"], "verbs": ["get"]}])).await;
    as_jane("POST", &bindings, bound("one")).await.ok();
    let path = format!("{bindings}/theirs-binding");
    let mut other = server.get(&path).await.ok();
    other["metadata"]["labels"] = json!({"still": "the-same"});
    let mut other = as_jane("PUT", &path, other).await.ok();
    other["spec"]["paramRef"]["name"] = "two".into();
    let refused = as_jane("PUT", &path, other).await;
    assert_eq!(refused.code, 422, "{}", refused.text);
    // What is written by who may read all is left alone by others' changes of something else.
    let path = format!("{policies}/theirs");
    let mut labelled = server.get(&path).await.ok();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    as_jane("PUT", &path, labelled).await.ok();
    grant(
        "all",
        json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]),
    )
    .await;
    as_jane("POST", &policies, validating("own", spec))
        .await
        .ok();
}

#[tokio::test]
async fn a_request_that_has_no_time_left_is_not_judged_by_all_its_parameters() {
    let server = Server::start().await;
    for index in 0..40 {
        let mut params = map(&format!("p-{index}"), json!({}));
        params["metadata"]["labels"] = json!({"params": "yes"});
        server.post(MAPS, params).await.ok();
    }
    // Each of them uses up the budget of a policy.
    let ten = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]";
    let nested = ["a", "b", "c", "d", "e", "f"].iter().rev().fold(
        "a + b + c + d + e + f >= 0 || params.data.x == 'y'".to_owned(),
        |inner, name| format!("{ten}.all({name}, {inner})"),
    );
    let validations = vec![json!({ "expression": nested }); 10];
    let policy = validating(
        "slow",
        json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "validations": validations}),
    );
    let spec = json!({"validationActions": ["Deny"], "paramRef": {
        "selector": {"matchLabels": {"params": "yes"}}, "parameterNotFoundAction": "Allow"}});
    validate_with(&server, policy, spec).await;
    let uri = format!("{MAPS}?dryRun=All&timeout=1s");
    let answer = loop {
        let answer = server.post(&uri, map("x", json!({}))).await;
        // In force it is once the caches have it.
        if answer.code != 201 {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(answer.code, 504, "{}", answer.text);
    let odd = server.get(&format!("{MAPS}?timeout=soon")).await;
    let text = "invalid timeout specified in the request URL - time: invalid duration \"soon\"";
    assert_eq!(odd.refused(), (400, "BadRequest", text));
}

/// Where nobody asks, less of the pod is read.
#[tokio::test]
async fn who_judges_the_status_of_a_pod_sees_all_of_the_pod() {
    let server = Server::start().await;
    server.account("default").await;
    server.post(PODS, pod("p")).await.ok();
    let uri = format!("{PODS}/p/status");
    let says = |text: &str| json!({"status": {"message": text}});
    server.patch(&uri, MERGE, says("unheard")).await.ok();
    let expression = "[object, oldObject].all(it, it.spec.containers[0].image == 'busybox') && object.status.message == 'fine'";
    let policy = policy(
        "ValidatingAdmissionPolicy",
        "fine",
        rules("", "pods/status"),
        json!({"validations": [{ "expression": expression }]}),
    );
    validate_with(&server, policy, json!({"validationActions": ["Deny"]})).await;
    let tries = async {
        let dry = format!("{uri}?dryRun=All");
        while !is_refused(&server.patch(&dry, MERGE, says("odd")).await) {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(30), tries).await;
    in_time.expect("the policy comes into force");
    let refused = server.patch(&uri, MERGE, says("odd")).await;
    assert_eq!(refused.refused().0, 422, "{}", refused.text);
    server.patch(&uri, MERGE, says("fine")).await.ok();
}
