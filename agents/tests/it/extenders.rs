//! Servers of somebody else that have a say in where pods go.

use crate::cluster::Cluster;
use crate::profiles::{bare_node, told};
use agent_runtime::kinds::{Pod, condition};
use agent_runtime::resource_ref::{NODES, PODS, SERVICE_ACCOUNTS};
use agent_runtime::{Client, PatchType};
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use scheduler::config::Config;
use scheduler::explain::{AsOf, Explanation, Picture};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// Resources that no node has, since somebody else knows where they are.
const CHIPS: &str = "example.com/chips";
const RACKS: &str = "example.com/racks";

/// What the extender does about filters.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    /// All but node `a`.
    Normal,
    /// None at all.
    Full,
    /// It is broken.
    Broken,
}

/// An extender that knows of chips, and one that looks at nodes for racks.
#[derive(Clone)]
struct Extender {
    client: Client,
    mood: Arc<Mutex<Mood>>,
    /// What it was asked, by path and pod.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Extender {
    /// Starts it; gives its address.
    async fn start(client: &Client) -> (Extender, String) {
        let extender = Extender {
            client: client.clone(),
            mood: Arc::new(Mutex::new(Mood::Normal)),
            asked: Arc::default(),
        };
        let router = axum::Router::new().fallback(answer);
        let router = router.with_state(extender.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (extender, address)
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn was_asked(&self, what: &str) -> bool {
        self.asked.lock().unwrap().iter().any(|asked| asked == what)
    }

    fn was_asked_about(&self, pod: &str) -> bool {
        let asked = self.asked.lock().unwrap();
        asked.iter().any(|asked| asked.ends_with(pod))
    }

    async fn bind(&self, order: &Value) -> Value {
        let text = |field: &str| order[field].as_str().unwrap();
        let binding = json!({"apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": order["PodName"], "namespace": order["PodNamespace"], "uid": order["PodUID"]},
            "target": {"kind": "Node", "name": order["Node"]}});
        let (namespace, name) = (text("PodNamespace"), text("PodName"));
        let client = &self.client;
        let bound = client
            .create_sub(&PODS, namespace, name, "binding", &binding)
            .await;
        match bound {
            Ok(_) => json!({}),
            Err(error) => json!({"Error": error.message}),
        }
    }
}

async fn answer(State(extender): State<Extender>, uri: Uri, body: String) -> (StatusCode, String) {
    let question: Value = serde_json::from_str(&body).unwrap();
    let pod = question["Pod"]["metadata"]["name"].as_str();
    let pod = pod.or(question["PodName"].as_str()).unwrap_or_default();
    let line = format!("{} {pod}", uri.path());
    extender.asked.lock().unwrap().push(line);
    let mood = *extender.mood.lock().unwrap();
    let answer = match uri.path() {
        "/chips/filter" if mood == Mood::Broken => {
            return (StatusCode::INTERNAL_SERVER_ERROR, String::new());
        }
        "/chips/filter" => {
            assert_eq!(question["Nodes"], Value::Null);
            let names = question["NodeNames"].as_array().unwrap().iter();
            let names = names.map(|name| name.as_str().unwrap());
            let refused = |name: &&str| mood == Mood::Full || *name == "a";
            let (failed, left): (Vec<&str>, Vec<&str>) = names.partition(refused);
            let failed = failed
                .iter()
                .map(|name| ((*name).to_owned(), json!("no chips")));
            let failed: serde_json::Map<String, Value> = failed.collect();
            json!({"NodeNames": left, "FailedNodes": failed})
        }
        "/chips/prioritize" => json!([{"Host": "b", "Score": 1}, {"Host": "c", "Score": 10}]),
        "/chips/bind" => extender.bind(&question).await,
        "/racks/filter" => {
            assert_eq!(question["NodeNames"], Value::Null);
            let nodes = question["Nodes"]["items"].as_array().unwrap().iter();
            let in_rack = |node: &&Value| node["metadata"]["labels"]["rack"] == "1";
            let items: Vec<&Value> = nodes.filter(in_rack).collect();
            json!({"Nodes": {"items": items}})
        }
        _ => return (StatusCode::NOT_FOUND, String::new()),
    };
    (StatusCode::OK, answer.to_string())
}

/// Three nodes, and the configuration of a scheduler with both extenders and one that is not there.
async fn cluster() -> (Cluster, Extender, String) {
    let (cluster, mut context) = Cluster::bare().await;
    let client = &cluster.client;
    let (extender, address) = Extender::start(client).await;
    let config = format!(
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nextenders:\n\
         - urlPrefix: {address}/chips\n  filterVerb: filter\n  prioritizeVerb: prioritize\n  weight: 100\n  bindVerb: bind\n  \
           nodeCacheCapable: true\n  managedResources: [{{name: {CHIPS}, ignoredByScheduler: true}}]\n\
         - urlPrefix: http://127.0.0.1:1\n  filterVerb: filter\n  prioritizeVerb: prioritize\n  weight: 1\n  ignorable: true\n  \
           managedResources: [{{name: example.com/nothing}}]\n\
         - urlPrefix: {address}/racks/\n  filterVerb: filter\n  ignorable: true\n  \
           managedResources: [{{name: {RACKS}, ignoredByScheduler: true}}]\n"
    );
    for name in ["a", "b", "c"] {
        bare_node(client, name, json!({})).await;
    }
    let rack = json!({"metadata": {"labels": {"rack": "1"}}});
    let patched = client.patch(&NODES, "", "a", PatchType::Merge, &rack).await;
    patched.unwrap();
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let made = client.create(&SERVICE_ACCOUNTS, "default", &account).await;
    made.unwrap();
    context.scheduler_config = config.as_str().into();
    tokio::spawn(scheduler::run(context));
    (cluster, extender, config)
}

fn pod(name: &str, resource: &str) -> Value {
    let amount = json!({resource: "1"});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "pause",
            "resources": {"requests": amount, "limits": amount}}]}})
}

