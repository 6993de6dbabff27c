//! Docker gone and back: a socket in front of Docker's own is cut and mended while the containers run on; and a daemon
//! of the test's own is killed and started again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use node_agent::RuntimeKind;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::api::Api;
use crate::docker::{image_is_ready, import_image, pod, sh, skip};
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

/// A daemon of the test's own, whose containers outlive it.
struct Daemon {
    child: Child,
    dir: PathBuf,
    host: String,
}

impl Daemon {
    /// None, with the reason printed, where no daemon can be started.
    async fn start(dir: &Path) -> Option<Daemon> {
        let host = format!("unix://{}/docker.sock", dir.display());
        let inside = |option: &str, name: &str| format!("--{option}={}", dir.join(name).display());
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(dir.join("log"))
            .unwrap();
        // In a network of its own: a daemon without a bridge begins by removing docker0, which is another daemon's.
        let child = Command::new("unshare")
            .args([
                "--net",
                "dockerd",
                "--live-restore",
                "--bridge=none",
                "--iptables=false",
            ])
            .arg(format!("--host={host}"))
            .args([inside("data-root", "data"), inside("exec-root", "exec")])
            .arg(inside("pidfile", "pid"))
            .stderr(log)
            .spawn();
        let Ok(child) = child else {
            skip("no dockerd to start");
            return None;
        };
        let mut daemon = Daemon {
            child,
            dir: dir.to_owned(),
            host,
        };
        for _ in 0..300 {
            if daemon.docker(&["version"]).is_some() {
                return Some(daemon);
            }
            if daemon.child.try_wait().unwrap().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
        let last = log.lines().last().unwrap_or_default();
        skip(&format!("a second dockerd does not start here: {last}"));
        None
    }

    /// Runs `docker` on this daemon; its output if it succeeds.
    fn docker(&self, arguments: &[&str]) -> Option<String> {
        let run = Command::new("docker")
            .args(["--host", &self.host])
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        run.status.success().then_some(text)
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // As after a crash of the machine: the file names a process that is gone.
        assert!(self.dir.join("pid").exists());
    }
}

impl Drop for Daemon {
    /// Removes every container and ends as a service does, unless it was killed.
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let all = self.docker(&["ps", "-aq"]).unwrap_or_default();
        for id in all.split_whitespace() {
            self.docker(&["rm", "-f", id]);
        }
        let pid = self.child.id().to_string();
        let asked = Command::new("sh")
            .args(["-c", &format!("kill {pid}")])
            .status();
        if !asked.is_ok_and(|status| status.success()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        // A daemon whose containers may outlive it leaves what they need mounted.
        let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = table.lines().filter_map(|line| line.split(' ').nth(1));
        for point in points.filter(|point| Path::new(point).starts_with(&self.dir)) {
            let _ = Command::new("umount").arg(point).status();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_is_waited_for_and_its_containers_are_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let Some(daemon) = Daemon::start(dir.path()).await else {
        return;
    };
    if !import_image(&["--host", &daemon.host]) {
        return;
    }
    let api = Api::new();
    let runtime = RuntimeKind::DockerAt(dir.path().join("docker.sock"));
    let node = Node::start(&api, "docker-killed", &dir.path().join("node"), runtime).await;
    let talk = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.2; done";
    // This daemon has no bridge.
    let spec = json!({"hostNetwork": true, "containers": [{"name": "c", "command": sh(talk)}]});
    api.put("pods", pod("steady", "docker-killed", spec));
    let running = |pod: Option<&Value>| phase(pod) == "Running" && condition(pod, "Ready");
    let before = api.wait_pod("steady", "running", running).await;

    daemon.kill();
    let down = |node: Option<&Value>| readiness(node).0 == "False";
    api.wait("nodes", "", "docker-killed", "not ready", down)
        .await;
    let daemon = Daemon::start(dir.path()).await.expect("it started before");
    let up = |node: Option<&Value>| readiness(node).0 == "True";
    api.wait("nodes", "", "docker-killed", "ready again", up)
        .await;
    let steady = api.get("pods", "default", "steady");
    assert_eq!(id(steady.as_ref()), id(before.as_ref()));
    assert_eq!(restarts(steady.as_ref()), 0);
    // A hint that comes over the new connection: the container's end is seen at once.
    let container = id(steady.as_ref());
    daemon
        .docker(&["kill", container.trim_start_matches("docker://")])
        .unwrap();
    let back = |pod: Option<&Value>| running(pod) && restarts(pod) == 1;
    api.wait_pod("steady", "restarted", back).await;

    api.delete_pod("steady", 0);
    api.wait_pod("steady", "gone", |pod| pod.is_none()).await;
    node.stop().await;
}
