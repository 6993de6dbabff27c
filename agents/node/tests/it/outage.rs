//! Docker gone and back: a socket in front of Docker's own is cut and mended while the containers run on.

use std::path::{Path, PathBuf};
use std::process::Command;

use node_agent::RuntimeKind;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::api::Api;
use crate::docker::{image_is_ready, pod, sh};
use crate::kubelet::{Node, condition, first, phase};

const DOCKER: &str = "/var/run/docker.sock";

/// Passes connections on to Docker until it is cut, which breaks them all.
struct Proxy {
    path: PathBuf,
    serving: JoinHandle<()>,
}

impl Proxy {
    fn open(path: &Path) -> Proxy {
        let listener = UnixListener::bind(path).unwrap();
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                connections.spawn(async move {
                    let mut far = UnixStream::connect(DOCKER).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Proxy {
            path: path.to_owned(),
            serving,
        }
    }

    async fn cut(self) {
        self.serving.abort();
        assert!(self.serving.await.unwrap_err().is_cancelled());
        std::fs::remove_file(&self.path).unwrap();
    }
}

fn id(pod: Option<&Value>) -> String {
    first(pod, "containerID").to_owned()
}

fn restarts(pod: Option<&Value>) -> i64 {
    pod.and_then(|pod| pod.pointer("/status/containerStatuses/0/restartCount"))
        .and_then(Value::as_i64)
        .unwrap_or(-1)
}

/// The condition `Ready` of the node: its status and message.
fn readiness(node: Option<&Value>) -> (String, String) {
    let conditions = node.and_then(|node| node.pointer("/status/conditions")?.as_array());
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|c| c["type"] == "Ready");
    let text = |field: &str| {
        let value = ready.and_then(|ready| ready[field].as_str());
        value.unwrap_or_default().to_owned()
    };
    (text("status"), text("message"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_survives_an_outage_is_not_touched_and_the_rest_is_made_good() {
    if !image_is_ready() {
        return;
    }
    if !Path::new(DOCKER).exists() {
        eprintln!("skipped: Docker is not at {DOCKER}");
        return;
    }
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let socket = dir.path().join("docker.sock");
    let proxy = Proxy::open(&socket);
    let runtime = RuntimeKind::DockerAt(socket.clone());
    let node = Node::start(&api, "docker-outage", &dir.path().join("node"), runtime).await;
    let talk = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.2; done";
    for name in ["steady", "victim", "leaving"] {
        let spec = json!({"containers": [{"name": "c", "command": sh(talk)}]});
        api.put("pods", pod(name, "docker-outage", spec));
    }
    let running = |pod: Option<&Value>| phase(pod) == "Running" && condition(pod, "Ready");
    let mut before = Vec::new();
    for name in ["steady", "victim", "leaving"] {
        before.push(api.wait_pod(name, "running", running).await);
    }

    proxy.cut().await;
    let down = |node: Option<&Value>| readiness(node).0 == "False";
    let object = api
        .wait("nodes", "", "docker-outage", "not ready", down)
        .await;
    let (_, message) = readiness(object.as_ref());
    assert!(
        message.starts_with("container runtime is down: "),
        "{message}"
    );
    api.wait_event(
        "docker-outage",
        "NodeNotReady: Node docker-outage status is now: NodeNotReady",
    )
    .await;
    // Meanwhile one container dies, one pod comes and one shall go.
    let victim = id(before[1].as_ref());
    let killed = Command::new("docker")
        .args(["kill", victim.trim_start_matches("docker://")])
        .output()
        .unwrap();
    assert!(killed.status.success());
    let spec = json!({"containers": [{"name": "c", "command": sh(talk)}]});
    api.put("pods", pod("newcomer", "docker-outage", spec));
    api.delete_pod("leaving", 1);
    let (status, text) = node.get("/containerLogs/default/steady/c").await;
    assert_eq!(status, 500, "{text}");
    for name in ["steady", "victim", "leaving"] {
        let pod = api.get("pods", "default", name);
        assert_eq!(
            (phase(pod.as_ref()), restarts(pod.as_ref())),
            ("Running", 0),
            "{name}"
        );
    }

    let proxy = Proxy::open(&socket);
    let up = |node: Option<&Value>| readiness(node).0 == "True";
    api.wait("nodes", "", "docker-outage", "ready again", up)
        .await;
    let back = |pod: Option<&Value>| running(pod) && restarts(pod) == 1;
    api.wait_pod("victim", "restarted", back).await;
    api.wait_pod("newcomer", "running", running).await;
    api.wait_pod("leaving", "gone", |pod| pod.is_none()).await;
    let steady = api.get("pods", "default", "steady");
    assert_eq!(id(steady.as_ref()), id(before[0].as_ref()));
    assert!(restarts(steady.as_ref()) == 0 && running(steady.as_ref()));
    let (status, log) = node.get("/containerLogs/default/steady/c").await;
    assert!(status == 200 && log.starts_with("line 1\n"), "{log}");
    let events = api.events_of("steady");
    let unharmed = |event: &String| !event.starts_with("Killing") && !event.starts_with("Sandbox");
    assert!(events.iter().all(unharmed), "{events:#?}");

    for name in ["steady", "victim", "newcomer"] {
        api.delete_pod(name, 0);
        api.wait_pod(name, "gone", |pod| pod.is_none()).await;
    }
    node.stop().await;
    proxy.cut().await;
}
