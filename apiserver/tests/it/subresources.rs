//! Status, scale, binding, eviction, tokens, reviews.

mod bindings;
mod log;
pub(crate) mod proxy;

use http::Method;
use serde_json::json;

use crate::server::{PODS, Server, pod};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment() -> serde_json::Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "one", "image": "busybox"}]}}}})
}

#[tokio::test]
async fn status_and_spec_have_separate_doors() {
    let server = Server::start().await;
    let mut object = deployment();
    object["status"] = json!({"replicas": 9});
    let created = server.post(DEPLOYMENTS, object).await.ok();
    assert!(created["status"].get("replicas").is_none_or(|r| r == 0));
    assert_eq!(created["metadata"]["generation"], 1);
    let mut status = created.clone();
    status["status"] = json!({"replicas": 2, "observedGeneration": 1});
    status["spec"]["replicas"] = 7.into();
    let updated = server
        .put(&format!("{DEPLOYMENTS}/web/status"), status)
        .await
        .ok();
    assert_eq!(
        (&updated["spec"]["replicas"], &updated["status"]["replicas"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(updated["metadata"]["generation"], 1);
    let patched = server
        .patch(
            &format!("{DEPLOYMENTS}/web"),
            "merge-patch+json",
            json!({"spec": {"replicas": 3}, "status": {"replicas": 8}}),
        )
        .await
        .ok();
    assert_eq!(
        (
            &patched["status"]["replicas"],
            &patched["metadata"]["generation"]
        ),
        (&json!(2), &json!(2))
    );
}

#[tokio::test]
async fn scale_is_a_view() {
    let server = Server::start().await;
    server.post(DEPLOYMENTS, deployment()).await.ok();
    let uri = format!("{DEPLOYMENTS}/web/scale");
    let scale = server.get(&uri).await.ok();
    assert_eq!(
        (scale["kind"].as_str(), &scale["spec"]["replicas"]),
        (Some("Scale"), &json!(2))
    );
    assert_eq!(scale["status"]["selector"], "app=web");
    let table = server
        .request(Method::GET, &uri)
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Default::default())
        .unwrap();
    let table = server.read(table).await.ok();
    let row = &table["rows"][0];
    assert_eq!(
        (&row["cells"][0], &row["cells"][1], &row["cells"][2]),
        (&json!("web"), &json!(2), &json!(0))
    );
    let mut wanted = scale.clone();
    wanted["spec"]["replicas"] = 5.into();
    assert_eq!(
        server.put(&uri, wanted.clone()).await.ok()["spec"]["replicas"],
        5
    );
    assert_eq!(server.put(&uri, wanted).await.refused().0, 409);
    assert_eq!(
        server
            .patch(&uri, "merge-patch+json", json!({"spec": {"replicas": 1}}))
            .await
            .ok()["spec"]["replicas"],
        1
    );
    assert_eq!(
        server
            .patch(&uri, "merge-patch+json", json!({"spec": {"replicas": -1}}))
            .await
            .refused()
            .0,
        422
    );
    assert_eq!(
        server.get(&format!("{DEPLOYMENTS}/web")).await.ok()["spec"]["replicas"],
        1
    );
}

#[tokio::test]
async fn binding_happens_once() {
    let server = Server::start().await;
    server.account("default").await;
    server.post(PODS, pod("p")).await.ok();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    assert_eq!(
        server
            .post(&format!("{PODS}/p/binding"), binding.clone())
            .await
            .code,
        201
    );
    let again = server.post(&format!("{PODS}/p/binding"), binding).await;
    assert_eq!(again.refused().1, "Conflict");
    let bound = server.get(&format!("{PODS}/p")).await.ok();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let never = bound["status"]["conditions"][0].get("lastProbeTime");
    assert_eq!(never, Some(&serde_json::Value::Null), "as Go writes it");
    // What is read and written back is the same object.
    let again = server.put(&format!("{PODS}/p"), bound.clone()).await.ok();
    assert_eq!(
        again["metadata"]["resourceVersion"],
        bound["metadata"]["resourceVersion"]
    );
    let by_node = server
        .get(&format!("{PODS}?fieldSelector=spec.nodeName%3Dn1"))
        .await
        .ok();
    assert_eq!(by_node["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn evictions_ask_the_budget() {
    let server = Server::start().await;
    server.account("default").await;
    server.post(PODS, pod("p")).await.ok();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    server
        .post(&format!("{PODS}/p/binding"), binding)
        .await
        .ok();
    let running = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    server
        .patch(
            &format!("{PODS}/p/status"),
            "strategic-merge-patch+json",
            running,
        )
        .await
        .ok();
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    server
        .post(
            "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
            budget,
        )
        .await
        .ok();
    let status = json!({"status": {"disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1, "observedGeneration": 1}});
    server
        .patch(
            "/apis/policy/v1/namespaces/default/poddisruptionbudgets/b/status",
            "merge-patch+json",
            status,
        )
        .await
        .ok();
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let refused = server
        .post(&format!("{PODS}/p/eviction"), eviction.clone())
        .await;
    assert_eq!(
        (refused.refused().0, refused.refused().1),
        (429, "TooManyRequests")
    );
    assert_eq!(
        refused.body["details"]["causes"][0]["reason"],
        "DisruptionBudget"
    );
    // Two budgets are too many, which is told without a reason.
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let second = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "c"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    server.post(budgets, second).await.ok();
    let refused = server
        .post(&format!("{PODS}/p/eviction"), eviction.clone())
        .await;
    assert_eq!(refused.code, 500);
    assert_eq!(
        refused.body["message"],
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    );
    server
        .delete(&format!("{budgets}/c"), json!(null))
        .await
        .ok();
    let more = json!({"status": {"disruptionsAllowed": 1}});
    server
        .patch(
            "/apis/policy/v1/namespaces/default/poddisruptionbudgets/b/status",
            "merge-patch+json",
            more,
        )
        .await
        .ok();
    assert_eq!(
        server
            .post(&format!("{PODS}/p/eviction"), eviction)
            .await
            .code,
        201
    );
    let leaving = server.get(&format!("{PODS}/p")).await.ok();
    assert!(leaving["metadata"]["deletionTimestamp"].is_string());
    let conditions = leaving["status"]["conditions"].as_array().unwrap();
    assert!(
        conditions
            .iter()
            .any(|c| c["type"] == "DisruptionTarget" && c["reason"] == "EvictionByEvictionAPI"),
        "{conditions:?}"
    );
}

#[tokio::test]
async fn static_tokens_are_good_for_this_server_only() {
    let server = Server::start().await;
    let own = "https://kubernetes.default.svc.cluster.local";
    for (asked, authenticated, audiences) in [
        (json!(null), true, json!([own])),
        (json!(["vault", own]), true, json!([own])),
        (json!(["vault"]), false, json!(null)),
    ] {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": "jane-token", "audiences": asked}});
        let status = server
            .post("/apis/authentication.k8s.io/v1/tokenreviews", review)
            .await
            .ok()["status"]
            .clone();
        assert_eq!(
            (status["authenticated"] == true, &status["audiences"]),
            (authenticated, &audiences),
            "{asked}"
        );
    }
}

#[tokio::test]
async fn a_bootstrap_token_lives_as_long_as_its_secret() {
    let server = Server::start().await;
    let who = async || {
        let request = http::Request::builder()
            .method(Method::POST)
            .uri("/apis/authentication.k8s.io/v1/selfsubjectreviews")
            .header("authorization", "Bearer abcdef.0123456789abcdef")
            .header("content-type", "application/json")
            .body("{}".into())
            .unwrap();
        server.read(request).await
    };
    assert_eq!(who().await.code, 401);
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bootstrap-token-abcdef"},
        "type": "bootstrap.kubernetes.io/token", "stringData": {"token-id": "abcdef", "token-secret": "0123456789abcdef",
            "usage-bootstrap-authentication": "true", "auth-extra-groups": "system:bootstrappers:node"}});
    server.post(secrets, secret).await.ok();
    let uri = format!("{secrets}/bootstrap-token-abcdef");
    // A read of the newest state: this member knows the secret now.
    server.get(&uri).await.ok();
    let said = who().await.ok()["status"]["userInfo"].clone();
    assert_eq!(said["username"], "system:bootstrap:abcdef");
    let groups = [
        "system:bootstrappers",
        "system:bootstrappers:node",
        "system:authenticated",
    ];
    assert_eq!(said["groups"], json!(groups));
    server.delete(&uri, json!(null)).await.ok();
    assert_eq!(server.get(&uri).await.code, 404);
    assert_eq!(who().await.code, 401);
}

#[tokio::test]
async fn tokens_are_bound_and_reviewed() {
    let server = Server::start().await;
    server.account("default").await;
    let uri = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}});
    let issued = server.post(uri, request).await.ok();
    let token = issued["status"]["token"].as_str().unwrap().to_owned();
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let reviewed = server
        .post("/apis/authentication.k8s.io/v1/tokenreviews", review)
        .await
        .ok();
    let status = &reviewed["status"];
    assert_eq!(
        (&status["authenticated"], status.get("error")),
        (&json!(true), None)
    );
    assert_eq!(
        status["user"]["username"],
        "system:serviceaccount:default:default"
    );
    // A request may leave everything to the server.
    let issued = server.post(uri, json!({})).await.ok();
    assert_ne!(issued["status"]["token"], "");
    assert!(issued["spec"]["expirationSeconds"].as_i64() > Some(600));
    let as_account = |token: &str, uri: &str| {
        let request = http::Request::builder()
            .method(Method::GET)
            .uri(uri)
            .header("authorization", format!("Bearer {token}"))
            .body(Default::default())
            .unwrap();
        server.read(request)
    };
    let refused = as_account(&token, PODS).await;
    assert_eq!(
        refused.refused(),
        (
            403,
            "Forbidden",
            "pods is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
        )
    );
    server
        .delete(
            "/api/v1/namespaces/default/serviceaccounts/default",
            json!(null),
        )
        .await
        .ok();
    // The newest read: from then on this member's cache knows of the deletion.
    assert_eq!(
        server
            .get("/api/v1/namespaces/default/serviceaccounts/default")
            .await
            .code,
        404
    );
    assert_eq!(
        as_account(&token, PODS).await.refused(),
        (401, "Unauthorized", "Unauthorized")
    );
    let short = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 1}});
    server.account("default").await;
    assert_eq!(server.post(uri, short).await.refused().0, 422);
}

