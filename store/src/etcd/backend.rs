//! What the front needs of a member beyond [`kv::Store`]. [`Node`] is one; the tests have one in memory.

use std::collections::BTreeMap;
use std::time::Duration;

use kv::{BoxFuture, RangeRequest, Store, StoreError, StoreResult};
use openraft::async_runtime::watch::WatchReceiver;
use rand::RngExt;
use tokio_util::sync::CancellationToken;

use super::errors::Fault;
use crate::export::Visit;
use crate::history::Moment;
use crate::host;
use crate::members::MemberError;
use crate::node::Node;
use crate::peer::wire::MemberChange;
use crate::reports::MemberReport;

/// See the module head.
pub(super) trait Backend: Store {
    /// The leader, as long as this member hears from it; as the leader, as long as it hears from a quorum.
    fn leader(&self) -> Option<u64>;
    /// Whether this member does not vote yet.
    fn is_learner(&self) -> bool;
    /// Without a word from the leader for so long others stand for election.
    fn election(&self) -> Duration;
    /// Largest request, encoded.
    fn request_bytes_max(&self) -> usize;
    /// Whether the answer to a range is better read in parts of this size, while other calls go on.
    fn is_large(&self, request: &RangeRequest, part_bytes: usize) -> bool;
    /// Hands leadership to this voter, and waits until it leads.
    fn move_leader(&self, target: u64) -> BoxFuture<'_, Result<(), Fault>>;
    /// What the members that answer say of themselves.
    fn reports(&self) -> BoxFuture<'_, Vec<MemberReport>>;
    /// Adds a learner under this address; answers its id.
    fn add_member(&self, peer_address: String) -> BoxFuture<'_, Result<u64, Fault>>;
    fn promote_member(&self, id: u64) -> BoxFuture<'_, Result<(), Fault>>;
    fn remove_member(&self, id: u64) -> BoxFuture<'_, Result<(), Fault>>;
    /// Other members find this one there from now on.
    fn update_member(&self, id: u64, peer_address: String) -> BoxFuture<'_, Result<(), Fault>>;
    /// Where etcd clients reach each member, as URLs, of those that have published it.
    fn client_urls(&self) -> BTreeMap<u64, String>;
    /// Shows what is in memory of the state.
    fn with_catalog(&self, look: &mut dyn FnMut(&kv::Catalog));
    /// Which users and roles this member knows, see [`kv::auth_revision`].
    fn auth_revision(&self) -> u64;
    /// Wall clock, seconds since 1970.
    fn unix_s(&self) -> i64;
    /// Shows the visitor the whole state as of one moment, without holding up writes. Blocks.
    fn export(&self, visit: Visit<'_>) -> Result<(), StoreError>;
    /// The newest revision at a time, of those that this member has.
    fn revision_at(&self, unix_ms: i64) -> Result<Moment, StoreError>;
    /// When a revision was made.
    fn time_of(&self, revision: i64) -> Result<Moment, StoreError>;
    /// The alarms that stand, as this member knows.
    fn alarms(&self) -> Vec<kv::Alarm>;
    /// Replicates a command for which [`Store`] has no call.
    fn propose(&self, command: kv::Command) -> BoxFuture<'_, StoreResult<kv::Reply>>;
    /// Cancelled when the member stops.
    fn stopping(&self) -> CancellationToken;
}

/// For a new leader to be seen after a transfer.
const TRANSFER: Duration = Duration::from_secs(5);

impl Backend for Node {
    fn leader(&self) -> Option<u64> {
        self.core.leader_in_touch()
    }

    fn is_learner(&self) -> bool {
        let metrics = self.core.raft.metrics();
        let metrics = metrics.borrow_watched();
        let mut voters = metrics.membership_config.voter_ids();
        !voters.any(|id| id == self.core.config.member_id)
    }

    fn election(&self) -> Duration {
        self.core.config.limits.election_max
    }

    fn request_bytes_max(&self) -> usize {
        self.core.config.limits.request_bytes
    }

