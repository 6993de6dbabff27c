//! A client of a member's port for etcd clients: what the command line asks of a running store.
//!
//! It speaks the messages that the front serves, so it works towards etcd, too, but for what only Kontiki has.

mod changes;
mod sign_in;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv::{EventKind, KeyValue, PutRequest, PutResponse, RangeRequest, RangeResponse, TxnRequest};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

pub use self::changes::{Changes, Told};
pub use self::sign_in::Login;
use self::sign_in::SignIn;
use super::headed::Headed;
use super::message::{
    AlarmBody, AlarmRequest, Empty, LeaseGrantBody, LeaseGrantRequest, LeaseTimeToLiveBody,
    LeaseTimeToLiveRequest, MemberAddBody, MemberAddRequest, MemberId, MemberListRequest,
    MembersBody, MomentBody, MoveLeaderRequest, ReportsBody, RevisionAtRequest, SnapshotBody,
    StatusBody, TimesBody, TimesOfRequest, TxnBody, WatchBody, WatchCreate, WatchRequest,
    WatchUnion,
};
use crate::{MemberReport, Moment};

/// For a connection to come about.
const CONNECT: Duration = Duration::from_secs(3);
/// For an answer; more than the store itself takes to give up.
const ANSWER: Duration = Duration::from_secs(15);
/// A stream on which nothing comes for so long is given up.
const SILENCE: Duration = Duration::from_secs(30);
/// A connection with calls under way is asked so often for a sign of life; etcd allows one each five seconds.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// Keys in one answer to a long list.
const PAGE: i64 = 1000;
/// How often a watch is asked whether it has come to the end of history.
const ASK_PROGRESS: Duration = Duration::from_millis(100);

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address or the certificates cannot be used at all.
    #[error("{url}: {text}")]
    Unusable { url: String, text: String },
    /// The member does not answer, or has no leader: another one may.
    #[error("{url}: {text}")]
    Unavailable { url: String, text: String },
    /// The member answers that this cannot be, in etcd's words.
    #[error("{url}: {text}")]
    Refused { url: String, text: String },
    /// History below this revision is gone.
    #[error("history before revision {0} has been compacted")]
    Compacted(i64),
    /// What was received could not be kept.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What a client proves itself with, and what it believes: each where the server asks for it.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The authority of the server's certificate, PEM.
    pub ca: Option<Vec<u8>>,
    /// Certificate of the client and its key, PEM.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// A user of the store.
    pub login: Option<Login>,
}

/// A member as the membership has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Member {
    pub id: u64,
    /// Empty until the member has started for the first time.
    pub name: String,
    /// `host:port`.
    pub peer_address: String,
    pub client_urls: Vec<String>,
    pub is_learner: bool,
}

/// What a member says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberStatus {
    pub cluster_id: u64,
    pub member_id: u64,
    pub version: String,
    pub revision: i64,
    /// 0 where it knows of none.
    pub leader: u64,
    pub raft_term: u64,
    pub raft_index: u64,
    pub raft_applied_index: u64,
    pub size_bytes: i64,
    pub is_learner: bool,
    pub errors: Vec<String>,
}

/// A live key as of some revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    pub key: Bytes,
    pub value: Bytes,
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub lease: i64,
}

/// One retained state of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Revision {
    Put(Record),
    /// Of this key, at this revision.
    Delete(Bytes, i64),
}

impl Revision {
    pub fn revision(&self) -> i64 {
        match self {
            Revision::Put(record) => record.mod_revision,
            Revision::Delete(_, revision) => *revision,
        }
    }

    pub fn key(&self) -> &Bytes {
        match self {
            Revision::Put(record) => &record.key,
            Revision::Delete(key, _) => key,
        }
    }
}

/// Which keys are meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Keys {
    start: Bytes,
    end: Bytes,
}

impl Keys {
    pub fn one(key: impl Into<Bytes>) -> Keys {
        Keys {
            start: key.into(),
            end: Bytes::new(),
        }
    }

    /// All that begin so; all of them where it is empty.
    pub fn prefix(prefix: impl Into<Bytes>) -> Keys {
        let start: Bytes = prefix.into();
        let mut end = start.to_vec();
        while end.pop_if(|last| *last == u8::MAX).is_some() {}
        match end.last_mut() {
            Some(last) => *last += 1,
            None => end.push(0),
        }
        let start = match start.is_empty() {
            true => Bytes::from_static(&[0]),
            false => start,
        };
        Keys {
            start,
            end: end.into(),
        }
    }

