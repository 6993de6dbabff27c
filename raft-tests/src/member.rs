//! One member as a process of its own: the real store with disk, network and certificates, and the test's wire in front
//! of it instead of the API server.

use crate::wire::{Connection, Event, Pair, Reply, Request};
use anyhow::{Context, Result};
use bytes::Bytes;
use futures::StreamExt;
use kv::{
    Compare, CompareOperand, CompareResult, CompareTarget, KeyValue, PutRequest, RangeRequest,
    Request as Operation, RequestOp, Store, StoreError, TxnRequest, WatchItem, WatchRequest,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// Everything that a member process has to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    pub name: String,
    pub id: u64,
    pub cluster_id: u64,
    pub data_dir: PathBuf,
    pub peer_port: u16,
    /// Where the test talks to it.
    pub client_port: u16,
    pub ca_pem: String,
    pub cert_pem: String,
    pub key_pem: String,
    pub members: Vec<Peer>,
}

/// A member as the others see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Peer {
    pub name: String,
    pub id: u64,
    pub peer_port: u16,
}

/// Configurations of a new cluster, with certificates, for `2 * count` free ports.
pub fn configs(
    dir: &Path,
    count: usize,
    ports: &[u16],
    ids: &mut dyn FnMut() -> u64,
) -> Result<Vec<Config>> {
    let cluster_id = ids();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let members: Vec<Peer> = (0..count)
        .map(|index| Peer {
            name: format!("m{}", index + 1),
            id: ids(),
            peer_port: ports[index],
        })
        .collect();
    let config = |(index, peer): (usize, &Peer)| {
        let key = KeyPair::generate()?;
        let mut leaf = CertificateParams::default();
        let uri = store::peer_uri(cluster_id, peer.id);
        leaf.subject_alt_names
            .push(SanType::URI(uri.as_str().try_into()?));
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let cert = leaf.signed_by(&key, &authority)?;
        Ok(Config {
            name: peer.name.clone(),
            id: peer.id,
            cluster_id,
            data_dir: dir.join(&peer.name),
            peer_port: peer.peer_port,
            client_port: ports[count + index],
            ca_pem: authority.pem(),
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
            members: members.clone(),
        })
    };
    members.iter().enumerate().map(config).collect()
}

/// Runs the member of this configuration file until it is killed.
pub async fn run(file: &Path) -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let config: Config =
        serde_json::from_slice(&std::fs::read(file).context("reading the configuration")?)?;
    end_with_the_test();
    let listener = TcpListener::bind(("127.0.0.1", config.client_port))
        .await
        .context("the client port")?;
    let node = store::Node::start(store_config(&config))
        .await
        .context("the store does not start")?;
    let store: Arc<dyn Store> = node.clone();
    tokio::select! {
        served = serve(listener, store) => served,
        reason = node.failed() => anyhow::bail!("the store failed: {reason}"),
    }
}

/// The test holds the other end of standard input: when the test dies, however it dies, its members go with it.
fn end_with_the_test() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(3);
    });
}

async fn serve(listener: TcpListener, store: Arc<dyn Store>) -> Result<()> {
    // Dropped with the process; the test decides when that is.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        while connections.try_join_next().is_some() {}
        let store = store.clone();
        connections.spawn(async move {
            if let Err(error) = converse(stream, &*store).await {
                tracing::debug!(%error, "a client has left");
            }
        });
    }
}

async fn converse(stream: TcpStream, store: &dyn Store) -> Result<()> {
    let mut connection = Connection::over(stream)?;
    loop {
        let reply = match connection.receive().await? {
            Request::Watch { from } => return watch(connection, store, from).await,
            Request::Put { key, value } => write(store, put(key, value, None)).await,
            Request::Swap {
                key,
                expected,
                value,
            } => write(store, put(key, value, Some(expected))).await,
            Request::Read { key } => {
                read(
                    store,
                    RangeRequest {
                        key: key.into(),
                        ..RangeRequest::default()
                    },
                )
                .await
            }
            Request::Dump => read(store, everything()).await,
            Request::Status => {
                let status = store.status();
                Reply::Status {
                    member: status.member_id,
                    leader: status.leader_id,
                    revision: status.revision,
                }
            }
        };
        connection.send(&reply).await?;
    }
}

