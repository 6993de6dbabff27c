//! Clusters in one process: real TLS, real disks, loopback sockets on free ports, and a network that can be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use kv::{Store, WatchItem, WatchStream};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use store::env::{BoxFuture, ByteStream, Clock, Listener, Network, Tcp};
use store::wal::MARK;
use store::{Config, InitialMember, Limits, Node, StartError, TlsIdentity, peer_uri};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) const CLUSTER: u64 = 0xc1;
/// Every wait ends.
pub(crate) const DEADLINE: Duration = Duration::from_secs(40);

pub(crate) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn identity(&self, cluster: u64, member: u64) -> TlsIdentity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names =
            vec![SanType::URI(peer_uri(cluster, member).try_into().unwrap())];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        TlsIdentity {
            ca_pem: self.pem.clone().into_bytes(),
            cert_pem: certificate.pem().into_bytes(),
            key_pem: key.serialize_pem().into_bytes(),
        }
    }
}

pub(crate) static AUTHORITY: LazyLock<Authority> = LazyLock::new(Authority::new);

/// Addresses are names, `m1` for member 1, that stand for whatever port the member got. Members can be cut off.
#[derive(Default)]
pub(crate) struct Wires {
    ports: Mutex<BTreeMap<String, String>>,
    cut: Mutex<BTreeSet<String>>,
    links: Mutex<Vec<(String, String, CancellationToken)>>,
}

impl Wires {
    /// Breaks this member's connections and lets no new one through, in both directions.
    pub(crate) fn cut(&self, name: &str) {
        self.cut.lock().unwrap().insert(name.into());
        for (from, to, link) in self.links.lock().unwrap().iter() {
            if from == name || to == name {
                link.cancel();
            }
        }
    }

    /// Where a member really listens.
    pub(crate) fn address(&self, name: &str) -> String {
        self.ports.lock().unwrap()[name].clone()
    }

    /// Gives who listens as `name` another name too.
    pub(crate) fn name_also(&self, name: &str, other: &str) {
        let mut ports = self.ports.lock().unwrap();
        let port = ports[name].clone();
        ports.insert(other.into(), port);
    }

    pub(crate) fn mend(&self, name: &str) {
        self.cut.lock().unwrap().remove(name);
    }
}

/// The wires as one member sees them.
pub(crate) struct Plug {
    pub(crate) wires: Arc<Wires>,
    pub(crate) me: String,
}

impl Network for Plug {
    fn dial(&self, address: String) -> BoxFuture<'_, io::Result<Box<dyn ByteStream>>> {
        Box::pin(async move {
            let cut = {
                let cut = self.wires.cut.lock().unwrap();
                cut.contains(&address) || cut.contains(&self.me)
            };
            let port = self.wires.ports.lock().unwrap().get(&address).cloned();
            let (false, Some(port)) = (cut, port) else {
                return Err(io::ErrorKind::ConnectionRefused.into());
            };
            let stream = Tcp.dial(port).await?;
            // Through a pipe that can be cut.
            let (near, far) = tokio::io::duplex(1 << 16);
            let link = CancellationToken::new();
            self.wires
                .links
                .lock()
                .unwrap()
                .push((self.me.clone(), address, link.clone()));
            tokio::spawn(async move {
                let (mut far, mut stream) = (far, stream);
                tokio::select! {
                    () = link.cancelled() => {}
                    _ = tokio::io::copy_bidirectional(&mut far, &mut stream) => {}
                }
            });
            Ok(Box::new(near) as Box<dyn ByteStream>)
        })
    }

    fn listen(&self, address: String) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let port = listener.local_addr()?.to_string();
            self.wires.ports.lock().unwrap().insert(address, port);
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }
}

pub(crate) struct Cluster {
    pub(crate) wires: Arc<Wires>,
    pub(crate) dirs: BTreeMap<u64, TempDir>,
    pub(crate) nodes: BTreeMap<u64, Arc<Node>>,
    pub(crate) limits: Limits,
    pub(crate) clock: Option<Arc<dyn Clock>>,
    founders: Vec<u64>,
}

impl Cluster {
    pub(crate) async fn start(size: u64, limits: Limits) -> Cluster {
        Cluster::start_with(size, limits, None).await
    }

    pub(crate) async fn start_with(
        size: u64,
        limits: Limits,
        clock: Option<Arc<dyn Clock>>,
    ) -> Cluster {
        let mut cluster = Cluster::of(size, limits);
        cluster.clock = clock;
        for id in cluster.founders.clone() {
            cluster.run(id).await.unwrap();
        }
        cluster.leader().await;
        // A member that has not heard of the cluster yet takes itself for a learner.
        for node in cluster.nodes.values() {
            eventually("a vote", || async {
                (!node.status().is_learner).then_some(())
            })
            .await;
        }
        cluster
    }

    /// Nobody runs yet.
    pub(crate) fn of(size: u64, limits: Limits) -> Cluster {
        Cluster {
            wires: Arc::default(),
            dirs: BTreeMap::new(),
            nodes: BTreeMap::new(),
            limits,
            clock: None,
            founders: (1..=size).collect(),
        }
    }

