//! Who belongs to the cluster: members join as learners, are promoted when they have caught up, and are removed. Each
//! member also publishes its own name and addresses here.
//!
//! A cluster that one member founded and that has grown since must not be started with that member as its only initial
//! one any more: on an empty directory it would found another cluster, there being nobody whom it would ask
//! (docs/adr/0004-a-member-is-an-id-and-a-directory.md).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::Precondition;
use openraft::{ChangeMembers, Instant, LogIdOptionExt};

use crate::core::Core;
use crate::disk::MembershipRecord;
use crate::peer::wire::{Failure, MemberChange};
use crate::raft::types::{LogId, Membership, PeerNode};

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

/// See [`Core::standing`].
struct Standing {
    membership: Membership,
    /// Where in the log it stands.
    at: Option<LogId>,
    /// Ids of members that have been met at some time.
    met: BTreeSet<u64>,
    caught_up: BTreeSet<u64>,
    /// Have answered the leader lately; it is one of them.
    in_touch: BTreeSet<u64>,
}

/// What Raft is asked to do.
#[derive(Debug, PartialEq)]
struct Step {
    change: ChangeMembers<u64, PeerNode>,
    /// Whether voters that are left out stay as learners.
    keep: bool,
}

/// What is to be done for a change; nothing where it is so already, and an error in words where it must not be.
fn decide(change: MemberChange, standing: &Standing) -> Result<Option<Step>, String> {
    let membership = &standing.membership;
    let known = |id: u64| {
        let node = membership.get_node(&id);
        node.ok_or_else(|| format!("member {id:016x} does not exist"))
    };
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let (change, keep) = match change {
        MemberChange::AddLearner { id, node } => {
            if known(id).is_ok() {
                return Err(format!("member {id:016x} already exists"));
            }
            // Whoever has met the earlier one will not let another one in.
            if standing.met.contains(&id) {
                return Err(format!(
                    "the id {id:016x} was used before, and an id is not used again: empty the member's data directory, \
                     and add it under a new id"
                ));
            }
            (ChangeMembers::AddNodes(BTreeMap::from([(id, node)])), true)
        }
        MemberChange::Promote { id } => {
            let node = known(id)?;
            if voters.contains(&id) {
                return Ok(None);
            }
            // Before it votes all must be able to know which directory it votes from.
            if !standing.caught_up.contains(&id) || node.known_incarnation().is_none() {
                return Err(
                    "can only promote a learner member which is in sync with leader".into(),
                );
            }
            (ChangeMembers::AddVoterIds(BTreeSet::from([id])), true)
        }
        MemberChange::Remove { id } => {
            known(id)?;
            if voters.contains(&id) {
                stays_able(&voters, id, &standing.in_touch)?;
                (ChangeMembers::RemoveVoters(BTreeSet::from([id])), false)
            } else {
                (ChangeMembers::RemoveNodes(BTreeSet::from([id])), false)
            }
        }
        MemberChange::Describe { id, node } => {
            let now = known(id)?;
            if *now == node {
                return Ok(None);
            }
            let incarnation = now.known_incarnation();
            if incarnation.is_some_and(|known| known != node.incarnation) {
                return Err(format!("member {id:016x} has another data directory"));
            }
            (ChangeMembers::SetNodes(BTreeMap::from([(id, node)])), true)
        }
    };
    Ok(Some(Step { change, keep }))
}

/// Whether those who remain without this voter are a quorum among themselves, as far as they are heard of.
fn stays_able(
    voters: &BTreeSet<u64>,
    leaving: u64,
    in_touch: &BTreeSet<u64>,
) -> Result<(), String> {
    let remaining = voters.iter().filter(|id| **id != leaving);
    let (able, all) = remaining.fold((0, 0), |(able, all), id| {
        (able + usize::from(in_touch.contains(id)), all + 1)
    });
    if all == 0 {
        return Err("the last voting member cannot be removed".into());
    }
    if able <= all / 2 {
        return Err(format!(
            "re-configuration failed due to not enough started members: of the {all} voters that would remain, {able} \
             answer"
        ));
    }
    Ok(())
}

impl Core {
    /// Carries out a change, as the leader.
    pub async fn change_member_here(&self, change: MemberChange) -> Result<(), Failure> {
        if !self.is_leader() {
            return Err(Failure::NotLeader);
        }
        if matches!(change, MemberChange::Remove { .. }) {
            self.hear_of_voters().await;
        }
        let standing = self.standing();
        // It has the lead for a moment yet. openraft would take it, and stop for it where it is built for tests.
        let mut voters = standing.membership.voter_ids();
        if !voters.any(|id| id == self.config.member_id) {
            return Err(Failure::NotLeader);
        }
        match decide(change, &standing).map_err(Failure::Refused)? {
            None => Ok(()),
            Some(step) => self.change_membership(step, standing.at).await,
        }
    }

