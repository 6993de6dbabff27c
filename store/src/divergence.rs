//! Whether the members have the same state. The leader asks the others, at one index of the log, for the hash of their
//! states; a member whose hash is another than that of most is not right, and an alarm says so. That member stops: it
//! may have been wrong for a while, and nobody should read from it any longer.
//!
//! A member answers for an index that it has applied one of the last entries at; see [`Trail`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::Core;
use crate::metrics::METRICS;
use crate::peer::wire::{Lane, Request, Response};

/// For a member to get where the leader is, and to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// A state in short. Equal of members that have applied the same entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digest {
    pub hash: u128,
    pub revision: i64,
    pub compact_revision: i64,
    /// For information: see [`Digest::compared`].
    pub now_ms: i64,
}

impl Digest {
    /// What must be equal. The time is not: nothing is decided by it, and a state that a version wrote which recorded no
    /// times has none, where a member that has replayed the same entries since has them.
    fn compared(self) -> (u128, i64, i64) {
        (self.hash, self.revision, self.compact_revision)
    }

    pub fn of(state: &dyn kv::View) -> Digest {
        Digest {
            hash: state.state_hash().0,
            revision: state.revision(),
            compact_revision: state.compact_revision(),
            now_ms: state.now_ms(),
        }
    }
}

/// The digests after each of the last entries that were applied.
#[derive(Debug, Default)]
pub(crate) struct Trail(VecDeque<(u64, Digest)>);

impl Trail {
    /// Entries applied within a leader's patience, and then some.
    const LENGTH: usize = 16_384;

    /// Indexes grow by one, except after a jump, which forgets what was before.
    pub(crate) fn push(&mut self, index: u64, digest: Digest) {
        if self.0.back().is_some_and(|(last, _)| last + 1 != index) {
            self.0.clear();
        }
        if self.0.len() == Trail::LENGTH {
            self.0.pop_front();
        }
        self.0.push_back((index, digest));
    }

    pub(crate) fn at(&self, index: u64) -> Option<Digest> {
        let (first, _) = self.0.front()?;
        let place = usize::try_from(index.checked_sub(*first)?).ok()?;
        self.0.get(place).map(|(_, digest)| *digest)
    }

    pub(crate) fn last(&self) -> Option<(u64, Digest)> {
        self.0.back().copied()
    }
}

/// What the digests at one index say.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Equal,
    /// These are not right.
    Wrong(Vec<u64>),
    /// Some differ, and those who are silent may tell which.
    Open,
}

/// Right is what more than half of all members show, of whom some may not have answered: a healthy one must not be
/// stopped because two of five differ and it is not the leader. Where all have answered and nothing has such a majority,
/// right is what the leader shows, whose answers clients got.
fn judge(leader: u64, members: usize, shown: &BTreeMap<u64, Digest>) -> Verdict {
    let mut counts: BTreeMap<_, usize> = BTreeMap::new();
    for digest in shown.values() {
        *counts.entry(digest.compared()).or_default() += 1;
    }
    if counts.len() < 2 {
        return Verdict::Equal;
    }
    let of_most = counts.iter().find(|(_, count)| **count * 2 > members);
    let of_leader = shown.get(&leader).filter(|_| shown.len() == members);
    let right = of_most.map(|(digest, _)| *digest);
    let Some(right) = right.or(of_leader.map(|digest| digest.compared())) else {
        return Verdict::Open;
    };
    let wrong = shown
        .iter()
        .filter(|(_, digest)| digest.compared() != right);
    Verdict::Wrong(wrong.map(|(id, _)| *id).collect())
}

/// An alarm of this kind about this member.
fn corrupt(member: u64) -> kv::Alarm {
    kv::Alarm {
        member,
        kind: kv::AlarmKind::Corrupt as i32,
    }
}

impl Core {
    /// What this member's state was after the entry, once it has been applied; nothing where that is too long ago.
    pub async fn digest_here(&self, index: u64) -> Option<Digest> {
        let mut applied = self.replica.applied();
        let waited = applied.wait_for(|applied| applied.covers(index));
        let reached = tokio::time::timeout(ANSWER / 2, waited).await;
        reached.ok()?.ok()?;
        self.replica.digest_at(index)
    }