    fn is_large(&self, request: &RangeRequest, part_bytes: usize) -> bool {
        !self.core.is_small(request, part_bytes)
    }

    fn move_leader(&self, target: u64) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            if !self.core.is_leader() {
                return Err(Fault::NotLeader);
            }
            let mut members = self.core.members().into_iter();
            if !members.any(|member| member.id == target && member.is_voter) {
                return Err(Fault::BadTransferee);
            }
            if target == self.core.config.member_id {
                return Ok(());
            }
            let mut leadership = self.core.leadership.subscribe();
            let asked = self.core.raft.trigger().transfer_leader(target).await;
            asked.map_err(|_| StoreError::Stopped)?;
            let moved = leadership.wait_for(|now| now.leader == Some(target));
            match tokio::time::timeout(TRANSFER, moved).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) => Err(StoreError::Stopped.into()),
                Err(_) => Err(Fault::TransferTimedOut),
            }
        })
    }

    fn reports(&self) -> BoxFuture<'_, Vec<MemberReport>> {
        Box::pin(self.core.reports())
    }

    fn add_member(&self, peer_address: String) -> BoxFuture<'_, Result<u64, Fault>> {
        Box::pin(async move {
            // Ids are never used again, so they are drawn from all there are.
            let id = host::rng().random_range(1..u64::MAX);
            self.add_learner(id, String::new(), peer_address)
                .await
                .map_err(fault)?;
            Ok(id)
        })
    }

    fn promote_member(&self, id: u64) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move { self.promote(id).await.map_err(fault) })
    }

    fn remove_member(&self, id: u64) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move { self.remove(id).await.map_err(fault) })
    }

    fn update_member(&self, id: u64, peer_address: String) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let known = {
                let metrics = self.core.raft.metrics();
                let metrics = metrics.borrow_watched();
                metrics.membership_config.get_node(&id).cloned()
            };
            let mut node = known.ok_or(Fault::MemberNotFound)?;
            node.peer_address = peer_address;
            let change = MemberChange::Describe { id, node };
            self.core.change_member(change).await.map_err(fault)
        })
    }

    fn client_urls(&self) -> BTreeMap<u64, String> {
        self.core.etcd_urls()
    }

    fn with_catalog(&self, look: &mut dyn FnMut(&kv::Catalog)) {
        look(&self.core.replica.catalog());
    }

    fn auth_revision(&self) -> u64 {
        self.core.replica.auth_revision()
    }

    fn unix_s(&self) -> i64 {
        self.core.config.clock.unix_ms() / 1000
    }

    fn export(&self, visit: Visit<'_>) -> Result<(), StoreError> {
        self.core.replica.export(visit)
    }

    fn revision_at(&self, unix_ms: i64) -> Result<Moment, StoreError> {
        Node::revision_at(self, unix_ms)
    }

    fn time_of(&self, revision: i64) -> Result<Moment, StoreError> {
        Node::time_of(self, revision)
    }

    fn alarms(&self) -> Vec<kv::Alarm> {
        self.core.replica.alarms().to_vec()
    }

    fn propose(&self, command: kv::Command) -> BoxFuture<'_, StoreResult<kv::Reply>> {
        Box::pin(self.core.propose(command))
    }

    fn stopping(&self) -> CancellationToken {
        self.core.transport.stop.clone()
    }
}

/// The leader's refusals travel as words; what they mean was checked before, but may have changed meanwhile.
fn fault(error: MemberError) -> Fault {
    match error {
        MemberError::Store(error) => Fault::Store(error),
        MemberError::Refused(why) if why.contains("in sync with leader") => Fault::LearnerNotReady,
        MemberError::Refused(why) if why.contains("does not exist") => Fault::MemberNotFound,
        MemberError::Refused(why)
            if why.contains("last voting member") || why.contains("not enough started members") =>
        {
            Fault::NotEnoughStarted
        }
        MemberError::Refused(why) => Fault::Internal(why),
    }
}
