//! What the members say of themselves, as one of them hears it. A client that reaches one member reaches all in this way,
//! whose ports for clients are on their own machines only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use prost::Message;

use crate::core::Core;
use crate::metrics::{METRICS, label_of};
use crate::peer::wire::{Lane, Request, Response};

/// For a member to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How often the way to the others is measured; etcd's time.
const MEASURE: Duration = Duration::from_secs(4);

/// Field numbers are as in `kontikipb.Members` (etcd/schema.txt), and stay.
#[derive(Clone, PartialEq, Message)]
pub struct MemberReport {
    #[prost(uint64, tag = "1")]
    pub member_id: u64,
    /// Of etcd, that the member is like.
    #[prost(string, tag = "2")]
    pub version: String,
    #[prost(int64, tag = "3")]
    pub revision: i64,
    #[prost(int64, tag = "4")]
    pub compact_revision: i64,
    /// 0 where it hears from none.
    #[prost(uint64, tag = "5")]
    pub leader: u64,
    #[prost(uint64, tag = "6")]
    pub raft_term: u64,
    #[prost(uint64, tag = "7")]
    pub raft_index: u64,
    #[prost(uint64, tag = "8")]
    pub raft_applied_index: u64,
    #[prost(int64, tag = "9")]
    pub size_bytes: i64,
    #[prost(bool, tag = "10")]
    pub is_learner: bool,
    #[prost(uint64, tag = "11")]
    pub disk_free_bytes: u64,
}

impl Core {
    /// Of this member.
    pub fn report_here(&self) -> MemberReport {
        let position = self.replica.position();
        let me = self.config.member_id;
        let votes = |member: &kv::MemberStatus| member.id == me && member.is_voter;
        let space = self.config.engine.space(&self.config.data_dir);
        let size_bytes = self.replica.disk().opened().size_bytes();
        MemberReport {
            member_id: me,
            version: crate::etcd::VERSION.into(),
            revision: position.revision,
            compact_revision: position.compact_revision,
            leader: self.leader_in_touch().unwrap_or(0),
            raft_term: self.leadership.borrow().term,
            raft_index: self.last_log_index(),
            raft_applied_index: position.applied.map_or(0, |id| id.index),
            size_bytes: i64::try_from(size_bytes).unwrap_or(i64::MAX),
            is_learner: !self.members().iter().any(votes),
            disk_free_bytes: space.map_or(0, |space| space.free),
        }
    }

    /// Of all members that answer, this one among them.
    pub async fn reports(self: &Arc<Self>) -> Vec<MemberReport> {
        let others = self.others().into_iter().map(|id| self.report_of(id));
        let others = join_all(others).await.into_iter().flatten();
        let all = others.chain([self.report_here()]);
        let all: BTreeMap<u64, MemberReport> =
            all.map(|report| (report.member_id, report)).collect();
        all.into_values().collect()
    }

    fn others(&self) -> Vec<u64> {
        let me = self.config.member_id;
        let members = self.members().into_iter().map(|member| member.id);
        members.filter(|id| *id != me).collect()
    }

    async fn report_of(self: &Arc<Self>, id: u64) -> Option<MemberReport> {
        let answer = self
            .transport
            .call(id, Lane::Client, Request::Report, ANSWER);
        match answer.await {
            Ok(Response::Report(report)) => MemberReport::decode(report).ok(),
            _ => None,
        }
    }

    /// Measures how long a word to each other member and back takes, for as long as this member runs. A report is made
    /// of what is in memory, so nobody waits for a disk.
    pub async fn run_round_trips(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(MEASURE);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut in_touch = BTreeSet::new();
        loop {
            ticks.tick().await;
            let others = self.others();
            let measured = others
                .iter()
                .map(|id| self.measure(*id, in_touch.contains(id)));
            let measured = join_all(measured).await;
            let answered = others.into_iter().zip(measured);
            in_touch = answered
                .filter_map(|(id, well)| well.then_some(id))
                .collect();
        }
    }

    /// Whether the member answers.
    async fn measure(self: &Arc<Self>, id: u64, is_in_touch: bool) -> bool {
        // To connect takes longer.
        if !is_in_touch && self.report_of(id).await.is_none() {
            return false;
        }
        let clock = &self.config.clock;
        let began = clock.monotonic();
        let answers = self.report_of(id).await.is_some();
        if answers {
            let took = clock.monotonic().saturating_sub(began);
            let times = METRICS.peer_round_trip.with_label_values(&[label_of(id)]);
            times.observe(took.as_secs_f64());
        }
        answers
    }
}
