//! One connection to one member: what a recording asks for, as etcd's requests, and what comes of it. What lies between
//! does not matter: a port with TLS, or a member in the same process.

use super::message::{
    CAMPAIGN, COMPACT, Campaign, Campaigned, CompactRequest, DELETE, DeleteAnswer, Empty, GRANT,
    GrantRequest, HASH_KV, HashKv, HashKvRequest, KEEP_ALIVE, LEADER, LOCK, LeaderAnswer,
    LeaderKey, LeaderRequest, LeaseAnswer, LeaseId, LockRequest, Locked, PROCLAIM, PUT, Plain,
    Proclaim, PutAnswer, RANGE, RANGE_STREAM, RESIGN, REVOKE, RangeAnswer, RangePart, Resign,
    STATUS, Status, TXN, TxnAnswer, UNLOCK, UnlockRequest,
};
use super::outcome::{self, NO_ANSWER, bytes, of_status, text};
use crate::recording::{Found, Outcome, Range, Request, Response};
use prost::Message;
use std::time::Duration;
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::codec::Streaming;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

/// As etcd's clients say that they want no stream of a member that has no leader.
const NEEDS_LEADER: &str = "hasleader";

/// What carries requests of HTTP to a member and its answers back.
pub trait Wire:
    GrpcService<Body, ResponseBody = Body, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<T> Wire for T where
    T: GrpcService<Body, ResponseBody = Body, Future: Send> + Clone + Send + Sync + 'static
{
}

/// See the module head. Clones share what lies between.
#[derive(Clone)]
pub struct Connection<W = Channel>(W);

impl<W: Wire> Connection<W> {
    pub fn over(wire: W) -> Connection<W> {
        Connection(wire)
    }

    async fn grpc(&self) -> Result<Grpc<W>, tonic::Status> {
        let mut grpc = Grpc::new(self.0.clone());
        let ready = grpc.ready().await;
        ready.map_err(|error| tonic::Status::unavailable(error.into().to_string()))?;
        Ok(grpc)
    }

