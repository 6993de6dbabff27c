//! The front over the in-memory store, through real HTTP/2 on a pipe: what clients see, byte for byte.
//!
//! The cases in which clients of etcd break, and where each is tested:
//! revisions, `the_first_write_is_revision_two_and_what_changes_nothing_raises_nothing`;
//! operations within a transaction, `operations_of_a_txn_see_earlier_ones_share_a_revision_and_restart_versions`;
//! revisions that cannot be read, `future_and_compacted_revisions_have_etcds_words_..`;
//! count and keys alone, `count_is_of_the_whole_range_and_keys_only_keeps_all_but_the_value`;
//! the start of a watch, `created_comes_before_events_and_history_before_news`,
//! `a_start_below_the_compacted_revision_is_canceled_and_one_at_it_is_served`;
//! a watch that comes from a member that is ahead, `a_watch_on_a_future_revision_hears_neither_..`;
//! progress, `progress_of_the_stream_comes_after_all_events_up_to_it`;
//! whole revisions, `a_revision_is_one_answer_and_a_large_one_is_cut_only_for_who_asked`,
//! `a_lease_takes_its_keys_in_one_revision`;
//! leases, all of `lease_wire`; without a quorum, `status_has_all_its_fields_and_works_without_a_leader`;
//! snapshots, `a_snapshot_is_whole_and_has_the_shape_that_clients_check`, and `etcdctl` itself in `tests/it`;
//! HTTP/2, `pings_as_often_as_a_client_likes_do_not_end_its_connection`, `ten_thousand_watches_on_one_stream_..`,
//! `a_request_that_is_too_large_is_answered_and_the_connection_lives_on`,
//! `an_answer_may_be_far_larger_than_a_request`;
//! no leader and learners, `without_a_leader_a_client_that_asks_for_one_is_told_so`,
//! `a_stream_that_needs_a_leader_ends_when_there_is_none_for_long`,
//! `a_learner_answers_local_reads_and_its_status_alone`;
//! bytes, `keys_are_opaque_bytes_values_may_be_empty_and_a_key_may_not`, `the_rule_of_ranges_is_that_of_reads`.

mod archive_file;
mod auth_wire;
mod http_wire;
mod kv_wire;
mod lease_wire;
mod limits_wire;
mod lock_wire;
mod maintenance_wire;
mod watch_wire;

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use hyper_util::rt::TokioIo;
use kv::mem::MemStore;
use kv::{
    Answer, BoxFuture, LeaseStatus, MemberStatus, RangeParts, RangeRequest, RangeResponse, Store,
    StoreError, StoreResult, StoreStatus, TxnRequest, TxnResponse, WatchRequest, WatchStream,
};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::admission::{Class, Client};
use super::auth::ClientName;
use super::backend::Backend;
use super::errors::Fault;
use super::front::{Front, Options};
use super::headed::Headed;
use super::message::*;
use super::serve::converse;
use crate::export::{Exported, Visit};
use crate::history::Moment;
use crate::reports::MemberReport;
use crate::write::Allowed;

/// A part of a range as clients read it.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RangeStreamResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) range_response: Option<Headed<RangeResponse>>,
}

/// Every wait ends.
const SOON: Duration = Duration::from_secs(20);

pub(super) type ScriptedParts = (Vec<Result<usize, StoreError>>, Arc<AtomicUsize>);

/// One member in memory, whose leader comes and goes as a test says.
pub(super) struct MemBackend {
    pub(super) store: Arc<MemStore>,
    pub(super) leader: Mutex<Option<u64>>,
    pub(super) members: Mutex<Vec<MemberStatus>>,
    pub(super) stop: CancellationToken,
    /// What the next large ranges are answered with instead: so many parts of zeros, and how many were taken.
    pub(super) parts: Mutex<Option<ScriptedParts>>,
    /// Leases that were renewed.
    pub(super) renewed: Mutex<Vec<i64>>,
    /// What the members have published.
    pub(super) urls: Mutex<BTreeMap<u64, String>>,
    request_bytes: usize,
    pub(super) unix_s: AtomicI64,
    /// Happens once, between the question whether a call may and what it does.
    pub(super) meanwhile: Mutex<Option<Meanwhile>>,
}

