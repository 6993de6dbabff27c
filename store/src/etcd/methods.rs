//! The methods that are served: one line each, which says what answers it and what its sender needs to be allowed.
//! Server reflection and the tests read the same list.

use std::sync::Arc;

use tonic::body::Body;
use tonic::{Code, Status};

use super::admission::{Class, Place};
use super::errors::Fault;
use super::front::Front;
pub(super) use super::rpc::client_of;
use super::rpc::{HttpFuture, both_streams, server_stream, sized, unary};
use super::tally::{Counted, Tally};
use super::{
    auth, cluster, election, history, kv, lease, lock, maintenance, members, reflection, watch,
};

/// A path, and what answers it.
pub(super) struct Method {
    pub(super) path: &'static str,
    /// Which of the functions in `rpc.rs` it goes through.
    pub(super) shape: &'static str,
    call: fn(Arc<Front>, http::Request<Body>) -> HttpFuture,
}

macro_rules! methods {
    ($($path:literal => $shape:ident($method:path, $needs:path);)*) => {
        pub(super) static METHODS: &[Method] = &[
            $(Method {
                path: $path,
                shape: stringify!($shape),
                call: |front, request| $shape(front, request, $method, $needs),
            },)*
        ];
    };
}

methods! {
    "/etcdserverpb.KV/Range" => sized(kv::range, auth::to_range);
    "/etcdserverpb.KV/RangeStream" => server_stream(kv::range_stream, auth::to_range);
    "/etcdserverpb.KV/Put" => unary(kv::put, auth::to_put);
    "/etcdserverpb.KV/DeleteRange" => unary(kv::delete_range, auth::to_delete);
    "/etcdserverpb.KV/Txn" => unary(kv::txn, auth::to_txn);
    "/etcdserverpb.KV/Compact" => unary(kv::compact, auth::root);
    "/etcdserverpb.Watch/Watch" => both_streams(watch::watch, auth::to_watch);
    "/etcdserverpb.Lease/LeaseGrant" => unary(lease::grant, auth::a_user);
    "/etcdserverpb.Lease/LeaseRevoke" => unary(lease::revoke, auth::to_end_lease);
    "/etcdserverpb.Lease/LeaseKeepAlive" => both_streams(lease::keep_alive, auth::to_renew_lease);
    "/etcdserverpb.Lease/LeaseTimeToLive" => unary(lease::time_to_live, auth::a_user);
    "/etcdserverpb.Lease/LeaseLeases" => unary(lease::leases, auth::to_look_at_leases);
    "/etcdserverpb.Cluster/MemberAdd" => unary(cluster::add, auth::root);
    "/etcdserverpb.Cluster/MemberRemove" => unary(cluster::remove, auth::root);
    "/etcdserverpb.Cluster/MemberUpdate" => unary(cluster::update, auth::root);
    "/etcdserverpb.Cluster/MemberList" => unary(cluster::list, auth::a_user);
    "/etcdserverpb.Cluster/MemberPromote" => unary(cluster::promote, auth::root);
    "/etcdserverpb.Maintenance/Alarm" => unary(maintenance::alarm, auth::to_alarm);
    "/etcdserverpb.Maintenance/Status" => unary(maintenance::status, auth::root);
    "/etcdserverpb.Maintenance/Defragment" => unary(maintenance::defragment, auth::root);
    "/etcdserverpb.Maintenance/Hash" => unary(maintenance::hash, auth::root);
    "/etcdserverpb.Maintenance/HashKV" => unary(maintenance::hash_kv, auth::root);
    "/etcdserverpb.Maintenance/Snapshot" => server_stream(maintenance::snapshot, auth::root);
    "/etcdserverpb.Maintenance/MoveLeader" => unary(maintenance::move_leader, auth::root);
    "/etcdserverpb.Maintenance/Downgrade" => unary(maintenance::downgrade, auth::root);
    "/etcdserverpb.Auth/AuthEnable" => unary(auth::enable, auth::root);
    "/etcdserverpb.Auth/AuthDisable" => unary(auth::disable, auth::root);
    "/etcdserverpb.Auth/AuthStatus" => unary(auth::status, auth::nothing);
    "/etcdserverpb.Auth/Authenticate" => unary(auth::authenticate, auth::nothing);
    "/etcdserverpb.Auth/UserAdd" => unary(auth::user_add, auth::root);
    "/etcdserverpb.Auth/UserGet" => unary(auth::user_get, auth::look_at_user);
    "/etcdserverpb.Auth/UserList" => unary(auth::user_list, auth::look_at_all);
    "/etcdserverpb.Auth/UserDelete" => unary(auth::user_delete, auth::root);
    "/etcdserverpb.Auth/UserChangePassword" => unary(auth::user_change_password, auth::root);
    "/etcdserverpb.Auth/UserGrantRole" => unary(auth::user_grant_role, auth::root);
    "/etcdserverpb.Auth/UserRevokeRole" => unary(auth::user_revoke_role, auth::root);
    "/etcdserverpb.Auth/RoleAdd" => unary(auth::role_add, auth::root);
    "/etcdserverpb.Auth/RoleGet" => unary(auth::role_get, auth::look_at_role);
    "/etcdserverpb.Auth/RoleList" => unary(auth::role_list, auth::look_at_all);
    "/etcdserverpb.Auth/RoleDelete" => unary(auth::role_delete, auth::root);
    "/etcdserverpb.Auth/RoleGrantPermission" => unary(auth::role_grant_permission, auth::root);
    "/etcdserverpb.Auth/RoleRevokePermission" => unary(auth::role_revoke_permission, auth::root);
    "/kontikipb.History/RevisionAt" => unary(history::revision_at, auth::a_user);
    "/kontikipb.History/TimesOf" => unary(history::times_of, auth::a_user);
    "/kontikipb.Members/Reports" => unary(members::reports, auth::root);
    "/v3lockpb.Lock/Lock" => unary(lock::lock, auth::to_lock);
    "/v3lockpb.Lock/Unlock" => unary(lock::unlock, auth::to_unlock);
    "/v3electionpb.Election/Campaign" => unary(election::campaign, auth::to_campaign);
    "/v3electionpb.Election/Proclaim" => unary(election::proclaim, auth::to_proclaim);
    "/v3electionpb.Election/Leader" => unary(election::leader, auth::to_see_leader);
    "/v3electionpb.Election/Observe" => server_stream(election::observe, auth::to_see_leader);
    "/v3electionpb.Election/Resign" => unary(election::resign, auth::to_resign);
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo" => both_streams(reflection::reflect, auth::nothing);
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => both_streams(reflection::reflect, auth::nothing);
}

