//! The cluster that is measured: servers with their scheduler and controllers, each of which does nothing while this program
//! holds its Lease; nodes that are objects and nothing more; pods; and a watch that sees them bound.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_runtime::client::{ClientConfig, Identity};
use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use super::rates::Times;
use super::workloads::{BEFORE, MARK, MEASURED};
use crate::Setting;
use crate::api::http::{Connection, Endpoint, MERGE_PATCH, Request, each_line};
use crate::api::objects::{NAME, Template};
use crate::api::plane::wait_ready;
use crate::cluster::{Cluster, System};
use crate::store::process::Memory;

/// Of Kubernetes' benchmark: so many clients make pods.
const CREATORS: usize = 30;
const CONNECTIONS: usize = 4;
/// An agent sees within this time that its Lease is another's: it renews every two seconds.
const HANDED_OVER: Duration = Duration::from_secs(3);
/// Between two looks at whether something is so; each is a request that is counted, too.
const PAUSE: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) const SCHEDULER: &str = "kube-scheduler";
pub(super) const CONTROLLERS: &str = "kube-controller-manager";

pub(super) struct Stage {
    cluster: Cluster,
    connections: Vec<Connection>,
}

/// Ends its task when dropped.
pub(super) struct Task(AbortHandle);

impl Task {
    pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Task {
        Task(tokio::spawn(work).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Stage {
    /// So many members with empty data, whose agents stand still.
    pub(super) async fn start(setting: &Setting, members: usize) -> Result<Stage> {
        let cluster = Cluster::start_members(setting, System::Kontiki, true, members).await?;
        let pki = cluster.pki();
        let read =
            |name: &str| std::fs::read_to_string(pki.join(name)).with_context(|| name.to_owned());
        let identity = Identity::Certificate {
            cert_pem: read("admin.crt")?,
            key_pem: read("admin.key")?,
        };
        let ca = read("ca.crt")?;
        let mut connections = Vec::new();
        for index in 0..members {
            let server = format!("https://127.0.0.1:{}", cluster.api_port(index));
            let config = ClientConfig::new(vec![server], ca.clone(), identity.clone());
            let endpoint = Endpoint::new(&config)?;
            wait_ready(&endpoint).await?;
            for _ in 0..CONNECTIONS.div_ceil(members) {
                connections.push(Connection::open(&endpoint).await?);
            }
        }
        let stage = Stage {
            cluster,
            connections,
        };
        stage.hold(&[CONTROLLERS, SCHEDULER]).await?;
        stage.namespaces().await?;
        Ok(stage)
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.cluster.pids()
    }

    /// Where the cluster's authorities are, and the administrator's certificate.
    pub(super) fn pki(&self) -> PathBuf {
        self.cluster.pki()
    }

    /// The first member's API.
    pub(super) fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.cluster.api_port(0))
    }

    /// Of the member that has most.
    pub(super) fn resident_bytes(&self) -> Result<f64> {
        let memories = self.pids().into_iter().map(Memory::of);
        let memories = memories.collect::<Result<Vec<_>>>()?;
        let largest = memories.iter().map(|memory| memory.resident_bytes).max();
        Ok(largest.unwrap_or(0) as f64)
    }

    /// What a server that ended by itself has said.
    pub(super) fn casualties(&mut self) -> String {
        self.cluster.casualties()
    }

    pub(super) fn connection(&self, number: usize) -> Connection {
        self.connections[number % self.connections.len()].clone()
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        self.connection(0).ask(&Request::get(path)).await?.json()
    }

    /// None where there is nothing.
    pub(super) async fn find(&self, path: &str) -> Result<Option<Value>> {
        let answer = self.connection(0).call(&Request::get(path)).await?;
        match answer.status {
            404 => Ok(None),
            _ => Ok(Some(answer.accepted()?.json()?)),
        }
    }

    pub(super) async fn post(&self, path: &str, object: &Value) -> Result<()> {
        let request = Request::post(path, object.to_string());
        let answer = self.connection(0).call(&request).await?;
        match answer.status {
            409 => Ok(()),
            _ => Ok(answer
                .accepted()
                .map(drop)
                .with_context(|| format!("creating {path}"))?),
        }
    }

    pub(super) async fn patch(&self, path: &str, change: &Value) -> Result<()> {
        let request = Request::patch(path, MERGE_PATCH, change.to_string());
        Ok(self.connection(0).ask(&request).await.map(drop)?)
    }

    /// Takes Leases away from whoever has them: the agents stop at their next renewal, and wait.
    pub(super) async fn hold(&self, leases: &[&str]) -> Result<()> {
        for name in leases {
            let path = lease(name);
            self.until("the agents to be elected", || async {
                Ok(self.find(&path).await?.is_some())
            })
            .await?;
        }
        let held = json!({"spec": {"holderIdentity": MARK, "leaseDurationSeconds": 86_400,
            "renewTime": "2026-01-01T00:00:00.000000Z"}});
        for _ in 0..5 {
            for name in leases {
                self.patch(&lease(name), &held).await?;
            }
            tokio::time::sleep(HANDED_OVER).await;
            let mut ours = true;
            for name in leases {
                let found = self.get(&lease(name)).await?;
                ours &= found["spec"]["holderIdentity"] == MARK;
            }
            if ours {
                return Ok(());
            }
        }
        bail!("the agents do not give up their leases")
    }

    /// Lets an agent begin, which takes it up to two seconds.
    pub(super) async fn release(&self, name: &str) -> Result<()> {
        let free = json!({"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}});
        self.patch(&lease(name), &free).await
    }

    async fn namespaces(&self) -> Result<()> {
        for name in [BEFORE, MEASURED] {
            self.namespace(name, json!({"team": "devops"})).await?;
        }
        let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": MARK}, "value": 10});
        self.post("/apis/scheduling.k8s.io/v1/priorityclasses", &class)
            .await
    }

    /// With the account that pods have there: nobody makes one while controllers stand still.
    pub(super) async fn namespace(&self, name: &str, labels: Value) -> Result<()> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        self.post("/api/v1/namespaces", &namespace).await?;
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let path = format!("/api/v1/namespaces/{name}/serviceaccounts");
        self.post(&path, &account).await
    }

    /// Makes nodes that take pods. Admission closes a node that is new until a controller has seen it ready: that is done
    /// here, as no controller runs.
    pub(super) async fn nodes(&self, nodes: Vec<Value>) -> Result<()> {
        let made = nodes.into_iter().enumerate().map(|(number, node)| {
            let connection = self.connection(number);
            async move {
                let name = node["metadata"]["name"].as_str().unwrap_or_default();
                let path = format!("/api/v1/nodes/{name}");
                let create = Request::post("/api/v1/nodes", node.to_string());
                connection.ask(&create).await?;
                let open = json!({"spec": {"taints": null}}).to_string();
                connection
                    .ask(&Request::patch(path, MERGE_PATCH, open))
                    .await?;
                anyhow::Ok(())
            }
        });
        futures::stream::iter(made)
            .buffer_unordered(CREATORS)
            .try_collect()
            .await
    }

    /// Makes so many pods as fast as the servers take them. `on` gives a pod its node beforehand; `times` is told of each
    /// before it is sent.
    pub(super) async fn pods(
        &self,
        namespace: &str,
        pod: &Value,
        count: usize,
        on: Option<&(dyn Fn(usize) -> String + Sync)>,
        times: Option<&Times>,
    ) -> Result<()> {
        let mut pod = pod.clone();
        pod["metadata"]["name"] = NAME.into();
        let template = Template::new(&pod);
        let path = pods(namespace);
        let made = (0..count).map(|number| {
            let connection = self.connection(number);
            let body = match on {
                None => template.named(&numbered(number)),
                Some(on) => {
                    let mut placed = pod.clone();
                    placed["spec"]["nodeName"] = on(number).into();
                    Template::new(&placed).named(&numbered(number))
                }
            };
            let request = Request::post(path.clone(), body);
            async move {
                if let Some(times) = times {
                    times.create(number);
                }
                connection.ask(&request).await.map(drop)
            }
        });
        let made = futures::stream::iter(made).buffer_unordered(CREATORS);
        Ok(made.try_collect().await?)
    }

    /// Makes so many objects that are alike but for their names.
    pub(super) async fn objects(&self, path: &str, object: &Value, count: usize) -> Result<()> {
        let mut object = object.clone();
        object["metadata"]["name"] = NAME.into();
        let template = Template::new(&object);
        let made = (0..count).map(|number| {
            let connection = self.connection(number);
            let request = Request::post(path, template.named(&format!("object-{number:07}")));
            async move { connection.ask(&request).await.map(drop) }
        });
        let made = futures::stream::iter(made).buffer_unordered(CREATORS);
        Ok(made.try_collect().await?)
    }

    /// Sees measured pods bound from now on.
    pub(super) async fn see(&self, times: Arc<Times>) -> Result<Task> {
        let listed = self.get(&format!("{}?limit=1", pods(MEASURED))).await?;
        let version = listed["metadata"]["resourceVersion"].as_str();
        let version = version.context("a list without a version")?;
        let path = format!(
            "{}?watch=true&resourceVersion={version}&fieldSelector=spec.nodeName%21%3D",
            pods(MEASURED)
        );
        let connection = self.connection(0);
        let body = connection.stream(&Request::get(path)).await?;
        Ok(Task::spawn(async move {
            let _connection = connection;
            each_line(body, |line| {
                if let Some(pod) = bound(line) {
                    times.bind(pod);
                }
            })
            .await;
        }))
    }

    /// Waits until something is so.
    pub(super) async fn until<F: Future<Output = Result<bool>>>(
        &self,
        what: &str,
        mut so: impl FnMut() -> F,
    ) -> Result<()> {
        self.within(PATIENCE, what, &mut so).await
    }

    pub(super) async fn within<F: Future<Output = Result<bool>>>(
        &self,
        patience: Duration,
        what: &str,
        mut so: impl FnMut() -> F,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !so().await? {
            if Instant::now() > deadline {
                bail!("waited {} s in vain for {what}", patience.as_secs());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Requests that the servers have answered so far, from their own counters, by verb.
    pub(super) async fn requests(&self) -> Result<BTreeMap<String, f64>> {
        let mut sum = BTreeMap::new();
        // One connection for each member is enough: they are made in its order.
        let members = self.pids().len();
        let each = self.connections.len() / members;
        for member in 0..members {
            let answer = self.connections[member * each]
                .ask(&Request::get("/metrics"))
                .await?;
            let text = String::from_utf8_lossy(&answer.bytes()).into_owned();
            for (verb, count) in counted(&text) {
                *sum.entry(verb).or_default() += count;
            }
        }
        Ok(sum)
    }
}

/// The verbs and numbers of `apiserver_request_total`.
fn counted(text: &str) -> Vec<(String, f64)> {
    let lines = text.lines().filter_map(|line| {
        let labels = line.strip_prefix("apiserver_request_total{")?;
        let (labels, count) = labels.rsplit_once("} ")?;
        let verb = labels
            .split(',')
            .find_map(|label| label.strip_prefix("verb=\""))?;
        Some((
            verb.trim_end_matches('"').to_owned(),
            count.trim().parse().ok()?,
        ))
    });
    lines.collect()
}

/// The number of the pod that an event is about.
fn bound(line: &[u8]) -> Option<usize> {
    #[derive(Deserialize)]
    struct Event<'a> {
        #[serde(borrow, rename = "type")]
        kind: &'a str,
        #[serde(borrow)]
        object: Object<'a>,
    }
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow)]
        metadata: Meta<'a>,
    }
    #[derive(Deserialize)]
    struct Meta<'a> {
        #[serde(borrow)]
        name: &'a str,
    }
    let event: Event<'_> = serde_json::from_slice(line).ok()?;
    if event.kind == "DELETED" {
        return None;
    }
    event
        .object
        .metadata
        .name
        .strip_prefix("pod-")?
        .parse()
        .ok()
}

fn lease(name: &str) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{name}")
}

pub(super) fn pods(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

fn numbered(number: usize) -> String {
    format!("pod-{number:07}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_of_the_pod_that_it_names() {
        let line = |kind: &str, name: &str| {
            json!({"type": kind, "object": {"kind": "Pod", "metadata": {"labels": {"a": "b\n"}, "name": name}}}).to_string()
        };
        assert_eq!(bound(line("ADDED", &numbered(17)).as_bytes()), Some(17));
        assert_eq!(bound(line("DELETED", &numbered(17)).as_bytes()), None);
        assert_eq!(bound(line("ADDED", "other-1").as_bytes()), None);
        assert_eq!(bound(b""), None);
    }

    #[test]
    fn requests_are_counted_by_verb() {
        let text = "# HELP apiserver_request_total x\napiserver_request_total{code=\"200\",resource=\"pods\",verb=\"LIST\"} 3\n\
            apiserver_request_total{code=\"201\",resource=\"pods\",verb=\"POST\"} 4\nother{verb=\"GET\"} 5\n";
        let told = counted(text);
        assert_eq!(told, [("LIST".into(), 3.0), ("POST".into(), 4.0)]);
    }
}
