//! One connection to one member's port for etcd clients. It is made explicitly, so that a call that was never sent is
//! told from one whose answer got lost.

use super::message::{
    COMPACT, CompactRequest, DELETE, DeleteAnswer, GRANT, GrantRequest, KEEP_ALIVE, LeaseAnswer,
    LeaseId, PUT, Plain, PutAnswer, RANGE, REVOKE, RangeAnswer, STATUS, TXN, TxnAnswer,
};
use super::outcome::{self, NO_ANSWER, of_status};
use crate::chaos::space::Space;
use crate::recording::{Outcome, Request, Response};
use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use prost::Message;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tonic::client::Grpc;
use tonic::codec::Streaming;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_prost::ProstCodec;

/// Where a member's port for etcd clients is, on the loopback of its machine.
pub const PORT: u16 = 6490;
/// For a connection and its handshake.
const CONNECT: Duration = Duration::from_secs(2);

/// What the clients prove themselves with.
pub struct Credentials(ClientTlsConfig);

impl Credentials {
    /// Of the administrator of the store, as `kontiki pki` made them.
    pub fn read(bundle: &Path) -> Result<Credentials> {
        let read = |name: &str| {
            let path = bundle.join(name);
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let identity = Identity::from_pem(read("store-admin.crt")?, read("store-admin.key")?);
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read("ca.crt")?))
            .domain_name("127.0.0.1")
            .identity(identity);
        Ok(Credentials(tls))
    }
}

/// See the module head. Clones share the connection.
#[derive(Clone)]
pub struct Connection(Channel);

impl Connection {
    /// A new connection, made within the member's namespace.
    pub async fn open(space: &Arc<Space>, credentials: &Credentials) -> Result<Connection> {
        let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{PORT}"))?
            .tls_config(credentials.0.clone())?
            .tcp_nodelay(true);
        let space = space.clone();
        let connector = tower::service_fn(move |_: http::Uri| {
            let space = space.clone();
            async move { space.dial(PORT).await.map(TokioIo::new) }
        });
        let connect = endpoint.connect_with_connector(connector);
        let channel = tokio::time::timeout(CONNECT, connect)
            .await
            .context("no connection in time")??;
        Ok(Connection(channel))
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
            let mut grpc = Grpc::new(self.0.clone());
            grpc.ready()
                .await
                .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
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
        let mut grpc = Grpc::new(self.0.clone());
        grpc.ready()
            .await
            .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        let path = http::uri::PathAndQuery::from_static(path);
        let answer = grpc.streaming(tonic::Request::new(requests), path, codec);
        Ok(answer.await?.into_inner())
    }

    /// How the member stands. Answered without a quorum.
    pub async fn status(
        &self,
        patience: Duration,
    ) -> Result<super::message::Status, tonic::Status> {
        self.unary(STATUS, super::message::Empty {}, patience).await
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
                let request = outcome::range_request(range);
                let answer: RangeAnswer = self.unary(RANGE, request, patience).await?;
                let revision = answer.header.revision;
                Ok((revision, Response::Range(outcome::found(answer))))
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
