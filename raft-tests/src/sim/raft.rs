//! What has to be true of Raft at every moment, whatever is done to a cluster. [`Oracle`] is told of what reaches each
//! disk and of how each member stands, and says what is broken. It is pure; who looks, and when, is said by [`super::world::World::look`].
//!
//! The rules are those of the Raft paper and of openraft's own fuzzer: a term has one leader, logs that agree in one entry
//! agree in all before it, a leader has everything that was committed before its time, what is committed is on a quorum's
//! disks and stays, equal places mean equal states, a vote is not taken back, and no member goes backwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use store::{Place, RaftState};

use crate::recording::Violation;

/// Something has reached a member's disk for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Logged {
    /// A log without anything in it.
    Made,
    /// `hash` is of the whole entry.
    Appended {
        place: Place,
        hash: u64,
    },
    Truncated {
        from: u64,
    },
    Purged(Place),
    /// A vote, said to be there for good.
    Voted(Voted),
    /// What a process has found as its vote when it started.
    Found(Option<Voted>),
}

/// A vote: for whom, and whether that one has won.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voted {
    pub term: u64,
    pub candidate: u64,
    pub won: bool,
}

/// A look at a member.
#[derive(Clone, Debug, Default)]
pub struct Look {
    pub member: u64,
    /// Grows with each start.
    pub life: u64,
    pub state: RaftState,
    /// Of the state after an entry: its index, and the hash.
    pub digest: Option<(u64, u128)>,
}

/// See the module head.
#[derive(Debug, Default)]
pub struct Oracle {
    logs: BTreeMap<u64, Log>,
    looks: BTreeMap<u64, Look>,
    looked: u64,
    /// The newest vote of each member.
    votes: BTreeMap<u64, Voted>,
    /// By term.
    leaders: BTreeMap<u64, u64>,
    /// By place, and then what the entry is and the term of the one before it.
    entries: BTreeMap<Place, (u64, Option<u64>)>,
    /// Index and term of all that is known to be committed.
    committed: BTreeMap<u64, u64>,
    /// Up to where each member's log has been looked at for that.
    settled: BTreeMap<u64, u64>,
    /// By the index of the last entry that it has.
    states: BTreeMap<u64, u128>,
    broken: BTreeMap<&'static str, String>,
}

/// What is on a member's disk.
#[derive(Debug, Default)]
struct Log {
    purged: Option<Place>,
    /// Term by index.
    terms: BTreeMap<u64, u64>,
}

impl Log {
    fn term_at(&self, index: u64) -> Option<u64> {
        let purged = self.purged.filter(|purged| purged.index == index);
        self.terms
            .get(&index)
            .copied()
            .or(purged.map(|purged| purged.term))
    }

    /// Whether it has an entry, or a state that has it.
    fn covers(&self, place: Place) -> bool {
        self.term_at(place.index) == Some(place.term)
            || self.purged.is_some_and(|purged| purged.index > place.index)
    }
}

impl Oracle {
    /// All that is broken so far, each rule once.
    pub fn violations(&self) -> Vec<Violation> {
        let told = self.broken.iter().map(|(rule, story)| Violation {
            rule: (*rule).into(),
            story: story.clone(),
            ..Violation::default()
        });
        told.collect()
    }

    /// How often a member was looked at.
    pub fn looks(&self) -> u64 {
        self.looked
    }

    fn broken(&mut self, rule: &'static str, story: String) {
        self.broken.entry(rule).or_insert(story);
    }

    /// Takes note of what has reached a disk.
    pub fn logged(&mut self, member: u64, logged: &Logged) {
        let log = self.logs.entry(member).or_default();
        match logged {
            Logged::Made => *log = Log::default(),
            Logged::Voted(vote) => self.vote(member, Some(*vote)),
            Logged::Found(vote) => self.vote(member, *vote),
            Logged::Purged(place) => {
                log.purged = log.purged.max(Some(*place));
                log.terms = log.terms.split_off(&(place.index + 1));
            }
            Logged::Truncated { from } => {
                let gone = log.terms.split_off(from);
                self.gone_entries(member, &gone);
            }
            Logged::Appended { place, hash } => {
                log.terms.insert(place.index, place.term);
                let before = place.index.checked_sub(1);
                let before = before.and_then(|before| log.term_at(before));
                let after = log.term_at(place.index + 1);
                self.new_entry(member, *place, *hash, before);
                self.growing(member, *place, before, after);
            }
        }
    }

    /// Log matching: an entry of one term at one index is the same everywhere, and so is the one before it.
    fn new_entry(&mut self, member: u64, place: Place, hash: u64, before: Option<u64>) {
        let known = self.entries.entry(place).or_insert((hash, before));
        let other_before = known.1.is_some() && before.is_some() && known.1 != before;
        let differs = known.0 != hash || other_before;
        known.1 = known.1.or(before);
        if differs {
            let story = format!(
                "Member {member} has another entry {} of term {} than a member had before, or another one in front of it. \
                 Two logs with one entry in common have to agree in all up to it.",
                place.index, place.term
            );
            self.broken("raft: log matching", story);
        }
    }

