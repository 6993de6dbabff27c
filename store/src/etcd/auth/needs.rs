//! What each request needs to be allowed. One pure function for each method, named where the method is
//! ([`crate::etcd::methods`]). A request that is refused whatever its sender may do is refused here, in etcd's order.

use bytes::Bytes;
use kv::{
    DeleteRangeRequest, KeyRange, PutRequest, RangeRequest, Refusal, Request as Operation,
    RequestOp, TxnRequest,
};

use super::NameRequest;
use crate::etcd::errors::Fault;
use crate::etcd::message::{
    AlarmAction, AlarmRequest, CampaignRequest, LeaderKey, LeaderRequest, LeaseId, LockRequest,
    ProclaimRequest, ResignRequest, UnlockRequest, WatchRequest, WatchUnion,
};
use crate::etcd::turn::{place_of, prefix_of, under};
use crate::etcd::watch::range_of;

/// One thing that a caller must be allowed.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::etcd) enum Need {
    /// To be somebody.
    User,
    /// To have the root role.
    Root,
    Read(KeyRange),
    Write(KeyRange),
    /// To write all keys that a lease has. Asked before something that is not a write.
    RenewLease(i64),
    /// To write all keys that the leases have which the request names. That is asked in the moment of the write (see
    /// [`kv::Entry::with_leases_of`]): here nobody can know which keys those will be.
    WriteLeases,
    /// To read all keys that any lease has.
    ReadLeases,
    /// To have the root role, or be this user.
    LookAtUser(String),
    /// To have the root role, or this one.
    LookAtRole(String),
    /// To have the root role, in order to look.
    LookAtAll,
}

impl Need {
    /// Nothing is changed by a request that needs but this.
    pub(super) fn is_to_read(&self) -> bool {
        match self {
            Need::Read(_) | Need::ReadLeases => true,
            Need::LookAtUser(_) | Need::LookAtRole(_) | Need::LookAtAll => true,
            Need::User | Need::Root | Need::Write(_) => false,
            Need::RenewLease(_) | Need::WriteLeases => false,
        }
    }
}

pub(in crate::etcd) type Needs = Result<Vec<Need>, Fault>;

/// Open to everybody.
pub(in crate::etcd) fn nothing<Q>(_: &Q) -> Needs {
    Ok(Vec::new())
}

pub(in crate::etcd) fn a_user<Q>(_: &Q) -> Needs {
    Ok(vec![Need::User])
}

pub(in crate::etcd) fn root<Q>(_: &Q) -> Needs {
    Ok(vec![Need::Root])
}

pub(in crate::etcd) fn look_at_all<Q>(_: &Q) -> Needs {
    Ok(vec![Need::LookAtAll])
}

pub(in crate::etcd) fn look_at_user(request: &NameRequest) -> Needs {
    Ok(vec![Need::LookAtUser(request.name.clone())])
}

pub(in crate::etcd) fn look_at_role(request: &NameRequest) -> Needs {
    Ok(vec![Need::LookAtRole(request.name.clone())])
}

pub(in crate::etcd) fn to_range(request: &RangeRequest) -> Needs {
    kv::check_range(request)?;
    let mut needs = Vec::new();
    add_range(&mut needs, request);
    Ok(needs)
}

pub(in crate::etcd) fn to_put(request: &PutRequest) -> Needs {
    if request.key.is_empty() {
        return Err(Refusal::EmptyKey.into());
    }
    let mut needs = Vec::new();
    add_put(&mut needs, request);
    Ok(needs)
}

pub(in crate::etcd) fn to_delete(request: &DeleteRangeRequest) -> Needs {
    if request.key.is_empty() {
        return Err(Refusal::EmptyKey.into());
    }
    let mut needs = Vec::new();
    add_delete(&mut needs, request);
    Ok(needs)
}

/// Both branches count, and all that is nested in them: which one runs is itself something to be read.
pub(in crate::etcd) fn to_txn(request: &TxnRequest) -> Needs {
    kv::check_txn(request)?;
    let mut needs = Vec::new();
    add_txn(&mut needs, request);
    // Empty, it tells the revision, as every answer does.
    if needs.is_empty() {
        needs.push(Need::User);
    }
    Ok(needs)
}

