//! How bindings reach a server: many at once where it takes them so, one by one where it does not, and never lost when the
//! answer is.

use crate::cluster::{PATIENCE, api_server};
use agent_runtime::kinds::Pod;
use agent_runtime::resource_ref::{NODES, PODS, SERVICE_ACCOUNTS};
use agent_runtime::{AgentContext, Body, BoxError, Client, Hub, InProcessService};
use apiserver::{ApiServer, Tasks};
use auth::User;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

const BATCHES: &str = "/kontiki/v1/bindings";
const NODE_COUNT: usize = 4;
const PODS_A_NODE: usize = 75;
const POD_COUNT: usize = NODE_COUNT * PODS_A_NODE;

/// What happens to a batch on its way, by how many came before it.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Served,
    /// As by a server that has no such path.
    Unknown,
    /// The server dies before it has done anything.
    Lost,
    /// The server dies when all is done.
    Unanswered,
}

#[derive(Default)]
struct Counted {
    batches: AtomicUsize,
    singles: AtomicUsize,
    /// One for each batch that came.
    came: tokio::sync::Notify,
}

/// A client to which this happens, as the scheduler's user. The first binding of a single pod is kept on its way until so
/// many batches have come: what is decided meanwhile goes together, however fast bindings are.
fn client(
    api: &Arc<ApiServer>,
    counted: Arc<Counted>,
    fate: fn(usize) -> Fate,
    batches: usize,
) -> Client {
    let front = api.front();
    let user = User::new("system:kube-scheduler", std::iter::empty::<&str>()).authenticated();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (front, user, counted) = (front.clone(), user.clone(), counted.clone());
        async move {
            let path = request.uri().path();
            let fate = match path {
                BATCHES => {
                    let before = counted.batches.fetch_add(1, Ordering::Relaxed);
                    counted.came.notify_one();
                    fate(before)
                }
                _ => Fate::Served,
            };
            if path.ends_with("/binding") && counted.singles.fetch_add(1, Ordering::Relaxed) == 0 {
                while counted.batches.load(Ordering::Relaxed) < batches {
                    counted.came.notified().await;
                }
            }
            match fate {
                Fate::Lost => return Err(BoxError::from("connection reset")),
                Fate::Unknown => {
                    let mut response = Response::new(axum::body::Body::from("404 page not found"));
                    *response.status_mut() = StatusCode::NOT_FOUND;
                    return Ok(boxed(response));
                }
                Fate::Served | Fate::Unanswered => {}
            }
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(user);
            let response = front.oneshot(request).await?;
            match fate {
                Fate::Unanswered => Err(BoxError::from("connection reset")),
                _ => Ok(boxed(response)),
            }
        }
    });
    Client::in_process(InProcessService::new(service))
}

fn boxed(response: Response<axum::body::Body>) -> Response<Body> {
    response.map(|body| body.map_err(BoxError::from).boxed_unsync())
}

struct Run {
    counted: Arc<Counted>,
    /// Every node that each pod was ever seen on.
    placed: BTreeMap<String, Vec<String>>,
    _guards: (Tasks, DropGuard),
}

/// Schedules as many pods as there is room for, all there before the scheduler is.
async fn run(fate: fn(usize) -> Fate, batches: usize) -> Run {
    let (api, tasks) = api_server().await;
    let admin = crate::cluster::client_of(&api);
    for number in 0..NODE_COUNT {
        let amount = json!({"cpu": "100", "memory": "100Gi", "pods": PODS_A_NODE.to_string()});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("n{number}")},
            "status": {"capacity": amount, "allocatable": amount}});
        admin.create(&NODES, "", &node).await.unwrap();
        // A new node is closed until somebody says that it is ready.
        let open = json!({"spec": {"taints": null}});
        let form = agent_runtime::PatchType::Merge;
        let name = format!("n{number}");
        admin.patch(&NODES, "", &name, form, &open).await.unwrap();
    }
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let made = admin.create(&SERVICE_ACCOUNTS, "default", &account).await;
    made.unwrap();
    for number in 0..POD_COUNT {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{number}")},
            "spec": {"containers": [{"name": "c", "image": "pause"}]}});
        admin.create(&PODS, "default", &pod).await.unwrap();
    }
    let stop = CancellationToken::new();
    let hub = Hub::new(admin, &stop);
    let pods = hub.cache::<Pod>();
    let placed = Arc::new(Mutex::new(BTreeMap::<String, Vec<String>>::new()));
    let seen = placed.clone();
    pods.subscribe(move |change| {
        if let Some(pod) = change
            .new
            .as_ref()
            .filter(|pod| !pod.spec.node_name.is_empty())
        {
            let mut seen = seen.lock().unwrap();
            let nodes = seen.entry(pod.metadata.name.clone()).or_default();
            let node = &pod.spec.node_name;
            if nodes.last().is_none_or(|last| *node != *last) {
                nodes.push(node.to_string());
            }
        }
    });
    let counted = Arc::new(Counted::default());
    let context = AgentContext {
        client: client(&api, counted.clone(), fate, batches),
        identity: "test".into(),
        cluster_ca_pem: "CA".into(),
        scheduler_config: "".into(),
        controllers: Default::default(),
        stop: stop.clone(),
    };
    tokio::spawn(scheduler::run(context));
    let mut version = pods.version();
    let all_placed = async {
        while placed.lock().unwrap().len() < POD_COUNT {
            version.changed().await.expect("the cache lives");
            version.mark_unchanged();
        }
    };
    let waited = tokio::time::timeout(PATIENCE, all_placed).await;
    let placed = std::mem::take(&mut *placed.lock().unwrap());
    assert!(
        waited.is_ok(),
        "{} of {POD_COUNT} have a node",
        placed.len()
    );
    Run {
        counted,
        placed,
        _guards: (tasks, stop.drop_guard()),
    }
}

impl Run {
    /// Each pod has been on one node, and each node is as full as it can be.
    fn is_whole(&self) {
        let mut on = BTreeMap::<&str, usize>::new();
        for (pod, nodes) in &self.placed {
            assert_eq!(nodes.len(), 1, "{pod}: {nodes:?}");
            *on.entry(&nodes[0]).or_default() += 1;
        }
        assert_eq!(on.len(), NODE_COUNT);
        assert!(on.values().all(|count| *count == PODS_A_NODE), "{on:?}");
    }

    fn batches(&self) -> usize {
        self.counted.batches.load(Ordering::Relaxed)
    }

    fn singles(&self) -> usize {
        self.counted.singles.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_wait_are_bound_many_at_once() {
    let run = run(|_| Fate::Served, 3).await;
    run.is_whole();
    let (batches, singles) = (run.batches(), run.singles());
    assert!(
        batches >= 3 && batches + singles < POD_COUNT / 2,
        "{batches} and {singles}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_batches_gets_bindings_one_by_one() {
    let run = run(|_| Fate::Unknown, 1).await;
    run.is_whole();
    assert_eq!(run.singles(), POD_COUNT);
    assert!((1..=2).contains(&run.batches()), "{}", run.batches());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_with_a_batch_loses_no_pod_and_no_room() {
    let fate = |before| match before {
        0 => Fate::Unanswered,
        1 => Fate::Lost,
        _ => Fate::Served,
    };
    let run = run(fate, 2).await;
    run.is_whole();
    assert!(run.batches() >= 2, "{}", run.batches());
}
