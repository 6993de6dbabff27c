//! Who may do what, where a file says who is asked: webhooks before and after RBAC.

use http::{Method, Request};
use serde_json::{Value, json};

use crate::outside::Outside;
use crate::server::{Answer, Server};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// Authorizers as a file has them; JSON is YAML.
fn config(authorizers: Value) -> String {
    let kind = "AuthorizationConfiguration";
    json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": kind, "authorizers": authorizers})
        .to_string()
}

fn webhook(outside: &Outside, path: &str, policy: &str, conditions: Value) -> Value {
    json!({"type": "Webhook", "name": path[1..], "webhook": {
        "timeout": "2s", "subjectAccessReviewVersion": "v1", "matchConditionSubjectAccessReviewVersion": "v1",
        "failurePolicy": policy, "unauthorizedTTL": "10m",
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": outside.kubeconfig(path)},
        "matchConditions": conditions}})
}

fn answer(status: Value) -> Value {
    json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "status": status})
}

async fn jane_lists(server: &Server) -> Answer {
    let request = Request::builder()
        .method(Method::GET)
        .uri(MAPS)
        .header("authorization", "Bearer jane-token");
    server.read(request.body(Default::default()).unwrap()).await
}

/// What a SubjectAccessReview says of the same.
async fn review(server: &Server) -> Value {
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": "jane", "groups": ["dev", "system:authenticated"],
        "resourceAttributes": {"verb": "list", "version": "v1", "resource": "configmaps", "namespace": "default"}}});
    server.post(REVIEWS, review).await.ok()["status"].clone()
}

#[tokio::test]
async fn the_first_authorizer_with_an_opinion_has_the_last_word() {
    let (server, outside) = (Server::start().await, Outside::start().await);
    assert_eq!(jane_lists(&server).await.refused().0, 403);
    let chain = |first: Value| {
        config(json!([first, {"type": "Node", "name": "node"}, {"type": "RBAC", "name": "rbac"}]))
    };
    let take = |path: &str, policy: &str| {
        let text = chain(webhook(&outside, path, policy, json!([])));
        server.api.take_authorization_config(&text).unwrap();
    };
    outside.answer(
        "/allow",
        &answer(json!({"allowed": true, "reason": "a friend"})),
    );
    take("/allow", "Deny");
    for _ in 0..3 {
        jane_lists(&server).await.ok();
    }
    assert_eq!(
        review(&server).await,
        json!({"allowed": true, "reason": "a friend"})
    );
    let asked = outside.asked("/allow");
    assert_eq!(asked.len(), 1, "the answer is kept: {asked:?}");
    assert_eq!(
        asked[0]["spec"],
        json!({"user": "jane", "groups": ["dev", "system:authenticated"], "resourceAttributes": {
            "verb": "list", "version": "v1", "resource": "configmaps", "namespace": "default"}})
    );

    // Jane may by RBAC, but the webhook is asked first.
    let group = "/apis/rbac.authorization.k8s.io/v1";
    let binding = json!({"metadata": {"name": "jane"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole", "name": "view"}, "subjects": [{"kind": "User", "name": "jane",
        "apiGroup": "rbac.authorization.k8s.io"}]});
    server
        .post(&format!("{group}/clusterrolebindings"), binding)
        .await
        .ok();
    outside.answer(
        "/deny",
        &answer(json!({"allowed": false, "denied": true, "reason": "not today"})),
    );
    take("/deny", "NoOpinion");
    let refused = jane_lists(&server).await;
    assert_eq!(refused.refused().0, 403);
    assert!(
        refused.refused().2.ends_with(": not today"),
        "{}",
        refused.text
    );
    assert_eq!(
        review(&server).await,
        json!({"allowed": false, "denied": true, "reason": "not today"})
    );
    // An administrator is not asked about.
    server.get(MAPS).await.ok();
    outside.answer("/nothing", &answer(json!({"allowed": false})));
    take("/nothing", "Deny");
    jane_lists(&server).await.ok();
    assert_eq!(review(&server).await["allowed"], true);

    // After RBAC it is asked only about what RBAC does not allow.
    let after = config(
        json!([{"type": "RBAC", "name": "rbac"}, webhook(&outside, "/deny", "Deny", json!([]))]),
    );
    server.api.take_authorization_config(&after).unwrap();
    outside.asked("/deny");
    jane_lists(&server).await.ok();
    assert!(outside.asked("/deny").is_empty());
    let rules = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "default"}});
    let rules = server
        .post(
            "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
            rules,
        )
        .await
        .ok();
    assert_eq!(rules["status"]["incomplete"], true);
    assert!(
        rules["status"]["evaluationError"]
            .as_str()
            .unwrap()
            .contains("webhook authorizer")
    );
}

