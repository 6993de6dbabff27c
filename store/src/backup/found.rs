//! Making the data directory of a member out of a state that is given: what an archive and the end of a cluster have
//! in common.
//!
//! The log of such a directory is empty and begins after the state, whose last entry is the membership. All members of
//! a restored cluster begin with the same entry, so they agree on what came before.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use prost::Message;

use super::{BUMP_REVISION_MAX, BackupError, NewCluster};
use crate::config::InitialMember;
use crate::data_dir::{DataDir, Identity};
use crate::disk::{self, LogIdRecord, MembershipRecord, Position};
use crate::env::{Engine, LogOp};
use crate::raft::machine::{Machine, Replica};
use crate::raft::types::{Entry, LogId, Membership, PeerNode, Proposal, Vote};

/// The members of the new cluster, each with the incarnation of its directory.
pub(super) type Members = BTreeMap<u64, (InitialMember, u64)>;

/// The membership of these as voters, as it stands at this place of the log.
fn membership(members: &Members, at: LogId) -> io::Result<MembershipRecord> {
    let nodes = members.iter().map(|(id, (member, incarnation))| {
        let node = PeerNode {
            name: member.name.clone(),
            peer_address: member.peer_address.clone(),
            incarnation: *incarnation,
            ..PeerNode::default()
        };
        (*id, node)
    });
    let nodes: BTreeMap<u64, PeerNode> = nodes.collect();
    let voters: BTreeSet<u64> = members.keys().copied().collect();
    let membership = Membership::new(vec![voters], nodes).map_err(disk::damaged)?;
    Ok(MembershipRecord::new(Some(at), &membership))
}

/// A revision that no client of the old cluster has seen, with everything before it compacted: watches that go on from
/// an older one are told so, and list again.
pub(super) fn moved_forward(revision: i64, bump: i64) -> Result<i64, BackupError> {
    let possible = (1..=BUMP_REVISION_MAX).contains(&bump);
    let moved = revision.checked_add(bump);
    let moved = moved.filter(|moved| possible && *moved <= i64::MAX / 2);
    moved.ok_or(BackupError::Bump(bump))
}

/// A directory on its way. What is left of an earlier attempt is removed.
pub(super) fn begin(
    path: &Path,
    identity: &Identity,
    members: &Members,
) -> Result<DataDir, BackupError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(BackupError::io("cannot remove", path)(error));
        }
        _ => {}
    }
    let others = members.iter().filter(|(id, _)| **id != identity.member_id);
    let met = others.map(|(id, (_, incarnation))| (*id, *incarnation));
    Ok(DataDir::begin(path, identity, &met.collect())?)
}

/// Makes the directory a whole one: the state as it stands goes over to the new cluster, and the log begins after it.
/// Answers the revision.
pub(super) fn complete(
    dir: DataDir,
    replica: Arc<Replica>,
    engine: &dyn Engine,
    voted: &Vote,
    cluster: &NewCluster,
    members: &Members,
) -> Result<i64, BackupError> {
    let damaged = |error| dir.failed("the state", error);
    let last = replica.position().applied.map_or(0, |id| id.index);
    let machine = Machine::new(replica.clone());
    // Of members that are no more, or that will raise them again.
    let calm = kv::Command::Alarm(kv::AlarmChange {
        alarm: kv::Alarm {
            member: 0,
            kind: kv::AlarmKind::None as i32,
        },
        raised: false,
    });
    let calm = kv::Entry::new(0, calm).encode_to_vec();
    let calm = EntryPayload::Normal(Proposal(calm.into()));
    let term = voted.leader_id.term;
    let calm = Entry::new(disk::log_id(term, last + 1), calm);
    machine.replay(vec![calm]).map_err(damaged)?;

    let at = disk::log_id(term, last + 2);
    let revision = moved_forward(replica.position().revision, cluster.bump_revision)?;
    let position = Position {
        applied: Some(LogIdRecord::from(at)),
        membership: Some(membership(members, at).map_err(damaged)?),
        revision,
        compact_revision: revision,
        cluster_id: cluster.cluster_id,
        ..replica.position()
    };
    let state = replica.disk().opened();
    let writes = [kv::Write::Compact(revision), kv::Write::Revision(revision)];
    state.write(&writes, &position).map_err(damaged)?;
    state.flush().map_err(damaged)?;
    let log = engine.open_log(dir.path(), true);
    log.and_then(|log| log.write(&[LogOp::Vote(*voted), LogOp::Purge(at)], true))
        .map_err(|error| dir.failed("the log", error))?;
    dir.created()?;
    Ok(revision)
}

/// A name beside a directory's.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Removes what an attempt has made, if it failed: it may be what has filled the disk.
pub(super) fn or_nothing<T>(staged: &Path, made: Result<T, BackupError>) -> Result<T, BackupError> {
    if made.is_err() {
        let _ = std::fs::remove_dir_all(staged);
    }
    made
}

/// Renames, durably.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), BackupError> {
    std::fs::rename(from, to).map_err(BackupError::io("cannot rename to", to))?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let sync = std::fs::File::open(parent).and_then(|dir| dir.sync_all());
    sync.map_err(BackupError::io("cannot sync", parent))
}
