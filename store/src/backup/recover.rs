//! A new cluster of one member out of what is left of one that has lost its quorum.
//!
//! The survivor's whole log counts as committed: what a quorum had is in it if the survivor was in that quorum, and the
//! rest might have been. So the longest log has to be chosen among the survivors. The new cluster has another id, so
//! that no old member ever speaks to the new one, and a revision that no client has seen.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::found::{self, Members};
use super::{BackupError, NewCluster};
use openraft::EntryPayload;

use crate::data_dir::{DataDir, DataDirError, Identity, RECOVERING};
use crate::disk::{self, MembershipRecord};
use crate::env::{Engine, LogDisk, StateDisk};
use crate::incarnations;
use crate::raft::machine::{Machine, Replica};
use crate::raft::types::{Entry, LogId, Vote};

/// Log entries that are applied at once.
const BATCH: u64 = 512;

/// What a member's data directory has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    pub cluster_id: u64,
    pub member_id: u64,
    /// Of the last entry of its log; the later term counts, then the higher index.
    pub last: LogEnd,
    /// Up to which index its log is in its state.
    pub applied_index: u64,
    /// Of its state, which the rest of its log may still raise.
    pub revision: i64,
    /// The members as it last knew them, by id: names and peer addresses.
    pub members: BTreeMap<u64, (String, String)>,
    /// Those of them that vote.
    pub voters: BTreeSet<u64>,
}

/// Where a log ends. The greater one of two logs has all that is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogEnd {
    pub term: u64,
    pub index: u64,
}

/// The directory of a member that does not run.
struct Opened {
    dir: DataDir,
    identity: Identity,
    log: Arc<dyn LogDisk>,
    state: Arc<dyn StateDisk>,
}

/// Looks at a data directory. Its member must not run; nothing is changed.
pub fn inspect(data_dir: &Path, engine: &dyn Engine) -> Result<Survivor, BackupError> {
    open(data_dir, engine)?.survivor()
}

/// Makes the member of this data directory the only one of a new cluster. The old directory is kept beside it, under
/// the name that is answered, with the new cluster's revision.
pub fn recover(
    data_dir: &Path,
    cluster: &NewCluster,
    engine: &dyn Engine,
) -> Result<(PathBuf, i64), BackupError> {
    let old = open(data_dir, engine)?;
    let [member] = cluster.members.as_slice() else {
        return Err(BackupError::NotAlone);
    };
    let kept = found::beside(data_dir, &format!(".before-{:016x}", cluster.cluster_id));
    if kept.exists() {
        return Err(BackupError::Occupied(kept));
    }
    let incarnation = incarnations::mint();
    let members: Members = [(member.id, (member.clone(), incarnation))].into();
    let identity = Identity {
        cluster_id: cluster.cluster_id,
        member_id: member.id,
        incarnation,
    };
    let staged = found::beside(data_dir, RECOVERING);
    let make = || {
        let dir = found::begin(&staged, &identity, &members)?;
        let replica = copy(&old, &dir, engine)?;
        // It votes no more in a term in which it may have voted.
        let term = old.log.found().vote.map_or(0, |vote| vote.leader_id.term);
        let voted = Vote::new(term.max(old.last().term), member.id);
        found::complete(dir, replica, engine, &voted, cluster, &members)
    };
    let revision = found::or_nothing(&staged, make())?;
    // Closed before it is moved.
    drop(old);
    let away = found::rename(data_dir, &kept);
    found::or_nothing(&staged, away)?;
    // What ends the process here leaves what `finish` brings to an end.
    found::rename(&staged, data_dir)?;
    Ok((kept, revision))
}

/// Brings a recovery to its end that was cut short when the old directory had been moved away and the new one was not in
/// its place yet. Answers what is there then; nothing where no recovery was.
pub fn finish(data_dir: &Path, engine: &dyn Engine) -> Result<Option<Survivor>, BackupError> {
    let staged = found::beside(data_dir, RECOVERING);
    let is_whole = |dir: &Path| dir.join("identity").exists();
    if is_whole(data_dir) || !is_whole(&staged) {
        return Ok(None);
    }
    found::rename(&staged, data_dir)?;
    inspect(data_dir, engine).map(Some)
}

