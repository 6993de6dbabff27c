//! Who may write what of the status of a ResourceClaim.

use http::{Method, Request};
use serde_json::{Value, json};

use crate::server::{Answer, Server};

const CLAIMS: &str = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

async fn jane_writes(server: &Server, claim: &Value) -> Answer {
    let request = Request::builder()
        .method(Method::PUT)
        .uri(format!("{CLAIMS}/c/status"))
        .header("content-type", "application/json")
        .header("authorization", "Bearer jane-token");
    let body = claim.to_string().into();
    server.read(request.body(body).unwrap()).await
}

/// Lets jane do this with claims, beside what she may do already.
async fn let_jane(server: &Server, name: &str, resource: &str, verb: &str, names: Value) {
    let rule = json!({"apiGroups": ["resource.k8s.io"], "resources": [resource], "verbs": [verb], "resourceNames": names});
    let role = json!({"metadata": {"name": name}, "rules": [rule]});
    server
        .post(&format!("{RBAC}/clusterroles"), role)
        .await
        .ok();
    let binding = json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]});
    server
        .post(&format!("{RBAC}/clusterrolebindings"), binding)
        .await
        .ok();
    // A read of now brings the caches up to it.
    let bindings = server.get(&format!("{RBAC}/clusterrolebindings")).await;
    bindings.ok();
}

#[tokio::test]
async fn bindings_are_the_schedulers_and_devices_their_drivers() {
    let server = Server::start().await;
    let claim = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "c"},
        "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "k"}}]}}});
    let mut claim = server.post(CLAIMS, claim).await.ok();
    let device = json!({"driver": "d.example.com", "pool": "p", "device": "a"});
    let mut result = device.clone();
    result["request"] = "r".into();
    claim["status"] = json!({"allocation": {"devices": {"results": [result]}}});
    assert_eq!(jane_writes(&server, &claim).await.refused().0, 403);

    let_jane(
        &server,
        "status",
        "resourceclaims/status",
        "update",
        json!([]),
    )
    .await;
    let refused = jane_writes(&server, &claim).await;
    let (code, reason, text) = refused.refused();
    assert_eq!((code, reason), (422, "Invalid"), "{text}");
    assert!(
        text.contains("resource=\"resourceclaims/binding\", verb=\"update\" permission: "),
        "{text}"
    );
    let_jane(
        &server,
        "binding",
        "resourceclaims/binding",
        "update",
        json!([]),
    )
    .await;
    let mut claim = jane_writes(&server, &claim).await.ok();

    claim["status"]["devices"] = json!([device]);
    let refused = jane_writes(&server, &claim).await;
    let text = refused.refused().2;
    assert!(
        text.contains(
            "resource=\"resourceclaims/driver\", verb=\"[arbitrary-node:update]\" permission: "
        ),
        "{text}"
    );
    let verb = "arbitrary-node:update";
    let other = json!(["other.example.com"]);
    let_jane(&server, "other", "resourceclaims/driver", verb, other).await;
    assert_eq!(jane_writes(&server, &claim).await.refused().0, 422);
    let own = json!(["d.example.com"]);
    let_jane(&server, "own", "resourceclaims/driver", verb, own).await;
    jane_writes(&server, &claim).await.ok();
}