fn add_range(needs: &mut Vec<Need>, request: &RangeRequest) {
    let range = KeyRange::new(&request.key, &request.range_end);
    needs.push(Need::Read(range));
}

fn add_put(needs: &mut Vec<Need>, request: &PutRequest) {
    let key = KeyRange::One(request.key.clone());
    needs.push(Need::Write(key.clone()));
    // Who could not end the lease may not give keys to it either.
    add_lease(needs, request.lease);
    if request.prev_kv {
        needs.push(Need::Read(key));
    }
}

fn add_lease(needs: &mut Vec<Need>, lease: i64) {
    if lease != 0 {
        needs.push(Need::WriteLeases);
    }
}

fn add_delete(needs: &mut Vec<Need>, request: &DeleteRangeRequest) {
    let range = KeyRange::new(&request.key, &request.range_end);
    needs.push(Need::Write(range.clone()));
    if request.prev_kv {
        needs.push(Need::Read(range));
    }
}

fn add_txn(needs: &mut Vec<Need>, request: &TxnRequest) {
    for compare in &request.compare {
        let range = KeyRange::new(&compare.key, &compare.range_end);
        needs.push(Need::Read(range));
    }
    for RequestOp { request } in request.success.iter().chain(&request.failure) {
        match request {
            Some(Operation::Range(request)) => add_range(needs, request),
            Some(Operation::Put(request)) => add_put(needs, request),
            Some(Operation::DeleteRange(request)) => add_delete(needs, request),
            Some(Operation::Txn(request)) => add_txn(needs, request),
            None => {}
        }
    }
}

/// The whole range that is watched. What cannot be watched is said when it is tried.
pub(in crate::etcd) fn to_watch(request: &WatchRequest) -> Needs {
    let Some(WatchUnion::Create(create)) = &request.union else {
        return Ok(Vec::new());
    };
    Ok(match range_of(create) {
        Ok((key, range_end)) => vec![Need::Read(KeyRange::new(&key, &range_end))],
        Err(_) => vec![Need::User],
    })
}

pub(in crate::etcd) fn to_end_lease(_: &LeaseId) -> Needs {
    Ok(vec![Need::User, Need::WriteLeases])
}

pub(in crate::etcd) fn to_renew_lease(request: &LeaseId) -> Needs {
    Ok(vec![Need::RenewLease(request.id)])
}

/// To read these keys.
pub(in crate::etcd) fn to_read_keys(keys: &[Bytes]) -> Vec<Need> {
    let one = |key: &Bytes| Need::Read(KeyRange::One(key.clone()));
    keys.iter().map(one).collect()
}

/// That a key is leased says that it is there.
pub(in crate::etcd) fn to_look_at_leases<Q>(_: &Q) -> Needs {
    Ok(vec![Need::ReadLeases])
}

pub(in crate::etcd) fn to_alarm(request: &AlarmRequest) -> Needs {
    Ok(match AlarmAction::try_from(request.action) {
        Ok(AlarmAction::Get) => vec![Need::User],
        _ => vec![Need::Root],
    })
}

pub(in crate::etcd) fn to_lock(request: &LockRequest) -> Needs {
    Ok(to_stand_in_line(&request.name, request.lease))
}

pub(in crate::etcd) fn to_unlock(request: &UnlockRequest) -> Needs {
    if request.key.is_empty() {
        return Err(Refusal::EmptyKey.into());
    }
    Ok(vec![Need::Write(KeyRange::One(request.key.clone()))])
}

pub(in crate::etcd) fn to_campaign(request: &CampaignRequest) -> Needs {
    Ok(to_stand_in_line(&request.name, request.lease))
}

/// A place in a line is a key, and one looks at the others. Without a lease it will be some key there.
fn to_stand_in_line(name: &Bytes, lease: i64) -> Vec<Need> {
    let prefix = prefix_of(name);
    let line = line_of(&prefix);
    let place = match lease {
        0 => line.clone(),
        lease => KeyRange::One(place_of(&prefix, lease)),
    };
    let mut needs = vec![Need::Read(line), Need::Write(place)];
    add_lease(&mut needs, lease);
    needs
}

fn line_of(prefix: &Bytes) -> KeyRange {
    let line = under(prefix);
    KeyRange::new(&line.key, &line.range_end)
}

