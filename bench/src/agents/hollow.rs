//! Thousands of simulated nodes and what runs there: `kontiki hollow` beside the servers, as a user starts it. How fast nodes
//! become ready and pods run, how long others wait for the API meanwhile, and what all of it costs when nothing happens.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::AgentsArgs;
use super::changes::controllers;
use super::report::Row;
use super::scheduling::first_of_all;
use super::stage::{SCHEDULER, Stage, Task};
use super::workloads::MEASURED;
use crate::Setting;
use crate::api::http::{Connection, MERGE_PATCH, Request, each_line};
use crate::store::load::{Latencies, Meter, micros_since};
use crate::store::process::{Memory, Usage, proportional_bytes};

const NODES: usize = 5_000;
const PODS: usize = 100_000;
/// Of one Deployment.
const PODS_EACH: usize = 1_000;
const NODES_READY_SECONDS: f64 = 20.0;
const PODS_RUN_SECONDS: f64 = 100.0;
const CALL_P99_MS: f64 = 100.0;
const REST_CORES: f64 = 0.5;
const REST_MB: f64 = 1_073.7;
/// Until what the load needed has been given back: changes are packed when they are half a minute old, and the allocator
/// gives pages back ten seconds later.
const SETTLE: Duration = Duration::from_secs(60);
/// Three renewals of each lease.
const RESTS: Duration = Duration::from_secs(30);
/// Between two looks at how far Deployments are: each is a list of all of them.
const LOOK: Duration = Duration::from_millis(500);
/// Between two words on how far it is.
const TELL: Duration = Duration::from_secs(10);
/// Between two calls of the client that only wants to know how long it waits.
const CALL: Duration = Duration::from_millis(20);
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/kontiki-bench-measured/deployments";

/// The process, ended when dropped.
struct Hollow(Child);

impl Drop for Hollow {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says now and then how far it is, since each part takes minutes at full size.
struct Progress<'a> {
    setting: &'a Setting,
    told: Mutex<Instant>,
}

impl Progress<'_> {
    fn of(setting: &Setting) -> Progress<'_> {
        Progress {
            setting,
            told: Mutex::new(Instant::now()),
        }
    }

    fn tell(&self, text: impl FnOnce() -> String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= TELL {
            *told = Instant::now();
            self.setting.progress(&text());
        }
    }
}

/// Nodes first, then pods, then rest: three lines.
pub(super) async fn run(
    setting: &Setting,
    args: &AgentsArgs,
    stage: &Stage,
    members: u8,
) -> Result<Vec<Row>> {
    let (nodes, pods) = (args.scaled(NODES), args.scaled(PODS));
    controllers(stage).await?;
    let ready = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let hollow = start(setting, stage, nodes)?;
    let watch = count_ready(stage, ready.clone()).await?;
    let progress = Progress::of(setting);
    let all = || async {
        let so_far = ready.load(Ordering::Relaxed);
        progress.tell(|| format!("{so_far} of {nodes} hollow nodes are ready"));
        Ok(so_far >= nodes)
    };
    let patience = args.patience();
    stage
        .within(patience, "hollow nodes to be ready", all)
        .await?;
    let up = began.elapsed().as_secs_f64();
    drop(watch);
    let mut rows = vec![Row {
        sizes: format!("{nodes}/0/0"),
        note: format!(
            "all ready after {up:.1} s{}",
            aim(nodes >= NODES, up, NODES_READY_SECONDS, "s")
        ),
        ..Row::new("hollow nodes", members)
    }];
    setting.progress(&format!("all {nodes} hollow nodes are ready"));
    stage.release(SCHEDULER).await?;
    first_of_all(stage).await?;
    setting.progress(&format!("makes {pods} pods"));
    rows.push(load(&progress, args, stage, (nodes, pods), members).await?);
    setting.progress(&format!(
        "lets it settle for {} s, and then looks for {} s at what it costs at rest",
        SETTLE.as_secs(),
        RESTS.as_secs()
    ));
    tokio::time::sleep(SETTLE).await;
    let sizes = (nodes, pods);
    rows.push(rest(stage, &hollow, "hollow at rest", sizes, members).await?);
    if let Some(after) = args.rest_after.map(Duration::from_secs) {
        setting.progress(&format!("looks again {} s after the load", after.as_secs()));
        tokio::time::sleep(after.saturating_sub(SETTLE + RESTS)).await;
        rows.push(rest(stage, &hollow, "hollow long at rest", sizes, members).await?);
    }
    Ok(rows)
}

