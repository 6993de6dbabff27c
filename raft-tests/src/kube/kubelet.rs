//! A node's agent, as small as one can be: it takes the pods of its node from a list and a watch, runs them, which is a
//! line in the history, says so in their status, and confirms deletions. What the API says of its node and pods and it knows
//! better it sets right, as a kubelet does. It restarts, stops, and goes from member to member.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use auth::User;
use http::{Method, StatusCode};
use rand::RngExt;
use rand::rngs::SmallRng;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::history::{PodRun, is_deleting, key, uid};
use super::informers::Heard;
use super::rest::{Rest, Shared};
use super::wire::{NoEvent, request};
use super::workloads;

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(5);
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// What others may do to an agent.
#[derive(Default)]
pub struct Switch {
    /// It does nothing while this is set; its pods run on.
    pub stopped: AtomicBool,
    /// Its machine starts anew: nothing runs on it, and it knows nothing.
    pub reboot: AtomicBool,
}

/// The names of the nodes.
pub fn node(number: u32) -> String {
    format!("n{number}")
}

/// Which client the agent of a node is.
pub fn client(number: u32) -> u32 {
    200 + number
}

/// Runs until it is over.
pub async fn run(shared: Arc<Shared>, number: u32, switch: Arc<Switch>, rng: SmallRng) {
    let name = node(number);
    let user = User::node(&name);
    let mut kubelet = Kubelet {
        rest: Rest::with_user(shared, client(number), rng, user),
        node: name,
        switch,
        began: Instant::now(),
        beat_at: Instant::now(),
        running: BTreeMap::new(),
        position: 0,
    };
    while !kubelet.rest.shared.is_over() {
        kubelet.turn().await;
        kubelet.rest.pause(Duration::from_millis(100)).await;
    }
}

struct Kubelet {
    rest: Rest,
    node: String,
    switch: Arc<Switch>,
    began: Instant,
    beat_at: Instant,
    /// By key: uid and the place of the run in the history.
    running: BTreeMap<String, (String, usize)>,
    /// Version up to which it knows its pods; 0: it has to list.
    position: i64,
}

impl Kubelet {
    async fn turn(&mut self) {
        if self.switch.reboot.swap(false, Ordering::Relaxed) {
            let keys: Vec<String> = self.running.keys().cloned().collect();
            keys.iter().for_each(|key| self.end(key));
            self.position = 0;
        }
        if self.switch.stopped.load(Ordering::Relaxed) {
            return;
        }
        if self.rest.member == 0 || self.rest.rng.random_bool(0.2) {
            self.rest.hop();
        }
        if self.beat().await.is_none() {
            return self.rest.hop();
        }
        let went = match self.position {
            0 => self.list().await,
            _ => self.watch().await,
        };
        if went.is_none() {
            self.rest.hop();
        }
    }