async fn create(cluster: &Cluster, pod: &Value) -> Value {
    let made = cluster.client.create(&PODS, "default", pod).await;
    made.unwrap()
}

fn on(node: &'static str) -> impl Fn(&Pod) -> bool {
    move |pod| pod.spec.node_name == node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_go_where_an_extender_wants_them_and_it_binds_them() {
    let (cluster, extender, _) = cluster().await;
    create(&cluster, &pod("with-chips", CHIPS)).await;
    cluster.pod("the best node", "with-chips", on("c")).await;
    for what in ["filter", "prioritize", "bind"] {
        assert!(
            extender.was_asked(&format!("/chips/{what} with-chips")),
            "{what}"
        );
    }
    // This one looks at the nodes themselves, and all of them is what it gets.
    create(&cluster, &pod("in-rack", RACKS)).await;
    cluster
        .pod("the node of the rack", "in-rack", on("a"))
        .await;
    assert!(!extender.was_asked("/chips/filter in-rack"));
    // The others are nobody's business, whatever somebody thinks of theirs.
    extender.set(Mood::Broken);
    let placed = |pod: &Pod| !pod.spec.node_name.is_empty();
    create(&cluster, &pod("plain", "cpu")).await;
    cluster.pod("a pod like others", "plain", placed).await;
    assert!(!extender.was_asked_about("plain"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_waits_while_its_extender_is_broken_or_has_no_node_for_it() {
    let (cluster, extender, _) = cluster().await;
    extender.set(Mood::Broken);
    create(&cluster, &pod("p", CHIPS)).await;
    let words = "/chips/filter, code 500";
    told(&cluster, "p", words).await;
    let said = cluster.pods.get("default", "p").unwrap();
    let said = condition(&said.status.conditions, "PodScheduled").unwrap();
    assert_eq!(said.reason, "SchedulerError");
    // It is tried again by itself.
    extender.set(Mood::Full);
    told(
        &cluster,
        "p",
        "0/3 nodes are available: 3 no chips. preemption: ",
    )
    .await;
    extender.set(Mood::Normal);
    // Any change will do.
    let change = json!({"metadata": {"labels": {"some": "change"}}});
    let client = &cluster.client;
    let patched = client
        .patch(&NODES, "", "b", PatchType::Merge, &change)
        .await;
    patched.unwrap();
    cluster.pod("the best node", "p", on("c")).await;
}

async fn explained(cluster: &Cluster, config: &str, pod: &Value) -> Explanation {
    let mut picture = Picture::new(Config::parse(config).unwrap());
    let read = picture.read(&cluster.client, AsOf::Now).await;
    read.unwrap();
    picture.explain_asking(pod).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_extender_says_is_explained() {
    let (cluster, extender, config) = cluster().await;
    let asks = pod("p", CHIPS);
    let explanation = explained(&cluster, &config, &asks).await;
    assert_eq!(explanation.best, ["c"]);
    let [a, _, c] = &explanation.nodes[..] else {
        panic!("{:?}", explanation.nodes)
    };
    let verdict = a.filters.last().unwrap();
    assert!(verdict.plugin.starts_with("Extender http://127.0.0.1:"));
    assert_eq!(verdict.reasons, ["no chips"]);
    let value = c.scores.last().unwrap();
    assert_eq!(
        (value.raw, value.normalized, value.weighted),
        (Some(10), Some(100), 10_000)
    );
    extender.set(Mood::Full);
    let message = explained(&cluster, &config, &asks).await.message.unwrap();
    assert!(message.starts_with("0/3 nodes are available: 3 no chips."));
    extender.set(Mood::Broken);
    let explanation = explained(&cluster, &config, &asks).await;
    assert!(explanation.best.is_empty());
    assert!(explanation.extender_errors[0].ends_with("code 500"));
    // One that may be missing is only told of.
    let explanation = explained(&cluster, &config, &pod("q", "example.com/nothing")).await;
    assert!(explanation.extender_errors.is_empty(), "no node has that");
    let explanation = explained(&cluster, &config, &pod("q", RACKS)).await;
    assert_eq!(explanation.best, ["a"]);
    let refused = explanation.nodes[1].filters.last().unwrap();
    assert_eq!(refused.reasons, ["it gives no reason"]);
}