/// Every key: "\0 and all after it".
fn everything() -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..RangeRequest::default()
    }
}

fn put(key: String, value: String, expected: Option<i64>) -> TxnRequest {
    let key = Bytes::from(key);
    let compare = expected.map(|revision| Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Mod as i32,
        key: key.clone(),
        operand: Some(CompareOperand::ModRevision(revision)),
        range_end: Bytes::new(),
    });
    let put = PutRequest {
        key,
        value: value.into(),
        ..PutRequest::default()
    };
    let put = RequestOp {
        request: Some(Operation::Put(put)),
    };
    TxnRequest {
        compare: compare.into_iter().collect(),
        success: vec![put],
        failure: vec![],
    }
}

async fn write(store: &dyn Store, request: TxnRequest) -> Reply {
    match store.txn(request).await {
        Ok(answer) if answer.body.succeeded => Reply::Written {
            revision: answer.revision,
        },
        Ok(_) => Reply::Conflict,
        Err(error) => failure(&error),
    }
}

async fn read(store: &dyn Store, request: RangeRequest) -> Reply {
    match store.range(request).await {
        Ok(answer) => Reply::Pairs {
            revision: answer.revision,
            pairs: answer.body.kvs.into_iter().map(pair).collect(),
        },
        Err(error) => failure(&error),
    }
}

/// What the store's contract says of each error.
fn failure(error: &StoreError) -> Reply {
    let text = error.to_string();
    match error {
        StoreError::Refused(_)
        | StoreError::NoLeader
        | StoreError::Overloaded
        | StoreError::Unreadable(_) => Reply::Refused { text },
        StoreError::TimedOut
        | StoreError::Stopped
        | StoreError::LeaderChanged
        | StoreError::AnswerTooLarge => Reply::Unknown { text },
    }
}

async fn watch(mut connection: Connection, store: &dyn Store, from: i64) -> Result<()> {
    let RangeRequest { key, range_end, .. } = everything();
    let mut stream = match store
        .watch(WatchRequest {
            key,
            range_end,
            start_revision: from,
        })
        .await
    {
        Ok(stream) => stream,
        Err(error) => return connection.send(&failure(&error)).await,
    };
    while let Some(item) = stream.next().await {
        match item {
            WatchItem::Events { revision, events } => {
                let events = events.iter().map(event).collect();
                connection.send(&Reply::Events { revision, events }).await?;
            }
            WatchItem::Progress { .. } => {}
            WatchItem::Compacted { compact_revision } => {
                let text = format!("compacted at {compact_revision}");
                return connection.send(&Reply::Refused { text }).await;
            }
        }
    }
    Ok(())
}

fn pair(kv: KeyValue) -> Pair {
    Pair {
        key: string(&kv.key),
        value: string(&kv.value),
        created: kv.create_revision,
        modified: kv.mod_revision,
        version: kv.version,
    }
}

fn event(event: &kv::Event) -> Event {
    Event {
        key: string(&event.kv.key),
        value: string(&event.kv.value),
        previous: event.prev_kv.as_ref().map(|kv| string(&kv.value)),
    }
}

fn string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Shorter times than usual, for more elections in less time, and a short log, so that members that were away need
/// snapshots.
fn store_config(config: &Config) -> store::Config {
    let address = |port: u16| format!("127.0.0.1:{port}");
    let tls = store::TlsIdentity {
        ca_pem: config.ca_pem.clone().into(),
        cert_pem: config.cert_pem.clone().into(),
        key_pem: config.key_pem.clone().into(),
    };
    let member = |peer: &Peer| store::InitialMember {
        id: peer.id,
        name: peer.name.clone(),
        peer_address: address(peer.peer_port),
    };
    store::Config {
        name: config.name.clone(),
        peer_listen: address(config.peer_port),
        peer_advertise: address(config.peer_port),
        initial_members: config.members.iter().map(member).collect(),
        limits: store::Limits {
            heartbeat: Duration::from_millis(50),
            election_min: Duration::from_millis(600),
            election_max: Duration::from_millis(900),
            lease_min: Duration::from_millis(900),
            snapshot_entries: 500,
            log_entries_kept: 200,
            ..store::Limits::default()
        },
        ..store::Config::new(config.data_dir.clone(), config.cluster_id, config.id, tls)
    }
}