#[tokio::test]
async fn rights_are_checked_and_can_be_asked() {
    let server = Server::start().await;
    let jane = |method: Method, uri: &str, body: serde_json::Value| {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = http::Request::builder()
            .method(method)
            .uri(uri)
            .header("authorization", "Bearer jane-token")
            .body(body.into())
            .unwrap();
        server.read(request)
    };
    let ask = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"namespace": "default", "verb": "list", "resource": "pods"}}});
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(
        jane(Method::POST, reviews, ask.clone()).await.ok()["status"]["allowed"],
        false
    );
    assert_eq!(jane(Method::GET, PODS, json!(null)).await.refused().0, 403);
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]});
    server
        .post(
            "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles",
            role,
        )
        .await
        .ok();
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "b"},
        "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "Role", "name": "r", "apiGroup": "rbac.authorization.k8s.io"}});
    server
        .post(
            "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
            binding,
        )
        .await
        .ok();
    server.get(PODS).await.ok();
    assert_eq!(
        jane(Method::POST, reviews, ask.clone()).await.ok()["status"]["allowed"],
        true
    );
    jane(Method::GET, PODS, json!(null)).await.ok();
    // Nobody lists reviews, so that they have no Table.
    let table = server
        .request(Method::POST, reviews)
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(ask.to_string().into())
        .unwrap();
    assert_eq!((server.read(table).await.refused().1), "NotAcceptable");
    let who = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let who = jane(
        Method::POST,
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        who,
    )
    .await
    .ok();
    assert_eq!(who["status"]["userInfo"]["username"], "jane");
    let rules = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "default"}});
    let rules = jane(
        Method::POST,
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        rules,
    )
    .await
    .ok();
    assert!(
        rules["status"]["resourceRules"]
            .as_array()
            .unwrap()
            .iter()
            .any(|rule| rule["resources"] == json!(["pods"]))
    );
    let as_jane = server
        .request(Method::GET, "/api/v1/nodes")
        .header("impersonate-user", "jane")
        .body(Default::default())
        .unwrap();
    assert!(
        server
            .read(as_jane)
            .await
            .refused()
            .2
            .contains("User \"jane\" cannot list resource \"nodes\"")
    );
    let nobody = http::Request::builder()
        .uri("/api/v1/nodes")
        .body(Default::default())
        .unwrap();
    assert!(
        server
            .read(nobody)
            .await
            .refused()
            .2
            .contains("User \"system:anonymous\" cannot list")
    );
}
