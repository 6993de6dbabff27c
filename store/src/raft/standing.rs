//! How a member stands in Raft at a moment, for tests that hold members against each other. What operators need is in
//! [`kv::StoreStatus`] and [`crate::MemberReport`].

use std::collections::BTreeSet;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;

use crate::core::Core;
use crate::node::Node;
use crate::raft::types::LogId;

/// An entry of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub term: u64,
    pub index: u64,
}

impl From<LogId> for Place {
    fn from(id: LogId) -> Place {
        Place {
            term: id.leader_id.term,
            index: id.index,
        }
    }
}

/// See the module head. All of one moment; `applied`, `snapshot` and `purged` are what is done, not what is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftState {
    pub leads: bool,
    /// Of the vote that is stored: its term, for whom, and whether that one has won.
    pub term: u64,
    pub voted_for: u64,
    pub elected: bool,
    /// Index of the last entry, stored or not.
    pub last: Option<u64>,
    /// What this member knows to be committed and has.
    pub committed: Option<Place>,
    pub applied: Option<Place>,
    pub snapshot: Option<Place>,
    pub purged: Option<Place>,
    /// Sets of voters of the newest membership; more than one while they change.
    pub voters: Vec<BTreeSet<u64>>,
    /// Where that membership stands in the log.
    pub voters_at: Option<u64>,
}

impl Core {
    fn raft_state(&self) -> RaftState {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let vote = &metrics.vote;
        let membership = &metrics.membership_config;
        RaftState {
            leads: metrics.state == ServerState::Leader,
            term: vote.leader_id.term,
            voted_for: vote.leader_id.voted_for,
            elected: vote.is_committed(),
            last: metrics.last_log_index,
            committed: metrics.local_committed.map(Place::from),
            applied: metrics.last_applied.map(Place::from),
            snapshot: metrics.snapshot.map(Place::from),
            purged: metrics.purged.map(Place::from),
            voters: membership.membership().get_joint_config().clone(),
            voters_at: membership.log_id().map(|id| id.index),
        }
    }
}

impl Node {
    pub fn raft_state(&self) -> RaftState {
        self.core.raft_state()
    }

    /// What this member's state was after the last entry that it applied, in short: its index, and a hash that is equal
    /// where all is.
    pub fn state_digest(&self) -> Option<(u64, u128)> {
        let (index, digest) = self.core.replica.last_digest()?;
        Some((index, digest.hash))
    }
}
