//! Bad input, and each time another leader in the middle of the work.
//!
//! Everything runs in one thread in simulated time. Each leader has a machine of its own that is switched off between two
//! steps: right after a write that the server has done and of which it will never learn. What leaders ask the server for is
//! counted, so that a test says how much may be written, and that nothing is once all is as it should be.

mod limits;
mod nodes;
mod ownership;
mod placement;
mod time;
mod updates;

use crate::cluster::Cluster;
use agent_runtime::kinds::{Kind, Pod};
use agent_runtime::resource_ref::SERVICE_ACCOUNTS;
use agent_runtime::{
    AgentContext, Body, BoxError, Cache, Client, InProcessService, PatchType, ResourceRef,
};
use agents::hollow::HollowNodes;
use apiserver::ApiServer;
use auth::User;
use host::Host;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// How long anything may take in simulated time: leases have to run out, and what was refused waits longer each time.
const PATIENCE: Duration = Duration::from_secs(1800);
/// What has been done is told within this time.
const SETTLING: Duration = Duration::from_secs(60);
/// For so long nothing may happen once all is as it should be.
const QUIET: Duration = Duration::from_secs(300);

/// A cluster in simulated time.
struct Scene {
    cluster: Cluster,
    context: AgentContext,
    /// The machine of everything but the leaders.
    world: Arc<Host>,
    clock: Clock,
    tape: Arc<Tape>,
    pods: Arc<Mutex<BTreeMap<String, Seen>>>,
}

/// A pod that was there.
#[derive(Clone, Default)]
struct Seen {
    name: String,
    /// Uids of those that controlled it.
    controllers: BTreeSet<String>,
    /// Where it has been.
    nodes: BTreeSet<String>,
    /// Somebody wanted it to go.
    left: bool,
}

/// The right time.
#[derive(Clone, Copy)]
struct Clock {
    began: Instant,
    since_1970: Duration,
}

impl Clock {
    /// A machine whose wall clock is wrong by so many seconds.
    fn machine(self, seed: u64, wrong_seconds: i64) -> Arc<Host> {
        let wrong = Duration::from_secs(wrong_seconds.unsigned_abs());
        Host::with_clock(seed, move || {
            let now = self.since_1970 + self.began.elapsed();
            if wrong_seconds < 0 {
                now - wrong
            } else {
                now + wrong
            }
        })
    }
}

/// What leaders have asked for.
#[derive(Default)]
struct Tape(Mutex<Vec<Line>>);

#[derive(Clone, Debug)]
struct Line {
    leader: String,
    method: Method,
    path: String,
    status: u16,
    at: Instant,
}

impl Line {
    /// Leases are renewed all the time, and events have rules of their own.
    fn is_write(&self) -> bool {
        self.method != Method::GET && !self.path.contains("/leases") && !self.is_event()
    }

    fn is_event(&self) -> bool {
        self.method != Method::GET && self.path.contains("/events")
    }

    /// A pod is bound alone or together with others, as it comes: `binding` means both.
    fn is_of(&self, plural: &str) -> bool {
        let is_meant = |part: &str| part == plural || plural == "binding" && part == "bindings";
        self.path.split('/').any(is_meant)
    }
}

/// What the server is said to have answered to a GET of this path, if the leader is lied to.
type Lie = fn(&str) -> Option<(u16, Value)>;

/// How a leader leads.
#[derive(Clone, Copy, Default)]
struct Terms {
    /// It is switched off after so many writes of this resource.
    off_after: Option<(&'static str, usize)>,
    clock_wrong_seconds: i64,
    lie: Option<Lie>,
}

impl Terms {
    /// Until it is switched off after so many writes of a resource.
    fn off_after(plural: &'static str, writes: usize) -> Self {
        Self {
            off_after: Some((plural, writes)),
            ..Self::default()
        }
    }
}

/// A process that runs the controllers or the scheduler when it is elected.
struct Leader {
    machine: Arc<Host>,
    off: CancellationToken,
    stop: CancellationToken,
}

impl Leader {
    fn switch_off(&self) {
        self.machine.power_off();
        self.off.cancel();
    }

