//! Runs the controllers: one election, one hub, a queue and workers for each.

use crate::CONTROLLERS;
use crate::queue_names::queue_of;
use crate::world::{Caches, Sightings, World};
use agent_runtime::cache::Key;
use agent_runtime::execute::execute;
use agent_runtime::hub::Written;
use agent_runtime::plan::Plan;
use agent_runtime::timestamp::Moment;
use agent_runtime::worker::{self, Next, Turn};
use agent_runtime::{
    AgentContext, ApiError, Client, ControllerOptions, Elector, ElectorConfig, EventRecorder, Hub,
    Queue, metrics,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use host::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// One controller.
pub struct Controller {
    /// Name, as Kubernetes calls it.
    pub name: &'static str,
    /// What it does, one sentence.
    pub help: &'static str,
    /// Reconciles at a time.
    pub workers: usize,
    /// How it works.
    pub body: Body,
}

/// How a controller works.
pub enum Body {
    /// A queue of keys and a pure reconcile.
    Keyed {
        /// Subscribes to caches: which change enqueues which keys.
        wire: fn(&Arc<Caches>, &Arc<Queue<Key>>),
        /// Decides.
        reconcile: fn(&Key, &World) -> Plan,
    },
    /// A loop of its own, until the token of the context is cancelled.
    Task(fn(TaskContext) -> BoxFuture<'static, ()>),
}

/// What a controller's task gets.
#[derive(Clone)]
pub struct TaskContext {
    /// The API.
    pub client: Client,
    /// The shared watches.
    pub hub: Arc<Hub>,
    /// The typed caches.
    pub caches: Arc<Caches>,
    /// Events, reported under the name that Kubernetes' controller of this kind reports under.
    pub recorder: EventRecorder,
    /// The cluster's CA.
    pub cluster_ca_pem: Arc<str>,
    /// What the operator has chosen.
    pub options: Arc<ControllerOptions>,
    /// Cancelled when the leadership or the process ends.
    pub stop: CancellationToken,
}

/// How long a key waits for the caches to see its own writes before it goes to the end of its backoff.
const SEEN_MAX: Duration = Duration::from_secs(10);
/// Who runs the controllers, for figures and as the name of the lease.
const MANAGER: &str = "kube-controller-manager";
/// Before a task that ended by itself is begun anew.
const RESTART_PAUSE: Duration = Duration::from_secs(5);

/// Competes for the lease `kube-system/kube-controller-manager` and runs all controllers while holding it.
pub async fn run(context: AgentContext) {
    let config = ElectorConfig::new("kube-system", MANAGER, &context.identity);
    let elector = Elector::new(context.client.clone(), config);
    let stop = context.stop.clone();
    elector
        .run(stop, |leading| {
            run_without_election(AgentContext {
                stop: leading,
                ..context.clone()
            })
        })
        .await;
}

/// Whom the events of a controller are from. Some of Kubernetes' controllers call themselves something else there, and
/// whoever filters events goes by that.
fn event_source(controller: &'static str) -> &'static str {
    match controller {
        "disruption-controller" => "controllermanager",
        "node-ipam-controller" => "cidrAllocator",
        "node-lifecycle-controller" => "node-controller",
        "node-route-controller" => "route_controller",
        "resourceclaim-controller" => "resource_claim",
        "service-lb-controller" => "service-controller",
        other => other,
    }
}

/// Runs all controllers until the context's token is cancelled (tests, and processes that are alone).
pub async fn run_without_election(context: AgentContext) {
    let hub = Hub::new(context.client.clone(), &context.stop);
    let caches = Arc::new(Caches::open(&hub));
    tokio::select! {
        biased;
        () = context.stop.cancelled() => return,
        () = hub.wait_synced() => {}
    }
    tracing::info!(controllers = CONTROLLERS.len(), "controllers start");
    let mut tasks = JoinSet::new();
    let running = |controller: &Controller| metrics::runs(controller.name, MANAGER);
    let _shown: Vec<_> = CONTROLLERS.iter().map(running).collect();
    for controller in CONTROLLERS {
        let task = TaskContext {
            client: context.client.clone(),
            hub: hub.clone(),
            caches: caches.clone(),
            recorder: EventRecorder::start(
                context.client.clone(),
                event_source(controller.name),
                "",
                &context.stop,
            ),
            cluster_ca_pem: context.cluster_ca_pem.as_str().into(),
            options: context.controllers.clone(),
            stop: context.stop.clone(),
        };
        match controller.body {
            Body::Keyed { wire, reconcile } => {
                tasks.spawn(host::here(run_keyed(controller, wire, reconcile, task)));
            }
            Body::Task(task_of) => {
                let running = run_task(controller.name, task_of, task, RESTART_PAUSE);
                tasks.spawn(host::here(running));
            }
        }
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a controller ended");
        }
    }
}

/// A task that panics is begun anew, or its controller would be missing until the leadership passes on.
async fn run_task(
    name: &'static str,
    task_of: fn(TaskContext) -> BoxFuture<'static, ()>,
    context: TaskContext,
    pause: Duration,
) {
    loop {
        let _ = AssertUnwindSafe(task_of(context.clone()))
            .catch_unwind()
            .await;
        if context.stop.is_cancelled() {
            return;
        }
        tracing::error!(controller = name, "a controller ended and is begun anew");
        tokio::select! {
            biased;
            () = context.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// What is remembered of a key between reconciles.
#[derive(Default)]
struct Memory {
    written: Vec<Written>,
    failure: Option<ApiError>,
}

struct Keyed {
    name: &'static str,
    reconcile: fn(&Key, &World) -> Plan,
    context: TaskContext,
    sightings: Arc<Sightings>,
    memory: Mutex<HashMap<Key, Memory>>,
}

async fn run_keyed(
    controller: &'static Controller,
    wire: fn(&Arc<Caches>, &Arc<Queue<Key>>),
    reconcile: fn(&Key, &World) -> Plan,
    context: TaskContext,
) {
    let queue = queue_of(controller.name);
    wire(&context.caches, &queue);
    let stop = context.stop.clone();
    let keyed = Arc::new(Keyed {
        name: controller.name,
        reconcile,
        context,
        sightings: Arc::default(),
        memory: Mutex::default(),
    });
    worker::run(queue, controller.workers, stop, move |key| {
        let keyed = keyed.clone();
        async move { keyed.work(key).await }
    })
    .await;
}

impl Keyed {
    async fn work(&self, key: Key) -> Turn {
        let mut decided_in = Duration::ZERO;
        let next = self.work_once(key, &mut decided_in).await;
        Turn { next, decided_in }
    }

    async fn work_once(&self, key: Key, decided_in: &mut Duration) -> Next {
        let Memory { written, failure } = self.memory().remove(&key).unwrap_or_default();
        if !self.is_seen(&key, &written).await {
            self.memory().insert(key, Memory { written, failure });
            return Next::Backoff;
        }
        let world = World::new(
            self.context.caches.clone(),
            self.sightings.clone(),
            Moment::now(),
            failure,
            self.context.cluster_ca_pem.clone(),
            host::random(),
        )
        .with_options(self.context.options.clone());
        let begun = Instant::now();
        let plan = (self.reconcile)(&key, &world);
        *decided_in = begun.elapsed();
        let again_in = plan.again_in;
        if !plan.ops.is_empty() {
            tracing::debug!(controller = self.name, %key, plan = ?plan.lines(), "plan");
        }
        let outcome = execute(&self.context.client, &self.context.recorder, plan).await;
        let next = match &outcome.error {
            None => again_in.map_or(Next::Done, Next::After),
            Some(error) => {
                if error.is_conflict()
                    || error.is_already_exists()
                    || error.is_namespace_terminating()
                {
                    tracing::debug!(controller = self.name, %key, error = %error.message, "trying again");
                } else {
                    tracing::warn!(controller = self.name, %key, error = %error.message, "a plan failed, trying again");
                }
                Next::Backoff
            }
        };
        // Waited for here, so that nothing is left to remember of a key that may never come again.
        let seen = self.is_seen(&key, &outcome.written).await;
        if seen && outcome.error.is_none() {
            return next;
        }
        let written = if seen { Vec::new() } else { outcome.written };
        self.memory().insert(
            key,
            Memory {
                written,
                failure: outcome.error,
            },
        );
        Next::Backoff
    }

    /// Whether the caches have seen these writes, after a while.
    async fn is_seen(&self, key: &Key, written: &[Written]) -> bool {
        let seen = tokio::time::timeout(SEEN_MAX, self.context.hub.wait_seen(written))
            .await
            .is_ok();
        if !seen {
            tracing::debug!(controller = self.name, %key, "the caches have not seen the last writes yet");
        }
        seen
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_runtime::plan::Op;
    use agent_runtime::resource_ref::PODS;
    use agent_runtime::{ClientConfig, Identity};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn events_come_from_the_names_kubernetes_uses() {
        let known = |name: &str| CONTROLLERS.iter().any(|controller| controller.name == name);
        for (name, source) in [
            ("disruption-controller", "controllermanager"),
            ("node-lifecycle-controller", "node-controller"),
            ("node-route-controller", "route_controller"),
            ("service-lb-controller", "service-controller"),
            ("resourceclaim-controller", "resource_claim"),
            ("node-ipam-controller", "cidrAllocator"),
            ("deployment-controller", "deployment-controller"),
        ] {
            assert!(known(name), "{name}");
            assert_eq!(event_source(name), source);
        }
    }

    static BEGUN: AtomicUsize = AtomicUsize::new(0);

    fn panics_once(context: TaskContext) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if BEGUN.fetch_add(1, Ordering::SeqCst) == 0 {
                panic!("a bug in a controller (this test means it)");
            }
            context.stop.cancel();
        })
    }

    fn context(server: String) -> TaskContext {
        let config = ClientConfig::new(vec![server], "", Identity::Anonymous);
        let client = Client::connect(config).unwrap();
        let stop = CancellationToken::new();
        TaskContext {
            hub: Hub::new(client.clone(), &stop),
            client,
            caches: crate::testing::world("").caches.clone(),
            recorder: EventRecorder::silent(),
            cluster_ca_pem: "".into(),
            options: Arc::default(),
            stop,
        }
    }

    /// A server that answers every create with this.
    async fn answering(status: &'static str, body: &'static str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                // The body is known, and ends so.
                while !request.ends_with(b"}}") {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        address
    }

    fn one_pod(key: &Key, _: &World) -> Plan {
        let body = serde_json::json!({"metadata": {"name": "p"}});
        Plan::of(vec![Op::create(&PODS, &key.namespace, body)])
    }

    #[tokio::test]
    async fn only_of_what_went_wrong_something_is_remembered() {
        let stored = answering("201 Created", r#"{"metadata": {"resourceVersion": "7"}}"#).await;
        let refused = answering("403 Forbidden", "{}").await;
        for (server, next, remembered) in [(stored, Next::Done, 0), (refused, Next::Backoff, 1)] {
            let keyed = Keyed {
                name: "test",
                reconcile: one_pod,
                context: context(server),
                sightings: Arc::default(),
                memory: Mutex::default(),
            };
            assert_eq!(keyed.work(Key::new("a", "x")).await.next, next);
            assert_eq!(keyed.memory().len(), remembered);
        }
    }

    #[tokio::test]
    async fn a_controller_that_panics_is_begun_anew() {
        let context = context("http://127.0.0.1:1".into());
        let running = run_task("test", panics_once, context, Duration::from_millis(1));
        tokio::time::timeout(Duration::from_secs(60), running)
            .await
            .expect("it ends with the token");
        assert_eq!(BEGUN.load(Ordering::SeqCst), 2);
    }
}