/// The old state with all of the old log applied, in the new directory.
fn copy(old: &Opened, dir: &DataDir, engine: &dyn Engine) -> Result<Arc<Replica>, BackupError> {
    let damaged = |error| old.dir.failed("the state", error);
    let state = engine.open_state(dir.path(), true);
    let state = state.map_err(|error| dir.failed("the state", error))?;
    let (position, _) = old.state.opened().load().map_err(damaged)?;
    // A member that was killed young has all it knows in its log.
    if position.applied.is_some() {
        let staging = state.staging().map_err(damaged)?;
        let copy = staging.path().join("state");
        old.state.opened().checkpoint(&copy).map_err(damaged)?;
        let show = state.install(&copy, &mut |_| Ok(())).map_err(damaged)?;
        show();
    }
    let replica = Replica::load(old.identity.cluster_id, state).map_err(damaged)?;
    let machine = Machine::new(replica.clone());
    old.rest(position.applied.map(LogId::from), &mut |entries| {
        machine.replay(entries).map_err(damaged)
    })?;
    Ok(replica)
}

fn open(data_dir: &Path, engine: &dyn Engine) -> Result<Opened, BackupError> {
    let (dir, identity) = DataDir::of_whomever(data_dir)?;
    let log = engine.open_log(dir.path(), false);
    let log = log.map_err(|error| dir.failed("the log", error))?;
    let state = engine.open_state(dir.path(), false);
    let state = state.map_err(|error| dir.failed("the state", error))?;
    Ok(Opened {
        dir,
        identity,
        log,
        state,
    })
}

impl Opened {
    fn last(&self) -> LogEnd {
        let of = |id: LogId| LogEnd {
            term: id.leader_id.term,
            index: id.index,
        };
        self.log.found().last.map(of).unwrap_or_default()
    }

    /// All of these, or an error.
    fn entries(&self, from: u64, end: u64) -> io::Result<Vec<Entry>> {
        let records = self.log.read(from..end)?;
        let mut entries = Vec::with_capacity(records.len());
        for (expected, (index, record)) in (from..end).zip(records) {
            if index != expected {
                return Err(disk::damaged(format!("entry {expected} is missing")));
            }
            entries.push(disk::decode_entry(index, record)?);
        }
        match entries.len() as u64 == end - from {
            true => Ok(entries),
            false => Err(disk::damaged("its end is missing")),
        }
    }

    /// Shows what the log has beyond this entry.
    fn rest(
        &self,
        applied: Option<LogId>,
        visit: &mut dyn FnMut(Vec<Entry>) -> Result<(), DataDirError>,
    ) -> Result<(), DataDirError> {
        let mut from = applied.map_or(0, |id| id.index + 1);
        let end = self.log.found().last.map_or(0, |id| id.index + 1);
        while from < end {
            let entries = self.entries(from, end.min(from + BATCH));
            visit(entries.map_err(|error| self.dir.failed("the log", error))?)?;
            from += BATCH;
        }
        Ok(())
    }

    fn survivor(&self) -> Result<Survivor, BackupError> {
        let loaded = self.state.opened().load();
        let (position, _) = loaded.map_err(|error| self.dir.failed("the state", error))?;
        let mut membership = position.membership;
        self.rest(position.applied.map(LogId::from), &mut |entries| {
            for entry in entries {
                if let EntryPayload::Membership(newer) = entry.payload {
                    membership = Some(MembershipRecord::new(Some(entry.log_id), &newer));
                }
            }
            Ok(())
        })?;
        let voters = membership.iter().filter_map(|it| it.configs.last());
        let voters = voters.flat_map(|config| config.ids.clone()).collect();
        let nodes = membership.into_iter().flat_map(|it| it.nodes);
        Ok(Survivor {
            voters,
            cluster_id: self.identity.cluster_id,
            member_id: self.identity.member_id,
            last: self.last(),
            applied_index: position.applied.map_or(0, |id| id.index),
            revision: position.revision,
            members: nodes
                .map(|node| (node.id, (node.name, node.peer_address)))
                .collect(),
        })
    }
}