    /// Waits until all voters have answered lately, or would have: a leader that is new has heard of a quorum only, and would
    /// call those who remain after a removal too few.
    async fn hear_of_voters(&self) {
        let silence = self.config.limits.election_max;
        let me = self.config.member_id;
        let known = self.raft.wait(Some(silence));
        let heard = known.metrics(
            |metrics| {
                let mut others = metrics.membership_config.voter_ids().filter(|id| *id != me);
                let answered = |id: u64| metrics.heartbeat.as_ref()?.get(&id)?.as_ref();
                others.all(|id| answered(id).is_some_and(|at| at.elapsed() < silence))
            },
            "an answer of each voter",
        );
        // Those that do not answer in time are not in touch.
        drop(heard.await);
    }

    /// What is known here, as the leader, when a change is decided.
    fn standing(&self) -> Standing {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let last = metrics.last_log_index.unwrap_or(0);
        let replication = metrics.replication.iter().flatten();
        let caught_up = replication.filter(|(_, matched)| {
            let matched = (*matched).clone().index().unwrap_or(0);
            matched > 0 && matched.saturating_mul(100) >= last.saturating_mul(CAUGHT_UP_PERCENT)
        });
        let silence = self.config.limits.election_max;
        let answered = metrics.heartbeat.iter().flatten().filter(|(_, answered)| {
            let answered = answered.as_ref();
            answered.is_some_and(|answered| answered.elapsed() < silence)
        });
        let me = std::iter::once(self.config.member_id);
        Standing {
            membership: metrics.membership_config.membership().clone(),
            at: *metrics.membership_config.log_id(),
            met: self.transport.incarnations.all().into_keys().collect(),
            caught_up: caught_up.map(|(id, _)| *id).collect(),
            in_touch: answered.map(|(id, _)| *id).chain(me).collect(),
        }
    }

