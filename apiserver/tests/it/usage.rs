//! metrics.k8s.io. The node is a small server on this machine that says what it is told to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::definitions::until;
use crate::server::{Answer, PODS, Server, pod};
use crate::subresources::proxy::{Backend, Ca, start_with_node};

const ROOT: &str = "/apis/metrics.k8s.io/v1beta1";

struct Cluster {
    server: Server,
    /// What the node says next; null makes it fail.
    summary: Arc<Mutex<Value>>,
    /// How often it was asked.
    asked: Arc<AtomicUsize>,
    _node: Backend,
}

impl Cluster {
    async fn start() -> Cluster {
        let ca = Ca::new();
        let summary: Arc<Mutex<Value>> = Arc::default();
        let asked: Arc<AtomicUsize> = Arc::default();
        let (said, count) = (summary.clone(), asked.clone());
        let answer = move || async move {
            count.fetch_add(1, Ordering::SeqCst);
            match said.lock().unwrap().clone() {
                Value::Null => (StatusCode::INTERNAL_SERVER_ERROR, "no".to_owned()),
                said => (StatusCode::OK, said.to_string()),
            }
        };
        let router = Router::new().route("/stats/summary", get(answer));
        let node = Backend::serve(router, Some(ca.server(&["127.0.0.1"], Some(&ca)))).await;
        let server = start_with_node(&ca, node.port).await;
        Cluster {
            server,
            summary,
            asked,
            _node: node,
        }
    }

    /// A pod on the node; its UID.
    async fn run(&self, name: &str, app: &str) -> String {
        let mut object = pod(name);
        object["metadata"]["labels"] = json!({"app": app});
        object["spec"]["nodeName"] = "n".into();
        let made = self.server.post(PODS, object).await.ok();
        made["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    fn says(&self, summary: Value) {
        *self.summary.lock().unwrap() = summary;
    }

    async fn get(&self, path: &str) -> Answer {
        self.server.get(&format!("{ROOT}/{path}")).await
    }
}

fn figures(nanocores: u64, bytes: u64) -> Value {
    let at = "2026-01-01T00:00:10.25Z";
    json!({"cpu": {"time": at, "usageNanoCores": nanocores, "usageWindowNanoSeconds": 10_500_000_000_u64},
        "memory": {"time": at, "workingSetBytes": bytes}})
}

fn of_pod(name: &str, uid: &str, containers: &[(&str, Value)]) -> Value {
    let containers: Vec<Value> = containers
        .iter()
        .map(|(name, figures)| {
            let mut one = figures.clone();
            one["name"] = (*name).into();
            one
        })
        .collect();
    json!({"podRef": {"name": name, "namespace": "default", "uid": uid}, "containers": containers})
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn nodes_and_pods_show_what_their_node_says() {
    let cluster = Cluster::start().await;
    let (web, db) = (cluster.run("web", "a").await, cluster.run("db", "b").await);
    let former = cluster.run("again", "a").await;
    cluster.run("fresh", "a").await;
    let mut unmeasured = figures(1, 1);
    unmeasured["cpu"] = json!({"time": "2026-01-01T00:00:10Z"});
    let mut summary = json!({"node": figures(250_000_000, 3 << 20), "pods": [
        of_pod("web", &web, &[("c", figures(1_234_567, 64 << 20)), ("d", figures(0, 1000))]),
        of_pod("db", &db, &[("c", figures(2, 2))]),
        of_pod("again", &format!("{former}x"), &[("c", figures(2, 2))]),
        of_pod("fresh", "", &[("c", unmeasured)])]});
    summary["node"]["nodeName"] = "n".into();
    cluster.says(summary);

    let node = cluster.get("nodes/n").await.ok();
    assert_eq!(node["kind"], "NodeMetrics");
    assert_eq!(node["apiVersion"], "metrics.k8s.io/v1beta1");
    assert_eq!(node["usage"], json!({"cpu": "250m", "memory": "3Mi"}));
    assert_eq!(node["timestamp"], "2026-01-01T00:00:10Z");
    assert_eq!(node["window"], "10.5s");
    let list = cluster.get("nodes").await.ok();
    assert_eq!(
        (&list["kind"], names(&list)),
        (&json!("NodeMetricsList"), vec!["n"])
    );

    let one = cluster.get("namespaces/default/pods/web").await.ok();
    assert_eq!(one["kind"], "PodMetrics");
    assert_eq!(one["metadata"]["namespace"], "default");
    assert_eq!(one["metadata"]["labels"], json!({"app": "a"}));
    let containers = json!([
        {"name": "c", "usage": {"cpu": "1234567n", "memory": "64Mi"}},
        {"name": "d", "usage": {"cpu": "0", "memory": "1k"}}]);
    assert_eq!(one["containers"], containers);
    // One of another incarnation and one that was not measured as a whole are left out.
    let all = cluster.get("pods?limit=500").await.ok();
    assert_eq!(names(&all), ["db", "web"]);
    for (path, expected) in [
        ("namespaces/default/pods?labelSelector=app%3Da", vec!["web"]),
        (
            "namespaces/default/pods?fieldSelector=metadata.name%3Ddb",
            vec!["db"],
        ),
        (
            "pods?fieldSelector=spec.nodeName%3Dn,metadata.namespace%3Ddefault",
            vec!["db", "web"],
        ),
        ("namespaces/other/pods", vec![]),
        ("nodes?labelSelector=none%3Dof-them", vec![]),
    ] {
        assert_eq!(names(&cluster.get(path).await.ok()), expected, "{path}");
    }
    // Within a while nobody is asked twice.
    assert_eq!(cluster.asked.load(Ordering::SeqCst), 1);

    let request = cluster
        .server
        .request(Method::GET, &format!("{ROOT}/namespaces/default/pods"))
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Body::empty())
        .unwrap();
    let table = cluster.server.read(request).await.ok();
    assert_eq!(table["kind"], "Table");
    let headings: Vec<&Value> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| &column["name"])
        .collect();
    assert_eq!(headings, ["Name", "cpu", "memory", "Window"]);
    assert_eq!(table["rows"][0]["cells"], json!(["db", "2n", "2", "10.5s"]));

