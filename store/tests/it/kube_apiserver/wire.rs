//! The part of etcd's API that kube-apiserver and kubeadm call, as a client sees it: messages written once more from
//! etcd's field numbers, so that a number that is wrong on the server's side alone does not go unnoticed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use kv::{
    Compare, CompareOperand, CompareTarget, DeleteRangeRequest, Event, KeyValue, PutRequest,
    RangeRequest, RequestOp, TxnRequest,
};
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::etcd_front::Fronts;
use crate::harness::DEADLINE;

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Empty {}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Header {
    #[prost(uint64, tag = "1")]
    pub(super) cluster_id: u64,
    #[prost(uint64, tag = "2")]
    pub(super) member_id: u64,
    #[prost(int64, tag = "3")]
    pub(super) revision: i64,
    #[prost(uint64, tag = "4")]
    pub(super) raft_term: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RangeAnswer {
    #[prost(message, required, tag = "1")]
    pub(super) header: Header,
    #[prost(message, repeated, tag = "2")]
    pub(super) kvs: Vec<KeyValue>,
    #[prost(bool, tag = "3")]
    pub(super) more: bool,
    #[prost(int64, tag = "4")]
    pub(super) count: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RangeStreamAnswer {
    #[prost(message, required, tag = "1")]
    pub(super) range: RangeAnswer,
}

/// One of its fields is there: a oneof, read as a message.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct OpAnswer {
    #[prost(message, optional, tag = "1")]
    pub(super) range: Option<RangeAnswer>,
    #[prost(message, optional, tag = "2")]
    pub(super) put: Option<PutAnswer>,
    #[prost(message, optional, tag = "3")]
    pub(super) delete: Option<DeleteAnswer>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct PutAnswer {
    #[prost(message, required, tag = "1")]
    pub(super) header: Header,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct DeleteAnswer {
    #[prost(message, required, tag = "1")]
    pub(super) header: Header,
    #[prost(int64, tag = "2")]
    pub(super) deleted: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TxnAnswer {
    #[prost(message, required, tag = "1")]
    pub(super) header: Header,
    #[prost(bool, tag = "2")]
    pub(super) succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    pub(super) responses: Vec<OpAnswer>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct CompactRequest {
    #[prost(int64, tag = "1")]
    pub(super) revision: i64,
    #[prost(bool, tag = "2")]
    pub(super) physical: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct HeaderAnswer {
    #[prost(message, required, tag = "1")]
    pub(super) header: Header,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WatchAsk {
    #[prost(message, optional, tag = "1")]
    pub(super) create: Option<WatchCreate>,
    #[prost(message, optional, tag = "3")]
    pub(super) progress: Option<Empty>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WatchCreate {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) range_end: Bytes,
    #[prost(int64, tag = "3")]
    pub(super) start_revision: i64,
    #[prost(bool, tag = "4")]
    pub(super) progress_notify: bool,
    #[prost(bool, tag = "6")]
    pub(super) prev_kv: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WatchAnswer {
    #[prost(message, required, tag = "1")]
    pub(super) header: Header,
    #[prost(int64, tag = "2")]
    pub(super) watch_id: i64,
    #[prost(bool, tag = "3")]
    pub(super) created: bool,
    #[prost(bool, tag = "4")]
    pub(super) canceled: bool,
    #[prost(int64, tag = "5")]
    pub(super) compact_revision: i64,
    #[prost(string, tag = "6")]
    pub(super) cancel_reason: String,
    #[prost(message, repeated, tag = "11")]
    pub(super) events: Vec<Event>,
}

impl WatchAnswer {
    /// How client-go's etcd library knows one.
    pub(super) fn is_progress(&self) -> bool {
        self.events.is_empty() && !self.created && !self.canceled && self.compact_revision == 0
    }
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct GrantRequest {
    #[prost(int64, tag = "1")]
    pub(super) ttl: i64,
    #[prost(int64, tag = "2")]
    pub(super) id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GrantAnswer {
    #[prost(message, required, tag = "1")]
    pub(super) header: Header,
    #[prost(int64, tag = "2")]
    pub(super) id: i64,
    #[prost(int64, tag = "3")]
    pub(super) ttl: i64,
    #[prost(string, tag = "4")]
    pub(super) error: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StatusAnswer {
    #[prost(message, required, tag = "1")]
    pub(super) header: Header,
    #[prost(string, tag = "2")]
    pub(super) version: String,
    #[prost(int64, tag = "3")]
    pub(super) db_size: i64,
    #[prost(uint64, tag = "4")]
    pub(super) leader: u64,
    #[prost(bool, tag = "10")]
    pub(super) is_learner: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Member {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(string, repeated, tag = "3")]
    pub(super) peer_urls: Vec<String>,
    #[prost(bool, tag = "5")]
    pub(super) is_learner: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MemberAddRequest {
    #[prost(string, repeated, tag = "1")]
    pub(super) peer_urls: Vec<String>,
    #[prost(bool, tag = "2")]
    pub(super) is_learner: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MemberAddAnswer {
    #[prost(message, required, tag = "2")]
    pub(super) member: Member,
    #[prost(message, repeated, tag = "3")]
    pub(super) members: Vec<Member>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct MemberId {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct MemberListRequest {
    #[prost(bool, tag = "1")]
    pub(super) linearizable: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MembersAnswer {
    #[prost(message, repeated, tag = "2")]
    pub(super) members: Vec<Member>,
}

/// A connection over TLS with a client certificate.
#[derive(Clone)]
pub(super) struct Client {
    channel: Channel,
}

impl Client {
    pub(super) async fn of(fronts: &Fronts, id: u64) -> Client {
        let read = |name: &str| std::fs::read(fronts.file(name)).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(&read("ca.crt")).unwrap();
        roots.add(ca).unwrap();
        let cert = CertificateDer::from_pem_slice(&read("client.crt")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(&read("client.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![cert], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tls = tokio_rustls::TlsConnector::from(Arc::new(config));
        let found = fronts.addresses.iter().find(|(of, _)| *of == id);
        let (_, address) = *found.unwrap();
        let connector = tower::service_fn(move |_: http::Uri| {
            let tls = tls.clone();
            async move {
                let socket = TcpStream::connect(address).await?;
                let name = ServerName::IpAddress(address.ip().into());
                Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, socket).await?))
            }
        });
        // The pings that client-go sends.
        let endpoint = Endpoint::from_static("http://etcd")
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true);
        Client {
            channel: endpoint.connect_with_connector(connector).await.unwrap(),
        }
    }

    async fn grpc(&self) -> Grpc<Channel> {
        // Receives without a limit, as kube-apiserver does.
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        grpc.ready().await.unwrap();
        grpc
    }

    pub(super) async fn call<Q, A>(&self, method: &str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let call = async {
            let codec: ProstCodec<Q, A> = ProstCodec::default();
            self.grpc()
                .await
                .unary(Request::new(request), path(method), codec)
                .await
        };
        let answer = tokio::time::timeout(DEADLINE, call);
        Ok(answer.await.expect("an answer comes")?.into_inner())
    }

    pub(super) async fn range(&self, request: RangeRequest) -> Result<RangeAnswer, Status> {
        self.call("KV/Range", request).await
    }

    pub(super) async fn range_stream(
        &self,
        request: RangeRequest,
    ) -> Result<Vec<RangeAnswer>, Status> {
        let codec: ProstCodec<RangeRequest, RangeStreamAnswer> = ProstCodec::default();
        let mut grpc = self.grpc().await;
        let parts = grpc.server_streaming(Request::new(request), path("KV/RangeStream"), codec);
        let mut parts = parts.await?.into_inner();
        let mut all = Vec::new();
        while let Some(part) = parts.message().await? {
            all.push(part.range);
        }
        Ok(all)
    }

    pub(super) async fn get(&self, key: &str) -> RangeAnswer {
        self.range(get_request(key)).await.unwrap()
    }

    pub(super) async fn txn(&self, request: TxnRequest) -> Result<TxnAnswer, Status> {
        self.call("KV/Txn", request).await
    }

    /// As the client that etcd has for Kubernetes puts: if the key is of this revision, 0 for one that is not there.
    pub(super) async fn optimistic_put(
        &self,
        key: &str,
        value: &str,
        revision: i64,
        lease: i64,
        get_on_failure: bool,
    ) -> TxnAnswer {
        let put = PutRequest {
            key: bytes(key),
            value: bytes(value),
            lease,
            ..Default::default()
        };
        let request = TxnRequest {
            compare: vec![is_of(key, revision)],
            success: vec![op(kv::Request::Put(put))],
            failure: match get_on_failure {
                true => vec![op(kv::Request::Range(get_request(key)))],
                false => Vec::new(),
            },
        };
        self.txn(request).await.unwrap()
    }

    pub(super) async fn optimistic_delete(&self, key: &str, revision: i64) -> TxnAnswer {
        let delete = DeleteRangeRequest {
            key: bytes(key),
            ..Default::default()
        };
        let request = TxnRequest {
            compare: vec![is_of(key, revision)],
            success: vec![op(kv::Request::DeleteRange(delete))],
            failure: vec![op(kv::Request::Range(get_request(key)))],
        };
        self.txn(request).await.unwrap()
    }

    /// Creates; answers the revision.
    pub(super) async fn create(&self, key: &str, value: &str) -> i64 {
        let answer = self.optimistic_put(key, value, 0, 0, false).await;
        assert!(answer.succeeded, "{key} was there");
        answer.header.revision
    }

    pub(super) async fn grant(&self, ttl: i64) -> GrantAnswer {
        let granted = self.call("Lease/LeaseGrant", GrantRequest { ttl, id: 0 });
        granted.await.unwrap()
    }

    pub(super) async fn compact(&self, revision: i64) -> Result<HeaderAnswer, Status> {
        let request = CompactRequest {
            revision,
            physical: false,
        };
        self.call("KV/Compact", request).await
    }

    pub(super) async fn status(&self) -> StatusAnswer {
        self.call("Maintenance/Status", Empty {}).await.unwrap()
    }

    /// A stream of its own, with the metadata that kube-apiserver sends.
    pub(super) async fn watch(&self, create: WatchCreate) -> Watch {
        let (say, said) = mpsc::channel(64);
        let mut request = Request::new(ReceiverStream::new(said));
        let yes = "true".parse().unwrap();
        request.metadata_mut().insert("hasleader", yes);
        let ask = WatchAsk {
            create: Some(create),
            progress: None,
        };
        say.send(ask).await.unwrap();
        let codec: ProstCodec<WatchAsk, WatchAnswer> = ProstCodec::default();
        let mut grpc = self.grpc().await;
        let heard = grpc.streaming(request, path("Watch/Watch"), codec).await;
        let mut watch = Watch {
            say,
            heard: heard.unwrap().into_inner(),
        };
        let created = watch.next().await;
        assert!(created.created && !created.canceled, "{created:?}");
        assert!(created.events.is_empty());
        watch
    }
}

/// A watch alone on its stream.
pub(super) struct Watch {
    say: mpsc::Sender<WatchAsk>,
    heard: Streaming<WatchAnswer>,
}

impl Watch {
    pub(super) async fn ask_progress(&self) {
        let ask = WatchAsk {
            create: None,
            progress: Some(Empty {}),
        };
        assert!(self.say.send(ask).await.is_ok(), "the stream is open");
    }

    pub(super) async fn hear(&mut self) -> Result<Option<WatchAnswer>, Status> {
        let heard = tokio::time::timeout(DEADLINE, self.heard.message());
        heard.await.expect("an answer comes")
    }

    pub(super) async fn next(&mut self) -> WatchAnswer {
        self.hear().await.unwrap().expect("the stream goes on")
    }
}

fn path(method: &str) -> http::uri::PathAndQuery {
    format!("/etcdserverpb.{method}").parse().unwrap()
}

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn op(request: kv::Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// As the reads of single objects are.
pub(super) fn get_request(key: &str) -> RangeRequest {
    RangeRequest {
        key: bytes(key),
        limit: 1,
        ..RangeRequest::default()
    }
}

/// A prefix, from this key on.
pub(super) fn list_from(prefix: &str, key: Bytes) -> RangeRequest {
    assert!(prefix.ends_with('/'));
    RangeRequest {
        key,
        // The letter after the slash.
        range_end: bytes(&format!("{}0", &prefix[..prefix.len() - 1])),
        ..RangeRequest::default()
    }
}

pub(super) fn list(prefix: &str) -> RangeRequest {
    list_from(prefix, bytes(prefix))
}

/// The smallest key after this one: where the next page begins.
pub(super) fn after(kv: &KeyValue) -> Bytes {
    [&kv.key[..], &[0]].concat().into()
}

/// A watch as the watch cache opens it.
pub(super) fn watch_of(prefix: &str, start_revision: i64) -> WatchCreate {
    let range = list(prefix);
    WatchCreate {
        key: range.key,
        range_end: range.range_end,
        start_revision,
        progress_notify: true,
        prev_kv: true,
    }
}

fn is_of(key: &str, revision: i64) -> Compare {
    Compare {
        target: CompareTarget::Mod as i32,
        key: bytes(key),
        operand: Some(CompareOperand::ModRevision(revision)),
        ..Default::default()
    }
}

/// All of a prefix as of one revision, in pages; a revision of 0 is the newest.
pub(super) async fn pages(
    client: &Client,
    prefix: &str,
    revision: i64,
    limit: i64,
) -> Result<(i64, Vec<KeyValue>), Status> {
    let (mut pinned, mut all, mut from) = (revision, Vec::new(), bytes(prefix));
    loop {
        let request = RangeRequest {
            limit,
            revision: pinned,
            ..list_from(prefix, from)
        };
        let page = client.range(request).await?;
        if pinned == 0 {
            pinned = page.header.revision;
        }
        all.extend(page.kvs);
        if !page.more {
            return Ok((pinned, all));
        }
        from = after(all.last().unwrap());
    }
}
