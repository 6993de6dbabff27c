//! Pods of one template: what is made of their bodies is the same whether it is made anew or taken from another one.

use apiserver::Body;
use http::Method;
use serde_json::{Value, json};

use crate::server::{PODS, Server};

fn body(end: &str) -> Value {
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "u-1",
        "controller": true, "blockOwnerDeletion": true});
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("web-1-{end}"), "generateName": "web-1-",
            "labels": {"app": "web"}, "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "main", "image": "busybox",
            "resources": {"limits": {"cpu": "1000m"}}, "ports": [{"containerPort": 80}]}]}})
}

/// Creates a pod of a body that no other has: it is made anew.
async fn made_anew(server: &Server, end: &str) -> Value {
    let text = format!(
        "{}{}",
        body(end),
        " ".repeat(usize::from(end.as_bytes()[0]))
    );
    let request = server
        .request(Method::POST, PODS)
        .header("content-type", "application/json")
        .body(Body::from(text))
        .unwrap();
    server.read(request).await.ok()
}

fn token_volume(pod: &Value) -> String {
    let name = pod["spec"]["volumes"][0]["name"].as_str().unwrap();
    assert!(name.starts_with("kube-api-access-"), "{name}");
    name.to_owned()
}

/// A pod without what each has for itself.
fn in_common(pod: &Value) -> Value {
    let text = pod.to_string().replace(&token_volume(pod), "volume");
    let mut pod: Value = serde_json::from_str(&text).unwrap();
    for own in ["name", "uid", "resourceVersion", "creationTimestamp"] {
        assert!(pod["metadata"][own].is_string(), "{own}");
        pod["metadata"][own] = Value::Null;
    }
    let time = &mut pod["metadata"]["managedFields"][0]["time"];
    assert!(time.is_string());
    *time = Value::Null;
    pod
}

#[tokio::test]
async fn pods_that_are_alike_are_as_if_each_were_the_first() {
    let server = Server::start().await;
    server.account("default").await;
    server.get("/api/v1/serviceaccounts").await.ok();
    let first = server.post(PODS, body("aaaaa")).await.ok();
    let mut all = vec![first.clone()];
    for end in ["bbbbb", "ccccc", "ddddd"] {
        let alike = server.post(PODS, body(end)).await.ok();
        // It was taken from the first.
        assert_eq!(token_volume(&alike), token_volume(&first));
        let name = format!("web-1-{end}");
        assert_eq!(alike["metadata"]["name"], name.as_str());
        assert_eq!(server.get(&format!("{PODS}/{name}")).await.ok(), alike);
        all.push(alike);
    }
    let anew = made_anew(&server, "eeeee").await;
    assert_ne!(token_volume(&anew), token_volume(&first));
    for (at, pod) in all.iter().enumerate() {
        assert_eq!(in_common(pod), in_common(&anew));
        let others = all.iter().skip(at + 1).chain([&anew]);
        for other in others {
            for own in ["uid", "resourceVersion"] {
                assert_ne!(pod["metadata"][own], other["metadata"][own]);
            }
        }
    }
    let taken = server.post(PODS, body("bbbbb")).await;
    assert_eq!(
        taken.refused(),
        (409, "AlreadyExists", "pods \"web-1-bbbbb\" already exists")
    );
}

#[tokio::test]
async fn what_admission_adds_is_what_holds_now() {
    let server = Server::start().await;
    server.account("default").await;
    server.get("/api/v1/serviceaccounts").await.ok();
    for end in ["aaaaa", "bbbbb"] {
        server.post(PODS, body(end)).await.ok();
    }
    let ranges = "/api/v1/namespaces/default/limitranges";
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"},
        "spec": {"limits": [{"type": "Container", "default": {"memory": "64Mi"}}]}});
    server.post(ranges, range).await.ok();
    server.get(ranges).await.ok();
    for end in ["ccccc", "ddddd"] {
        let pod = server.post(PODS, body(end)).await.ok();
        let limits = &pod["spec"]["containers"][0]["resources"]["limits"];
        assert_eq!(*limits, json!({"cpu": "1", "memory": "64Mi"}));
    }
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": "high"}, "value": 7, "globalDefault": true});
    server.post(classes, class).await.ok();
    server.get(classes).await.ok();
    let pod = server.post(PODS, body("eeeee")).await.ok();
    assert_eq!(pod["spec"]["priority"], 7);
    // A try leaves nothing behind.
    let tried = server
        .post(&format!("{PODS}?dryRun=All"), body("fffff"))
        .await
        .ok();
    assert_eq!(tried["spec"]["priority"], 7);
    assert_eq!(server.get(&format!("{PODS}/web-1-fffff")).await.code, 404);
}

/// Creates a pod and one that is like it.
async fn make_two(server: &Server, pods: &str, ends: [&str; 2]) {
    let [first, alike] = ends.map(|end| server.post(pods, body(end)));
    let first = token_volume(&first.await.ok());
    assert_eq!(token_volume(&alike.await.ok()), first, "{ends:?}");
}

#[tokio::test]
async fn what_refuses_a_pod_refuses_its_like() {
    let server = Server::start().await;
    let (namespaces, namespace) = ("/api/v1/namespaces", "/api/v1/namespaces/n");
    let made = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
    server.post(namespaces, made).await.ok();
    server.account("n").await;
    server.get("/api/v1/serviceaccounts").await.ok();
    let pods = "/api/v1/namespaces/n/pods";
    make_two(&server, pods, ["aaaaa", "bbbbb"]).await;
    let label = async |level: Value| {
        let labels = json!({"pod-security.kubernetes.io/enforce": level});
        let change = json!({"metadata": {"labels": labels}});
        let changed = server.patch(namespace, "merge-patch+json", change).await;
        changed.ok();
        server.get(namespaces).await.ok();
    };
    label("restricted".into()).await;
    let refused = server.post(pods, body("ccccc")).await;
    assert_eq!(refused.refused().0, 403);
    assert!(refused.text.contains("PodSecurity"), "{}", refused.text);
    label(Value::Null).await;
    make_two(&server, pods, ["ccccc", "ddddd"]).await;
    let hooks = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    let hook = json!({"name": "absent.example.com",
        "clientConfig": {"service": {"namespace": "default", "name": "absent"}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
        "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 1});
    let hook = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "h"}, "webhooks": [hook]});
    server.post(hooks, hook).await.ok();
    server.get(hooks).await.ok();
    let refused = server.post(pods, body("eeeee")).await;
    assert_eq!(refused.refused().0, 500);
    let hook = format!("{hooks}/h");
    server.delete(&hook, Value::Null).await.ok();
    server.get(hooks).await.ok();
    make_two(&server, pods, ["eeeee", "fffff"]).await;
    server.delete(namespace, Value::Null).await.ok();
    server.get(namespaces).await.ok();
    let refused = server.post(pods, body("ggggg")).await;
    assert_eq!(refused.refused().0, 403);
    assert!(refused.text.contains("NamespaceTerminating"));
}