    /// Terms only grow along a log: what another leader's entries replace goes with all that follows it.
    fn growing(&mut self, member: u64, place: Place, before: Option<u64>, after: Option<u64>) {
        let falls = before.is_some_and(|before| before > place.term)
            || after.is_some_and(|after| after < place.term);
        if falls {
            let story = format!(
                "On the disk of member {member} entry {} is of term {}, the one before it of term {before:?}, and the one \
                 after it of term {after:?}. Along a log terms only grow.",
                place.index, place.term
            );
            self.broken("raft: terms out of order", story);
        }
    }

    /// Committed entries stay.
    fn gone_entries(&mut self, member: u64, gone: &BTreeMap<u64, u64>) {
        let is_committed = |(index, term): &(&u64, &u64)| self.committed.get(index) == Some(term);
        if let Some((index, term)) = gone.iter().find(is_committed) {
            let story = format!(
                "Member {member} takes entry {index} of term {term} out of its log, which was committed."
            );
            self.broken("raft: committed entry removed", story);
        }
    }

    /// Takes note of how a member stands.
    pub fn look(&mut self, look: Look) {
        self.looked += 1;
        self.order(&look);
        self.direction(&look);
        self.election(&look);
        self.commit(&look);
        self.quorum(&look);
        self.same_state(&look);
        self.looks.insert(look.member, look);
    }

    /// Purged, snapshot, applied, committed, last: in this order.
    fn order(&mut self, look: &Look) {
        let state = &look.state;
        let index = |place: Option<Place>| place.map(|place| place.index);
        let order = [
            ("purged", index(state.purged)),
            ("the snapshot's", index(state.snapshot)),
            ("applied", index(state.applied)),
            ("committed", index(state.committed)),
            ("its last", state.last),
        ];
        for pair in order.windows(2) {
            let ((low, before), (high, after)) = (pair[0], pair[1]);
            if let (Some(before), Some(after)) = (before, after)
                && before > after
            {
                let story = format!(
                    "Of member {}, entry {before} is {low}, and only {after} is {high}. That is the wrong way around.",
                    look.member
                );
                self.broken("raft: order of states", story);
            }
        }
    }

    /// While a process lives nothing goes back.
    fn direction(&mut self, look: &Look) {
        let Some(before) = self.looks.get(&look.member) else {
            return;
        };
        if before.life != look.life {
            return;
        }
        let (then, now) = (&before.state, &look.state);
        let steps: [(&str, &dyn Debug, &dyn Debug, bool); 5] = [
            ("term", &then.term, &now.term, then.term > now.term),
            (
                "last committed entry",
                &then.committed,
                &now.committed,
                then.committed > now.committed,
            ),
            (
                "last applied entry",
                &then.applied,
                &now.applied,
                then.applied > now.applied,
            ),
            (
                "snapshot",
                &then.snapshot,
                &now.snapshot,
                then.snapshot > now.snapshot,
            ),
            (
                "last purged entry",
                &then.purged,
                &now.purged,
                then.purged > now.purged,
            ),
        ];
        let back = steps.iter().find(|(_, _, _, back)| *back);
        if let Some((what, then, now, _)) = back {
            let story = format!(
                "The {what} of member {} goes back from {then:?} to {now:?}.",
                look.member
            );
            self.broken("raft: going backwards", story);
        }
    }

    /// A vote outlives every crash, and a term has one for one candidate.
    fn vote(&mut self, member: u64, now: Option<Voted>) {
        let before = self.votes.get(&member).copied();
        if !may_follow(before, now) {
            let story = format!(
                "Member {member} had the vote {before:?} on its disk, and now has {now:?}. A vote is not taken back."
            );
            self.broken("raft: vote taken back", story);
        }
        if let Some(now) = now {
            self.votes.insert(member, now);
        }
    }

    /// A term has one leader, and that one has all that was committed before.
    fn election(&mut self, look: &Look) {
        let state = &look.state;
        let elected = state.elected && state.voted_for == look.member;
        if !state.leads || !elected {
            return;
        }
        let first = match self.leaders.get(&state.term) {
            None => {
                self.leaders.insert(state.term, look.member);
                true
            }
            Some(known) if *known == look.member => false,
            Some(known) => {
                let story = format!(
                    "Members {known} and {} both lead in term {}. One term has one leader.",
                    look.member, state.term
                );
                return self.broken("two leaders", story);
            }
        };
        if !first {
            return;
        }
        self.votes_for(look);
        let nothing = Log::default();
        let log = self.logs.get(&look.member).unwrap_or(&nothing);
        let has = |place| log.covers(place) || state.snapshot.is_some_and(|had| had >= place);
        let earlier = self.committed.iter().rev();
        let mut earlier = earlier.filter(|(_, term)| **term < state.term);
        let missing = earlier.find(|(index, term)| {
            !has(Place {
                term: **term,
                index: **index,
            })
        });
        if let Some((index, term)) = missing {
            let story = format!(
                "Member {} leads in term {} without entry {index} of term {term}, which was committed before.",
                look.member, state.term
            );
            self.broken("raft: leader without a committed entry", story);
        }
    }