    /// Waits until it has been switched off.
    async fn is_off(&self) {
        let off = tokio::time::timeout(PATIENCE, self.off.cancelled()).await;
        off.expect("the leader writes so much that it is switched off");
    }
}

/// Plays a scene in a cluster whose pods run by themselves.
async fn play(body: impl AsyncFnOnce(Scene)) {
    play_with(None, body).await;
}

/// The same with so many hollow nodes and a scheduler.
async fn play_on_nodes(count: u32, body: impl AsyncFnOnce(Scene)) {
    let scheduled = async |scene: Scene| {
        host::spawn(scheduler::run(scene.context.clone()));
        body(scene).await;
    };
    play_with(Some(count), scheduled).await;
}

/// The same with so many hollow nodes, to which no pod goes before the scene starts a scheduler.
async fn play_unscheduled(count: u32, body: impl AsyncFnOnce(Scene)) {
    play_with(Some(count), body).await;
}

async fn play_with(nodes: Option<u32>, body: impl AsyncFnOnce(Scene)) {
    let clock = Clock {
        began: Instant::now(),
        since_1970: host::since_1970(),
    };
    let world = clock.machine(1, 0);
    let scene = async {
        let scene = Scene::set(clock, world.clone(), nodes).await;
        body(scene).await;
    };
    world.run(scene).await;
}

impl Scene {
    async fn set(clock: Clock, world: Arc<Host>, nodes: Option<u32>) -> Self {
        let (cluster, context) = match nodes {
            None => Cluster::without_controllers().await,
            Some(count) => {
                let (cluster, context) = Cluster::bare().await;
                let clients = vec![context.client.clone()];
                let hollow = HollowNodes::new(count);
                host::spawn(agents::hollow::run(hollow, clients, context.stop.clone()));
                (cluster, context)
            }
        };
        // No pod is refused because its account is not there yet.
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}});
        let client = &cluster.client;
        client
            .create(&SERVICE_ACCOUNTS, "default", &account)
            .await
            .unwrap();
        let pods: Arc<Mutex<BTreeMap<String, Seen>>> = Arc::default();
        let seen = pods.clone();
        cluster.pods.subscribe(move |change| {
            if let Some(pod) = &change.new {
                let mut seen = seen.lock().unwrap();
                let seen = seen.entry(pod.metadata.uid.clone()).or_default();
                seen.name = pod.metadata.name.clone();
                let controller = pod.metadata.controller().map(|owner| owner.uid.clone());
                seen.controllers.extend(controller);
                let node = Some(pod.spec.node_name.to_string());
                seen.nodes.extend(node.filter(|node| !node.is_empty()));
                seen.left |= pod.metadata.is_deleting();
            }
        });
        Self {
            cluster,
            context,
            world,
            clock,
            tape: Arc::default(),
            pods,
        }
    }

    /// Starts a process that leads as soon as it can.
    fn lead(&self, name: &str, terms: Terms) -> Leader {
        self.start(name, terms, controllers::run)
    }

    /// Starts a process that schedules as soon as it can.
    fn schedule(&self, name: &str, terms: Terms) -> Leader {
        self.start(name, terms, scheduler::run)
    }

    /// Starts a process that does this. What it asks for is known by its name.
    fn start<F>(&self, name: &str, terms: Terms, run: impl FnOnce(AgentContext) -> F) -> Leader
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let seed = u64::from(name.as_bytes()[0]);
        let machine = self.clock.machine(seed, terms.clock_wrong_seconds);
        let leader = Leader {
            machine: machine.clone(),
            off: CancellationToken::new(),
            stop: self.context.stop.child_token(),
        };
        let context = AgentContext {
            identity: name.into(),
            stop: leader.stop.clone(),
            client: self.client_of(name, terms, &leader),
            ..self.context.clone()
        };
        tokio::spawn(machine.run(run(context)));
        leader
    }

    fn client_of(&self, name: &str, terms: Terms, leader: &Leader) -> Client {
        let wire = Arc::new(Wire {
            name: name.to_owned(),
            terms,
            api: self.cluster.api().clone(),
            world: self.world.clone(),
            machine: leader.machine.clone(),
            off: leader.off.clone(),
            tape: self.tape.clone(),
        });
        let service = tower::service_fn(move |request| {
            let wire = wire.clone();
            async move { wire.call(request).await }
        });
        Client::in_process(InProcessService::new(service))
    }

    async fn until<T: Kind, R>(
        &self,
        what: &str,
        cache: &Cache<T>,
        wanted: impl FnMut(&Cache<T>) -> Option<R>,
    ) -> R {
        let waiting = self.cluster.until_within(PATIENCE, what, cache, wanted);
        waiting.await
    }

    async fn create(&self, resource: &ResourceRef, body: Value) -> Value {
        let namespace = body["metadata"]["namespace"].as_str().unwrap_or_default();
        let made = self.cluster.client.create(resource, namespace, &body).await;
        made.unwrap()
    }

    async fn patch(&self, resource: &ResourceRef, name: &str, body: Value) {
        let namespace = if resource.namespaced { "default" } else { "" };
        let client = &self.cluster.client;
        let done = client.patch(resource, namespace, name, PatchType::Merge, &body);
        done.await.unwrap();
    }

    /// A cache that knows what there is.
    async fn cache<T: Kind>(&self) -> Arc<Cache<T>> {
        let cache = self.cluster.hub.cache::<T>();
        self.cluster.hub.wait_synced().await;
        cache
    }

    /// The lines of the tape that are so.
    fn lines(&self, wanted: impl Fn(&Line) -> bool) -> Vec<Line> {
        let lines = self.tape.0.lock().unwrap();
        lines.iter().filter(|line| wanted(line)).cloned().collect()
    }

    fn count(&self, wanted: impl Fn(&Line) -> bool) -> usize {
        self.lines(wanted).len()
    }

    /// Lets so much of the paused time pass, in which nothing may happen that could be waited for; what is on the tape of it.
    async fn pass(&self, time: Duration) -> Vec<Line> {
        let before = self.count(|_| true);
        tokio::time::sleep(time).await;
        self.lines(|_| true).split_off(before)
    }

    /// Nobody writes anything any more, after a while.
    async fn rests(&self) {
        self.pass(SETTLING).await;
        let mut lines = self.pass(QUIET).await;
        lines.retain(|line| line.is_write() || line.is_event());
        assert!(lines.is_empty(), "{lines:#?}");
    }

    /// The pods that were ever there.
    fn ever(&self) -> Vec<Seen> {
        self.pods.lock().unwrap().values().cloned().collect()
    }

    /// Waits until each controller has so many ready pods and no others.
    async fn settled(&self, wanted: &[(&str, usize)]) {
        let is_so = |pods: &Cache<Pod>| {
            let is_so = |(uid, count): &(&str, usize)| {
                let pods = pods.owned_by(uid);
                pods.len() == *count && pods.iter().all(|pod| pod.is_ready() && pod.is_active())
            };
            wanted.iter().all(is_so).then_some(())
        };
        self.until("the wanted pods", &self.cluster.pods, is_so)
            .await;
    }
}