    fn request(&self, revision: i64) -> RangeRequest {
        RangeRequest {
            key: self.start.clone(),
            range_end: self.end.clone(),
            revision,
            ..RangeRequest::default()
        }
    }
}

/// A part of a range, and of what it is a part.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    pub cluster_id: u64,
    /// The store's newest when it was asked.
    pub revision: i64,
    pub records: Vec<Record>,
    /// There are more in the range.
    pub more: bool,
    /// Keys in the whole range.
    pub count: i64,
}

impl ClientError {
    /// Whether it was asked for what has been compacted.
    pub fn is_of_before_history(&self) -> bool {
        match self {
            ClientError::Compacted(_) => true,
            ClientError::Refused { text, .. } => text.contains("revision has been compacted"),
            _ => false,
        }
    }
}

/// A connection to one member, made on first use and again when it is lost.
#[derive(Clone)]
pub struct Client {
    url: String,
    channel: Channel,
    sign_in: Option<Arc<SignIn>>,
}

impl Client {
    /// `url` is `https://HOST:PORT`, or `http://` where there is no TLS.
    pub fn new(url: &str, credentials: &Credentials) -> Result<Client, ClientError> {
        let unusable = |error: tonic::transport::Error| ClientError::Unusable {
            url: url.into(),
            text: chain(&error),
        };
        let mut endpoint = Endpoint::from_shared(url.to_string()).map_err(unusable)?;
        if url.starts_with("https:") {
            let mut tls = ClientTlsConfig::new();
            if let Some(ca) = &credentials.ca {
                tls = tls.ca_certificate(Certificate::from_pem(ca));
            }
            if let Some((cert, key)) = &credentials.identity {
                tls = tls.identity(Identity::from_pem(cert, key));
            }
            endpoint = endpoint.tls_config(tls).map_err(unusable)?;
        }
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(SIGN_OF_LIFE)
            .keep_alive_timeout(SIGN_OF_LIFE)
            .tcp_nodelay(true);
        let login = credentials.login.clone();
        Ok(Client {
            url: url.into(),
            channel: endpoint.connect_lazy(),
            sign_in: login.map(|login| Arc::new(SignIn::new(login))),
        })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Answered without a quorum unless `linearizable`.
    pub async fn members(&self, linearizable: bool) -> Result<Vec<Member>, ClientError> {
        let request = MemberListRequest { linearizable };
        let answer: Headed<MembersBody> = self
            .unary("/etcdserverpb.Cluster/MemberList", request)
            .await?;
        Ok(answer.body.members.into_iter().map(member).collect())
    }

    /// Adds a learner under this peer address; answers its id.
    pub async fn add_member(&self, peer_address: &str) -> Result<u64, ClientError> {
        let request = MemberAddRequest {
            peer_urls: vec![format!("https://{peer_address}")],
            is_learner: true,
        };
        let answer: Headed<MemberAddBody> = self
            .unary("/etcdserverpb.Cluster/MemberAdd", request)
            .await?;
        Ok(answer.body.member.unwrap_or_default().id)
    }

    pub async fn remove_member(&self, id: u64) -> Result<(), ClientError> {
        let path = "/etcdserverpb.Cluster/MemberRemove";
        let _: Headed<MembersBody> = self.unary(path, MemberId { id }).await?;
        Ok(())
    }

    /// Lets a learner vote. Refused until it has caught up.
    pub async fn promote_member(&self, id: u64) -> Result<(), ClientError> {
        let path = "/etcdserverpb.Cluster/MemberPromote";
        let _: Headed<MembersBody> = self.unary(path, MemberId { id }).await?;
        Ok(())
    }

    /// To be asked of the leader alone; ends when the other one leads.
    pub async fn move_leader(&self, target_id: u64) -> Result<(), ClientError> {
        let path = "/etcdserverpb.Maintenance/MoveLeader";
        let _: Headed<Empty> = self.unary(path, MoveLeaderRequest { target_id }).await?;
        Ok(())
    }

    /// Answered without a quorum, and by learners.
    pub async fn status(&self) -> Result<MemberStatus, ClientError> {
        let answer: Headed<StatusBody> = self
            .unary("/etcdserverpb.Maintenance/Status", Empty {})
            .await?;
        let Headed { header, body } = answer;
        Ok(MemberStatus {
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            version: body.version,
            revision: header.revision,
            leader: body.leader,
            raft_term: body.raft_term,
            raft_index: body.raft_index,
            raft_applied_index: body.raft_applied_index,
            size_bytes: body.db_size,
            is_learner: body.is_learner,
            errors: body.errors,
        })
    }

    /// What all members say of themselves that the asked one reaches; Kontiki's own call.
    pub async fn reports(&self) -> Result<Vec<MemberReport>, ClientError> {
        let path = "/kontikipb.Members/Reports";
        let answer: Headed<ReportsBody> = self.unary(path, Empty {}).await?;
        Ok(answer.body.reports)
    }

    /// Alarms that are raised, by etcd's names, with the member of each.
    pub async fn alarms(&self) -> Result<Vec<(u64, &'static str)>, ClientError> {
        let request = AlarmRequest {
            action: 0,
            member_id: 0,
            alarm: 0,
        };
        let answer: Headed<AlarmBody> = self
            .unary("/etcdserverpb.Maintenance/Alarm", request)
            .await?;
        let name = |alarm| match alarm {
            1 => "NOSPACE",
            2 => "CORRUPT",
            _ => "unknown",
        };
        let alarms = answer.body.alarms.into_iter();
        Ok(alarms
            .map(|raised| (raised.member_id, name(raised.alarm)))
            .collect())
    }

    /// Answers the revision of the write.
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<i64, ClientError> {
        let request = PutRequest {
            key: key.into(),
            value: value.into(),
            ..PutRequest::default()
        };
        let answer: Headed<PutResponse> = self.unary("/etcdserverpb.KV/Put", request).await?;
        Ok(answer.header.revision)
    }

    /// Live keys as of a revision (0: now), at most `limit` (0: all), and the revision that was read.
    pub async fn get(
        &self,
        keys: &Keys,
        revision: i64,
        limit: usize,
    ) -> Result<(i64, Vec<Record>), ClientError> {
        let most = match limit {
            0 => usize::MAX,
            limit => limit,
        };
        let mut request = keys.request(revision);
        let mut records = Vec::new();
        loop {
            let left = most.saturating_sub(records.len());
            request.limit = PAGE.min(i64::try_from(left).unwrap_or(PAGE));
            let path = "/etcdserverpb.KV/Range";
            let page: Headed<RangeResponse> = self.unary(path, request.clone()).await?;
            // The pages that follow are of the same revision.
            if request.revision == 0 {
                request.revision = page.header.revision;
            }
            records.extend(page.body.kvs.into_iter().map(record));
            match records.last() {
                Some(Record { key, .. }) if page.body.more && records.len() < most => {
                    request.key = [key.as_ref(), &[0]].concat().into();
                }
                _ => return Ok((request.revision, records)),
            }
        }
    }

    /// Keys after this one (from the first on where it is empty) as of a revision (0: now), at most `limit`.
    pub async fn page(
        &self,
        keys: &Keys,
        after: &[u8],
        revision: i64,
        limit: i64,
    ) -> Result<Page, ClientError> {
        let mut request = keys.request(revision);
        request.limit = limit;
        if !after.is_empty() {
            request.key = [after, &[0]].concat().into();
        }
        self.range(request).await
    }

    /// How many keys there are, and the revision of the store, as of now.
    pub async fn count(&self, keys: &Keys) -> Result<Page, ClientError> {
        let count_only = true;
        self.range(RangeRequest {
            count_only,
            ..keys.request(0)
        })
        .await
    }

    /// Whether, as of this revision, a key was written at `since` or later. The other one reads all of the range for it.
    pub async fn written_since(
        &self,
        keys: &Keys,
        revision: i64,
        since: i64,
    ) -> Result<bool, ClientError> {
        let request = RangeRequest {
            limit: 1,
            keys_only: true,
            min_mod_revision: since,
            ..keys.request(revision)
        };
        Ok(!self.range(request).await?.records.is_empty())
    }

    async fn range(&self, request: RangeRequest) -> Result<Page, ClientError> {
        let path = "/etcdserverpb.KV/Range";
        let Headed { header, body } = self
            .unary::<_, Headed<RangeResponse>>(path, request)
            .await?;
        Ok(Page {
            cluster_id: header.cluster_id,
            revision: header.revision,
            records: body.kvs.into_iter().map(record).collect(),
            more: body.more,
            count: body.count,
        })
    }

    /// Answers whether the compares held, and the revision.
    pub async fn txn(&self, request: TxnRequest) -> Result<(bool, i64), ClientError> {
        let path = "/etcdserverpb.KV/Txn";
        let answer: Headed<TxnBody> = self.unary(path, request).await?;
        Ok((answer.body.succeeded, answer.header.revision))
    }

    /// The time to live that a lease was granted, in seconds; nothing where it has ended.
    pub async fn granted_ttl(&self, id: i64) -> Result<Option<i64>, ClientError> {
        let request = LeaseTimeToLiveRequest { id, keys: false };
        let path = "/etcdserverpb.Lease/LeaseTimeToLive";
        let answer: Headed<LeaseTimeToLiveBody> = self.unary(path, request).await?;
        Ok((answer.body.ttl >= 0).then_some(answer.body.granted_ttl))
    }

    /// Grants a lease under this id, unless there is one.
    pub async fn grant(&self, id: i64, ttl: i64) -> Result<(), ClientError> {
        let path = "/etcdserverpb.Lease/LeaseGrant";
        let request = LeaseGrantRequest { ttl, id };
        let granted: Result<Headed<LeaseGrantBody>, ClientError> = self.unary(path, request).await;
        match granted {
            Err(ClientError::Refused { text, .. }) if text.contains("already exists") => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// The newest revision at a time, milliseconds since 1970, and when it was made.
    pub async fn revision_at(&self, unix_ms: i64) -> Result<Moment, ClientError> {
        let request = RevisionAtRequest { unix_ms };
        let answer: Headed<MomentBody> =
            self.unary("/kontikipb.History/RevisionAt", request).await?;
        let MomentBody { revision, unix_ms } = answer.body;
        Ok(Moment { revision, unix_ms })
    }

    /// The oldest revision of keys that can be read, and when it was made. To be asked where an older one cannot: else all
    /// that has ever happened to the keys would be looked through.
    pub async fn history_begins(&self, keys: &Keys) -> Result<Moment, ClientError> {
        let revision = match self.changes(keys, (1, 1), 0).await {
            Err(ClientError::Compacted(revision)) => revision,
            other => other.map(|_| 1)?,
        };
        let times = self.times_of(&[revision]).await?;
        let unix_ms = times.first().copied().unwrap_or(0);
        Ok(Moment { revision, unix_ms })
    }

    /// When revisions were made, milliseconds since 1970; 0 where it was not recorded.
    pub async fn times_of(&self, revisions: &[i64]) -> Result<Vec<i64>, ClientError> {
        const AT_ONCE: usize = 1000;
        let mut times = Vec::with_capacity(revisions.len());
        for part in revisions.chunks(AT_ONCE) {
            let request = TimesOfRequest {
                revisions: part.to_vec(),
            };
            let answer: Headed<TimesBody> =
                self.unary("/kontikipb.History/TimesOf", request).await?;
            times.extend(answer.body.unix_ms);
        }
        Ok(times)
    }

    /// What is retained of keys up to now: what they were when history begins, and each change since; only the `newest` of
    /// it where that is not 0, so that nothing older has to be held. Answers the revision at which history begins, and the
    /// revisions ascending.
    pub async fn history(
        &self,
        keys: &Keys,
        newest: usize,
    ) -> Result<(i64, Vec<Revision>), ClientError> {
        let (now, _) = self.get(&Keys::one(Bytes::from_static(&[0])), 0, 1).await?;
        let mut from = 1;
        // Compaction may go on meanwhile; then it is read again from where history begins now.
        loop {
            let attempt = self.history_from(keys, (from, now), newest).await;
            match attempt {
                Err(ClientError::Compacted(revision)) if revision > from => from = revision,
                Ok(revisions) => return Ok((from, revisions)),
                Err(error) => return Err(error),
            }
        }
    }

    async fn history_from(
        &self,
        keys: &Keys,
        (from, now): (i64, i64),
        newest: usize,
    ) -> Result<Vec<Revision>, ClientError> {
        let changes = self.changes(keys, (from, now), newest).await?;
        let is_full = newest > 0 && changes.len() >= newest;
        let base = match from {
            1 => Vec::new(),
            // It is older than all changes.
            _ if is_full => Vec::new(),
            _ => self.get(keys, from, 0).await?.1,
        };
        let mut all = joined(base, changes);
        keep_newest(&mut all, newest);
        Ok(all)
    }

    /// The changes from one revision to another that has happened already; the `newest` of them, and where it is 0 all.
    async fn changes(
        &self,
        keys: &Keys,
        (from, to): (i64, i64),
        newest: usize,
    ) -> Result<Vec<Revision>, ClientError> {
        let create = WatchUnion::Create(WatchCreate {
            key: keys.start.clone(),
            range_end: keys.end.clone(),
            start_revision: from,
            ..WatchCreate::default()
        });
        let (say, said) = mpsc::channel(2);
        let asked = |union| WatchRequest { union: Some(union) };
        // The channel is empty and has room.
        let _ = say.try_send(asked(create));
        let path = "/etcdserverpb.Watch/Watch";
        let request = self.signed(ReceiverStream::new(said)).await?;
        let codec: ProstCodec<WatchRequest, Headed<WatchBody>> = ProstCodec::default();
        let mut grpc = self.grpc().await?;
        let answers = grpc.streaming(request, path_of(path), codec).await;
        let mut answers = answers.map_err(|status| self.error(&status))?.into_inner();
        let mut ask = tokio::time::interval(ASK_PROGRESS);
        let mut changes = Vec::new();
        loop {
            let answer = tokio::select! {
                biased;
                _ = ask.tick() => {
                    // One that is still waiting says the same.
                    let _ = say.try_send(asked(WatchUnion::Progress(Empty {})));
                    continue;
                }
                answer = self.next(&mut answers) => answer?,
            };
            let Some(Headed { header, body }) = answer else {
                return Err(self.broken("the watch ended before the end of history"));
            };
            if body.canceled {
                return Err(match body.compact_revision {
                    0 => self.broken(&body.cancel_reason),
                    revision => ClientError::Compacted(revision),
                });
            }
            let progress = body.events.is_empty() && !body.created;
            let before = changes.len();
            let events = body.events.into_iter().map(change);
            changes.extend(events.filter(|change| change.revision() <= to));
            let past = |change: &Revision| change.revision() >= to;
            let over = changes[before..].last().is_some_and(past) && !body.fragment;
            // Not at each answer: what is kept is moved.
            let is_long = changes.len() / 2 >= newest;
            let done = over || (progress && header.revision >= to);
            if done || is_long {
                keep_newest(&mut changes, newest);
            }
            if done {
                return Ok(changes);
            }
        }
    }

    /// A consistent copy of the whole store, in parts, with an estimate of the bytes that are left.
    pub async fn snapshot(
        &self,
        keep: &mut (dyn FnMut(&[u8], u64) -> std::io::Result<()> + Send),
    ) -> Result<(), ClientError> {
        let path = "/etcdserverpb.Maintenance/Snapshot";
        let codec: ProstCodec<Empty, Headed<SnapshotBody>> = ProstCodec::default();
        let request = self.signed(Empty {}).await?;
        let mut grpc = self.grpc().await?;
        let parts = grpc.server_streaming(request, path_of(path), codec);
        let mut parts = parts
            .await
            .map_err(|status| self.error(&status))?
            .into_inner();
        while let Some(part) = self.next(&mut parts).await? {
            keep(&part.body.blob, part.body.remaining_bytes)?;
        }
        Ok(())
    }

    async fn unary<Q, A>(&self, path: &'static str, request: Q) -> Result<A, ClientError>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        // A second time where a token of before is not taken any more.
        let again = self.sign_in.as_ref().map(|_| request.clone());
        let first = self.call(path, self.signed(request).await?).await;
        match (first, again) {
            (Err(ClientError::Refused { text, .. }), Some(again)) if self.has_to_sign_in(&text) => {
                self.call(path, self.signed(again).await?).await
            }
            (answer, _) => answer,
        }
    }

    async fn call<Q, A>(&self, path: &'static str, request: Request<Q>) -> Result<A, ClientError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let call = async {
            let codec: ProstCodec<Q, A> = ProstCodec::default();
            let mut grpc = self.grpc().await?;
            let answer = grpc.unary(request, path_of(path), codec).await;
            answer.map_err(|status| self.error(&status))
        };
        match tokio::time::timeout(ANSWER, call).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(self.silent(ANSWER)),
        }
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, ClientError> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        let ready = grpc.ready().await;
        ready.map_err(|error| ClientError::Unavailable {
            url: self.url.clone(),
            text: chain(&error),
        })?;
        Ok(grpc)
    }

    async fn next<A>(&self, stream: &mut Streaming<A>) -> Result<Option<A>, ClientError> {
        match tokio::time::timeout(SILENCE, stream.message()).await {
            Ok(message) => message.map_err(|status| self.error(&status)),
            Err(_) => Err(self.silent(SILENCE)),
        }
    }

    fn silent(&self, patience: Duration) -> ClientError {
        ClientError::Unavailable {
            url: self.url.clone(),
            text: format!("no answer within {} s", patience.as_secs()),
        }
    }

    fn broken(&self, text: &str) -> ClientError {
        ClientError::Unavailable {
            url: self.url.clone(),
            text: text.into(),
        }
    }

    fn error(&self, status: &Status) -> ClientError {
        let url = self.url.clone();
        let text = match status.message() {
            // tonic's own words hide what happened to the connection.
            "transport error" | "" => chain(status),
            text => text.trim_start_matches("etcdserver: ").to_string(),
        };
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled => {
                ClientError::Unavailable { url, text }
            }
            _ => ClientError::Refused { url, text },
        }
    }
}

