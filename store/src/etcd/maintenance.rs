//! etcd's Maintenance service.

use std::ops::ControlFlow;
use std::sync::Arc;

use kv::{AlarmKind, RangeRequest, StoreError, StoreStatus};
use prost::Message;
use tokio::sync::mpsc;

use super::archive::{self, BLOB_BYTES};
use super::errors::Fault;
use super::front::{ETCD_CLUSTER_VERSION, ETCD_VERSION, Front};
use super::headed::Headed;
use super::message::{
    AlarmAction, AlarmBody, AlarmMember, AlarmRequest, DowngradeAction, DowngradeBody,
    DowngradeInfo, DowngradeRequest, Empty, HashBody, HashKvBody, HashKvRequest, MoveLeaderRequest,
    SnapshotBody, StatusBody,
};
use super::rpc::{Answers, Call};

/// Served without a quorum.
pub(super) async fn status(call: Call, _: Empty) -> Result<Headed<StatusBody>, Fault> {
    let front = &call.front;
    let status = front.backend.status();
    let leader = front.backend.leader();
    let alarms = front.backend.alarms();
    let mut answer = front.now(status_body(&status, leader, &alarms));
    answer.header.revision = status.revision;
    Ok(answer)
}

fn status_body(status: &StoreStatus, leader: Option<u64>, alarms: &[kv::Alarm]) -> StatusBody {
    let size = i64::try_from(status.size_bytes).unwrap_or(i64::MAX);
    let no_leader = leader.is_none().then(|| StoreError::NoLeader.to_string());
    // As etcd prints its alarm messages.
    let alarms = alarms.iter().map(|alarm| {
        let kind = AlarmKind::try_from(alarm.kind).unwrap_or(AlarmKind::None);
        format!("memberID:{} alarm:{} ", alarm.member, etcds_name(kind))
    });
    let errors = no_leader.into_iter().chain(alarms).collect();
    StatusBody {
        version: ETCD_VERSION.into(),
        db_size: size,
        leader: leader.unwrap_or(0),
        raft_index: status.raft_index,
        raft_term: status.raft_term,
        raft_applied_index: status.raft_applied_index,
        errors,
        db_size_in_use: size,
        is_learner: status.is_learner,
        storage_version: ETCD_CLUSTER_VERSION.into(),
        // There is no quota: what is full is the disk.
        db_size_quota: 0,
        downgrade_info: Some(DowngradeInfo::default()),
    }
}

fn etcds_name(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::None => "NONE",
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    }
}

/// Members raise and end their alarms themselves; a client may do both, too. One that is ended while its cause is there
/// comes back.
pub(super) async fn alarm(call: Call, request: AlarmRequest) -> Result<Headed<AlarmBody>, Fault> {
    let backend = &call.front.backend;
    let asked = kv::Alarm {
        member: request.member_id,
        kind: request.alarm,
    };
    let change = |raised| {
        let alarm = asked;
        backend.propose(kv::Command::Alarm(kv::AlarmChange { alarm, raised }))
    };
    let alarms = match AlarmAction::try_from(request.action) {
        Ok(AlarmAction::Get) => {
            let mut alarms = backend.alarms();
            alarms.retain(|alarm| kv::alarm_matches(*alarm, asked));
            alarms
        }
        Ok(AlarmAction::Activate) => {
            changed(change(true).await?.body);
            // Also where it stood already.
            vec![asked]
        }
        Ok(AlarmAction::Deactivate) => changed(change(false).await?.body),
        // etcd answers an action that it does not know with nothing, too.
        Err(_) => Vec::new(),
    };
    let alarms = alarms.into_iter().map(|alarm| AlarmMember {
        member_id: alarm.member,
        alarm: alarm.kind,
    });
    let alarms = alarms.collect();
    Ok(call.front.now(AlarmBody { alarms }))
}

fn changed(reply: kv::Reply) -> Vec<kv::Alarm> {
    match reply {
        kv::Reply::Alarms(changed) => changed.alarms,
        _ => Vec::new(),
    }
}

/// There is no older storage of Kontiki's that etcd's versions would name, so no target is valid and none is under way.
pub(super) async fn downgrade(
    _: Call,
    request: DowngradeRequest,
) -> Result<Headed<DowngradeBody>, Fault> {
    if request.action == DowngradeAction::Cancel as i32 {
        return Err(Fault::NoDowngrade);
    }
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = request.version.split('.').collect();
    match (2..=3).contains(&parts.len()) && parts.into_iter().all(number) {
        true => Err(Fault::BadDowngrade),
        false => Err(Fault::BadVersionFormat),
    }
}

