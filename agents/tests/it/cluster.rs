//! A cluster in this process, and waiting for things to become true in it.

use crate::machines::{Asker, Machines};
use agent_runtime::cache::{Cache, Key};
use agent_runtime::kinds::{
    ConfigMap, Deployment, EndpointSlice, Kind, Namespace, Node, Pod, ReplicaSet, ServiceAccount,
};
use agent_runtime::resource_ref::{DEPLOYMENTS, PODS};
use agent_runtime::worker::{self, Next};
use agent_runtime::{
    AgentContext, Body, BoxError, Client, Hub, InProcessService, PatchType, Queue,
};
use agents::hollow::HollowNodes;
use apiserver::{ApiServer, Config, Tasks};
use auth::User;
use http::{Request, Response};
use http_body_util::BodyExt;
use kv::mem::MemStore;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgtWzXhoQ/uZ7/quqU
/vSTO51zBVt5Jz61qSWzHcWz+l6hRANCAAR4YMCbzgr3tGj+XOoJSg6bAuO0RUsq
RE1BtJpI1QfTXch8rcAQAKycV+ArFvs1rLz443VsFJkGSc+S8AZgmmhx
-----END PRIVATE KEY-----
";

/// How long anything may take. Generous: machines that run tests are busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Pods of this image never become ready.
pub(crate) const BROKEN: &str = "broken";
/// Pods of this image fail at once.
pub(crate) const FAILING: &str = "failing";

pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) pods: Arc<Cache<Pod>>,
    pub(crate) sets: Arc<Cache<ReplicaSet>>,
    pub(crate) deployments: Arc<Cache<Deployment>>,
    pub(crate) slices: Arc<Cache<EndpointSlice>>,
    pub(crate) namespaces: Arc<Cache<Namespace>>,
    pub(crate) accounts: Arc<Cache<ServiceAccount>>,
    pub(crate) config_maps: Arc<Cache<ConfigMap>>,
    /// For caches of what not every test looks at.
    pub(crate) hub: Arc<Hub>,
    /// The nodes, where there are any.
    pub(crate) machines: Option<Machines>,
    api: Arc<ApiServer>,
    _tasks: Tasks,
    _stop: DropGuard,
}

/// A client that reaches the API by a call, as the most powerful user.
pub(crate) fn client_of(api: &Arc<ApiServer>) -> Client {
    let front = api.front();
    let service = tower::service_fn(move |request: Request<Body>| {
        let front = front.clone();
        async move {
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(User::loopback());
            let response = front.oneshot(request).await?;
            Ok::<Response<Body>, BoxError>(
                response.map(|body| body.map_err(BoxError::from).boxed_unsync()),
            )
        }
    });
    Client::in_process(InProcessService::new(service))
}