pub(super) fn dispatch(front: Arc<Front>, mut request: http::Request<Body>) -> HttpFuture {
    let path = request.uri().path().to_string();
    match enter(&front, &mut request, &path) {
        Ok(entered) => entered.carry_out(front, request),
        Err(status) => Box::pin(async move { status.into_http() }),
    }
}

/// A call that has got its place.
pub(super) struct Entered {
    method: &'static Method,
    counted: Counted,
    place: Place,
}

/// Gives a call of a method a place, in its client's name. Nothing is received of it before.
pub(super) fn enter(
    front: &Front,
    request: &mut http::Request<Body>,
    path: &str,
) -> Result<Entered, Status> {
    let place = METHODS.iter().position(|method| method.path == path);
    let place = place.ok_or_else(|| Status::new(Code::Unimplemented, unknown(path)))?;
    let (method, mut counted) = (&METHODS[place], Counted::begin(Tally::of(place)));
    let mut refused = |fault: Fault| {
        counted.end(fault.code());
        Status::from(fault)
    };
    if front.backend.is_learner() && !of_learners(path) {
        return Err(refused(Fault::NotForLearner));
    }
    if let Some(user) = front.claimed_user(request) {
        request.extensions_mut().insert(front.clients.user(user));
    }
    let client = client_of(front, request);
    let place = client.enter(Class::of(path));
    let place = place.map_err(|error| refused(error.into()))?;
    request.extensions_mut().insert(client);
    Ok(Entered {
        method,
        counted,
        place,
    })
}

impl Entered {
    pub(super) fn carry_out(
        self,
        front: Arc<Front>,
        mut request: http::Request<Body>,
    ) -> HttpFuture {
        let Entered {
            method,
            counted,
            place,
        } = self;
        request.extensions_mut().insert(counted.tally);
        let called = (method.call)(front, request);
        Box::pin(async move { counted.follow(called.await, place) })
    }
}

/// What a learner answers; of ranges, those that are served locally (see [`kv::range`]).
fn of_learners(path: &str) -> bool {
    const ANSWERED: [&str; 5] = [
        "/etcdserverpb.KV/Range",
        "/etcdserverpb.KV/RangeStream",
        "/etcdserverpb.Maintenance/Status",
        "/etcdserverpb.Maintenance/Snapshot",
        "/kontikipb.Members/Reports",
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