type Meanwhile = Box<dyn FnOnce(&MemStore) + Send>;

impl MemBackend {
    pub(super) fn new(store: Arc<MemStore>) -> Arc<MemBackend> {
        let me = MemberStatus {
            id: 1,
            name: "m1".into(),
            peer_address: "10.0.0.1:2380".into(),
            is_voter: true,
            ..MemberStatus::default()
        };
        Arc::new(MemBackend {
            store,
            leader: Mutex::new(Some(1)),
            members: Mutex::new(vec![me]),
            stop: CancellationToken::new(),
            parts: Mutex::default(),
            renewed: Mutex::default(),
            urls: Mutex::default(),
            request_bytes: kv::REQUEST_BYTES_MAX,
            unix_s: AtomicI64::new(1_000_000),
            meanwhile: Mutex::default(),
        })
    }

    fn happen(&self) {
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile(&self.store);
        }
    }

    fn propose_now(&self, command: kv::Command) -> StoreResult<kv::Reply> {
        let under = Allowed::now();
        self.store
            .propose_under(command, under.auth_revision, &under.lease_user)
    }

    fn member(&self, id: u64, change: impl FnOnce(&mut MemberStatus)) -> Result<(), Fault> {
        let mut members = self.members.lock().unwrap();
        let member = members.iter_mut().find(|member| member.id == id);
        change(member.ok_or(Fault::MemberNotFound)?);
        Ok(())
    }
}

impl Store for MemBackend {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, StoreResult<RangeResponse>> {
        self.happen();
        if !request.serializable && self.leader.lock().unwrap().is_none() {
            return Box::pin(ready(Err(StoreError::NoLeader)));
        }
        self.store.range(request)
    }
    fn range_parts(
        &self,
        request: RangeRequest,
        part_bytes: usize,
    ) -> BoxFuture<'_, StoreResult<RangeParts>> {
        self.happen();
        let scripted = self.parts.lock().unwrap().take();
        Box::pin(async move {
            let Some((parts, taken)) = scripted else {
                let answer = self.store.range(request).await?;
                return Ok(Answer {
                    revision: answer.revision,
                    body: RangeParts::of(&answer.body, part_bytes),
                });
            };
            let bytes = |part: &Result<usize, StoreError>| *part.as_ref().unwrap_or(&1) as u64;
            Ok(Answer {
                revision: 1,
                body: RangeParts {
                    bytes: parts.iter().map(bytes).sum(),
                    more: false,
                    count: 0,
                    parts: Box::pin(stream::iter(parts).map(move |part| {
                        taken.fetch_add(1, Ordering::SeqCst);
                        part.map(|bytes| vec![0; bytes].into())
                    })),
                },
            })
        })
    }
    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, StoreResult<TxnResponse>> {
        self.happen();
        if kv::check_txn(&request).is_err() || kv::is_read_only(&request) {
            return self.store.txn(request);
        }
        if request.encoded_len() > self.request_bytes {
            return Box::pin(ready(Err(kv::Refusal::TooLarge.into())));
        }
        let answer = self.propose_now(kv::Command::Txn(request));
        Box::pin(ready(answer.map(|answer| kv::Answer {
            revision: answer.revision,
            body: match answer.body {
                kv::Reply::Txn(body) => body,
                other => panic!("{other:?}"),
            },
        })))
    }
    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<WatchStream, StoreError>> {
        self.happen();
        self.store.watch(request)
    }
    fn read_index(&self) -> BoxFuture<'_, Result<i64, StoreError>> {
        if self.leader.lock().unwrap().is_none() {
            return Box::pin(std::future::ready(Err(StoreError::NoLeader)));
        }
        self.store.read_index()
    }
    fn compact(&self, revision: i64) -> BoxFuture<'_, StoreResult<()>> {
        self.store.compact(revision)
    }
    fn lease_grant(&self, id: i64, ttl: i64) -> BoxFuture<'_, StoreResult<(i64, i64)>> {
        self.store.lease_grant(id, ttl)
    }
    fn lease_revoke(&self, id: i64) -> BoxFuture<'_, StoreResult<()>> {
        self.happen();
        let answer = self.propose_now(kv::Command::LeaseRevoke(kv::LeaseRevoke { id }));
        Box::pin(ready(answer.map(|answer| Answer {
            revision: answer.revision,
            body: (),
        })))
    }
    fn lease_keep_alive(&self, id: i64) -> BoxFuture<'_, StoreResult<i64>> {
        self.renewed.lock().unwrap().push(id);
        self.store.lease_keep_alive(id)
    }
    fn lease_time_to_live(&self, id: i64, keys: bool) -> BoxFuture<'_, StoreResult<LeaseStatus>> {
        self.happen();
        self.store.lease_time_to_live(id, keys)
    }
    fn leases(&self) -> BoxFuture<'_, StoreResult<Vec<i64>>> {
        self.store.leases()
    }
    fn status(&self) -> StoreStatus {
        StoreStatus {
            members: self.members.lock().unwrap().clone(),
            ..self.store.status()
        }
    }
    fn revision(&self) -> i64 {
        self.store.revision()
    }
    fn request_progress(&self, revision: i64) {
        self.store.request_progress(revision);
    }
}