    /// One request, one answer.
    pub async fn unary<Q, A>(
        &self,
        path: &'static str,
        request: Q,
        patience: Duration,
    ) -> Result<A, tonic::Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let call = async {
            let mut grpc = self.grpc().await?;
            let codec: ProstCodec<Q, A> = ProstCodec::default();
            let mut request = tonic::Request::new(request);
            request.set_timeout(patience);
            let path = http::uri::PathAndQuery::from_static(path);
            Ok(grpc.unary(request, path, codec).await?.into_inner())
        };
        match tokio::time::timeout(patience, call).await {
            Ok(answer) => answer,
            Err(_) => Err(tonic::Status::deadline_exceeded(NO_ANSWER)),
        }
    }

    /// Messages both ways.
    pub async fn stream<Q, A>(
        &self,
        path: &'static str,
        requests: tokio::sync::mpsc::Receiver<Q>,
    ) -> Result<Streaming<A>, tonic::Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.stream_with(path, requests, false).await
    }

    /// As [`Connection::stream`]; one that needs a leader ends where its member has none, and says so.
    pub async fn stream_with<Q, A>(
        &self,
        path: &'static str,
        requests: tokio::sync::mpsc::Receiver<Q>,
        needs_leader: bool,
    ) -> Result<Streaming<A>, tonic::Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.grpc().await?;
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        let mut request = tonic::Request::new(requests);
        if needs_leader {
            let value = tonic::metadata::MetadataValue::from_static("true");
            request.metadata_mut().insert(NEEDS_LEADER, value);
        }
        let path = http::uri::PathAndQuery::from_static(path);
        Ok(grpc.streaming(request, path, codec).await?.into_inner())
    }

    /// One request, all of its answers.
    pub async fn answers<Q, A>(
        &self,
        path: &'static str,
        request: Q,
        patience: Duration,
    ) -> Result<Vec<A>, tonic::Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let call = async {
            let mut grpc = self.grpc().await?;
            let codec: ProstCodec<Q, A> = ProstCodec::default();
            let mut request = tonic::Request::new(request);
            request.set_timeout(patience);
            let path = http::uri::PathAndQuery::from_static(path);
            let answers = grpc.server_streaming(request, path, codec).await?;
            let mut answers = answers.into_inner();
            let mut all = Vec::new();
            while let Some(answer) = answers.message().await? {
                all.push(answer);
            }
            Ok(all)
        };
        match tokio::time::timeout(patience, call).await {
            Ok(answers) => answers,
            Err(_) => Err(tonic::Status::deadline_exceeded(NO_ANSWER)),
        }
    }

    /// How the member stands. Answered without a quorum.
    pub async fn status(&self, patience: Duration) -> Result<Status, tonic::Status> {
        self.unary(STATUS, Empty {}, patience).await
    }

    /// Does what a recording's operation says.
    pub async fn perform(&self, request: &Request, patience: Duration) -> Outcome {
        match self.attempt(request, patience).await {
            Ok((revision, response)) => Outcome::Ok { revision, response },
            Err(status) => of_status(request, &status),
        }
    }

    async fn attempt(
        &self,
        request: &Request,
        patience: Duration,
    ) -> Result<(i64, Response), tonic::Status> {
        match request {
            Request::Range(range) => {
                let (revision, found) = self.range(range, patience).await?;
                Ok((revision, Response::Range(found)))
            }
            Request::Put(put) => {
                let request = outcome::put_request(put);
                let answer: PutAnswer = self.unary(PUT, request, patience).await?;
                let prev = answer.prev.as_ref().map(outcome::pair);
                Ok((answer.header.revision, Response::Put { prev }))
            }
            Request::Delete(delete) => {
                let request = outcome::delete_request(delete);
                let answer: DeleteAnswer = self.unary(DELETE, request, patience).await?;
                let response = Response::Delete {
                    deleted: answer.deleted,
                    prev: answer.prev.iter().map(outcome::pair).collect(),
                };
                Ok((answer.header.revision, response))
            }
            Request::Txn(txn) => {
                let request = outcome::txn_request(txn);
                let answer: TxnAnswer = self.unary(TXN, request, patience).await?;
                Ok((answer.header.revision, outcome::txn_response(answer)))
            }
            Request::Grant { lease, ttl } => {
                let request = GrantRequest {
                    id: *lease,
                    ttl: *ttl,
                };
                let answer: LeaseAnswer = self.unary(GRANT, request, patience).await?;
                let ttl = answer.ttl;
                Ok((answer.header.revision, Response::Lease { ttl }))
            }
            Request::Revoke { lease } => {
                let request = LeaseId { id: *lease };
                let answer: Plain = self.unary(REVOKE, request, patience).await?;
                Ok((answer.header.revision, Response::Lease { ttl: 0 }))
            }
            Request::KeepAlive { lease } => self.keep_alive(*lease, patience).await,
            Request::Compact { revision } => {
                let request = CompactRequest {
                    revision: *revision,
                };
                let answer: Plain = self.unary(COMPACT, request, patience).await?;
                Ok((answer.header.revision, Response::Compacted))
            }
            Request::HashKv { revision } => {
                let request = HashKvRequest {
                    revision: *revision,
                };
                let answer: HashKv = self.unary(HASH_KV, request, patience).await?;
                let response = Response::Hash {
                    hash: answer.hash,
                    revision: answer.hash_revision,
                    compacted: answer.compact_revision,
                };
                Ok((answer.header.revision, response))
            }
            request => self.take_turns(request, patience).await,
        }
    }

    /// At once or in parts.
    pub async fn range(
        &self,
        range: &Range,
        patience: Duration,
    ) -> Result<(i64, Found), tonic::Status> {
        let request = outcome::range_request(range);
        if !range.streamed {
            let answer: RangeAnswer = self.unary(RANGE, request, patience).await?;
            return Ok((answer.header.revision, outcome::found(answer)));
        }
        let parts: Vec<RangePart> = self.answers(RANGE_STREAM, request, patience).await?;
        let answer = outcome::joined(parts);
        let answer = answer.ok_or_else(|| tonic::Status::internal("parts without an end"))?;
        Ok((answer.header.revision, outcome::found(answer)))
    }

    /// Locks and elections.
    async fn take_turns(
        &self,
        request: &Request,
        patience: Duration,
    ) -> Result<(i64, Response), tonic::Status> {
        let done = |answer: Plain| (answer.header.revision, Response::Done);
        match request {
            Request::Lock { name, lease } => {
                let request = LockRequest {
                    name: bytes(name),
                    lease: *lease,
                };
                let answer: Locked = self.unary(LOCK, request, patience).await?;
                let key = text(&answer.key);
                Ok((answer.header.revision, Response::Held { key, created: 0 }))
            }
            Request::Unlock { key } => {
                let request = UnlockRequest { key: bytes(key) };
                self.unary(UNLOCK, request, patience).await.map(done)
            }
            Request::Campaign { name, lease, value } => {
                let request = Campaign {
                    name: bytes(name),
                    lease: *lease,
                    value: bytes(value),
                };
                let answer: Campaigned = self.unary(CAMPAIGN, request, patience).await?;
                let response = Response::Held {
                    key: text(&answer.leader.key),
                    created: answer.leader.rev,
                };
                Ok((answer.header.revision, response))
            }
            Request::Proclaim {
                key,
                created,
                lease,
                value,
            } => {
                let request = Proclaim {
                    leader: leader_key(key, *created, *lease),
                    value: bytes(value),
                };
                self.unary(PROCLAIM, request, patience).await.map(done)
            }
            Request::Resign { key, created } => {
                let request = Resign {
                    leader: leader_key(key, *created, 0),
                };
                self.unary(RESIGN, request, patience).await.map(done)
            }
            Request::Leader { name } => {
                let request = LeaderRequest { name: bytes(name) };
                let answer: LeaderAnswer = self.unary(LEADER, request, patience).await?;
                let found = Found {
                    pairs: vec![outcome::pair(&answer.kv)],
                    count: 1,
                    more: false,
                };
                Ok((answer.header.revision, Response::Range(found)))
            }
            other => Err(tonic::Status::internal(format!("{other:?} has no method"))),
        }
    }

    async fn keep_alive(
        &self,
        lease: i64,
        patience: Duration,
    ) -> Result<(i64, Response), tonic::Status> {
        let (say, said) = tokio::sync::mpsc::channel(1);
        // The channel is empty and has room.
        let _ = say.try_send(LeaseId { id: lease });
        let answer = async {
            let mut answers = self
                .stream::<LeaseId, LeaseAnswer>(KEEP_ALIVE, said)
                .await?;
            let answer = answers.message().await?;
            answer.ok_or_else(|| tonic::Status::unavailable("the stream ended"))
        };
        let answer = match tokio::time::timeout(patience, answer).await {
            Ok(answer) => answer?,
            Err(_) => return Err(tonic::Status::deadline_exceeded(NO_ANSWER)),
        };
        Ok((answer.header.revision, Response::Lease { ttl: answer.ttl }))
    }
}

fn leader_key(key: &str, created: i64, lease: i64) -> LeaderKey {
    let (name, _) = key.rsplit_once('/').unwrap_or_default();
    LeaderKey {
        name: bytes(name),
        key: bytes(key),
        rev: created,
        lease,
    }
}
