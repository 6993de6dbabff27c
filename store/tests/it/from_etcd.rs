//! Moving in from an etcd: the real one, where it is installed, with its own tools.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Output, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kv::{KeyValue, RangeRequest, Store};
use serde_json::Value;
use store::backup::{BUMP_REVISION, NewCluster, restore, verify};
use store::{InitialMember, Limits};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::etcd_front::Fronts;
use crate::harness::{CLUSTER, Cluster, DEADLINE, all, eventually, get, put};

/// An etcd of one member that ends with the test.
pub(crate) struct Etcd {
    pub(crate) url: String,
    dir: TempDir,
    process: Child,
    flags: Vec<String>,
    /// Those of etcdctl.
    client_flags: Vec<String>,
}

/// None where it is not installed.
pub(crate) async fn etcd() -> Option<Etcd> {
    etcd_with("http", Vec::new(), Vec::new()).await
}

/// With TLS, and certificates of the authority of these fronts for clients.
pub(crate) async fn etcd_with_tls(fronts: &Fronts) -> Option<Etcd> {
    let file = |flag: &str, name: &str| format!("--{flag}={}", fronts.file(name).display());
    let flags = vec![
        file("cert-file", "server.crt"),
        file("key-file", "server.key"),
        file("trusted-ca-file", "ca.crt"),
        "--client-cert-auth".into(),
    ];
    let client_flags = vec![
        file("cacert", "ca.crt"),
        file("cert", "client.crt"),
        file("key", "client.key"),
    ];
    etcd_with("https", flags, client_flags).await
}

async fn etcd_with(scheme: &str, flags: Vec<String>, client_flags: Vec<String>) -> Option<Etcd> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    for program in ["etcd", "etcdctl"] {
        if !std::env::split_paths(&path).any(|dir| dir.join(program).is_file()) {
            eprintln!("SKIPPED: {program} is not installed");
            return None;
        }
    }
    // Somebody may take a port between the look and the start: then with other ones.
    for _ in 0..5 {
        let ports: Vec<_> = (0..2)
            .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let address = |at: usize| ports[at].local_addr().unwrap();
        let url = format!("{scheme}://{}", address(0));
        let peer_url = format!("http://{}", address(1));
        drop(ports);
        let dir = TempDir::new().unwrap();
        let mut all_flags = flags.clone();
        all_flags.extend([
            format!("--data-dir={}", dir.path().join("data").display()),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster=m1={peer_url}"),
        ]);
        let mut etcd = Etcd {
            url,
            dir,
            process: start(&all_flags),
            flags: all_flags,
            client_flags: client_flags.clone(),
        };
        if etcd.begins().await {
            return Some(etcd);
        }
    }
    panic!("etcd does not start");
}

