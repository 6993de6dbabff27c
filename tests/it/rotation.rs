//! Certificates, and the authorities behind them, are replaced while clients work: no request fails.

use crate::cluster::{Cluster, Runtime};
use crate::tools::{SOON, wait_for};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Somebody who uses one member all the time, with the kubeconfig as it is at the time.
struct User {
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    thread: JoinHandle<Vec<String>>,
}

/// Requests over one connection, until the kubeconfig is read again and a new one is made.
const REQUESTS_EACH: u64 = 30;

impl User {
    fn start(cluster: &Cluster, member: usize) -> User {
        let stop = Arc::new(AtomicBool::new(false));
        let requests: Arc<AtomicU64> = Arc::default();
        let kubeconfig = cluster.kubeconfig();
        let context = match member {
            1 => "kontiki".to_string(),
            _ => format!("kontiki-{member}"),
        };
        let (stopped, counted) = (stop.clone(), requests.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let mut failures = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                runtime.block_on(async {
                    let options = KubeConfigOptions {
                        context: Some(context.clone()),
                        ..KubeConfigOptions::default()
                    };
                    let kubeconfig = Kubeconfig::read_from(&kubeconfig).expect("a kubeconfig");
                    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
                    let client = Client::try_from(config.expect("it is good")).expect("a client");
                    let maps: Api<ConfigMap> = Api::default_namespaced(client);
                    for _ in 0..REQUESTS_EACH / 3 {
                        if let Err(error) = use_once(&maps, member).await {
                            failures.push(error.to_string());
                        }
                        counted.fetch_add(3, Ordering::Relaxed);
                    }
                });
            }
            failures
        });
        User {
            stop,
            requests,
            thread,
        }
    }

    /// What failed, and how many requests there were.
    fn finish(self) -> (Vec<String>, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.thread.join().expect("the user ends");
        (failures, self.requests.load(Ordering::Relaxed))
    }
}

async fn use_once(maps: &Api<ConfigMap>, member: usize) -> Result<(), kube::Error> {
    let name = format!("of-{member}");
    let map = serde_json::json!({"metadata": {"name": name}});
    let map: ConfigMap = serde_json::from_value(map).expect("a map");
    maps.create(&PostParams::default(), &map).await?;
    maps.get(&name).await?;
    maps.delete(&name, &DeleteParams::default()).await?;
    Ok(())
}

/// Files that a member takes, and the node agent.
const OF_MEMBER: usize = 5;
const OF_AGENT: usize = 2;

struct Taken<'a> {
    cluster: &'a Cluster,
    member: usize,
    agent: usize,
}

impl Taken<'_> {
    /// `kontiki up` with this wish; then waits until everybody has so many more files in use.
    fn after(&mut self, wish: &[&str], of_member: usize, of_agent: usize) {
        let said = self.cluster.kontiki(&[&["up"], wish].concat());
        assert!(said.success, "{said}");
        self.member += of_member;
        self.agent += of_agent;
        let agent = format!("node-{}/log", self.cluster.node);
        wait_for("the files are taken", SOON, || {
            let agent = std::fs::read_to_string(self.cluster.home().join(&agent));
            let mut counts = vec![(taken(&agent.unwrap_or_default()), self.agent)];
            counts.extend((1..=3).map(|member| (taken(&self.cluster.log(member)), self.member)));
            match counts.iter().all(|(taken, wanted)| taken >= wanted) {
                true => Ok(()),
                false => Err(format!("{counts:?}")),
            }
        });
    }
}

fn taken(log: &str) -> usize {
    log.matches("a changed file is in use").count()
}

#[test]
fn nobody_notices_new_certificates_and_new_authorities() {
    // kube leaves the choice of the cryptography to the program.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cluster = Cluster::start(3, Runtime::Hollow);
    cluster.kubectl().ok("run before --image=x");
    let first = std::fs::read_to_string(cluster.pki("ca.crt")).expect("an authority");
    let users: Vec<User> = (1..=3)
        .map(|member| User::start(&cluster, member))
        .collect();
    let mut taken = Taken {
        cluster: &cluster,
        member: 0,
        agent: 0,
    };
    for _ in 0..3 {
        // The authorities are the same: only what is issued by them is new.
        taken.after(&["--renew"], OF_MEMBER - 1, OF_AGENT);
    }
    for step in ["add", "use", "drop"] {
        taken.after(&["--authorities", step], OF_MEMBER, OF_AGENT);
    }
    for user in users {
        let (failures, requests) = user.finish();
        assert!(failures.is_empty(), "of {requests}: {failures:?}");
        assert!(requests > REQUESTS_EACH, "{requests}");
    }

    // Nobody knows the first authority any more, so whoever still works does so with what came after it.
    let now = std::fs::read_to_string(cluster.pki("ca.crt")).expect("an authority");
    assert!(!now.contains(first.trim()) && now.matches("BEGIN").count() == 1);
    let kubectl = cluster.kubectl();
    kubectl.ok("run after --image=x");
    kubectl.ok("wait --for=condition=Ready pod/after --timeout=60s");
    for member in 1..=3 {
        cluster.kubectl_through(member).ok("logs after");
    }
    kubectl.until(
        "get configmap kube-root-ca.crt -o jsonpath={.data}",
        |data| {
            data.matches("BEGIN").count() == 1
                && !data.contains(first.lines().nth(2).unwrap_or("-"))
        },
    );
    // Members meet anew.
    cluster.kill(1);
    let said = cluster.up();
    assert!(said.success, "{said}");
    cluster.store_json(&["status"]);

    // What is no certificate changes nothing, and is told.
    let broken = cluster.home().join("m1/pki/server.crt");
    std::fs::write(&broken, "no certificate").expect("written");
    let metric = "kontiki_file_reloads_total{file=\"server\",result=\"refused\"} 1";
    kubectl.until("get --raw /metrics", |text| text.contains(metric));
    assert!(cluster.log(1).contains("a changed file is not usable"));
    kubectl.ok("get nodes");
}