impl Backend for MemBackend {
    fn leader(&self) -> Option<u64> {
        *self.leader.lock().unwrap()
    }
    fn is_learner(&self) -> bool {
        let members = self.members.lock().unwrap();
        !members
            .iter()
            .any(|member| member.id == 1 && member.is_voter)
    }
    fn election(&self) -> Duration {
        Duration::from_millis(20)
    }
    fn request_bytes_max(&self) -> usize {
        self.request_bytes
    }
    fn is_large(&self, _: &RangeRequest, _: usize) -> bool {
        self.parts.lock().unwrap().is_some()
    }
    fn move_leader(&self, target: u64) -> BoxFuture<'_, Result<(), Fault>> {
        let moved = match target {
            1 => Ok(()),
            _ => Err(Fault::BadTransferee),
        };
        Box::pin(std::future::ready(moved))
    }
    fn reports(&self) -> BoxFuture<'_, Vec<MemberReport>> {
        let report = MemberReport {
            member_id: 1,
            revision: self.store.status().revision,
            ..MemberReport::default()
        };
        Box::pin(async move { vec![report] })
    }

    fn add_member(&self, peer_address: String) -> BoxFuture<'_, Result<u64, Fault>> {
        let mut members = self.members.lock().unwrap();
        let id = members.iter().map(|member| member.id).max().unwrap_or(0) + 1;
        members.push(MemberStatus {
            id,
            peer_address,
            ..MemberStatus::default()
        });
        Box::pin(std::future::ready(Ok(id)))
    }
    fn promote_member(&self, id: u64) -> BoxFuture<'_, Result<(), Fault>> {
        let promoted = self.member(id, |member| member.is_voter = true);
        Box::pin(std::future::ready(promoted))
    }
    fn remove_member(&self, id: u64) -> BoxFuture<'_, Result<(), Fault>> {
        self.members
            .lock()
            .unwrap()
            .retain(|member| member.id != id);
        Box::pin(std::future::ready(Ok(())))
    }
    fn update_member(&self, id: u64, peer_address: String) -> BoxFuture<'_, Result<(), Fault>> {
        let updated = self.member(id, |member| member.peer_address = peer_address);
        Box::pin(std::future::ready(updated))
    }
    fn client_urls(&self) -> BTreeMap<u64, String> {
        self.urls.lock().unwrap().clone()
    }
    fn with_catalog(&self, look: &mut dyn FnMut(&kv::Catalog)) {
        self.store.with_catalog(look);
    }
    fn auth_revision(&self) -> u64 {
        self.store.with_catalog(kv::auth_revision_in)
    }
    fn unix_s(&self) -> i64 {
        self.unix_s.load(Ordering::Relaxed)
    }
    fn export(&self, visit: Visit<'_>) -> Result<(), StoreError> {
        let runtime = tokio::runtime::Handle::current();
        let all = runtime.block_on(self.store.range(everything()))?;
        let head = Exported::Head {
            revision: all.revision,
            compact_revision: self.store.status().compact_revision,
        };
        let keys = all.body.kvs.into_iter().map(Exported::Key);
        for part in std::iter::once(head).chain(keys) {
            if visit(part).is_break() {
                break;
            }
        }
        Ok(())
    }
    fn revision_at(&self, _: i64) -> Result<Moment, StoreError> {
        panic!("the store in memory keeps no times")
    }
    fn time_of(&self, _: i64) -> Result<Moment, StoreError> {
        panic!("the store in memory keeps no times")
    }
    fn alarms(&self) -> Vec<kv::Alarm> {
        self.store.alarms()
    }
    fn propose(&self, command: kv::Command) -> BoxFuture<'_, StoreResult<kv::Reply>> {
        Box::pin(ready(self.propose_now(command)))
    }
    fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }
}

