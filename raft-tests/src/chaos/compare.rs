//! Whether a member with a damaged file has what the others have, and what is to be said of it: a member that runs is not
//! let go without an answer to that.

use super::rig::Rig;
use super::shared::KEYS;
use crate::etcd::message::{HASH_KV, HashKv, HashKvRequest, RANGE, RangeAnswer};
use crate::etcd::outcome;
use crate::recording::Pair;
use std::time::Duration;

const CALL: Duration = Duration::from_secs(5);
/// One that is damaged and runs is watched for so long at least: it may come upon the damage.
pub const SHOWS: Duration = Duration::from_secs(5);
/// For a member to refuse, or to have caught up and be compared with another one.
pub const COMES_OUT: Duration = Duration::from_secs(30);

/// What a member says that it has at a revision.
#[derive(Clone, Debug, PartialEq)]
struct State {
    hash: u32,
    compacted: i64,
    /// Of the clients' keys, each as it is read.
    pairs: Vec<Pair>,
}

/// A member's state beside another one's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    Same,
    /// In words, how.
    Differs(String),
    /// They cannot be compared now; in words, why.
    NotNow(String),
}

/// Compares a member's newest state with what another one has of that revision.
pub fn compare(rig: &Rig, index: usize) -> Compared {
    let other = (index + 1) % rig.members().len();
    let of = |member: usize, revision: i64| {
        let state = state(rig, member, revision);
        state.map_err(|status| format!("{}: {}", rig.names([member]), status.message()))
    };
    let states = of(index, 0).and_then(|(_, revision)| {
        let (ours, _) = of(index, revision)?;
        let (theirs, _) = of(other, revision)?;
        Ok((revision, ours, theirs))
    });
    match states {
        Ok((revision, ours, theirs)) => match beside(&ours, &theirs) {
            Compared::Differs(how) => Compared::Differs(format!(
                "At revision {revision} its state is not that of member {}: {how}",
                rig.names([other])
            )),
            compared => compared,
        },
        Err(why) => Compared::NotNow(why),
    }
}

/// A member's state at a revision, or its newest one; and of which revision it is.
fn state(rig: &Rig, member: usize, revision: i64) -> Result<(State, i64), tonic::Status> {
    rig.at(member, |connection| async move {
        let hash: HashKv = connection
            .unary(HASH_KV, HashKvRequest { revision }, CALL)
            .await?;
        let at = match revision {
            0 => hash.header.revision,
            revision => revision,
        };
        let request = kv::RangeRequest {
            key: outcome::bytes(KEYS.0),
            range_end: outcome::bytes(KEYS.1),
            revision: at,
            serializable: true,
            ..kv::RangeRequest::default()
        };
        let answer: RangeAnswer = connection.unary(RANGE, request, CALL).await?;
        let state = State {
            hash: hash.hash,
            compacted: hash.compact_revision,
            pairs: answer.kvs.iter().map(outcome::pair).collect(),
        };
        Ok((state, at))
    })
}

/// Hashes are of one revision and of all since a compaction, which has to be the same one. What is read at a revision does
/// not depend on that.
fn beside(ours: &State, theirs: &State) -> Compared {
    if ours.pairs != theirs.pairs {
        let differs = |pair: &&Pair| !theirs.pairs.contains(pair);
        let lacks = |pair: &&Pair| !ours.pairs.contains(pair);
        let first = ours.pairs.iter().find(differs);
        let first = first.or_else(|| theirs.pairs.iter().find(lacks));
        let key = first.map_or("", |pair| pair.key.as_str());
        return Compared::Differs(format!("{key} is read differently"));
    }
    if ours.compacted != theirs.compacted {
        let (ours, theirs) = (ours.compacted, theirs.compacted);
        return Compared::NotNow(format!(
            "it is compacted up to {ours}, the other to {theirs}"
        ));
    }
    match ours.hash == theirs.hash {
        true => Compared::Same,
        false => Compared::Differs("the hashes differ".into()),
    }
}

/// What is seen of a member with a damaged file at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    Ended(String),
    Runs(Compared),
}

/// What it comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It ended by itself; in words, how.
    Refused(String),
    /// It runs, and has what the others have.
    Harmless,
    /// It runs, and has not; in words, how.
    Wrong(String),
    /// Nobody knows; in words, why.
    Inconclusive(String),
}

/// Decided by a look at the member so long after its start; nothing where one has to look again. `is_over` where nobody can.
pub fn fate(look: Look, since: Duration, is_over: bool) -> Option<Fate> {
    match look {
        Look::Ended(how) => Some(Fate::Refused(how)),
        Look::Runs(Compared::Differs(how)) => Some(Fate::Wrong(how)),
        Look::Runs(Compared::Same) => (since >= SHOWS || is_over).then_some(Fate::Harmless),
        Look::Runs(Compared::NotNow(why)) => {
            (since >= COMES_OUT || is_over).then_some(Fate::Inconclusive(why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(hash: u32, compacted: i64, values: &[&str]) -> State {
        let pair = |value: &&str| Pair {
            key: "a".into(),
            value: (*value).into(),
            ..Pair::default()
        };
        State {
            hash,
            compacted,
            pairs: values.iter().map(pair).collect(),
        }
    }

    #[test]
    fn only_hashes_of_the_same_history_are_compared() {
        let ours = state(1, 5, &["x"]);
        assert_eq!(beside(&ours, &ours), Compared::Same);
        let differ = |theirs| matches!(beside(&ours, &theirs), Compared::Differs(_));
        assert!(differ(state(2, 5, &["x"])));
        assert!(differ(state(1, 5, &["y"])));
        assert!(differ(state(1, 5, &[])));
        assert!(differ(state(1, 6, &["y"])), "reads do not depend on it");
        let not_now = beside(&ours, &state(2, 6, &["x"]));
        assert!(matches!(not_now, Compared::NotNow(_)));
    }

    #[test]
    fn a_member_that_runs_is_not_let_go_without_an_answer() {
        let at = |compared: Compared, seconds: u64, over: bool| {
            fate(Look::Runs(compared), Duration::from_secs(seconds), over)
        };
        let not_now = || Compared::NotNow("no answer".into());
        assert_eq!(at(not_now(), 0, false), None);
        assert_eq!(at(not_now(), 29, false), None);
        let open = Some(Fate::Inconclusive("no answer".into()));
        assert_eq!(at(not_now(), 30, false), open);
        assert_eq!(at(not_now(), 1, true), open);
        assert_eq!(at(Compared::Same, 1, false), None, "it may yet show");
        assert_eq!(at(Compared::Same, 5, false), Some(Fate::Harmless));
        let wrong = at(Compared::Differs("x".into()), 1, false);
        assert_eq!(wrong, Some(Fate::Wrong("x".into())));
        let ended = fate(Look::Ended("exit 1".into()), Duration::from_secs(20), false);
        assert_eq!(ended, Some(Fate::Refused("exit 1".into())));
    }
}