/// Nothing is ever fragmented: space comes back by itself.
pub(super) async fn defragment(call: Call, _: Empty) -> Result<Headed<Empty>, Fault> {
    Ok(call.front.now(Empty {}))
}

pub(super) async fn hash(call: Call, _: Empty) -> Result<Headed<HashBody>, Fault> {
    let hashed = hash_at(&call, 0).await?;
    Ok(call.front.now(HashBody { hash: hashed.hash }))
}

pub(super) async fn hash_kv(
    call: Call,
    request: HashKvRequest,
) -> Result<Headed<HashKvBody>, Fault> {
    let hashed = hash_at(&call, request.revision.max(0)).await?;
    Ok(call.front.now(hashed))
}

/// Live keys with their values as of a revision, which is the same on every member that has it; read in parts.
async fn hash_at(call: &Call, revision: i64) -> Result<HashKvBody, Fault> {
    const KEYS: i64 = 512;
    let front = &call.front;
    // All is read, as by a large range.
    let _place = call.client.wait_for_large_range().await?;
    let mut hash = 0;
    let mut request = RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        limit: KEYS,
        revision,
        serializable: true,
        ..RangeRequest::default()
    };
    loop {
        let answer = front.backend.range(request.clone()).await?;
        if request.revision == 0 {
            request.revision = answer.revision;
        }
        for kv in &answer.body.kvs {
            hash = crc32c::crc32c_append(hash, &kv.encode_length_delimited_to_vec());
        }
        match answer.body.kvs.last() {
            Some(last) if answer.body.more => {
                let mut next = last.key.to_vec();
                next.push(0);
                request.key = next.into();
            }
            _ => break,
        }
    }
    Ok(HashKvBody {
        hash,
        compact_revision: front.backend.status().compact_revision,
        hash_revision: request.revision,
    })
}

pub(super) async fn move_leader(
    call: Call,
    request: MoveLeaderRequest,
) -> Result<Headed<Empty>, Fault> {
    call.front.backend.move_leader(request.target_id).await?;
    Ok(call.front.now(Empty {}))
}

/// Blobs on their way to a client.
const BLOBS: usize = 4;

/// An archive of the state as of now (`archive.rs`), written by a thread that waits for the client between blobs. It
/// ends with the call: a client that goes away, or takes nothing for a minute, ends it.
pub(super) async fn snapshot(call: Call, _: Empty) -> Result<Answers<Headed<SnapshotBody>>, Fault> {
    let front = call.front;
    let permit = front.snapshots.clone().try_acquire_owned();
    let permit = permit.map_err(|_| StoreError::Overloaded)?;
    let (blobs, received) = mpsc::channel(BLOBS);
    let writer = front.clone();
    front.tasks.spawn_blocking(move || {
        let _permit = permit;
        let send = |blob| archive::send_within(&blobs, Ok(blob));
        let failed = archive::write(&*writer.backend, BLOB_BYTES, &mut |blob| match send(blob) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        });
        if let Err(error) = failed {
            archive::send_within(&blobs, Err(error));
        }
    });
    let estimate = front.backend.status().size_bytes;
    Ok(answers(front, received, estimate))
}

/// The blobs as they are sent. An archive whose end does not come is a failure: clients take an end in order for the
/// whole.
pub(super) fn answers(
    front: Arc<Front>,
    received: mpsc::Receiver<Result<archive::Blob, StoreError>>,
    estimate: u64,
) -> Answers<Headed<SnapshotBody>> {
    let state = Some((front, received, estimate));
    Box::pin(futures::stream::unfold(state, |state| async move {
        let (front, mut received, left) = state?;
        let blob = match received.recv().await {
            Some(Ok(blob)) => blob,
            Some(Err(error)) => return Some((Err(error.into()), None)),
            None => return Some((Err(StoreError::TimedOut.into()), None)),
        };
        // How much is left is only known at the end; before it is an estimate that never says "nothing".
        let remaining_bytes = match blob.last {
            true => 0,
            false => left.saturating_sub(blob.bytes.len() as u64).max(1),
        };
        let answer = front.now(SnapshotBody {
            remaining_bytes,
            blob: blob.bytes,
            version: ETCD_CLUSTER_VERSION.into(),
        });
        let more = (!blob.last).then_some((front, received, remaining_bytes));
        Some((Ok(answer), more))
    }))
}