    /// Compares the members for as long as this one runs, while it leads.
    pub async fn run_comparison(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(self.config.limits.compare_interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut compared = None;
        // Twice in a row, at two looks: an alarm stops a member.
        let mut suspects: Vec<u64> = Vec::new();
        loop {
            ticks.tick().await;
            if !self.is_leader() {
                (compared, suspects) = (None, Vec::new());
                continue;
            }
            self.end_alarms_of_removed().await;
            let Some((index, mine)) = self.replica.last_digest() else {
                continue;
            };
            if compared == Some(index) && suspects.is_empty() {
                continue;
            }
            let (shown, silent) = self.ask_digests(index, mine).await;
            METRICS.state_comparisons.inc();
            let found = match judge(self.config.member_id, shown.len() + silent, &shown) {
                Verdict::Equal => Vec::new(),
                Verdict::Wrong(members) => members,
                Verdict::Open => {
                    tracing::error!(
                        index,
                        silent,
                        "the states of members differ; which is right is not known before more of them answer"
                    );
                    METRICS.diverged_members.set(1);
                    suspects = Vec::new();
                    continue;
                }
            };
            METRICS.diverged_members.set(found.len() as i64);
            for member in found.iter().filter(|member| suspects.contains(member)) {
                tracing::error!(member = %format!("{member:016x}"), index, "the state of a member is not that of the others");
                self.change_alarm(corrupt(*member), true).await;
            }
            // Who did not answer is asked again, also when nothing is written meanwhile.
            compared = (silent == 0).then_some(index);
            suspects = found;
        }
    }

    /// The digests of all who answer, and how many did not.
    async fn ask_digests(
        self: &Arc<Self>,
        index: u64,
        mine: Digest,
    ) -> (BTreeMap<u64, Digest>, usize) {
        let me = self.config.member_id;
        let members = self.members().into_iter().map(|member| member.id);
        let others = members.filter(|id| *id != me).map(|id| async move {
            let call = self
                .transport
                .call(id, Lane::Client, Request::StateDigest(index), ANSWER);
            match call.await {
                Ok(Response::StateDigest(Some(digest))) => Ok((id, digest)),
                _ => Err(id),
            }
        });
        let answers = futures::future::join_all(others).await;
        let silent = answers.iter().filter(|answer| answer.is_err()).count();
        let mut shown: BTreeMap<u64, Digest> = answers.into_iter().flatten().collect();
        shown.insert(me, mine);
        (shown, silent)
    }

    /// A member that is gone has no alarms.
    async fn end_alarms_of_removed(self: &Arc<Self>) {
        let members: Vec<u64> = self.members().iter().map(|member| member.id).collect();
        for alarm in self.replica.alarms().iter() {
            if !members.contains(&alarm.member) {
                self.change_alarm(*alarm, false).await;
            }
        }
    }

    /// Tried again at the next look where it fails.
    pub(crate) async fn change_alarm(self: &Arc<Self>, alarm: kv::Alarm, raised: bool) {
        let change = kv::AlarmChange { alarm, raised };
        if let Err(error) = self.propose(kv::Command::Alarm(change)).await {
            tracing::warn!(%error, "an alarm could not be changed yet");
        }
    }

    /// Stops this member when an alarm says that its state is wrong.
    pub async fn run_quarantine(self: Arc<Self>) {
        let mut alarms = self.replica.alarm_changes();
        let mine = corrupt(self.config.member_id);
        if alarms
            .wait_for(|alarms| alarms.contains(&mine))
            .await
            .is_err()
        {
            return;
        }
        self.fail(&format!(
            "the state of this member ({:016x}) is not that of the others: its disk or memory is at fault. Remove the \
             member and add another with an empty data directory",
            self.config.member_id
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(hash: u128) -> Digest {
        Digest {
            hash,
            revision: 7,
            compact_revision: 1,
            now_ms: 3,
        }
    }

    /// By members 1, 2 and so on.
    fn shown(digests: &[u128]) -> BTreeMap<u64, Digest> {
        let of = |(id, hash): (usize, &u128)| (id as u64 + 1, digest(*hash));
        digests.iter().enumerate().map(of).collect()
    }

    #[test]
    fn a_trail_knows_the_last_entries() {
        let mut trail = Trail::default();
        assert_eq!((trail.at(0), trail.last()), (None, None));
        let last = Trail::LENGTH as u64 + 9;
        for index in 5..=last {
            trail.push(index, digest(u128::from(index)));
        }
        assert_eq!(trail.last(), Some((last, digest(u128::from(last)))));
        assert_eq!(trail.at(last), Some(digest(u128::from(last))));
        assert_eq!(trail.at(last + 1), None);
        assert_eq!(trail.at(10), Some(digest(10)), "the oldest");
        assert_eq!(trail.at(9), None, "too long ago");
        // A snapshot was installed.
        trail.push(last + 50, digest(1));
        assert_eq!(trail.at(last), None);
        assert_eq!(trail.at(last + 50), Some(digest(1)));
    }

    #[test]
    fn the_members_that_differ_from_most_are_wrong() {
        let wrong = |leader, digests: &[u128]| match judge(leader, digests.len(), &shown(digests)) {
            Verdict::Wrong(members) => members,
            other => panic!("{other:?}"),
        };
        for equal in [&[5][..], &[5, 5], &[5, 5, 5]] {
            assert_eq!(judge(1, 3, &shown(equal)), Verdict::Equal);
        }
        assert_eq!(wrong(1, &[5, 6, 5]), [2]);
        assert_eq!(wrong(1, &[6, 5, 5]), [1], "the leader itself");
        assert_eq!(wrong(2, &[5, 6]), [1], "no majority: the leader's");
        assert_eq!(wrong(2, &[5, 6, 7]), [1, 3]);
        assert_eq!(wrong(1, &[5, 5, 6, 6, 5]), [3, 4]);
        let mut other_revision = shown(&[5, 5, 5]);
        other_revision.get_mut(&3).unwrap().revision = 8;
        assert_eq!(judge(1, 3, &other_revision), Verdict::Wrong(vec![3]));
    }

    /// The leader may be the one that is wrong.
    #[test]
    fn nobody_is_blamed_as_long_as_those_who_are_silent_could_tell() {
        for (members, digests) in [
            (3, &[5, 6][..]),
            (5, &[5, 6]),
            (5, &[5, 5, 6]),
            (4, &[5, 5, 6]),
        ] {
            let open = judge(1, members, &shown(digests));
            assert_eq!(open, Verdict::Open, "{digests:?} of {members}");
        }
        let most = judge(1, 5, &shown(&[6, 5, 5, 5]));
        assert_eq!(most, Verdict::Wrong(vec![1]), "one is silent");
    }

    #[test]
    fn a_time_that_was_not_recorded_is_no_fault() {
        let mut without_time = shown(&[5, 5]);
        without_time.get_mut(&2).unwrap().now_ms = 0;
        assert_eq!(judge(1, 2, &without_time), Verdict::Equal);
    }
}