    /// A new leader has the votes of a quorum, on disk. Who has voted in a later term since may have been among them, and
    /// where the voters are just being changed one set is enough: the change may be newer than the election.
    fn votes_for(&mut self, look: &Look) {
        let state = &look.state;
        let for_it = |vote: &Voted| match vote.term == state.term {
            true => vote.candidate == look.member,
            false => vote.term > state.term,
        };
        let has = |voter: &&u64| self.votes.get(voter).is_some_and(for_it);
        let enough = |voters: &BTreeSet<u64>| voters.iter().filter(has).count() * 2 > voters.len();
        if state.voters.is_empty() || state.voters.iter().any(enough) {
            return;
        }
        let having: BTreeSet<&u64> = state.voters.iter().flatten().filter(has).collect();
        let story = format!(
            "Member {} leads in term {}, and of the voters {:?} only {having:?} have a vote for it on disk.",
            look.member, state.term, state.voters
        );
        self.broken("raft: elected without a quorum", story);
    }

    /// What is committed is committed for all.
    fn commit(&mut self, look: &Look) {
        let Some(committed) = look.state.committed else {
            return;
        };
        let settled = *self.settled.get(&look.member).unwrap_or(&0);
        if settled > committed.index {
            return;
        }
        self.commit_one(look.member, committed);
        let Some(log) = self.logs.get(&look.member) else {
            return;
        };
        if log.term_at(committed.index) != Some(committed.term) {
            // Not on this disk yet: what stands there may be something else, that has to go.
            return;
        }
        let newly: Vec<Place> = log
            .terms
            .range(settled..committed.index)
            .map(|(index, term)| Place {
                term: *term,
                index: *index,
            })
            .collect();
        newly
            .into_iter()
            .for_each(|place| self.commit_one(look.member, place));
        self.settled.insert(look.member, committed.index + 1);
    }

    fn commit_one(&mut self, member: u64, place: Place) {
        let known = *self.committed.entry(place.index).or_insert(place.term);
        if known != place.term {
            let story = format!(
                "Entry {} is committed with term {known}, and by member {member} with term {}.",
                place.index, place.term
            );
            self.broken("raft: committed entry changed", story);
        }
    }

    /// What a leader commits is on the disks of a quorum of each set of voters.
    fn quorum(&mut self, look: &Look) {
        let state = &look.state;
        let Some(committed) = state.committed.filter(|place| place.term == state.term) else {
            return;
        };
        let before = self.looks.get(&look.member);
        let known = before.is_some_and(|before| {
            before.life == look.life && before.state.committed == Some(committed)
        });
        if !state.leads || known {
            return;
        }
        let sets = match state.voters_at {
            // The membership is newer than the entry, which one of before had to agree to: known where that is a part of it.
            Some(at) if at > committed.index && state.voters.len() < 2 => return,
            Some(at) if at > committed.index => &state.voters[..1],
            _ => &state.voters[..],
        };
        let has = |voter: &&u64| {
            let log = self.logs.get(voter);
            log.is_some_and(|log| log.covers(committed))
        };
        let short = sets
            .iter()
            .find(|voters| voters.iter().filter(has).count() * 2 <= voters.len());
        if let Some(voters) = short {
            let having: Vec<&u64> = voters.iter().filter(has).collect();
            let story = format!(
                "Leader {} says that entry {} of term {} is committed, and of the voters {voters:?} only {having:?} have it \
                 on disk.",
                look.member, committed.index, committed.term
            );
            self.broken("raft: committed without a quorum", story);
        }
    }

    /// Members that have applied the same entries have the same state.
    fn same_state(&mut self, look: &Look) {
        let Some((index, hash)) = look.digest else {
            return;
        };
        let known = *self.states.entry(index).or_insert(hash);
        if known != hash {
            let story = format!(
                "After entry {index} member {} has another state than a member had before.",
                look.member
            );
            self.broken("raft: states differ", story);
        }
    }

    /// How many terms had a leader.
    pub fn leaders(&self) -> usize {
        self.leaders.len()
    }
}

fn may_follow(before: Option<Voted>, now: Option<Voted>) -> bool {
    match (before, now) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(before), Some(now)) if before.term != now.term => before.term < now.term,
        (Some(before), Some(now)) if before.won => now.won && before.candidate == now.candidate,
        // Who asked for votes itself may follow another one that has won.
        (Some(before), Some(now)) => now.won || before.candidate == now.candidate,
    }
}

#[cfg(test)]
#[path = "raft_tests.rs"]
mod tests;