pub(in crate::etcd) fn to_proclaim(request: &ProclaimRequest) -> Needs {
    let leader = request.leader.as_ref().ok_or(Fault::LeaderMissing)?;
    let mut needs = as_leader(leader)?;
    add_lease(&mut needs, leader.lease);
    Ok(needs)
}

pub(in crate::etcd) fn to_resign(request: &ResignRequest) -> Needs {
    as_leader(request.leader.as_ref().ok_or(Fault::LeaderMissing)?)
}

fn as_leader(leader: &LeaderKey) -> Needs {
    if leader.key.is_empty() {
        return Err(Refusal::EmptyKey.into());
    }
    let key = KeyRange::One(leader.key.clone());
    Ok(vec![Need::Read(key.clone()), Need::Write(key)])
}

pub(in crate::etcd) fn to_see_leader(request: &LeaderRequest) -> Needs {
    Ok(vec![Need::Read(line_of(&prefix_of(&request.name)))])
}

#[cfg(test)]
mod tests {
    use kv::{Compare, CompareTarget};

    use super::*;

    fn one(key: &'static str) -> KeyRange {
        KeyRange::One(key.into())
    }

    fn span(start: &'static str, end: &'static str) -> KeyRange {
        KeyRange::new(&start.into(), &end.into())
    }

    fn op(request: Operation) -> RequestOp {
        RequestOp {
            request: Some(request),
        }
    }

    fn put(key: &'static str) -> PutRequest {
        PutRequest {
            key: key.into(),
            ..PutRequest::default()
        }
    }

    #[test]
    fn a_transaction_needs_what_all_of_it_needs_nested_or_not_run() {
        let range = RangeRequest {
            key: "r".into(),
            range_end: "s".into(),
            count_only: true,
            ..RangeRequest::default()
        };
        let delete = DeleteRangeRequest {
            key: "x".into(),
            range_end: "\0".into(),
            prev_kv: true,
        };
        let with_lease = PutRequest {
            lease: 7,
            prev_kv: true,
            ..put("l")
        };
        let compare = Compare {
            target: CompareTarget::Mod as i32,
            key: "c".into(),
            range_end: "e".into(),
            ..Compare::default()
        };
        let nested = TxnRequest {
            compare: vec![Compare {
                key: "n".into(),
                range_end: Bytes::new(),
                ..compare.clone()
            }],
            success: vec![op(Operation::Put(put("p")))],
            failure: vec![op(Operation::Put(with_lease))],
        };
        let request = TxnRequest {
            compare: vec![compare],
            success: vec![op(Operation::Range(range))],
            failure: vec![
                op(Operation::Txn(nested)),
                op(Operation::DeleteRange(delete)),
            ],
        };
        let want = [
            Need::Read(span("c", "e")),
            Need::Read(span("r", "s")),
            Need::Read(one("n")),
            Need::Write(one("p")),
            Need::Write(one("l")),
            Need::WriteLeases,
            Need::Read(one("l")),
            Need::Write(span("x", "\0")),
            Need::Read(span("x", "\0")),
        ];
        assert_eq!(to_txn(&request).unwrap(), want);
        assert_eq!(to_txn(&TxnRequest::default()).unwrap(), [Need::User]);
    }

    #[test]
    fn what_is_wrong_is_refused_before_anybody_is_asked() {
        let empty = Err(Refusal::EmptyKey.into());
        assert_eq!(to_range(&RangeRequest::default()), empty);
        assert_eq!(to_put(&PutRequest::default()), empty);
        assert_eq!(to_delete(&DeleteRangeRequest::default()), empty);
        assert_eq!(to_unlock(&UnlockRequest::default()), empty);
        let missing = Err(Fault::LeaderMissing);
        assert_eq!(to_resign(&ResignRequest::default()), missing);
        assert_eq!(to_proclaim(&ProclaimRequest::default()), missing);
    }

    #[test]
    fn a_place_in_line_is_its_key_and_the_line_is_read() {
        let lock = |lease| {
            let name = "a".into();
            to_lock(&LockRequest { name, lease }).unwrap()
        };
        let line = span("a/", "a0");
        let any = [Need::Read(line.clone()), Need::Write(line.clone())];
        assert_eq!(lock(0), any);
        let own = [
            Need::Read(line),
            Need::Write(one("a/1f")),
            Need::WriteLeases,
        ];
        assert_eq!(lock(31), own);
    }
}