/// An API server over a fresh store.
pub(crate) async fn api_server() -> (Arc<ApiServer>, Tasks) {
    let issuer = "https://kubernetes.default.svc.cluster.local";
    let signer = auth::token::Signer::from_pem(KEY, issuer).unwrap();
    let config = Config::new(
        Arc::new(signer),
        issuer,
        "CA".to_owned(),
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        6443,
    );
    let api = ApiServer::new(MemStore::new(), config);
    let tasks = api.start();
    tokio::time::timeout(PATIENCE, api.ready())
        .await
        .expect("the server gets ready");
    (api, tasks)
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let (cluster, context) = Self::without_controllers().await;
        tokio::spawn(controllers::run_without_election(context));
        cluster
    }

    /// A cluster, and what is needed to start controllers in it.
    pub(crate) async fn without_controllers() -> (Self, AgentContext) {
        let (cluster, context) = Self::bare().await;
        host::spawn(pretend_to_run(
            cluster.client.clone(),
            cluster.pods.clone(),
            context.stop.clone(),
        ));
        (cluster, context)
    }

    /// A cluster whose pods get a node from the scheduler and are run there by node agents, with simulated containers.
    pub(crate) async fn with_nodes(names: &[&str]) -> Self {
        Self::with_nodes_and_profiles(names, "").await
    }

    /// The same, with a scheduler that is configured so.
    pub(crate) async fn with_nodes_and_profiles(names: &[&str], config: &str) -> Self {
        let (mut cluster, mut context) = Self::bare().await;
        context.scheduler_config = config.into();
        let machines = Machines::start(&cluster.client, names);
        let asker = &machines.asker;
        let called = cluster.api.call_nodes_as(&asker.ca_pem, &asker.identity);
        called.expect("a usable identity");
        cluster.machines = Some(machines);
        tokio::spawn(controllers::run_without_election(context.clone()));
        tokio::spawn(scheduler::run(context));
        let nodes = cluster.hub.cache::<Node>();
        for name in names {
            let free = |node: &Arc<Node>| node.is_ready() && node.spec.taints.is_empty();
            cluster
                .until("a node that takes pods", &nodes, |nodes| {
                    nodes.get("", name).filter(free)
                })
                .await;
        }
        cluster
    }

    /// A cluster whose nodes are hollow ones of one process. They serve nothing unless `asker` is given.
    pub(crate) async fn with_hollow(nodes: HollowNodes, asker: Option<&Asker>) -> Self {
        let (cluster, context) = Self::bare().await;
        if let Some(asker) = asker {
            let called = cluster.api.call_nodes_as(&asker.ca_pem, &asker.identity);
            called.expect("a usable identity");
        }
        tokio::spawn(controllers::run_without_election(context.clone()));
        tokio::spawn(scheduler::run(context.clone()));
        let count = nodes.count as usize;
        let clients = vec![cluster.client.clone()];
        tokio::spawn(agents::hollow::run(nodes, clients, context.stop));
        let cache = cluster.hub.cache::<Node>();
        let free = |node: &Arc<Node>| node.is_ready() && node.spec.taints.is_empty();
        cluster
            .until("nodes that take pods", &cache, |nodes| {
                (nodes.list().iter().filter(|node| free(node)).count() == count).then_some(())
            })
            .await;
        cluster
    }

    /// The answer to a GET as it is.
    pub(crate) async fn text(&self, path: &str) -> (u16, String) {
        let mut request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        request.extensions_mut().insert(User::loopback());
        let response = self.api.front().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    /// Its API server.
    pub(crate) fn api(&self) -> &Arc<ApiServer> {
        &self.api
    }

    /// A cluster in which nothing happens by itself.
    pub(crate) async fn bare() -> (Self, AgentContext) {
        let (api, tasks) = api_server().await;
        let client = client_of(&api);
        let stop = CancellationToken::new();
        let context = AgentContext {
            client: client.clone(),
            identity: "test".into(),
            cluster_ca_pem: "CA".into(),
            scheduler_config: "".into(),
            controllers: Default::default(),
            stop: stop.clone(),
        };
        let hub = Hub::new(client.clone(), &stop);
        let cluster = Self {
            pods: hub.cache(),
            sets: hub.cache(),
            deployments: hub.cache(),
            slices: hub.cache(),
            namespaces: hub.cache(),
            accounts: hub.cache(),
            config_maps: hub.cache(),
            client,
            machines: None,
            api,
            _tasks: tasks,
            _stop: stop.drop_guard(),
            hub,
        };
        tokio::time::timeout(PATIENCE, cluster.hub.wait_synced())
            .await
            .expect("the caches sync");
        (cluster, context)
    }

    /// Waits until `wanted` gives something, looking again after each change of the cache.
    pub(crate) async fn until<T: Kind, R>(
        &self,
        what: &str,
        cache: &Cache<T>,
        wanted: impl FnMut(&Cache<T>) -> Option<R>,
    ) -> R {
        self.until_within(PATIENCE, what, cache, wanted).await
    }

    /// The same for what takes longer.
    pub(crate) async fn until_within<T: Kind, R>(
        &self,
        patience: Duration,
        what: &str,
        cache: &Cache<T>,
        mut wanted: impl FnMut(&Cache<T>) -> Option<R>,
    ) -> R {
        let mut version = cache.version();
        let waiting = async {
            loop {
                version.mark_unchanged();
                if let Some(result) = wanted(cache) {
                    return result;
                }
                version.changed().await.expect("the cache lives");
            }
        };
        match tokio::time::timeout(patience, waiting).await {
            Ok(result) => result,
            Err(_) => panic!("waited in vain: {what}\n{}", self.describe()),
        }
    }

    /// Creates a pod in `default`, once that may have pods.
    pub(crate) async fn create_pod(&self, body: &Value) -> Value {
        self.until("the account", &self.accounts, |accounts| {
            accounts.get("default", "default")
        })
        .await;
        let made = self.client.create(&PODS, "default", body).await;
        made.unwrap()
    }

    /// Waits until a pod of `default` is as `wanted`.
    pub(crate) async fn pod(
        &self,
        what: &str,
        name: &str,
        wanted: impl Fn(&Pod) -> bool,
    ) -> Arc<Pod> {
        self.until(what, &self.pods, |pods| {
            pods.get("default", name).filter(|pod| wanted(pod))
        })
        .await
    }

    /// Waits until a pod of `default` is no more.
    pub(crate) async fn pod_gone(&self, name: &str) {
        self.until("a pod to go", &self.pods, |pods| {
            pods.get("default", name).is_none().then_some(())
        })
        .await;
    }

    /// Waits until a Deployment is as `wanted`.
    pub(crate) async fn deployment(
        &self,
        what: &str,
        wanted: impl Fn(&Deployment) -> bool,
    ) -> Arc<Deployment> {
        self.until(what, &self.deployments, |cache| {
            cache.get("default", "web").filter(|d| wanted(d))
        })
        .await
    }

    /// Waits for what `kubectl rollout status` waits for.
    pub(crate) async fn rolled_out(&self, what: &str, replicas: i32) -> Arc<Deployment> {
        self.deployment(what, |d| {
            let s = &d.status;
            let complete = s
                .conditions
                .iter()
                .any(|c| c.kind == "Progressing" && c.reason == "NewReplicaSetAvailable");
            complete
                && s.observed_generation >= d.metadata.generation
                && [s.replicas, s.updated_replicas, s.available_replicas] == [replicas; 3]
        })
        .await
    }

    /// The same as [`Cluster::rolled_out`] for any Deployment, and with more patience.
    pub(crate) async fn until_rolled_out(&self, name: &str, replicas: i32) {
        let is_so = |all: &Cache<Deployment>| {
            let deployment = all.get("default", name)?;
            let status = &deployment.status;
            let counts = [
                status.replicas,
                status.updated_replicas,
                status.available_replicas,
            ];
            let observed = status.observed_generation >= deployment.metadata.generation;
            (observed && counts == [replicas; 3]).then_some(())
        };
        let patience = PATIENCE * 30;
        self.until_within(patience, "the rollout", &self.deployments, is_so)
            .await;
    }

    pub(crate) async fn create_deployment(&self, replicas: i32, image: &str) {
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image, "ports": [{"containerPort": 80}]}]}});
        let body = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}});
        self.client
            .create(&DEPLOYMENTS, "default", &body)
            .await
            .unwrap();
    }

    /// Patches, and waits until the cache of the test knows it.
    pub(crate) async fn patch_deployment(&self, body: Value) {
        let stored = self
            .client
            .patch(&DEPLOYMENTS, "default", "web", PatchType::Strategic, &body)
            .await
            .unwrap();
        let revision = stored["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        tokio::time::timeout(PATIENCE, self.deployments.wait_revision(revision))
            .await
            .expect("the cache follows");
    }

    pub(crate) async fn set_image(&self, image: &str) {
        self.patch_deployment(json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})).await;
    }

    /// The sets of the Deployment by image, with their size and revision.
    pub(crate) fn sets_by_image(&self) -> Vec<(String, i32, String)> {
        let mut sets: Vec<_> = self
            .sets
            .in_namespace("default")
            .iter()
            .map(|set| {
                (
                    image_of(set),
                    set.spec.replicas.unwrap_or(1),
                    set.metadata
                        .annotations
                        .get("deployment.kubernetes.io/revision")
                        .cloned()
                        .unwrap_or_default(),
                )
            })
            .collect();
        sets.sort();
        sets
    }

    /// Waits until the sets are these: image, size, revision.
    pub(crate) async fn sets_are(&self, wanted: &[(&str, i32, &str)]) {
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(image, size, revision)| ((*image).to_owned(), *size, (*revision).to_owned()))
            .collect();
        self.until("the sets", &self.sets, |_| {
            (self.sets_by_image() == wanted).then_some(())
        })
        .await;
    }

    fn describe(&self) -> String {
        let deployments: Vec<_> = self
            .deployments
            .list()
            .iter()
            .map(|d| format!("{} {:?}", d.metadata.name, d.status))
            .collect();
        let pods: Vec<_> = self
            .pods
            .list()
            .iter()
            .map(|p| {
                format!(
                    "{} {} deleting={}",
                    p.metadata.name,
                    p.status.phase,
                    p.metadata.is_deleting()
                )
            })
            .collect();
        format!(
            "deployments {deployments:#?}\nsets {:#?}\npods {pods:#?}",
            self.sets_by_image()
        )
    }
}