/// How a figure is to what is wanted of the full size; a smaller one is not judged, where everything is faster.
fn aim(full: bool, value: f64, most: f64, unit: &str) -> String {
    let verdict = match (full, value <= most) {
        (false, _) => "",
        (true, true) => ": met",
        (true, false) => ": NOT MET",
    };
    format!(" (aim at full size {most} {unit}{verdict})")
}

fn start(setting: &Setting, stage: &Stage, nodes: usize) -> Result<Hollow> {
    let pki = stage.pki();
    let path = |name: &str| pki.join(name).display().to_string();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bench",
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "admin"}}],
        "clusters": [{"name": "bench", "cluster": {"server": stage.server(), "certificate-authority": path("ca.crt")}}],
        "users": [{"name": "admin", "user": {"client-certificate": path("admin.crt"), "client-key": path("admin.key")}}],
    });
    let file = pki.join("bench.kubeconfig");
    std::fs::write(&file, config.to_string())?;
    let log = std::fs::File::create(pki.join("hollow.log"))?;
    let mut command = Command::new(&setting.kontiki);
    command
        .args(["hollow", "--nodes", &nodes.to_string(), "--kubeconfig"])
        .arg(&file);
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(Hollow(command.spawn().context("running `kontiki hollow`")?))
}

#[derive(Deserialize)]
struct Event {
    object: Node,
}

#[derive(Deserialize)]
struct Node {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Meta {
    name: String,
}

#[derive(Default, Deserialize)]
struct Spec {
    #[serde(default)]
    taints: Vec<Value>,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// The name of a node that an event shows ready, and open for pods: without what it is tainted with until then.
fn ready_node(line: &[u8]) -> Option<String> {
    let node = serde_json::from_slice::<Event>(line).ok()?.object;
    let mut conditions = node.status.conditions.iter();
    let ready = conditions.any(|one| one.kind == "Ready" && one.status == "True");
    (ready && node.spec.taints.is_empty()).then_some(node.metadata.name)
}

async fn count_ready(stage: &Stage, ready: Arc<AtomicUsize>) -> Result<Task> {
    let connection = stage.connection(0);
    let body = connection
        .stream(&Request::get("/api/v1/nodes?watch=true"))
        .await?;
    Ok(Task::spawn(async move {
        let _connection = connection;
        let mut seen = BTreeSet::new();
        each_line(body, |line| {
            if let Some(name) = ready_node(line)
                && seen.insert(name)
            {
                ready.store(seen.len(), Ordering::Relaxed);
            }
        })
        .await;
    }))
}

/// Deployments until all their pods are available, and somebody who uses the API meanwhile.
async fn load(
    progress: &Progress<'_>,
    args: &AgentsArgs,
    stage: &Stage,
    (nodes, pods): (usize, usize),
    members: u8,
) -> Result<Row> {
    let waits = Arc::new(Mutex::new(Vec::new()));
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "asked"}});
    let maps = format!("/api/v1/namespaces/{MEASURED}/configmaps");
    stage.post(&maps, &map).await?;
    let asking = Task::spawn(ask(
        // One that is in use: a server lets those go that ask for nothing while the nodes become ready.
        stage.connection(0),
        format!("{maps}/asked"),
        waits.clone(),
    ));
    let meter = Meter::at(stage.pids())?;
    let began = Instant::now();
    for (number, count) in shares(pods).enumerate() {
        stage.post(DEPLOYMENTS, &deployment(number, count)).await?;
    }
    let deadline = Instant::now() + args.patience();
    loop {
        let listed = stage.get(DEPLOYMENTS).await?;
        let available = available(&listed);
        if available >= pods {
            break;
        }
        progress.tell(|| format!("{available} of {pods} pods are available"));
        if Instant::now() > deadline {
            let most = args.patience;
            bail!(
                "after {most} s {available} of {pods} pods are available: --patience SECONDS waits longer"
            );
        }
        tokio::time::sleep(LOOK).await;
    }
    let took = began.elapsed().as_secs_f64();
    let cost = meter.stop()?;
    drop(asking);
    let micros = std::mem::take(&mut *waits.lock().unwrap_or_else(PoisonError::into_inner));
    let calls = Latencies::new(micros);
    let (p50, p99) = (calls.quantile_ms(0.5), calls.quantile_ms(0.99));
    Ok(Row {
        sizes: format!("{nodes}/0/{pods}"),
        overall: pods as f64 / took,
        cpu_micros: cost.servers.cpu_seconds * 1e6 / pods as f64,
        memory_mb: cost.peak_bytes as f64 / 1e6,
        note: format!(
            "all available after {took:.1} s{}; {} calls for one object meanwhile: p50 {p50:.1} ms, p99 {p99:.1} ms{}",
            aim(pods >= PODS, took, PODS_RUN_SECONDS, "s"),
            calls.len(),
            aim(pods >= PODS, p99, CALL_P99_MS, "ms")
        ),
        ..Row::new("hollow pods", members)
    })
}