    // In protobuf they say the same. A list is whole, as a metrics-server's.
    for path in ["nodes/n", "namespaces/default/pods?limit=1"] {
        let request = cluster
            .server
            .request(Method::GET, &format!("{ROOT}/{path}"))
            .header("accept", "application/vnd.kubernetes.protobuf")
            .body(Body::empty())
            .unwrap();
        let response = cluster.server.send(request).await;
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let spoken = schema::protobuf::decode(&bytes).unwrap();
        let json = cluster.get(path).await.ok();
        assert_eq!(spoken["kind"], json["kind"]);
        for field in ["timestamp", "window", "usage"] {
            assert_eq!(spoken[field], json[field], "{path}: {field}");
        }
        let measured = |list: &Value| -> Vec<Value> {
            let items = list["items"].as_array();
            let item = |item: &Value| json!([item["containers"], item["window"]]);
            items.into_iter().flatten().map(item).collect()
        };
        assert_eq!(measured(&spoken), measured(&json), "{path}");
        assert!(json["items"].is_null() || measured(&json).len() == 2);
    }
}

#[tokio::test]
async fn what_has_no_figures_is_not_found() {
    let cluster = Cluster::start().await;
    cluster.run("web", "a").await;
    let refused = cluster.get("nodes/n").await;
    let text = "nodemetrics.metrics.k8s.io \"n\" not found";
    assert_eq!(refused.refused(), (404, "NotFound", text));
    let refused = cluster.get("namespaces/default/pods/web").await;
    let text = "podmetrics.metrics.k8s.io \"default/web\" not found";
    assert_eq!(refused.refused(), (404, "NotFound", text));
    assert_eq!(cluster.get("nodes/none").await.code, StatusCode::NOT_FOUND);
    assert_eq!(names(&cluster.get("nodes").await.ok()), Vec::<&str>::new());
    // That it failed is remembered, too.
    assert_eq!(cluster.asked.load(Ordering::SeqCst), 1);
    let odd = cluster
        .get("pods?fieldSelector=status.phase%3DRunning")
        .await;
    assert_eq!(odd.code, StatusCode::BAD_REQUEST);
    let written = cluster
        .server
        .post(&format!("{ROOT}/nodes"), json!({}))
        .await;
    assert_eq!(written.code, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(
        cluster.get("nodes?watch=1").await.code,
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[tokio::test]
async fn the_group_is_discovered_and_guarded() {
    let cluster = Cluster::start().await;
    let group = cluster.server.get("/apis/metrics.k8s.io").await.ok();
    assert_eq!(group["preferredVersion"]["version"], "v1beta1");
    let list = cluster.server.get(ROOT).await.ok();
    let found: Vec<String> = list["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            format!(
                "{} {} {} {}",
                one["name"], one["kind"], one["namespaced"], one["verbs"]
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            r#""nodes" "NodeMetrics" false ["get","list"]"#,
            r#""pods" "PodMetrics" true ["get","list"]"#
        ]
    );
    let groups = cluster.server.get("/apis").await.ok();
    let last = groups["groups"].as_array().unwrap().last().unwrap();
    assert_eq!(last["name"], "metrics.k8s.io");
    let document = cluster
        .server
        .get("/openapi/v3/apis/metrics.k8s.io/v1beta1")
        .await
        .ok();
    assert!(document["paths"][format!("{ROOT}/nodes/{{name}}")]["get"].is_object());
    // Who may view a namespace may see what its pods use, and not what nodes do.
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "jane"}, "subjects": [{"kind": "User", "name": "jane"}],
        "roleRef": {"kind": "ClusterRole", "name": "view", "apiGroup": "rbac.authorization.k8s.io"}});
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    cluster.server.post(bindings, binding).await.ok();
    cluster.server.get(bindings).await.ok();
    for (path, code) in [
        ("namespaces/default/pods", StatusCode::OK),
        ("namespaces/kube-system/pods", StatusCode::FORBIDDEN),
        ("nodes", StatusCode::FORBIDDEN),
    ] {
        let request = http::Request::get(format!("{ROOT}/{path}"))
            .header("authorization", "Bearer jane-token")
            .body(Body::empty())
            .unwrap();
        assert_eq!(cluster.server.read(request).await.code, code, "{path}");
    }
}

#[tokio::test]
async fn another_server_may_take_the_group_over_and_give_it_back() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let services = "/apis/apiregistration.k8s.io/v1/apiservices";
    let name = "v1beta1.metrics.k8s.io";
    // There is none, so that installers may bring theirs.
    let absent = server.get(&format!("{services}/{name}")).await;
    assert_eq!(absent.code, StatusCode::NOT_FOUND);
    let theirs = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name},
        "spec": {"group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": {"namespace": "kube-system", "name": "metrics-server"}}});
    server.post(services, theirs).await.ok();
    // The Service is not there: its server is asked, in vain, and not this one.
    let nodes = format!("{ROOT}/nodes");
    until(server, &nodes, |answer| {
        answer.code == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    server
        .delete(&format!("{services}/{name}"), Value::Null)
        .await
        .ok();
    until(server, &nodes, |answer| answer.code == StatusCode::OK).await;
}
