//! Who belongs to the cluster: members join as learners, are promoted when they have caught up, and are removed. Each
//! member also publishes its own name and addresses here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, LogIdOptionExt};

use crate::core::Core;
use crate::peer::wire::{Failure, MemberChange};
use crate::raft::types::PeerNode;

/// A learner is promoted when it has at least this share of the log, as in etcd.
const CAUGHT_UP_PERCENT: u64 = 90;

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MemberError {
    /// Not now or not at all; the text says why.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(kv::StoreError),
}

impl Core {
    /// Carries out a change, as the leader.
    pub async fn change_member_here(&self, change: MemberChange) -> Result<(), Failure> {
        if !self.is_leader() {
            return Err(Failure::NotLeader);
        }
        let membership = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.membership().clone()
        };
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let refused = |why: String| Err(Failure::Refused(why));
        let (change, keep) = match change {
            MemberChange::AddLearner { id, node } => {
                if membership.get_node(&id).is_some() {
                    return refused(format!("member {id:016x} already exists"));
                }
                // Whoever has met the earlier one will not let another one in.
                if self.transport.incarnations.of(id).is_some() {
                    return refused(format!(
                        "the id {id:016x} was used before, and an id is not used again: add the member under a new one"
                    ));
                }
                (ChangeMembers::AddNodes(BTreeMap::from([(id, node)])), true)
            }
            MemberChange::Promote { id } => {
                if voters.contains(&id) {
                    return Ok(());
                }
                if membership.get_node(&id).is_none() {
                    return refused(format!("member {id:016x} does not exist"));
                }
                if !self.has_caught_up(id) {
                    return refused(
                        "can only promote a learner member which is in sync with leader".into(),
                    );
                }
                (ChangeMembers::AddVoterIds(BTreeSet::from([id])), true)
            }
            MemberChange::Remove { id } => {
                if membership.get_node(&id).is_none() {
                    return refused(format!("member {id:016x} does not exist"));
                }
                if voters.contains(&id) {
                    if voters.len() == 1 {
                        return refused("the last voting member cannot be removed".into());
                    }
                    (ChangeMembers::RemoveVoters(BTreeSet::from([id])), false)
                } else {
                    (ChangeMembers::RemoveNodes(BTreeSet::from([id])), false)
                }
            }
            MemberChange::Describe { id, node } => match membership.get_node(&id) {
                Some(known) if *known == node => return Ok(()),
                Some(known)
                    if known
                        .known_incarnation()
                        .is_some_and(|known| known != node.incarnation) =>
                {
                    return refused(format!("member {id:016x} has another data directory"));
                }
                Some(_) => (ChangeMembers::SetNodes(BTreeMap::from([(id, node)])), true),
                None => return refused(format!("member {id:016x} does not exist")),
            },
        };
        self.change_membership(change, keep).await
    }

    async fn change_membership(
        &self,
        change: ChangeMembers<u64, PeerNode>,
        keep: bool,
    ) -> Result<(), Failure> {
        let write = self.raft.change_membership(change, keep);
        match tokio::time::timeout(self.config.limits.request_deadline, write).await {
            Err(_) => Err(Failure::TimedOut),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                Err(Failure::NotLeader)
            }
            Ok(Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)))) => {
                Err(Failure::LeaderChanged)
            }
            // Another change is under way, or this leader is new: both pass.
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_)
                | ChangeMembershipError::UncommittedLeaderLog(_),
            )))) => Err(Failure::Overloaded),
            Ok(Err(RaftError::APIError(other))) => Err(Failure::Refused(other.to_string())),
            Ok(Err(RaftError::Fatal(fatal))) => {
                self.fail(&fatal.to_string());
                Err(Failure::Stopped)
            }
        }
    }

    fn has_caught_up(&self, id: u64) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let last = metrics.last_log_index.unwrap_or(0);
        let replicated = metrics.replication.as_ref().and_then(|all| all.get(&id));
        let matched = replicated
            .and_then(|matched| matched.clone().index())
            .unwrap_or(0);
        matched > 0 && matched.saturating_mul(100) >= last.saturating_mul(CAUGHT_UP_PERCENT)
    }

    /// Publishes this member's name and addresses until the membership has them.
    pub async fn run_publish(self: Arc<Self>) {
        let config = &self.config;
        let node = PeerNode {
            name: config.name.clone(),
            peer_address: config.peer_advertise.clone(),
            client_address: config.client_address.clone(),
            incarnation: self.transport.me.incarnation,
        };
        let mut leadership = self.leadership.subscribe();
        loop {
            let known = {
                let metrics = self.raft.metrics();
                let metrics = metrics.borrow_watched();
                metrics
                    .membership_config
                    .get_node(&config.member_id)
                    .cloned()
            };
            if known.as_ref() == Some(&node) {
                return;
            }
            if known.is_some() {
                let change = MemberChange::Describe {
                    id: config.member_id,
                    node: node.clone(),
                };
                if let Err(error) = self.change_member(change).await {
                    tracing::debug!(%error, "this member's addresses are not published yet");
                }
            }
            // Again when there is a new leader, or after a while.
            drop(tokio::time::timeout(Duration::from_millis(500), leadership.changed()).await);
        }
    }

    /// Meets members that are known from the membership, so that they count as met before they come.
    pub async fn run_introductions(self: Arc<Self>) {
        let mut membership = self.replica.membership();
        loop {
            let record = membership.borrow_and_update().clone();
            for node in record.iter().flat_map(|record| &record.nodes) {
                let Some(incarnation) = node.node().known_incarnation() else {
                    continue;
                };
                let met = if node.id == self.config.member_id {
                    self.transport.is_me(incarnation)
                } else {
                    self.transport.meet(node.id, incarnation).await
                };
                if let Err(refusal) = met {
                    tracing::error!(%refusal, "the membership names a member that is not the one known here");
                }
            }
            if membership.changed().await.is_err() {
                return;
            }
        }
    }

    pub fn members(&self) -> Vec<kv::MemberStatus> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let members = membership.nodes().map(|(id, node)| kv::MemberStatus {
            id: *id,
            name: node.name.clone(),
            peer_address: node.peer_address.clone(),
            client_address: node.client_address.clone(),
            is_voter: voters.contains(id),
        });
        members.collect()
    }

    /// The voter that has most of the log, besides this member: who should lead next.
    pub fn successor(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let replication = metrics.replication.as_ref()?;
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        let others = replication
            .iter()
            .filter(|(id, _)| voters.contains(id) && **id != self.config.member_id);
        others
            .max_by_key(|(_, matched)| (*matched).clone().index())
            .map(|(id, _)| *id)
    }
}