/// As many pods for each Deployment.
fn shares(pods: usize) -> impl Iterator<Item = usize> {
    (0..pods.div_ceil(PODS_EACH)).map(move |number| PODS_EACH.min(pods - number * PODS_EACH))
}

fn deployment(number: usize, count: usize) -> Value {
    let labels = json!({"app": format!("web-{number}")});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": format!("web-{number}")},
        "spec": {"replicas": count, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "c", "image": "pause:1", "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}]}}}})
}

fn available(listed: &Value) -> usize {
    let items = listed["items"].as_array().into_iter().flatten();
    let counts = items.filter_map(|one| one["status"]["availableReplicas"].as_u64());
    usize::try_from(counts.sum::<u64>()).unwrap_or(0)
}

/// Reads and changes one object in turns, and writes down how long each call takes.
async fn ask(connection: Connection, path: String, waits: Arc<Mutex<Vec<u32>>>) {
    let mut turn = tokio::time::interval(CALL);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in 0_u64.. {
        turn.tick().await;
        let request = match number % 2 {
            0 => Request::get(path.clone()),
            _ => {
                let change = json!({"data": {"number": number.to_string()}}).to_string();
                Request::patch(path.clone(), MERGE_PATCH, change)
            }
        };
        let sent = Instant::now();
        if let Err(error) = connection.ask(&request).await {
            eprintln!("asking for one object: {error}");
            continue;
        }
        let mut waits = waits.lock().unwrap_or_else(PoisonError::into_inner);
        waits.push(micros_since(sent));
    }
}

/// What all processes cost while nothing happens. Of memory the sum is judged in which pages that several processes share
/// (the program itself) count once.
async fn rest(
    stage: &Stage,
    hollow: &Hollow,
    what: &str,
    (nodes, pods): (usize, usize),
    members: u8,
) -> Result<Row> {
    let (mut pids, pid) = (stage.pids(), hollow.0.id());
    pids.push(pid);
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let (mut each, mut resident) = (Vec::new(), 0.0);
    for pid in &pids {
        each.push(megabytes(proportional_bytes(*pid)?));
        resident += megabytes(Memory::of(*pid)?.resident_bytes);
    }
    let before = Usage::of(&pids)?;
    let began = Instant::now();
    tokio::time::sleep(RESTS).await;
    let used = Usage::of(&pids)?.since(before).cpu_seconds;
    let cores = used / began.elapsed().as_secs_f64();
    let sum: f64 = each.iter().sum();
    let of_hollow = each.pop().unwrap_or_default();
    let told: Vec<String> = each.iter().map(|mb| format!("{mb:.0}")).collect();
    Ok(Row {
        sizes: format!("{nodes}/{pods}/0"),
        memory_mb: sum,
        note: format!(
            "{cores:.2} cores{}, {sum:.0} MB with shared pages once{} ({resident:.0} MB with them in each): servers {} MB, \
             hollow nodes {of_hollow:.0} MB",
            aim(pods >= PODS, cores, REST_CORES, "cores"),
            aim(pods >= PODS, sum, REST_MB, "MB"),
            told.join(", ")
        ),
        ..Row::new(what, members)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_counts_when_it_is_ready_and_open() {
        let line = |ready: &str, taints: Value| {
            json!({"type": "MODIFIED", "object": {"metadata": {"name": "a"}, "spec": {"taints": taints},
                "status": {"conditions": [{"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": ready}]}}})
            .to_string()
        };
        let name = |line: String| ready_node(line.as_bytes());
        assert_eq!(name(line("True", json!([]))).as_deref(), Some("a"));
        assert_eq!(name(line("False", json!([]))), None);
        let closed = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]);
        assert_eq!(name(line("True", closed)), None);
        assert_eq!(ready_node(b"{}"), None);
    }

    #[test]
    fn pods_are_shared_among_deployments() {
        assert_eq!(shares(2_500).collect::<Vec<_>>(), [1_000, 1_000, 500]);
        assert_eq!(shares(1).collect::<Vec<_>>(), [1]);
        let status = |count: u64| json!({"status": {"availableReplicas": count}});
        let listed = json!({"items": [status(3), {"status": {}}, status(4)]});
        assert_eq!(available(&listed), 7);
    }

    #[test]
    fn an_aim_is_of_the_full_size() {
        assert!(aim(true, 20.0, 20.0, "s").ends_with("20 s: met)"));
        assert!(aim(true, 20.1, 20.0, "s").ends_with("NOT MET)"));
        assert!(aim(false, 1.0, 20.0, "s").ends_with("20 s)"));
    }
}
