//! The methods that are served: one line each. Server reflection and the tests read the same list.

use std::sync::Arc;

use tonic::body::Body;
use tonic::{Code, Status};

use super::errors::Fault;
use super::front::Front;
use super::rpc::{HttpFuture, both_streams, server_stream, sized, unary};
use super::{auth, cluster, election, history, kv, lease, lock, maintenance, reflection, watch};

/// A path, and what answers it.
pub(super) struct Method {
    pub(super) path: &'static str,
    call: fn(Arc<Front>, http::Request<Body>) -> HttpFuture,
}

macro_rules! methods {
    ($($path:literal => $shape:ident($method:path);)*) => {
        pub(super) static METHODS: &[Method] = &[
            $(Method { path: $path, call: |front, request| $shape(front, request, $method) },)*
        ];
    };
}

methods! {
    "/etcdserverpb.KV/Range" => sized(kv::range);
    "/etcdserverpb.KV/RangeStream" => server_stream(kv::range_stream);
    "/etcdserverpb.KV/Put" => unary(kv::put);
    "/etcdserverpb.KV/DeleteRange" => unary(kv::delete_range);
    "/etcdserverpb.KV/Txn" => unary(kv::txn);
    "/etcdserverpb.KV/Compact" => unary(kv::compact);
    "/etcdserverpb.Watch/Watch" => both_streams(watch::watch);
    "/etcdserverpb.Lease/LeaseGrant" => unary(lease::grant);
    "/etcdserverpb.Lease/LeaseRevoke" => unary(lease::revoke);
    "/etcdserverpb.Lease/LeaseKeepAlive" => both_streams(lease::keep_alive);
    "/etcdserverpb.Lease/LeaseTimeToLive" => unary(lease::time_to_live);
    "/etcdserverpb.Lease/LeaseLeases" => unary(lease::leases);
    "/etcdserverpb.Cluster/MemberAdd" => unary(cluster::add);
    "/etcdserverpb.Cluster/MemberRemove" => unary(cluster::remove);
    "/etcdserverpb.Cluster/MemberUpdate" => unary(cluster::update);
    "/etcdserverpb.Cluster/MemberList" => unary(cluster::list);
    "/etcdserverpb.Cluster/MemberPromote" => unary(cluster::promote);
    "/etcdserverpb.Maintenance/Alarm" => unary(maintenance::alarm);
    "/etcdserverpb.Maintenance/Status" => unary(maintenance::status);
    "/etcdserverpb.Maintenance/Defragment" => unary(maintenance::defragment);
    "/etcdserverpb.Maintenance/Hash" => unary(maintenance::hash);
    "/etcdserverpb.Maintenance/HashKV" => unary(maintenance::hash_kv);
    "/etcdserverpb.Maintenance/Snapshot" => server_stream(maintenance::snapshot);
    "/etcdserverpb.Maintenance/MoveLeader" => unary(maintenance::move_leader);
    "/etcdserverpb.Maintenance/Downgrade" => unary(maintenance::downgrade);
    "/etcdserverpb.Auth/AuthStatus" => unary(auth::status);
    "/kontikipb.History/RevisionAt" => unary(history::revision_at);
    "/kontikipb.History/TimeOf" => unary(history::time_of);
    "/v3lockpb.Lock/Lock" => unary(lock::lock);
    "/v3lockpb.Lock/Unlock" => unary(lock::unlock);
    "/v3electionpb.Election/Campaign" => unary(election::campaign);
    "/v3electionpb.Election/Proclaim" => unary(election::proclaim);
    "/v3electionpb.Election/Leader" => unary(election::leader);
    "/v3electionpb.Election/Observe" => server_stream(election::observe);
    "/v3electionpb.Election/Resign" => unary(election::resign);
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo" => both_streams(reflection::reflect);
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => both_streams(reflection::reflect);
}

pub(super) fn dispatch(front: Arc<Front>, request: http::Request<Body>) -> HttpFuture {
    let path = request.uri().path();
    match METHODS.iter().find(|method| method.path == path) {
        Some(method) if front.backend.is_learner() && !of_learners(method.path) => {
            let refused = Status::from(Fault::NotForLearner);
            Box::pin(async move { refused.into_http() })
        }
        Some(method) => (method.call)(front, request),
        None => {
            let text = unknown(path);
            Box::pin(async move { Status::new(Code::Unimplemented, text).into_http() })
        }
    }
}

/// What a learner answers; of ranges, those that are served locally (see [`kv::range`]).
fn of_learners(path: &str) -> bool {
    const ANSWERED: [&str; 4] = [
        "/etcdserverpb.KV/Range",
        "/etcdserverpb.KV/RangeStream",
        "/etcdserverpb.Maintenance/Status",
        "/etcdserverpb.Maintenance/Snapshot",
    ];
    ANSWERED.contains(&path) || path.starts_with("/grpc.reflection.")
}

/// The words of gRPC servers in Go.
fn unknown(path: &str) -> String {
    match path.trim_start_matches('/').split_once('/') {
        Some((service, method)) if serves(service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
        None => format!("malformed method name: {path:?}"),
    }
}

fn serves(service: &str) -> bool {
    let of = |method: &Method| method.path[1..].split_once('/').map(|(service, _)| service);
    METHODS.iter().any(|method| of(method) == Some(service))
}