pub(crate) fn image_of(set: &ReplicaSet) -> String {
    set.spec
        .template
        .pointer("/spec/containers/0/image")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// Stands in for the nodes: pods get an address and become ready.
async fn pretend_to_run(client: Client, pods: Arc<Cache<Pod>>, stop: CancellationToken) {
    let queue = Arc::new(Queue::new());
    let keys = queue.clone();
    pods.subscribe(move |change| {
        if change.new.is_some() {
            keys.add(Key::of(&change.latest().metadata));
        }
    });
    worker::run(queue, 2, stop, move |key| {
        let (client, pods) = (client.clone(), pods.clone());
        async move {
            let Some(pod) = pods.by_key(&key) else { return Next::Done };
            let is_of = |image: &str| pod.spec.containers.iter().any(|c| c.image == image);
            if is_of(BROKEN) || pod.is_ready() || !pod.is_active() {
                return Next::Done;
            }
            let now = agent_runtime::timestamp::time(agent_runtime::timestamp::now());
            let ip = format!("10.1.{}.{}", rand::random_range(0..250), rand::random_range(1..250));
            let status = if is_of(FAILING) {
                json!({"status": {"phase": "Failed", "reason": "NodeAffinity"}})
            } else {
                json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}]}})
            };
            match client.patch_status(&PODS, &key.namespace, &key.name, PatchType::Strategic, &status).await {
                Err(error) if !error.is_not_found() => Next::Backoff,
                _ => Next::Done,
            }
        }
    })
    .await;
}