    /// Registers the node, and says that it lives and is ready.
    async fn beat(&mut self) -> Option<()> {
        if Instant::now() < self.beat_at {
            return Some(());
        }
        let spec = json!({"holderIdentity": self.node, "leaseDurationSeconds": 40, "renewTime": self.micro_time()});
        let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        let one = format!("{leases}/{}", self.node);
        let renewed = self
            .send(Method::PATCH, &one, MERGE, &json!({"spec": spec}))
            .await?;
        if renewed == 404 {
            let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.node}});
            self.send(Method::POST, "/api/v1/nodes", JSON, &node)
                .await?;
        }
        self.report().await?;
        if renewed == 404 {
            let metadata = json!({"name": self.node, "namespace": "kube-node-lease"});
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec
            });
            self.send(Method::POST, leases, JSON, &lease).await?;
        }
        self.beat_at = Instant::now() + HEARTBEAT;
        Some(())
    }

    /// Has the API say that the node is ready, also where it was taken for dead.
    async fn report(&self) -> Option<()> {
        let path = format!("/api/v1/nodes/{}", self.node);
        let (200, node) = self.rest.ask(Method::GET, &path, None).await.ok()? else {
            return None;
        };
        if is_ready(&node) {
            return Some(());
        }
        let time = self.time();
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": time,
            "lastTransitionTime": time
        });
        let room = json!({"cpu": "64", "memory": "256Gi", "pods": "110"});
        let status =
            json!({"status": {"capacity": room, "allocatable": room, "conditions": [ready]}});
        let path = format!("{path}/status");
        let code = self.send(Method::PATCH, &path, STRATEGIC, &status).await?;
        (code == 200).then_some(())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> Option<u16> {
        let answer = self
            .rest
            .ask(method, path, Some((content_type, body)))
            .await;
        answer.ok().map(|(code, _)| code)
    }

    /// Virtual time begins at 22:13:20 of a day; runs are shorter than what is left of it.
    fn time(&self) -> String {
        self.clock("Z")
    }

    fn micro_time(&self) -> String {
        self.clock(".000000Z")
    }

    fn clock(&self, end: &str) -> String {
        let seconds = 13 * 60 + 20 + self.began.elapsed().as_secs();
        format!(
            "2023-11-14T22:{:02}:{:02}{end}",
            (seconds / 60).min(59),
            seconds % 60
        )
    }

    fn collection(&self) -> String {
        format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", self.node)
    }

    async fn list(&mut self) -> Option<()> {
        let path = format!("{}&resourceVersion=0", self.collection());
        let (200, list) = self.rest.ask(Method::GET, &path, None).await.ok()? else {
            return None;
        };
        let pods: Vec<Value> = list["items"].as_array().cloned().unwrap_or_default();
        let present: Vec<String> = pods.iter().map(key_of).collect();
        let gone = |key: &&String| !present.contains(key);
        let gone: Vec<String> = self.running.keys().filter(gone).cloned().collect();
        gone.iter().for_each(|key| self.end(key));
        for pod in &pods {
            self.take(pod).await?;
        }
        self.position = list["metadata"]["resourceVersion"].as_str()?.parse().ok()?;
        Some(())
    }

    async fn watch(&mut self) -> Option<()> {
        let path = format!(
            "{}&watch=true&timeoutSeconds=10&resourceVersion={}",
            self.collection(),
            self.position
        );
        let until = Instant::now() + HEARTBEAT / 2;
        let mut answer = self
            .rest
            .open(request(Method::GET, &path, None))
            .await
            .ok()?;
        if answer.status != StatusCode::OK {
            self.position = 0;
            return None;
        }
        while let Ok(event) = timeout_at(until, answer.event()).await {
            let event = match event {
                Ok(event) => event,
                Err(NoEvent::Broken) => return None,
                Err(NoEvent::Garbled(what)) => {
                    self.rest.nonsense(&path, what);
                    return None;
                }
            };
            let Some(event) = event else { break };
            if let Heard::Nonsense(what) = Heard::of("pods", &event) {
                self.rest.nonsense(&path, what);
            }
            self.event(&event).await?;
            if self.switch.stopped.load(Ordering::Relaxed)
                || self.switch.reboot.load(Ordering::Relaxed)
            {
                break;
            }
        }
        Some(())
    }

    /// None where it has to list again.
    async fn event(&mut self, event: &Value) -> Option<()> {
        let pod = &event["object"];
        let version = pod["metadata"]["resourceVersion"].as_str();
        let known = match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => self.take(pod).await,
            Some("DELETED") => {
                let key = key_of(pod);
                if self
                    .running
                    .get(&key)
                    .is_some_and(|(own, _)| own == uid(pod))
                {
                    self.end(&key);
                }
                Some(())
            }
            _ => None,
        };
        if known.is_none() {
            self.position = 0;
            return None;
        }
        self.position = version?.parse().ok()?;
        Some(())
    }

    /// Does what a pod's object wants. None where that did not work.
    async fn take(&mut self, pod: &Value) -> Option<()> {
        let key = key_of(pod);
        let path = pod_path(pod);
        let own = self
            .running
            .get(&key)
            .is_some_and(|(own, _)| own == uid(pod));
        if is_deleting(pod) {
            self.rest.pause(Duration::from_millis(300)).await;
            if own {
                self.end(&key);
            }
            let options = json!({
                "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0,
                "preconditions": {"uid": uid(pod)}
            });
            let code = self.send(Method::DELETE, &path, JSON, &options).await?;
            return matches!(code, 200..300 | 404 | 409).then_some(());
        }
        if is_over(pod) {
            self.end(&key);
            return Some(());
        }
        if !own {
            // Another one of that name would be in its way.
            self.end(&key);
            let now = self.now();
            let run = PodRun {
                node: self.node.clone(),
                key: key.clone(),
                uid: uid(pod).into(),
                from: now,
                until: None,
            };
            let place = self.rest.shared.scribe.change(|history| {
                history.runs.push(run);
                history.runs.len() - 1
            });
            self.running.insert(key, (uid(pod).into(), place));
        }
        if pod["status"]["phase"] == "Running" && is_ready(pod) {
            return match ends_itself(pod) {
                true => self.complete(pod).await,
                false => Some(()),
            };
        }
        let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": self.time()});
        let ip = match pod["status"]["podIP"].as_str() {
            Some(ip) => ip.to_owned(),
            None => format!(
                "10.1.{}.{}",
                self.node.trim_start_matches('n'),
                self.rest.rng.random_range(1..250)
            ),
        };
        let status = json!({
            "metadata": {"uid": uid(pod)},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready]}
        });
        let code = self
            .send(Method::PATCH, &format!("{path}/status"), STRATEGIC, &status)
            .await?;
        matches!(code, 200..300 | 404 | 409).then_some(())
    }

    /// A pod that ends by itself has done so.
    async fn complete(&mut self, pod: &Value) -> Option<()> {
        let path = format!("{}/status", pod_path(pod));
        self.rest.pause(Duration::from_millis(300)).await;
        let status = json!({"metadata": {"uid": uid(pod)}, "status": {"phase": "Succeeded"}});
        let code = self.send(Method::PATCH, &path, STRATEGIC, &status).await?;
        if code == 200 {
            self.end(&key_of(pod));
        }
        matches!(code, 200..300 | 404 | 409).then_some(())
    }

    fn now(&self) -> u64 {
        self.rest.shared.scribe.now()
    }

    /// Stops what runs under a name.
    fn end(&mut self, key: &str) {
        let Some((_, place)) = self.running.remove(key) else {
            return;
        };
        let now = self.now();
        self.rest.shared.scribe.change(|history| {
            if let Some(run) = history.runs.get_mut(place) {
                run.until = Some(now);
            }
        });
    }
}

/// Whether the API says of a node or a pod that it is ready.
fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|one| one["type"] == "Ready" && one["status"] == "True")
}

fn ends_itself(pod: &Value) -> bool {
    pod["spec"]["containers"][0]["image"] == workloads::ENDS
}

/// Whether nothing of a pod will ever run again.
fn is_over(pod: &Value) -> bool {
    pod["status"]["phase"] == "Succeeded" || pod["status"]["phase"] == "Failed"
}

fn key_of(pod: &Value) -> String {
    let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default();
    key("pods", text("namespace"), text("name"))
}

fn pod_path(pod: &Value) -> String {
    let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default();
    format!(
        "/api/v1/namespaces/{}/pods/{}",
        text("namespace"),
        text("name")
    )
}