/// A server and a client on a pipe.
pub(super) struct Bench {
    pub(super) backend: Arc<MemBackend>,
    pub(super) front: Arc<Front>,
    pub(super) client: Arc<Client>,
    channel: Channel,
}

impl Bench {
    pub(super) async fn new() -> Bench {
        Bench::of(MemStore::new(), Options::default()).await
    }

    pub(super) async fn of(store: Arc<MemStore>, options: Options) -> Bench {
        let backend = MemBackend::new(store);
        let front = Front::new(backend.clone(), options);
        let client = front.clients.nameless();
        let channel = connect(&front, client.clone()).await;
        Bench {
            backend,
            front,
            client,
            channel,
        }
    }

    pub(super) async fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.call_with(path, Request::new(request)).await
    }

    pub(super) async fn call_with<Q, A>(
        &self,
        path: &'static str,
        request: Request<Q>,
    ) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        grpc.ready().await.unwrap();
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let path = http::uri::PathAndQuery::from_static(path);
        let answer = tokio::time::timeout(SOON, grpc.unary(request, path, codec));
        Ok(answer.await.expect("an answer comes")?.into_inner())
    }

    pub(super) async fn stream<Q, A>(
        &self,
        path: &'static str,
        request: Q,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        grpc.ready().await.unwrap();
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let path = http::uri::PathAndQuery::from_static(path);
        let answers = grpc.server_streaming(Request::new(request), path, codec);
        Ok(answers.await?.into_inner())
    }

    pub(super) async fn both<Q, A>(
        &self,
        path: &'static str,
        needs_leader: bool,
    ) -> Result<Talk<Q, A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let (say, said) = mpsc::channel(64);
        let mut request = Request::new(ReceiverStream::new(said));
        if needs_leader {
            let yes = "true".parse().unwrap();
            request.metadata_mut().insert("hasleader", yes);
        }
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        grpc.ready().await.unwrap();
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let path = http::uri::PathAndQuery::from_static(path);
        let heard = grpc.streaming(request, path, codec).await?.into_inner();
        Ok(Talk { say, heard })
    }

    pub(super) async fn put(&self, key: &str, value: &str) -> i64 {
        let request = kv::PutRequest {
            key: bytes(key),
            value: bytes(value),
            ..Default::default()
        };
        let answer: Result<Headed<kv::PutResponse>, Status> =
            self.call("/etcdserverpb.KV/Put", request).await;
        answer.unwrap().header.revision
    }

    pub(super) async fn delete(&self, key: &str) -> Headed<kv::DeleteRangeResponse> {
        let request = kv::DeleteRangeRequest {
            key: bytes(key),
            ..Default::default()
        };
        self.call("/etcdserverpb.KV/DeleteRange", request)
            .await
            .unwrap()
    }

    pub(super) async fn range(
        &self,
        request: RangeRequest,
    ) -> Result<Headed<RangeResponse>, Status> {
        self.call("/etcdserverpb.KV/Range", request).await
    }

    pub(super) async fn get(&self, key: &str) -> Headed<RangeResponse> {
        let request = RangeRequest {
            key: bytes(key),
            ..RangeRequest::default()
        };
        self.range(request).await.unwrap()
    }

    pub(super) async fn compact(&self, revision: i64) -> Result<Headed<Empty>, Status> {
        let request = CompactionRequest {
            revision,
            physical: true,
        };
        self.call("/etcdserverpb.KV/Compact", request).await
    }

    pub(super) async fn txn(&self, request: TxnRequest) -> Result<Headed<TxnBody>, Status> {
        self.call("/etcdserverpb.KV/Txn", request).await
    }
}

