//! Quotas: what pods and services use of them, in which scopes, and that the count is right again whoever wrote it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{PODS, Server, pod};

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const PATIENCE: Duration = Duration::from_secs(60);

async fn quota(server: &Server, name: &str, hard: Value, scopes: Value) {
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name},
        "spec": {"hard": hard, "scopes": scopes}});
    server.post(QUOTAS, quota).await.ok();
}

/// Waits until the status of a quota has these fields of `field`.
async fn says(server: &Server, name: &str, field: &str, wanted: &Value) {
    let looking = async {
        loop {
            let quota = server.get(&format!("{QUOTAS}/{name}")).await.ok();
            let status = &quota["status"][field];
            let mut all = wanted.as_object().unwrap().iter();
            if all.all(|(key, value)| status[key] == *value) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let said = tokio::time::timeout(PATIENCE, looking).await;
    said.unwrap_or_else(|_| panic!("{name} never said {field} {wanted}"));
}

async fn uses(server: &Server, name: &str, wanted: Value) {
    says(server, name, "used", &wanted).await;
}

fn asking(name: &str, requests: &Value, limits: &Value) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["resources"] = json!({"requests": requests, "limits": limits});
    pod
}

#[tokio::test]
async fn a_quota_captures_the_life_of_a_pod() {
    let server = Server::start().await;
    server.account("default").await;
    let hard = json!({"pods": "5", "cpu": "1", "memory": "500Mi", "ephemeral-storage": "50Gi",
        "requests.example.com/dongle": "3", "resourcequotas": "1"});
    quota(&server, "q", hard, json!([])).await;
    uses(&server, "q", json!({"resourcequotas": "1", "pods": "0"})).await;
    let two = json!({"example.com/dongle": "2"});
    let fits = json!({"cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", "example.com/dongle": "2"});
    let made = server.post(PODS, asking("fits", &fits, &two)).await.ok();
    let used = json!({"pods": "1", "cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi",
        "requests.example.com/dongle": "2"});
    uses(&server, "q", used.clone()).await;

    let too_much = json!({"cpu": "600m", "memory": "100Mi"});
    let dongles = json!({"cpu": "500m", "memory": "100Mi", "ephemeral-storage": "30Gi", "example.com/dongle": "2"});
    for (name, requests, limits) in [("cpu", &too_much, &json!({})), ("dongles", &dongles, &two)] {
        let refused = server.post(PODS, asking(name, requests, limits)).await;
        let (code, reason, text) = refused.refused();
        assert_eq!((code, reason), (403, "Forbidden"), "{text}");
        assert!(text.contains("exceeded quota: q"), "{text}");
    }
    let mut less = made;
    less["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "100m".into();
    let refused = server.put(&format!("{PODS}/fits"), less).await;
    assert_eq!(
        refused.refused().0,
        422,
        "resources have a door of their own"
    );
    uses(&server, "q", used).await;

    let at_once = json!({"gracePeriodSeconds": 0});
    let deleted = server.delete(&format!("{PODS}/fits"), at_once).await;
    deleted.ok();
    let nothing = json!({"pods": "0", "cpu": "0", "memory": "0", "ephemeral-storage": "0",
        "requests.example.com/dongle": "0"});
    uses(&server, "q", nothing).await;
}

#[tokio::test]
async fn a_quota_captures_the_life_of_services_and_their_ports() {
    let server = Server::start().await;
    let hard = json!({"services": "10", "services.nodeports": "1", "services.loadbalancers": "1"});
    quota(&server, "q", hard, json!([])).await;
    // The API's own Service is one of them.
    uses(
        &server,
        "q",
        json!({"services": "1", "services.nodeports": "0"}),
    )
    .await;
    let service = |name: &str, kind: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": kind, "ports": [{"port": 80, "targetPort": 80}]}})
    };
    server
        .post(SERVICES, service("plain", "ClusterIP"))
        .await
        .ok();
    server
        .post(SERVICES, service("open", "NodePort"))
        .await
        .ok();
    let mut balanced = service("balanced", "LoadBalancer");
    balanced["spec"]["allocateLoadBalancerNodePorts"] = true.into();
    let refused = server.post(SERVICES, balanced).await;
    assert_eq!(refused.refused().0, 403);
    let used = json!({"services": "3", "services.nodeports": "1", "services.loadbalancers": "0"});
    uses(&server, "q", used).await;
    for name in ["plain", "open"] {
        let deleted = server
            .delete(&format!("{SERVICES}/{name}"), json!(null))
            .await;
        deleted.ok();
    }
    uses(
        &server,
        "q",
        json!({"services": "1", "services.nodeports": "0"}),
    )
    .await;
}

#[tokio::test]
async fn quotas_count_the_pods_of_their_scopes() {
    let server = Server::start().await;
    server.account("default").await;
    let scopes = [
        ("best-effort", "BestEffort"),
        ("not-best-effort", "NotBestEffort"),
        ("terminating", "Terminating"),
        ("not-terminating", "NotTerminating"),
    ];
    for (name, scope) in scopes {
        quota(&server, name, json!({"pods": "5"}), json!([scope])).await;
        uses(&server, name, json!({"pods": "0"})).await;
    }
    let are = async |counts: [&str; 4]| {
        for ((name, _), count) in scopes.into_iter().zip(counts) {
            uses(&server, name, json!({ "pods": count })).await;
        }
    };
    let amount = json!({"cpu": "500m", "memory": "200Mi"});
    server.post(PODS, pod("plain")).await.ok();
    are(["1", "0", "0", "1"]).await;
    server
        .post(PODS, asking("asking", &amount, &amount))
        .await
        .ok();
    are(["1", "1", "0", "2"]).await;
    let mut ending = asking("ending", &amount, &amount);
    ending["spec"]["activeDeadlineSeconds"] = 3600.into();
    server.post(PODS, ending).await.ok();
    are(["1", "2", "1", "2"]).await;
    for (name, counts) in [
        ("plain", ["0", "2", "1", "1"]),
        ("ending", ["0", "1", "0", "1"]),
        ("asking", ["0", "0", "0", "0"]),
    ] {
        let at_once = json!({"gracePeriodSeconds": 0});
        let deleted = server.delete(&format!("{PODS}/{name}"), at_once).await;
        deleted.ok();
        are(counts).await;
    }
}

#[tokio::test]
async fn the_status_of_a_quota_is_written_and_made_right_again() {
    let server = Server::start().await;
    let path = format!("{QUOTAS}/q");
    let limits = |cpu: &str, memory: &str| json!({"cpu": cpu, "memory": memory});
    quota(&server, "q", limits("500m", "500Mi"), json!([])).await;
    // Whoever writes a status leaves out what is used.
    let wrote = loop {
        let mut quota = server.get(&path).await.ok();
        quota["status"] = json!({"hard": limits("500m", "500Mi")});
        let wrote = server.put(&format!("{path}/status"), quota).await;
        if wrote.code != 409 {
            break wrote.ok();
        }
    };
    assert_eq!(wrote["status"]["hard"], limits("500m", "500Mi"));
    let strategic = "strategic-merge-patch+json";
    let spec = json!({"spec": {"hard": limits("1", "1Gi")}});
    let patched = server.patch(&path, strategic, spec).await.ok();
    assert_eq!(patched["spec"]["hard"], limits("1", "1Gi"));
    says(&server, "q", "hard", &limits("1", "1Gi")).await;

    let wrong = json!({"status": {"hard": limits("2", "2Gi")}});
    let patched = server
        .patch(&format!("{path}/status"), strategic, wrong)
        .await
        .ok();
    assert_eq!(patched["status"]["hard"], limits("2", "2Gi"));
    assert_eq!(patched["spec"]["hard"], limits("1", "1Gi"));
    says(&server, "q", "hard", &limits("1", "1Gi")).await;
    uses(&server, "q", limits("0", "0")).await;
    let quota = server.get(&format!("{path}/status")).await.ok();
    assert_eq!(quota["spec"]["hard"], limits("1", "1Gi"));
}