    pub(crate) fn config(&mut self, id: u64) -> Config {
        let dir = self
            .dirs
            .entry(id)
            .or_insert_with(|| TempDir::new().unwrap());
        let initial = |id: &u64| InitialMember {
            id: *id,
            name: format!("m{id}"),
            peer_address: format!("m{id}"),
        };
        let mut config = Config::new(
            dir.path().into(),
            CLUSTER,
            id,
            AUTHORITY.identity(CLUSTER, id),
        );
        config.name = format!("m{id}");
        config.peer_listen = format!("m{id}");
        config.peer_advertise = format!("m{id}");
        config.client_address = format!("api{id}:6443");
        config.limits = self.limits.clone();
        if let Some(clock) = &self.clock {
            config.clock = clock.clone();
        }
        config.network = Arc::new(Plug {
            wires: self.wires.clone(),
            me: format!("m{id}"),
        });
        if self.founders.contains(&id) {
            config.initial_members = self.founders.iter().map(initial).collect();
        }
        config
    }

    pub(crate) async fn run(&mut self, id: u64) -> Result<Arc<Node>, StartError> {
        let node = Node::start(self.config(id)).await?;
        self.nodes.insert(id, node.clone());
        Ok(node)
    }

    pub(crate) fn node(&self, id: u64) -> &Arc<Node> {
        &self.nodes[&id]
    }

    /// Cuts a member off and stops it without a word to the others.
    pub(crate) async fn kill(&mut self, id: u64) {
        self.wires.cut(&format!("m{id}"));
        let node = self.nodes.remove(&id).unwrap();
        node.kill().await;
        drop(node);
        self.wires.mend(&format!("m{id}"));
    }

    /// The leader that a majority of the running members agrees on.
    pub(crate) async fn leader(&self) -> u64 {
        eventually("a leader", || async {
            let mut votes = BTreeMap::new();
            for node in self.nodes.values() {
                *votes.entry(node.status().leader_id).or_insert(0) += 1;
            }
            let (leader, count) = votes.into_iter().max_by_key(|(_, count)| *count)?;
            (leader != 0 && self.nodes.contains_key(&leader) && count * 2 > self.nodes.len())
                .then_some(leader)
        })
        .await
    }

    /// A running member that does not lead.
    pub(crate) async fn follower(&self) -> u64 {
        let leader = self.leader().await;
        *self.nodes.keys().find(|id| **id != leader).unwrap()
    }
}

/// Asks until there is an answer.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    ask: impl Fn() -> F,
) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let late = |_| panic!("no {what} within {DEADLINE:?}");
    tokio::time::timeout(DEADLINE, asking)
        .await
        .unwrap_or_else(late)
}

pub(crate) fn put_request(key: &str, value: &str, lease: i64) -> kv::TxnRequest {
    let (key, value) = (
        Bytes::copy_from_slice(key.as_bytes()),
        Bytes::copy_from_slice(value.as_bytes()),
    );
    let put = kv::PutRequest {
        key,
        value,
        lease,
        ..Default::default()
    };
    kv::TxnRequest {
        success: vec![kv::RequestOp {
            request: Some(kv::Request::Put(put)),
        }],
        ..Default::default()
    }
}

/// Writes, again as long as the cluster cannot; answers the revision.
pub(crate) async fn put(node: &Arc<Node>, key: &str, value: &str) -> i64 {
    eventually("write", || async {
        node.txn(put_request(key, value, 0))
            .await
            .ok()
            .map(|answer| answer.revision)
    })
    .await
}

pub(crate) async fn get(node: &Arc<Node>, key: &str) -> Option<String> {
    let request = kv::RangeRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        ..Default::default()
    };
    let answer = eventually("read", || async { node.range(request.clone()).await.ok() }).await;
    answer
        .body
        .kvs
        .first()
        .map(|kv| String::from_utf8(kv.value.to_vec()).unwrap())
}

pub(crate) fn all() -> kv::RangeRequest {
    kv::RangeRequest {
        key: Bytes::from_static(&[0]),
        range_end: Bytes::from_static(&[0]),
        serializable: true,
        ..Default::default()
    }
}

pub(crate) async fn watch_all(node: &Arc<Node>, start_revision: i64) -> WatchStream {
    let (key, range_end) = (Bytes::from_static(&[0]), Bytes::from_static(&[0]));
    node.watch(kv::WatchRequest {
        key,
        range_end,
        start_revision,
    })
    .await
    .unwrap()
}

/// Takes events until one of this revision has come; answers all revisions seen.
pub(crate) async fn watch_until(stream: &mut WatchStream, revision: i64) -> Vec<i64> {
    let mut seen = Vec::new();
    let watching = async {
        loop {
            match stream.next().await {
                Some(WatchItem::Events {
                    revision: seen_revision,
                    ..
                }) => seen.push(seen_revision),
                Some(WatchItem::Progress { .. }) => {}
                other => panic!("the watch ended: {other:?}"),
            }
            if seen.last().is_some_and(|last| *last >= revision) {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, watching)
        .await
        .expect("the events come");
    seen
}

/// What a power cut would leave of a member that runs. The mark is read before the log, which may grow meanwhile: a mark may
/// lag behind, never run ahead.
pub(crate) fn power_cut(from: &Path, to: &Path) {
    let mark = fs::read(from.join(MARK)).unwrap();
    copy(from, to);
    fs::write(to.join(MARK), mark).unwrap();
}

/// Of a data directory, as the disk has it now.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