#[tokio::test]
async fn an_authorizer_that_does_not_answer_counts_as_its_policy_says() {
    let (server, outside) = (Server::start().await, Outside::start().await);
    outside.fail("/broken", 400);
    outside.hang("/hanging");
    for path in ["/broken", "/hanging"] {
        let deny = config(
            json!([webhook(&outside, path, "Deny", json!([])), {"type": "AlwaysAllow", "name": "all"}]),
        );
        server.api.take_authorization_config(&deny).unwrap();
        let refused = jane_lists(&server).await;
        assert_eq!(refused.refused().0, 500, "{}", refused.text);
        let status = review(&server).await;
        assert_eq!(
            (&status["allowed"], &status["denied"]),
            (&json!(false), &json!(true))
        );
        assert!(
            status["evaluationError"]
                .as_str()
                .unwrap()
                .contains(&path[1..])
        );
        let open = config(
            json!([webhook(&outside, path, "NoOpinion", json!([])), {"type": "AlwaysAllow", "name": "all"}]),
        );
        server.api.take_authorization_config(&open).unwrap();
        jane_lists(&server).await.ok();
        let alone = config(json!([webhook(&outside, path, "NoOpinion", json!([]))]));
        server.api.take_authorization_config(&alone).unwrap();
        assert_eq!(jane_lists(&server).await.refused().0, 500);
    }
}

#[tokio::test]
async fn a_webhook_is_asked_only_about_what_its_conditions_name() {
    let (server, outside) = (Server::start().await, Outside::start().await);
    outside.answer("/deny", &answer(json!({"denied": true})));
    let chain = |conditions: Value, policy: &str| {
        let hook = webhook(&outside, "/deny", policy, conditions);
        let text = config(json!([hook, {"type": "AlwaysAllow", "name": "all"}]));
        server.api.take_authorization_config(&text).unwrap();
    };
    let in_system =
        "has(request.resourceAttributes) && request.resourceAttributes.namespace == 'kube-system'";
    chain(json!([{"expression": in_system}]), "Deny");
    jane_lists(&server).await.ok();
    assert!(outside.asked("/deny").is_empty());
    chain(json!([{"expression": "'dev' in request.groups"}]), "Deny");
    assert_eq!(jane_lists(&server).await.refused().0, 403);
    // One that cannot be worked out is like a webhook that does not answer.
    let failing = json!([{"expression": "request.resourceAttributes.name == 'x' || request.groups[7] == 'y'"}]);
    chain(failing.clone(), "Deny");
    assert_eq!(jane_lists(&server).await.refused().0, 500);
    chain(failing, "NoOpinion");
    jane_lists(&server).await.ok();
    // A broken file changes nothing.
    for broken in [
        "",
        "[",
        &config(json!([])),
        &config(json!([{"type": "Webhook", "name": "x"}])),
    ] {
        assert!(server.api.take_authorization_config(broken).is_err());
        jane_lists(&server).await.ok();
    }
}

#[tokio::test]
async fn selectors_are_put_to_webhooks() {
    let (server, outside) = (Server::start().await, Outside::start().await);
    outside.answer("/some", &answer(json!({"allowed": true})));
    let conditions = json!([{"expression": "has(request.resourceAttributes.fieldSelector) \
        && request.resourceAttributes.fieldSelector.requirements.exists(one, one.values == ['m'])"}]);
    let text = config(json!([webhook(&outside, "/some", "Deny", conditions)]));
    server.api.take_authorization_config(&text).unwrap();
    let list = async |query: &str| {
        let request = Request::builder()
            .method(Method::GET)
            .uri(format!("{MAPS}?{query}"))
            .header("authorization", "Bearer jane-token");
        server.read(request.body(Default::default()).unwrap()).await
    };
    // Whoever asks about more is somebody else's business, and there is nobody else.
    for more in ["", "fieldSelector=metadata.name%3Dx", "labelSelector=a%3Dm"] {
        assert_eq!(list(more).await.refused().0, 403, "{more}");
    }
    assert!(outside.asked("/some").is_empty());
    list("fieldSelector=metadata.name%3Dm&labelSelector=app+in+(a,b),!old")
        .await
        .ok();
    let narrowed = json!({"verb": "list", "version": "v1", "resource": "configmaps", "namespace": "default", "name": "m",
        "fieldSelector": {"requirements": [{"key": "metadata.name", "operator": "In", "values": ["m"]}]},
        "labelSelector": {"requirements": [{"key": "app", "operator": "In", "values": ["a", "b"]},
            {"key": "old", "operator": "DoesNotExist"}]}});
    assert_eq!(
        outside.asked("/some")[0]["spec"]["resourceAttributes"],
        narrowed
    );

    // Reviews say the same, in either form, as far as it can be read.
    let review = async |fields: Value| {
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
            "user": "jane", "resourceAttributes": {"verb": "list", "resource": "configmaps", "fieldSelector": fields}}});
        server.post(REVIEWS, review).await
    };
    let raw = review(json!({"rawSelector": "metadata.namespace=m"})).await;
    assert_eq!(raw.ok()["status"], json!({"allowed": true}));
    let asked = outside.asked("/some")[0]["spec"]["resourceAttributes"].clone();
    assert_eq!(
        asked,
        json!({"verb": "list", "version": "*", "resource": "configmaps", "fieldSelector": {
            "requirements": [{"key": "metadata.namespace", "operator": "In", "values": ["m"]}]}})
    );
    let odd = json!({"key": "metadata.namespace", "operator": "Near"});
    let good = json!({"key": "metadata.namespace", "operator": "In", "values": ["m"]});
    let partly = review(json!({"requirements": [good, odd]})).await;
    assert_eq!(
        partly.ok()["status"],
        json!({"allowed": true, "evaluationError":
            "spec.resourceAttributes.fieldSelector partially ignored due to parse error"})
    );
    assert_eq!(review(json!({})).await.refused().0, 422);
}
