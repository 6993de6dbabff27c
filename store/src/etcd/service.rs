//! The gRPC services: a path to a call. Written on tonic's server without generated code, since the messages are `kv`'s.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use kv::{
    Answer, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest,
    Request as Operation, RequestOp, ResponseBody, Store, StoreError, TxnRequest,
};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

use super::errors::status;
use super::headed::{Headed, Header};

/// etcd's `--max-request-bytes` and its allowance for the envelope.
const REQUEST_BYTES_MAX: usize = (3 << 19) + (512 << 10);

type HttpFuture = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

/// The store, and what of an answer's header never changes.
#[derive(Clone)]
struct Served {
    store: Arc<dyn Store>,
    cluster_id: u64,
    member_id: u64,
}

impl Served {
    fn new(store: Arc<dyn Store>) -> Served {
        let status = store.status();
        Served {
            store,
            cluster_id: status.cluster_id,
            member_id: status.member_id,
        }
    }

    fn header(&self) -> Header {
        Header {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision: 0,
            raft_term: self.store.raft_term(),
        }
    }
}

#[derive(Clone)]
pub(super) struct Kv(Served);

#[derive(Clone)]
pub(super) struct Maintenance(Served);

#[derive(Clone, PartialEq, prost::Message)]
struct CompactionRequest {
    #[prost(int64, tag = "1")]
    revision: i64,
    #[prost(bool, tag = "2")]
    physical: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

/// The parts of etcd's StatusResponse that the store knows.
#[derive(Clone, PartialEq, prost::Message)]
struct StatusBody {
    #[prost(string, tag = "2")]
    version: String,
    #[prost(int64, tag = "3")]
    db_size: i64,
    #[prost(uint64, tag = "4")]
    leader: u64,
    #[prost(uint64, tag = "5")]
    raft_index: u64,
    #[prost(uint64, tag = "6")]
    raft_term: u64,
    #[prost(uint64, tag = "7")]
    raft_applied_index: u64,
    #[prost(int64, tag = "9")]
    db_size_in_use: i64,
    #[prost(bool, tag = "10")]
    is_learner: bool,
}

/// The etcd version whose behaviour the front has; clients switch features by it.
const ETCD_VERSION: &str = "3.6.0";

impl Kv {
    pub(super) fn new(store: Arc<dyn Store>) -> Kv {
        Kv(Served::new(store))
    }
}

impl Maintenance {
    pub(super) fn new(store: Arc<dyn Store>) -> Maintenance {
        Maintenance(Served::new(store))
    }
}

impl NamedService for Kv {
    const NAME: &'static str = "etcdserverpb.KV";
}

impl NamedService for Maintenance {
    const NAME: &'static str = "etcdserverpb.Maintenance";
}

impl tower::Service<http::Request<Body>> for Kv {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = HttpFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> HttpFuture {
        let (store, header) = (self.0.store.clone(), self.0.header());
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/etcdserverpb.KV/Range" => {
                    unary(request, header, move |range: RangeRequest| async move {
                        store.range(range).await
                    })
                    .await
                }
                "/etcdserverpb.KV/Put" => {
                    unary(request, header, move |put: PutRequest| async move {
                        self::put(&*store, put).await
                    })
                    .await
                }
                "/etcdserverpb.KV/DeleteRange" => unary(
                    request,
                    header,
                    move |range: DeleteRangeRequest| async move { delete(&*store, range).await },
                )
                .await,
                "/etcdserverpb.KV/Txn" => {
                    unary(request, header, move |txn: TxnRequest| async move {
                        store.txn(txn).await
                    })
                    .await
                }
                "/etcdserverpb.KV/Compact" => {
                    unary(
                        request,
                        header,
                        move |compaction: CompactionRequest| async move {
                            let answer = store.compact(compaction.revision).await?;
                            Ok(Answer {
                                revision: answer.revision,
                                body: Empty {},
                            })
                        },
                    )
                    .await
                }
                _ => unimplemented_call(),
            })
        })
    }
}

impl tower::Service<http::Request<Body>> for Maintenance {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = HttpFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> HttpFuture {
        let (store, header) = (self.0.store.clone(), self.0.header());
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/etcdserverpb.Maintenance/Status" => {
                    unary(request, header, move |_: Empty| async move {
                        Ok(status_body(&*store))
                    })
                    .await
                }
                _ => unimplemented_call(),
            })
        })
    }
}

fn status_body(store: &dyn Store) -> Answer<StatusBody> {
    let status = store.status();
    let size = i64::try_from(status.size_bytes).unwrap_or(i64::MAX);
    Answer {
        revision: status.revision,
        body: StatusBody {
            version: ETCD_VERSION.into(),
            db_size: size,
            leader: status.leader_id,
            raft_index: status.raft_index,
            raft_term: status.raft_term,
            raft_applied_index: status.raft_applied_index,
            db_size_in_use: size,
            is_learner: status.is_learner,
        },
    }
}

/// A put is a transaction of one operation: the store has one way to write.
async fn put(store: &dyn Store, request: PutRequest) -> Result<Answer<PutResponse>, StoreError> {
    let answer = store.txn(single(Operation::Put(request))).await?;
    let body = match first(answer.body.responses) {
        Some(ResponseBody::Put(body)) => body,
        _ => PutResponse::default(),
    };
    Ok(Answer {
        revision: answer.revision,
        body,
    })
}

async fn delete(
    store: &dyn Store,
    request: DeleteRangeRequest,
) -> Result<Answer<DeleteRangeResponse>, StoreError> {
    let answer = store.txn(single(Operation::DeleteRange(request))).await?;
    let body = match first(answer.body.responses) {
        Some(ResponseBody::DeleteRange(body)) => body,
        _ => DeleteRangeResponse::default(),
    };
    Ok(Answer {
        revision: answer.revision,
        body,
    })
}

fn single(operation: Operation) -> TxnRequest {
    TxnRequest {
        success: vec![RequestOp {
            request: Some(operation),
        }],
        ..Default::default()
    }
}

fn first(responses: Vec<kv::ResponseOp>) -> Option<ResponseBody> {
    responses
        .into_iter()
        .next()
        .and_then(|operation| operation.response)
}

async fn unary<Q, A, F, Fut>(
    request: http::Request<Body>,
    header: Header,
    call: F,
) -> http::Response<Body>
where
    Q: prost::Message + Default + 'static,
    A: prost::Message + Default + 'static,
    F: FnOnce(Q) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Answer<A>, StoreError>> + Send + 'static,
{
    let mut call = Some(call);
    let handler = tower::service_fn(move |request: Request<Q>| {
        let call = call.take();
        let header = header.clone();
        async move {
            let call = call.ok_or_else(|| Status::internal("a call is made once"))?;
            let answer = call(request.into_inner())
                .await
                .map_err(|error| status(&error))?;
            let header = Header {
                revision: answer.revision,
                ..header
            };
            Ok::<_, Status>(Response::new(Headed {
                header,
                body: answer.body,
            }))
        }
    });
    let codec: ProstCodec<Headed<A>, Q> = ProstCodec::default();
    Grpc::new(codec)
        .apply_max_message_size_config(Some(REQUEST_BYTES_MAX), Some(usize::MAX))
        .unary(handler, request)
        .await
}

fn unimplemented_call() -> http::Response<Body> {
    Status::new(
        Code::Unimplemented,
        "etcdserver: not supported by this server yet",
    )
    .into_http()
}