fn path_of(path: &'static str) -> http::uri::PathAndQuery {
    http::uri::PathAndQuery::from_static(path)
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

fn member(member: super::message::Member) -> Member {
    let peer = member.peer_urls.first();
    let peer = peer.map(|url| url.trim_start_matches("https://").to_string());
    Member {
        id: member.id,
        name: member.name,
        peer_address: peer.unwrap_or_default(),
        client_urls: member.client_urls,
        is_learner: member.is_learner,
    }
}

fn record(kv: KeyValue) -> Record {
    Record {
        key: kv.key,
        value: kv.value,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

fn change(event: kv::Event) -> Revision {
    match event.kind == EventKind::Delete as i32 {
        true => Revision::Delete(event.kv.key, event.kv.mod_revision),
        false => Revision::Put(record(event.kv)),
    }
}

/// Drops all but the last `newest`; none where that is 0.
fn keep_newest(revisions: &mut Vec<Revision>, newest: usize) {
    if newest > 0 {
        revisions.drain(..revisions.len().saturating_sub(newest));
    }
}

/// What keys were when history begins, and their changes since, each once.
fn joined(base: Vec<Record>, changes: Vec<Revision>) -> Vec<Revision> {
    let of = |revision: &Revision| (revision.revision(), revision.key().clone());
    let mut all: BTreeMap<(i64, Bytes), Vec<Revision>> = BTreeMap::new();
    for change in changes {
        all.entry(of(&change)).or_default().push(change);
    }
    for record in base.into_iter().map(Revision::Put) {
        all.entry(of(&record)).or_insert_with(|| vec![record]);
    }
    all.into_values().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_revisions_are_kept() {
        let deleted = |revision| Revision::Delete(Bytes::from_static(b"k"), revision);
        for (newest, first, len) in [(0, 1, 5), (2, 4, 2), (9, 1, 5)] {
            let mut revisions: Vec<Revision> = (1..=5).map(deleted).collect();
            keep_newest(&mut revisions, newest);
            assert_eq!((revisions[0].revision(), revisions.len()), (first, len));
        }
    }

    #[test]
    fn a_prefix_is_a_range() {
        let range = |prefix: &'static [u8]| {
            let keys = Keys::prefix(prefix);
            (keys.start.to_vec(), keys.end.to_vec())
        };
        assert_eq!(range(b"ab"), (b"ab".to_vec(), b"ac".to_vec()));
        assert_eq!(range(b"a\xff"), (b"a\xff".to_vec(), b"b".to_vec()));
        assert_eq!(range(b"\xff\xff"), (b"\xff\xff".to_vec(), vec![0]));
        assert_eq!(range(b""), (vec![0], vec![0]));
    }

    #[test]
    fn what_history_begins_with_is_not_told_twice() {
        let put = |key: &'static str, mod_revision| Record {
            key: key.into(),
            mod_revision,
            ..Record::default()
        };
        let base = vec![put("a", 3), put("b", 5)];
        let changes = vec![
            Revision::Put(put("b", 5)),
            Revision::Delete("a".into(), 6),
            Revision::Put(put("c", 6)),
        ];
        let told = joined(base, changes);
        let told: Vec<_> = told
            .iter()
            .map(|revision| (revision.revision(), revision.key().as_ref()))
            .collect();
        let expected: [(i64, &[u8]); 4] = [(3, b"a"), (5, b"b"), (6, b"a"), (6, b"c")];
        assert_eq!(told, expected);
    }
}