async fn connect(front: &Arc<Front>, client: Arc<Client>) -> Channel {
    connect_by(Endpoint::from_static("http://pipe"), front, client).await
}

async fn connect_by(endpoint: Endpoint, front: &Arc<Front>, client: Arc<Client>) -> Channel {
    connect_named(endpoint, front, client, None).await
}

/// With a certificate of this name.
async fn connect_as(endpoint: Endpoint, front: &Arc<Front>, name: Option<&str>) -> Channel {
    let name = name.map(|name| ClientName(name.into()));
    connect_named(endpoint, front, front.clients.nameless(), name).await
}

async fn connect_named(
    endpoint: Endpoint,
    front: &Arc<Front>,
    client: Arc<Client>,
    name: Option<ClientName>,
) -> Channel {
    let (near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(converse(front.clone(), client, name, far));
    let mut near = Some(near);
    let connector = tower::service_fn(move |_: http::Uri| {
        let near = near.take();
        async move {
            near.map(TokioIo::new)
                .ok_or_else(|| std::io::Error::other("one connection"))
        }
    });
    endpoint.connect_with_connector(connector).await.unwrap()
}

/// A stream both ways.
pub(super) struct Talk<Q, A> {
    pub(super) say: mpsc::Sender<Q>,
    pub(super) heard: Streaming<A>,
}

impl<Q, A> Talk<Q, A> {
    pub(super) async fn say(&self, request: Q) {
        let said = self.say.send(request).await;
        assert!(said.is_ok(), "the stream is open");
    }

    pub(super) async fn hear(&mut self) -> Result<Option<A>, Status> {
        tokio::time::timeout(SOON, self.heard.message())
            .await
            .expect("an answer comes")
    }

    pub(super) async fn next(&mut self) -> A {
        self.hear().await.unwrap().expect("the stream goes on")
    }
}

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn everything() -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(&[0]),
        range_end: Bytes::from_static(&[0]),
        ..RangeRequest::default()
    }
}

pub(super) fn put_op(key: &str, value: &str) -> kv::RequestOp {
    let put = kv::PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..Default::default()
    };
    kv::RequestOp {
        request: Some(kv::Request::Put(put)),
    }
}

pub(super) fn delete_op(key: &str) -> kv::RequestOp {
    let delete = kv::DeleteRangeRequest {
        key: bytes(key),
        ..Default::default()
    };
    kv::RequestOp {
        request: Some(kv::Request::DeleteRange(delete)),
    }
}

pub(super) fn range_op(key: &str) -> kv::RequestOp {
    let range = RangeRequest {
        key: bytes(key),
        ..Default::default()
    };
    kv::RequestOp {
        request: Some(kv::Request::Range(range)),
    }
}

pub(super) fn txn_of(success: Vec<kv::RequestOp>) -> TxnRequest {
    TxnRequest {
        success,
        ..TxnRequest::default()
    }
}