/// The way of one leader to the server.
struct Wire {
    name: String,
    terms: Terms,
    api: Arc<ApiServer>,
    world: Arc<Host>,
    machine: Arc<Host>,
    off: CancellationToken,
    tape: Arc<Tape>,
}

impl Wire {
    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        if let Some((status, body)) = self.terms.lie.and_then(|lie| lie(&path)) {
            let text = http_body_util::Full::from(body.to_string());
            let body = text.map_err(|never| match never {}).boxed_unsync();
            return Ok(Response::builder().status(status).body(body)?);
        }
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(User::loopback());
        // The server is another machine, and goes on when this one is off.
        let answer = self.world.run(self.api.front().oneshot(request));
        let answer = tokio::spawn(answer).await??;
        let line = Line {
            leader: self.name.clone(),
            method,
            path,
            status: answer.status().as_u16(),
            at: Instant::now(),
        };
        self.tape.0.lock().unwrap().push(line);
        if self.is_over() {
            self.machine.power_off();
            self.off.cancel();
            std::future::pending::<()>().await;
        }
        Ok(answer.map(|body| body.map_err(BoxError::from).boxed_unsync()))
    }

    fn is_over(&self) -> bool {
        let Some((plural, writes)) = self.terms.off_after else {
            return false;
        };
        let lines = self.tape.0.lock().unwrap();
        let counts = |line: &&Line| {
            line.leader == self.name && line.is_write() && line.is_of(plural) && line.status < 300
        };
        lines.iter().filter(counts).count() >= writes
    }
}

/// A template of pods with these labels.
fn template(labels: &Value, image: &str) -> Value {
    json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

/// What ReplicaSets, Deployments and StatefulSets have in common.
fn workload(kind: &str, name: &str, replicas: i64, labels: &Value, image: &str) -> Value {
    let mut body = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template(labels, image)},
    });
    if kind == "StatefulSet" {
        body["spec"]["serviceName"] = name.into();
        body["spec"]["podManagementPolicy"] = "Parallel".into();
    }
    body
}

/// The uid of what was created.
fn uid(made: &Value) -> String {
    made["metadata"]["uid"].as_str().unwrap().to_owned()
}
