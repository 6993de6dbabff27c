//! What the members say of themselves, as one of them hears it. A client that reaches one member reaches all in this way,
//! whose ports for clients are on their own machines only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use prost::Message;

use crate::core::Core;
use crate::peer::wire::{Lane, Request, Response};

/// For a member to answer.
const ANSWER: Duration = Duration::from_secs(2);

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
        let me = self.config.member_id;
        let members = self.members().into_iter().map(|member| member.id);
        let others = members.filter(|id| *id != me).map(|id| async move {
            let answer = self
                .transport
                .call(id, Lane::Client, Request::Report, ANSWER);
            match answer.await {
                Ok(Response::Report(report)) => MemberReport::decode(report).ok(),
                _ => None,
            }
        });
        let others = join_all(others).await.into_iter().flatten();
        let all = others.chain([self.report_here()]);
        let all: BTreeMap<u64, MemberReport> =
            all.map(|report| (report.member_id, report)).collect();
        all.into_values().collect()
    }
}
