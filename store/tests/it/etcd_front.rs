//! The etcd front of real members over TLS, driven by the unmodified `etcdctl` where it is installed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use kv::Store;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use store::Limits;
use store::etcd::{FrontTls, bind, serve};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use crate::harness::{Cluster, DEADLINE, eventually, put};

/// Members with their fronts, and the files of a client.
pub(crate) struct Fronts {
    pub(crate) cluster: Cluster,
    dir: TempDir,
    certificates: Certificates,
    pub(crate) addresses: Vec<(u64, SocketAddr)>,
    pub(crate) stop: CancellationToken,
}

impl Fronts {
    pub(crate) async fn start(size: u64) -> Fronts {
        let cluster = Cluster::start(size, Limits::default()).await;
        let dir = TempDir::new().unwrap();
        let certificates = Certificates::new();
        for (name, pem) in [
            ("ca.crt", &certificates.ca),
            ("client.crt", &certificates.client.0),
            ("client.key", &certificates.client.1),
            ("server.crt", &certificates.server.0),
            ("server.key", &certificates.server.1),
        ] {
            std::fs::write(dir.path().join(name), pem).unwrap();
        }
        let stop = CancellationToken::new();
        let mut addresses = Vec::new();
        for (id, node) in &cluster.nodes {
            let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
            addresses.push((*id, listener.local_addr().unwrap()));
            let tls = FrontTls {
                client_ca: certificates.ca.clone(),
                cert: certificates.server.0.clone(),
                key: certificates.server.1.clone(),
            };
            let tls = tokio::sync::watch::Sender::new(tls.server_config().unwrap());
            let (node, stop, tls) = (node.clone(), stop.clone(), tls.subscribe());
            tokio::spawn(async move { serve(listener, tls, node, stop.cancelled()).await });
        }
        Fronts {
            cluster,
            dir,
            certificates,
            addresses,
            stop,
        }
    }

    /// Makes a client's certificate with this name: `NAME.crt` and `NAME.key`.
    pub(crate) fn certify(&self, name: &str) {
        let (certificate, key) = self.certificates.client_named(name);
        std::fs::write(self.file(&format!("{name}.crt")), certificate).unwrap();
        std::fs::write(self.file(&format!("{name}.key")), key).unwrap();
    }

    pub(crate) fn endpoint(&self, id: u64) -> String {
        let (_, address) = self.addresses.iter().find(|(of, _)| *of == id).unwrap();
        format!("https://{address}")
    }

    /// A connection of the client with the certificate.
    pub(crate) async fn channel(&self, id: u64) -> Channel {
        let read = |name: &str| std::fs::read(self.file(name)).unwrap();
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read("ca.crt")))
            .identity(Identity::from_pem(read("client.crt"), read("client.key")))
            .domain_name("127.0.0.1");
        let endpoint = Channel::from_shared(self.endpoint(id)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await.unwrap()
    }

    /// One of the metrics of a member, over a connection to it.
    pub(crate) async fn metric(&self, mut channel: Channel, name: &str) -> i64 {
        use http_body_util::BodyExt;
        let request = http::Request::get("https://etcd/metrics");
        let request = request.body(tonic::body::Body::empty()).unwrap();
        let channel = tower::ServiceExt::ready(&mut channel).await.unwrap();
        let answer = tower::Service::call(channel, request).await.unwrap();
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(text.to_vec()).unwrap();
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let (_, value) = lines.find(|(of, _)| *of == name).expect("it is there");
        value.parse().unwrap()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self, endpoints: &str, arguments: &[&str]) -> Command {
        self.command_as("client", endpoints, arguments)
    }

    fn command_as(&self, name: &str, endpoints: &str, arguments: &[&str]) -> Command {
        let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={endpoints}"))
            .arg(format!("--cacert={}", self.file("ca.crt").display()))
            .arg(format!("--cert={}", self.file(&certificate).display()))
            .arg(format!("--key={}", self.file(&key).display()))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs to the end; answers what it printed on both streams, and whether it was content.
    pub(crate) async fn run(
        &self,
        endpoints: &str,
        arguments: &[&str],
        input: &str,
    ) -> (bool, String) {
        self.run_as("client", endpoints, arguments, input).await
    }

    /// With the certificate of this name.
    pub(crate) async fn run_as(
        &self,
        name: &str,
        endpoints: &str,
        arguments: &[&str],
        input: &str,
    ) -> (bool, String) {
        let mut child = self.command_as(name, endpoints, arguments).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = tokio::time::timeout(DEADLINE, child.wait_with_output());
        let output = output.await.expect("etcdctl ends").unwrap();
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into(),
        )
    }

    pub(crate) async fn etcdctl(&self, arguments: &[&str]) -> String {
        let (good, text) = self.run(&self.endpoint(1), arguments, "").await;
        assert!(good, "{arguments:?}: {text}");
        text.trim().into()
    }

    /// A command that goes on until it is killed, once it has printed this.
    pub(crate) async fn until(&self, arguments: &[&str], wanted: &str) -> Child {
        use tokio::io::{AsyncBufReadExt, BufReader};
        let mut child = self.command(&self.endpoint(1), arguments).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let seen = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains(wanted) {
                    return;
                }
            }
            panic!("{arguments:?} ended");
        };
        tokio::time::timeout(DEADLINE, seen)
            .await
            .unwrap_or_else(|_| panic!("{arguments:?}: no {wanted}"));
        child
    }
}