    /// Takes a step that was decided on the membership at this place of the log. Ends when the new one is known here:
    /// what is decided or listed next must not be of before it.
    async fn change_membership(&self, step: Step, at: Option<LogId>) -> Result<(), Failure> {
        let decided_on = Precondition::LastMembershipLogId {
            last_membership_log_id: at,
        };
        let write = async {
            let Step { change, keep } = step;
            let written = self
                .raft
                .change_membership_if(change, keep, [decided_on])
                .await?;
            let known = self.raft.wait(None);
            let shown = known.metrics(
                |metrics| *metrics.membership_config.log_id() >= Some(written.log_id),
                "the new membership",
            );
            // Without an answer only where Raft has ended.
            drop(shown.await);
            Ok(())
        };
        match tokio::time::timeout(self.config.limits.request_deadline, write).await {
            Err(_) => Err(Failure::TimedOut),
            Ok(Ok(())) => Ok(()),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                Err(Failure::NotLeader)
            }
            Ok(Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)))) => {
                Err(Failure::LeaderChanged)
            }
            // Another change is under way or came first, or this leader is new: all that passes.
            Ok(Err(RaftError::APIError(
                ClientWriteError::ChangeMembershipError(
                    ChangeMembershipError::InProgress(_)
                    | ChangeMembershipError::UncommittedLeaderLog(_),
                )
                | ClientWriteError::PreconditionFailed(_),
            ))) => Err(Failure::Overloaded),
            Ok(Err(RaftError::APIError(other))) => Err(Failure::Refused(other.to_string())),
            Ok(Err(RaftError::Fatal(fatal))) => {
                self.fail(&fatal.to_string());
                Err(Failure::Stopped)
            }
        }
    }

    /// Publishes this member's name and addresses until the membership has them.
    pub async fn run_publish(self: Arc<Self>) {
        let config = &self.config;
        let node = PeerNode {
            name: config.name.clone(),
            peer_address: config.peer_advertise.clone(),
            client_address: config.client_address.clone(),
            incarnation: self.transport.me.incarnation,
            etcd_url: config.etcd_url.clone(),
        };
        let known = || {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let member = metrics.membership_config.get_node(&config.member_id);
            member.cloned()
        };
        let mut leadership = self.leadership.subscribe();
        loop {
            // Its own log may be behind, and an earlier run of this member have published others since.
            let settled = known().as_ref() == Some(&node) && self.catch_up().await.is_ok();
            let known = known();
            if known.as_ref() == Some(&node) {
                if settled {
                    return;
                }
            } else if known.is_some() {
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

    /// Takes over what members have published, as of the newest membership in the log, applied or not.
    pub fn learn_published(&self) {
        let newest = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.membership().clone()
        };
        self.transport
            .learn_published(&MembershipRecord::new(None, &newest));
    }

    /// Meets members that are known from the membership, so that they count as met before they come.
    pub async fn run_introductions(self: Arc<Self>) {
        let mut membership = self.replica.membership();
        loop {
            let record = membership.borrow_and_update().clone();
            self.learn_published();
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

    /// Where etcd clients reach each member, of those that have published it.
    pub fn etcd_urls(&self) -> BTreeMap<u64, String> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let nodes = metrics.membership_config.membership().nodes();
        let published = nodes.filter(|(_, node)| !node.etcd_url.is_empty());
        published
            .map(|(id, node)| (*id, node.etcd_url.clone()))
            .collect()
    }

    /// The voter that has most of the log, besides this member: who should lead next.
    pub fn successor(&self, fit: impl Fn(u64) -> bool) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let replication = metrics.replication.as_ref()?;
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        let others = replication
            .iter()
            .filter(|(id, _)| voters.contains(id) && **id != self.config.member_id)
            .filter(|(id, _)| fit(**id));
        others
            .max_by_key(|(_, matched)| (*matched).clone().index())
            .map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of voters 1 to 3 and learner 4, which have all published what they are.
    fn standing(in_touch: &[u64]) -> Standing {
        let node = PeerNode {
            incarnation: 7,
            ..PeerNode::default()
        };
        let nodes: BTreeMap<u64, PeerNode> = (1..=4).map(|id| (id, node.clone())).collect();
        Standing {
            membership: Membership::new(vec![BTreeSet::from([1, 2, 3])], nodes).unwrap(),
            at: None,
            met: (1..=5).collect(),
            caught_up: BTreeSet::from([2, 3, 4]),
            in_touch: in_touch.iter().copied().collect(),
        }
    }

    #[test]
    fn a_voter_goes_only_when_those_who_remain_can_go_on() {
        let remove =
            |id, in_touch: &[u64]| decide(MemberChange::Remove { id }, &standing(in_touch));
        for (id, in_touch) in [(3, &[1, 2][..]), (3, &[1, 2, 3][..]), (1, &[1, 2, 3][..])] {
            let step = remove(id, in_touch).unwrap().unwrap();
            assert_eq!(step.change, ChangeMembers::RemoveVoters([id].into()));
            assert!(!step.keep);
        }
        for (id, in_touch) in [(2, &[1, 2][..]), (1, &[1, 2][..]), (3, &[1][..])] {
            let refused = remove(id, in_touch).unwrap_err();
            assert!(refused.contains("not enough started members"), "{refused}");
        }
        assert!(remove(4, &[1]).is_ok(), "it does not vote");
        let alone = stays_able(&[1].into(), 1, &[1].into()).unwrap_err();
        assert!(alone.contains("last voting member"), "{alone}");
    }

    #[test]
    fn a_learner_votes_when_it_has_the_log_and_its_directory_is_known() {
        let promote = |standing: &Standing| decide(MemberChange::Promote { id: 4 }, standing);
        let ready = standing(&[1]);
        assert!(promote(&ready).unwrap().is_some());
        let behind = Standing {
            caught_up: BTreeSet::new(),
            ..standing(&[1])
        };
        let mut nodes: BTreeMap<u64, PeerNode> = BTreeMap::new();
        nodes.extend([(1, PeerNode::default()), (4, PeerNode::default())]);
        let silent = Standing {
            membership: Membership::new(vec![BTreeSet::from([1])], nodes).unwrap(),
            ..standing(&[1])
        };
        for standing in [behind, silent] {
            let refused = promote(&standing).unwrap_err();
            assert!(refused.contains("in sync with leader"), "{refused}");
        }
        let again = decide(MemberChange::Promote { id: 2 }, &ready);
        assert_eq!(again, Ok(None));
    }

    #[test]
    fn an_id_that_was_met_is_not_used_again() {
        let add = |id| {
            let node = PeerNode::default();
            decide(MemberChange::AddLearner { id, node }, &standing(&[1]))
        };
        let refused = add(5).unwrap_err();
        assert!(refused.contains("empty the member's data directory"));
        assert!(add(4).unwrap_err().contains("already exists"));
        assert!(add(6).is_ok());
    }
}
