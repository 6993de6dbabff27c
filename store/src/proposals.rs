//! Writes of this member whose answer is awaited, and what applying them here has answered.
//!
//! The answer of a leader that goes away does not come. What it has put into the log may still come, by its successor, or
//! may be gone. Both can be seen from here: an entry is proposed for one term, and once something of a later term is
//! applied, no entry of an earlier one can follow it in the log. So what was not applied until then never will be.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::raft::types::LogId;

/// What this member has seen of a write of its own.
#[derive(Clone, Debug, Default, PartialEq)]
enum Seen {
    #[default]
    Nothing,
    /// Applied here, at this index, with this answer.
    Applied(u64, kv::Response),
    /// A snapshot came in place of entries, and it may have been among them.
    Passed,
}

/// What became of a write whose leader does not answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fate {
    Done(kv::Response),
    /// It is not in the log, and never will be.
    Never,
    /// It may come yet.
    Open,
    /// It cannot be told by this member.
    Unknowable,
}

/// Of a write that was proposed for `term`, where this member has applied the log up to `applied`.
fn fate(seen: &Seen, term: u64, applied: Option<LogId>) -> Fate {
    match (seen, applied) {
        (Seen::Applied(index, response), Some(applied)) if applied.index >= *index => {
            Fate::Done(response.clone())
        }
        // Clients see it only with all that its batch wrote.
        (Seen::Applied(..), _) => Fate::Open,
        (Seen::Passed, _) => Fate::Unknowable,
        (Seen::Nothing, Some(applied)) if applied.leader_id.term > term => Fate::Never,
        (Seen::Nothing, _) => Fate::Open,
    }
}

/// The writes of this member that are under way, by what their entries say in [`kv::Entry::proposal`].
#[derive(Default)]
pub(crate) struct Proposals {
    under_way: Mutex<UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    last: u64,
    seen: BTreeMap<u64, Seen>,
}

impl Proposals {
    /// Numbers go on from `first`, which no other start of a member draws: its entries may still be in the log.
    pub(crate) fn from(first: u64) -> Proposals {
        let under_way = UnderWay {
            last: first,
            seen: BTreeMap::new(),
        };
        Proposals {
            under_way: Mutex::new(under_way),
        }
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Before it is proposed.
    pub(crate) fn begin(&self) -> Proposed<'_> {
        let mut under_way = self.lock();
        // 0 stands for none.
        under_way.last = under_way.last.checked_add(1).unwrap_or(1);
        let id = under_way.last;
        under_way.seen.insert(id, Seen::Nothing);
        Proposed {
            proposals: self,
            id,
        }
    }

    /// An entry is being applied of which nobody is told. Called before the state that it makes can be seen.
    pub(crate) fn apply(&self, proposal: u64, index: u64, response: &kv::Response) {
        if proposal == 0 {
            return;
        }
        if let Some(seen) = self.lock().seen.get_mut(&proposal) {
            *seen = Seen::Applied(index, response.clone());
        }
    }

    /// Entries are skipped. Called before the state that stands in their place can be seen.
    pub(crate) fn pass(&self) {
        for seen in self.lock().seen.values_mut() {
            if *seen == Seen::Nothing {
                *seen = Seen::Passed;
            }
        }
    }
}

/// A write under way; looked out for until it is dropped.
pub(crate) struct Proposed<'a> {
    proposals: &'a Proposals,
    id: u64,
}

impl Proposed<'_> {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// What became of it as proposed for `term`, where `applied` was read before this is called.
    pub(crate) fn fate(&self, term: u64, applied: Option<LogId>) -> Fate {
        let under_way = self.proposals.lock();
        let seen = under_way.seen.get(&self.id);
        seen.map_or(Fate::Unknowable, |seen| fate(seen, term, applied))
    }
}

impl Drop for Proposed<'_> {
    fn drop(&mut self) {
        self.proposals.lock().seen.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(term: u64, index: u64) -> Option<LogId> {
        Some(LogId::new(term.into(), index))
    }

    fn response() -> kv::Response {
        kv::Response {
            revision: 7,
            body: Err(kv::Refusal::KeyNotFound),
        }
    }

    #[test]
    fn a_write_is_open_until_a_later_term_is_applied() {
        let proposals = Proposals::default();
        let proposed = proposals.begin();
        assert_eq!(proposed.fate(4, None), Fate::Open);
        assert_eq!(proposed.fate(4, at(4, 900)), Fate::Open);
        assert_eq!(proposed.fate(4, at(5, 1)), Fate::Never);
    }

    #[test]
    fn a_write_that_was_applied_has_its_answer_once_it_can_be_seen() {
        let proposals = Proposals::default();
        let proposed = proposals.begin();
        let other = proposals.begin();
        proposals.apply(proposed.id(), 12, &response());
        assert_eq!(proposed.fate(4, at(4, 11)), Fate::Open);
        // An entry of the successor's is in the same batch.
        assert_eq!(proposed.fate(4, at(5, 13)), Fate::Done(response()));
        assert_eq!(other.fate(4, at(5, 13)), Fate::Never);
    }

    #[test]
    fn a_snapshot_hides_what_it_has_in_it() {
        let proposals = Proposals::default();
        let (applied, hidden) = (proposals.begin(), proposals.begin());
        proposals.apply(applied.id(), 12, &response());
        proposals.pass();
        let after = proposals.begin();
        assert_eq!(applied.fate(4, at(5, 40)), Fate::Done(response()));
        assert_eq!(hidden.fate(4, at(5, 40)), Fate::Unknowable);
        assert_eq!(after.fate(4, at(5, 40)), Fate::Never);
    }

    #[test]
    fn nobody_looks_out_for_what_is_over_or_of_others() {
        let proposals = Proposals::from(u64::MAX);
        let first = proposals.begin();
        assert_eq!(first.id(), 1);
        drop(proposals.begin());
        proposals.apply(2, 12, &response());
        proposals.apply(0, 13, &response());
        assert_eq!(proposals.lock().seen.len(), 1);
        drop(first);
        assert!(proposals.lock().seen.is_empty());
    }
}