fn start(flags: &[String]) -> Child {
    Command::new("etcd")
        .args(["--name=m1", "--log-level=error"])
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

impl Etcd {
    /// Killed, and started anew on the same data.
    pub(crate) async fn restart(&mut self) {
        self.process.kill().await.unwrap();
        self.process = start(&self.flags);
        assert!(self.begins().await, "it starts again");
    }

    async fn begins(&mut self) -> bool {
        let begin = std::time::Instant::now();
        while begin.elapsed() < DEADLINE {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            if self.run(&["endpoint", "health"], "").await.status.success() {
                return true;
            }
        }
        panic!("etcd is not healthy");
    }

    fn command(&self) -> Command {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", self.url))
            .args(&self.client_flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self.command().args(arguments).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = tokio::time::timeout(DEADLINE, child.wait_with_output());
        output.await.expect("etcdctl ends").unwrap()
    }

    pub(crate) async fn etcdctl(&self, arguments: &[&str]) -> String {
        self.told(arguments, "").await
    }

    async fn told(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input).await;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_string();
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {text} {why}");
        text
    }

    /// Puts all of these, a hundred in one transaction.
    pub(crate) async fn put_all(&self, pairs: &[(String, String)]) {
        for chunk in pairs.chunks(100) {
            let puts: Vec<String> = chunk
                .iter()
                .map(|(key, value)| format!("put {key} {value}"))
                .collect();
            let answer = self
                .told(&["txn"], &format!("\n{}\n\n\n", puts.join("\n")))
                .await;
            assert!(answer.contains("SUCCESS"), "{answer}");
        }
    }

    pub(crate) async fn live(&self) -> BTreeMap<Vec<u8>, KeyValue> {
        let text = self.etcdctl(&["get", "", "--prefix", "-w=json"]).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        let bytes = |kv: &Value, field: &str| {
            let text = kv[field].as_str().unwrap_or_default();
            BASE64_STANDARD.decode(text).unwrap()
        };
        // What is zero is left out.
        let number = |kv: &Value, field: &str| kv[field].as_i64().unwrap_or_default();
        let kv = |kv: &Value| KeyValue {
            key: bytes(kv, "key").into(),
            value: bytes(kv, "value").into(),
            create_revision: number(kv, "create_revision"),
            mod_revision: number(kv, "mod_revision"),
            version: number(kv, "version"),
            lease: number(kv, "lease"),
        };
        let kvs = answer["kvs"].as_array().unwrap().iter().map(kv);
        kvs.map(|kv| (kv.key.to_vec(), kv)).collect()
    }

    pub(crate) async fn revision(&self) -> i64 {
        let text = self.etcdctl(&["get", "nothing", "-w=json"]).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        answer["header"]["revision"].as_i64().unwrap()
    }

    pub(crate) async fn grant(&self, ttl: &str) -> String {
        let granted = self.etcdctl(&["lease", "grant", ttl]).await;
        granted.split_whitespace().nth(1).unwrap().into()
    }
}

pub(crate) fn pairs(range: std::ops::Range<usize>, value: &str) -> Vec<(String, String)> {
    // Some values larger than a page.
    let value = |n: usize| format!("{value}-{n}-{}", "x".repeat(n % 50 * n % 7000));
    range
        .map(|n| (format!("/registry/k{n:05}"), value(n)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_real_etcd_has_saved_is_here_key_by_key() {
    let Some(etcd) = etcd().await else {
        return;
    };
    etcd.put_all(&pairs(0..5000, "first")).await;
    etcd.put_all(&pairs(1000..2000, "second")).await;
    etcd.etcdctl(&["del", "--prefix", "/registry/k004"]).await;
    let (lease, ended) = (etcd.grant("1000").await, etcd.grant("500").await);
    for n in 0..5 {
        let key = format!("/events/{n}");
        etcd.etcdctl(&["put", &key, "event", &format!("--lease={lease}")])
            .await;
    }
    etcd.etcdctl(&["put", "/gone", "x", &format!("--lease={ended}")])
        .await;
    etcd.etcdctl(&["lease", "revoke", &ended]).await;
    let compacted = etcd.revision().await;
    etcd.etcdctl(&["compaction", "--physical", &compacted.to_string()])
        .await;
    etcd.etcdctl(&["del", "--prefix", "/registry/k01"]).await;
    etcd.put_all(&pairs(1000..1010, "third")).await;
    etcd.etcdctl(&["del", "/registry/k04999"]).await;

    let snapshot = etcd.dir.path().join("snapshot");
    etcd.etcdctl(&["snapshot", "save", snapshot.to_str().unwrap()])
        .await;
    let (live, revision) = (etcd.live().await, etcd.revision().await);
    assert!(live.len() > 3500, "{}", live.len());

    let archive = etcd.dir.path().join("archive");
    let mut file = std::fs::File::create(&archive).unwrap();
    let imported = store::import::etcd_snapshot(&snapshot, &mut file).unwrap();
    assert_eq!(
        (imported.revision, imported.compact_revision),
        (revision, compacted)
    );
    assert_eq!((imported.keys, imported.leases), (live.len() as u64, 1));
    assert_eq!(imported.leaseless, 0);
    let contents = verify(&archive).unwrap();
    assert_eq!(
        (contents.revision, contents.keys),
        (revision, imported.keys)
    );
    a_member_has(&archive, &live, revision, &lease).await;

    // Real pages, and each bit of them is looked at.
    let whole = std::fs::read(&snapshot).unwrap();
    let damaged = etcd.dir.path().join("damaged");
    for place in (0..whole.len()).step_by(whole.len() / 7) {
        let mut bytes = whole.clone();
        bytes[place] ^= 4;
        std::fs::write(&damaged, bytes).unwrap();
        let refused = store::import::etcd_snapshot(&damaged, &mut std::io::sink());
        assert!(refused.is_err(), "byte {place}");
    }
}

/// A member that begins with the archive.
async fn a_member_has(
    archive: &Path,
    live: &BTreeMap<Vec<u8>, KeyValue>,
    revision: i64,
    lease: &str,
) {
    let mut cluster = Cluster::of(1, Limits::default());
    let data_dir = cluster.config(1).data_dir;
    let new = NewCluster {
        cluster_id: CLUSTER,
        members: vec![InitialMember {
            id: 1,
            name: "m1".into(),
            peer_address: "m1".into(),
        }],
        bump_revision: BUMP_REVISION,
    };
    let engine = store::config::engine();
    restore(archive, &data_dir, 1, &new, engine.as_ref()).unwrap();
    let node = cluster.run(1).await.unwrap();
    cluster.leader().await;
    let answer = eventually("a list", || async {
        let request = RangeRequest {
            serializable: false,
            ..all()
        };
        node.range(request).await.ok()
    })
    .await;
    assert!(answer.revision >= revision + BUMP_REVISION);
    let found = answer.body.kvs.into_iter().map(|kv| (kv.key.to_vec(), kv));
    let found: BTreeMap<Vec<u8>, KeyValue> = found.collect();
    assert_eq!(found.len(), live.len());
    for (key, kv) in live {
        assert_eq!(found.get(key), Some(kv));
    }
    let id = i64::from_str_radix(lease, 16).unwrap();
    let status = node.lease_time_to_live(id, true).await.unwrap().body;
    assert_eq!((status.granted_ttl_seconds, status.keys.len()), (1000, 5));
    // It is a store like any other, its leases too.
    assert!(put(&node, "/registry/k00000", "here").await > answer.revision);
    eventually("the end of the lease", || async {
        node.lease_revoke(id).await.ok()
    })
    .await;
    assert_eq!(get(&node, "/events/0").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_mirrors_a_running_etcd_into_this_store() {
    let Some(etcd) = etcd().await else {
        return;
    };
    let fronts = Fronts::start(1).await;
    let node = fronts.cluster.node(1);
    etcd.put_all(&pairs(0..2500, "first")).await;
    let mut mirror = etcd
        .command()
        .args(["make-mirror", &fronts.endpoint(1)])
        .arg("--dest-insecure-transport=false")
        .arg(format!("--dest-cacert={}", fronts.file("ca.crt").display()))
        .arg(format!(
            "--dest-cert={}",
            fronts.file("client.crt").display()
        ))
        .arg(format!(
            "--dest-key={}",
            fronts.file("client.key").display()
        ))
        .spawn()
        .unwrap();
    let same = async |what: &str| {
        let live = etcd.live().await;
        eventually(what, || async {
            let found = node.range(all()).await.ok()?.body.kvs;
            let same = found.len() == live.len()
                && found.iter().all(|kv| {
                    let original = live.get(&kv.key[..]);
                    original.is_some_and(|original| original.value == kv.value)
                });
            same.then_some(())
        })
        .await;
    };
    same("the keys that were there").await;
    // And what happens from now on.
    etcd.put_all(&pairs(2000..3000, "second")).await;
    etcd.etcdctl(&["del", "--prefix", "/registry/k000"]).await;
    etcd.etcdctl(&["put", "last", "one"]).await;
    same("the keys that came and went").await;
    assert!(mirror.try_wait().unwrap().is_none(), "it goes on");
    mirror.kill().await.unwrap();
    fronts.stop.cancel();
}