struct Certificates {
    issuer: Issuer<'static, KeyPair>,
    ca: String,
    server: (String, String),
    client: (String, String),
}

impl Certificates {
    fn new() -> Certificates {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let server = ExtendedKeyUsagePurpose::ServerAuth;
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        Certificates {
            server: signed(&issuer, "127.0.0.1", server),
            client: signed(&issuer, "client", client),
            ca,
            issuer,
        }
    }

    fn client_named(&self, name: &str) -> (String, String) {
        signed(&self.issuer, name, ExtendedKeyUsagePurpose::ClientAuth)
    }
}

fn signed(
    issuer: &Issuer<'_, KeyPair>,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_string()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![usage];
    let certificate = params.signed_by(&key, issuer).unwrap();
    (certificate.pem(), key.serialize_pem())
}

pub(crate) fn have_etcdctl() -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("etcdctl").is_file()));
    if !found {
        eprintln!("SKIPPED: etcdctl is not installed");
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_reads_writes_watches_and_holds_leases() {
    if !have_etcdctl() {
        return;
    }
    let fronts = Fronts::start(1).await;
    assert_eq!(fronts.etcdctl(&["put", "a", "1"]).await, "OK");
    assert_eq!(fronts.etcdctl(&["put", "b", "2", "--prev-kv"]).await, "OK");
    assert_eq!(fronts.etcdctl(&["get", "a"]).await, "a\n1");
    let sorted = [
        "get",
        "",
        "--prefix",
        "--keys-only",
        "--sort-by=KEY",
        "--order=DESCEND",
    ];
    assert_eq!(fronts.etcdctl(&sorted).await, "b\n\na");
    let txn = "value(\"a\") = \"1\"\n\nput c 3\nget a\n\ndel a\n\n";
    let (good, text) = fronts.run(&fronts.endpoint(1), &["txn", "-i"], txn).await;
    assert!(good && text.contains("SUCCESS"), "{text}");
    assert_eq!(
        fronts.etcdctl(&["get", "c", "--print-value-only"]).await,
        "3"
    );
    assert_eq!(fronts.etcdctl(&["del", "", "--prefix"]).await, "3");
    assert_eq!(fronts.etcdctl(&["get", "a", "--rev=3"]).await, "a\n1");
    let history = fronts
        .until(&["watch", "--rev=2", "--prefix", "", "--prev-kv"], "DELETE")
        .await;
    drop(history);
    let compacted = fronts.etcdctl(&["compaction", "4"]).await;
    assert_eq!(compacted, "compacted revision 4");
    let (good, text) = fronts
        .run(&fronts.endpoint(1), &["get", "a", "--rev=3"], "")
        .await;
    assert!(
        !good && text.contains("required revision has been compacted"),
        "{text}"
    );
    let granted = fronts.etcdctl(&["lease", "grant", "100"]).await;
    let lease = granted.split_whitespace().nth(1).unwrap().to_string();
    fronts
        .etcdctl(&["put", "leased", "x", &format!("--lease={lease}")])
        .await;
    let status = fronts
        .etcdctl(&["lease", "timetolive", &lease, "--keys"])
        .await;
    assert!(
        status.contains("granted with TTL(100s)") && status.contains("leased"),
        "{status}"
    );
    assert!(fronts.etcdctl(&["lease", "list"]).await.contains(&lease));
    let kept = fronts
        .etcdctl(&["lease", "keep-alive", &lease, "--once"])
        .await;
    assert!(kept.contains("keepalived with TTL(100)"), "{kept}");
    fronts.etcdctl(&["lease", "revoke", &lease]).await;
    assert_eq!(fronts.etcdctl(&["get", "leased"]).await, "");
    let gone = fronts.etcdctl(&["lease", "timetolive", &lease]).await;
    assert!(gone.contains("already expired"), "{gone}");
    assert_eq!(
        fronts.etcdctl(&["lock", "mine", "echo", "held"]).await,
        "held"
    );
    let elected = fronts.until(&["elect", "seat", "me"], "me").await;
    let leader = fronts.until(&["elect", "-l", "seat"], "me").await;
    drop((elected, leader));
    fronts.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_operates_a_cluster() {
    if !have_etcdctl() {
        return;
    }
    let fronts = Fronts::start(3).await;
    let all = [1, 2, 3].map(|id| fronts.endpoint(id)).join(",");
    let everywhere = |arguments: &'static [&'static str]| {
        let (fronts, all) = (&fronts, &all);
        async move {
            let (good, text) = fronts.run(all, arguments, "").await;
            assert!(good, "{arguments:?}: {text}");
            text
        }
    };
    for n in 0..50 {
        put(fronts.cluster.node(1), &format!("key{n}"), "value").await;
    }
    let members = everywhere(&["member", "list"]).await;
    assert_eq!(members.matches("started").count(), 3, "{members}");
    let health = everywhere(&["endpoint", "health"]).await;
    assert_eq!(health.matches("is healthy").count(), 3, "{health}");
    let status = everywhere(&["endpoint", "status", "--write-out=json"]).await;
    assert_eq!(
        status.matches("\"version\":\"3.6.14\"").count(),
        3,
        "{status}"
    );
    let hashes = async || -> Vec<String> {
        let text = everywhere(&["endpoint", "hashkv"]).await;
        let hash = |line: &str| line.rsplit(", ").next().unwrap().to_string();
        text.lines().map(hash).collect()
    };
    eventually("equal hashes", || async {
        let hashes = hashes().await;
        (hashes.len() == 3 && hashes.iter().all(|hash| *hash == hashes[0])).then_some(())
    })
    .await;
    assert_eq!(everywhere(&["alarm", "list"]).await, "");
    everywhere(&["alarm", "disarm"]).await;
    everywhere(&["defrag"]).await;
    let file = fronts.file("snapshot");
    let saved = fronts
        .etcdctl(&["snapshot", "save", file.to_str().unwrap()])
        .await;
    assert!(saved.contains("Snapshot saved"), "{saved}");
    assert_eq!(std::fs::metadata(&file).unwrap().len() % 512, 32);

    let leader = fronts.cluster.leader().await;
    let target = fronts.cluster.follower().await;
    let target_hex = format!("{target:x}");
    let moved = fronts
        .run(&fronts.endpoint(leader), &["move-leader", &target_hex], "")
        .await;
    assert!(moved.0, "{}", moved.1);
    assert_eq!(fronts.cluster.leader().await, target);
    let (good, text) = fronts
        .run(&fronts.endpoint(leader), &["move-leader", &target_hex], "")
        .await;
    assert!(!good, "not the leader any more: {text}");

    let added = fronts
        .etcdctl(&[
            "member",
            "add",
            "m4",
            "--learner",
            "--peer-urls=https://127.0.0.1:9",
        ])
        .await;
    let id = added.split_whitespace().nth(1).unwrap().to_string();
    eventually("refusal", || async {
        let (good, text) = fronts
            .run(&fronts.endpoint(1), &["member", "promote", &id], "")
            .await;
        (!good && text.contains("in sync with leader")).then_some(())
    })
    .await;
    fronts
        .etcdctl(&["member", "update", &id, "--peer-urls=https://127.0.0.1:10"])
        .await;
    let listed = fronts.etcdctl(&["member", "list"]).await;
    assert!(listed.contains("https://127.0.0.1:10"), "{listed}");
    fronts.etcdctl(&["member", "remove", &id]).await;
    let (good, text) = fronts
        .run(&fronts.endpoint(1), &["member", "remove", &id], "")
        .await;
    assert!(!good && text.contains("member not found"), "{text}");
    fronts.stop.cancel();
}

/// Its own log is behind when it starts, and still has what it would publish.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_of_a_member_while_it_was_gone_does_not_outlive_its_return() {
    if !have_etcdctl() {
        return;
    }
    let mut fronts = Fronts::start(3).await;
    let away = fronts.cluster.follower().await;
    let near = fronts.cluster.nodes.keys().copied();
    let near = near.filter(|id| *id != away).min().unwrap();
    let seen = |fronts: &Fronts| {
        let members = fronts.cluster.node(near).status().members;
        let member = members.into_iter().find(|member| member.id == away);
        member.unwrap().peer_address
    };
    let own = seen(&fronts);
    fronts.cluster.wires.cut(&own);
    let id = format!("{away:x}");
    let other = "--peer-urls=https://elsewhere:1";
    let (good, said) = fronts
        .run(
            &fronts.endpoint(near),
            &["member", "update", &id, other],
            "",
        )
        .await;
    assert!(good, "{said}");
    assert_eq!(seen(&fronts), "elsewhere:1");

    // Its front has its directory as well.
    fronts.stop.cancel();
    eventually("the end of its front", || async {
        (Arc::strong_count(fronts.cluster.node(away)) == 1).then_some(())
    })
    .await;
    fronts.cluster.kill(away).await;
    fronts.cluster.run(away).await.unwrap();
    // There the others reach it, and it catches up.
    fronts.cluster.wires.name_also(&own, "elsewhere:1");
    eventually("its own address", || async {
        (seen(&fronts) == own).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_cut_off_answers_locally_and_says_that_it_has_no_leader() {
    if !have_etcdctl() {
        return;
    }
    let fronts = Fronts::start(3).await;
    // Not what that member has applied: it may have passed the write on.
    let revision = put(fronts.cluster.node(1), "key", "value").await;
    let alone = fronts.cluster.follower().await;
    eventually("the key", || async {
        (kv::Store::revision(&**fronts.cluster.node(alone)) >= revision).then_some(())
    })
    .await;
    fronts.cluster.wires.cut(&format!("m{alone}"));
    let endpoint = fronts.endpoint(alone);
    eventually("no leader", || async {
        let (_, text) = fronts
            .run(&endpoint, &["endpoint", "status", "--write-out=json"], "")
            .await;
        text.contains("etcdserver: no leader").then_some(())
    })
    .await;
    let (good, text) = fronts
        .run(&endpoint, &["get", "key", "--consistency=s"], "")
        .await;
    assert!(good && text == "key\nvalue\n", "{text}");
    let local = kv::RangeRequest {
        key: "key".into(),
        serializable: true,
        ..Default::default()
    };
    let local = kv::RequestOp {
        request: Some(kv::Request::Range(local)),
    };
    let local = kv::TxnRequest {
        success: vec![local],
        ..Default::default()
    };
    let read = kv::Store::txn(&**fronts.cluster.node(alone), local).await;
    assert_eq!(read.unwrap().body.responses.len(), 1);
    let (good, members) = fronts.run(&endpoint, &["member", "list"], "").await;
    assert!(good && members.lines().count() == 3, "{members}");
    let (good, text) = fronts
        .run(
            &endpoint,
            &["put", "key", "other", "--command-timeout=3s"],
            "",
        )
        .await;
    assert!(!good, "{text}");
    fronts.cluster.wires.mend(&format!("m{alone}"));
    eventually("a leader again", || async {
        let (good, _) = fronts.run(&endpoint, &["get", "key"], "").await;
        good.then_some(())
    })
    .await;
    fronts.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing_make_way_for_each_other_and_keep_no_client_out() {
    let fronts = Fronts::start(1).await;
    let address = fronts.addresses[0].1;
    let mut oldest = TcpStream::connect(address).await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..520 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // Long before its time for a handshake is over.
    let mut byte = [0];
    let closed = tokio::time::timeout(Duration::from_secs(8), oldest.read(&mut byte));
    let closed = closed.await.expect("the oldest has to go");
    assert!(matches!(closed, Ok(0) | Err(_)));
    let mut grpc = tonic::client::Grpc::new(fronts.channel(1).await);
    grpc.ready().await.unwrap();
    let request = kv::RangeRequest {
        key: "a".into(),
        ..Default::default()
    };
    let codec = tonic_prost::ProstCodec::<_, kv::RangeResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/etcdserverpb.KV/Range");
    let answer = grpc.unary(tonic::Request::new(request), path, codec).await;
    assert_eq!(answer.unwrap().into_inner().count, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing_behind_their_certificate_make_way_as_well() {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let fronts = Fronts::start(1).await;
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(fronts.file("ca.crt")).unwrap();
    roots.add(ca).unwrap();
    let chain = vec![CertificateDer::from_pem_file(fronts.file("client.crt")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(fronts.file("client.key")).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let address = fronts.addresses[0].1;
    let connect = async || {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = "127.0.0.1".try_into().unwrap();
        connector.connect(name, stream).await.unwrap()
    };
    let mut oldest = connect().await;
    let mut silent = Vec::new();
    for _ in 0..520 {
        silent.push(connect().await);
    }
    let mut byte = [0];
    let closed = tokio::time::timeout(Duration::from_secs(8), oldest.read(&mut byte));
    let closed = closed.await.expect("the oldest has to go");
    assert!(matches!(closed, Ok(0) | Err(_)));
    // Who says something is served.
    let answered = fronts.metric(fronts.channel(1).await, "etcd_server_has_leader");
    assert_eq!(answered.await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_nobody_waits_for_any_more_are_not_counted_as_under_way() {
    let fronts = Fronts::start(1).await;
    let node = fronts.cluster.node(1);
    for n in 0..50 {
        let write = kv::Store::txn(&**node, crate::harness::put_request("a", &n.to_string(), 0));
        // Begun, and given up.
        drop(tokio::time::timeout(Duration::ZERO, write).await);
    }
    put(node, "b", "x").await;
    let channel = fronts.channel(1).await;
    eventually("none under way", || {
        let pending = fronts.metric(channel.clone(), "etcd_server_proposals_pending");
        async move { (pending.await == 0).then_some(()) }
    })
    .await;
}
