//! K9 (one set of controllers writes) and K11 (what is taken away is refused).

use super::violation;
use crate::kube::history::{Deed, History, Right, Truth};
use crate::recording::Violation;

const LEASE: &str = "leases/kube-system/kube-controller-manager";
/// A machine that stood still within this before a write may not have noticed yet that its lease is over. Longer than that
/// lease.
const PAUSE_COUNTS: u64 = 40_000_000_000;

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for deed in &history.deeds {
        found.extend(late(history, deed));
    }
    found.extend(history.rights.iter().filter_map(right));
    found
}

fn holder(truth: &Truth, revision: i64) -> Option<&str> {
    let (_, lease) = truth.at(LEASE, revision)?;
    lease["spec"]["holderIdentity"]
        .as_str()
        .filter(|holder| !holder.is_empty())
}

/// K9: who lost the lease sends nothing any more once its next holder has written.
fn late(history: &History, deed: &Deed) -> Option<Violation> {
    let next = holder(&history.truth, deed.revision).filter(|holder| *holder != deed.who)?;
    let stood_still = history.pauses.iter().any(|(member, from, until)| {
        *member == deed.member
            && *from <= deed.called
            && until.saturating_add(PAUSE_COUNTS) >= deed.called
    });
    if stood_still {
        return None;
    }
    let mut others = history.deeds.iter().filter(|other| other.who == next);
    let first = others.find(|other| {
        other.returned < deed.called && holder(&history.truth, other.revision) == Some(next)
    })?;
    let story = format!(
        "{} wrote version {}, which it sent after {} had the lease and had written version {}.",
        deed.who, deed.revision, next, first.revision
    );
    Some(violation("K9: two who control", story))
}

/// K11.
fn right(right: &Right) -> Option<Violation> {
    let Right {
        what,
        member,
        expected,
        found,
    } = right;
    (expected != found).then(|| {
        let story = format!("A second after the change, on member {member}: {what}: {found}.");
        violation("K11: rights", story)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deed(who: &str, member: u64, called: u64, revision: i64) -> Deed {
        Deed {
            who: who.into(),
            member,
            called,
            returned: called + 1,
            revision,
        }
    }

    fn history(deeds: Vec<Deed>) -> History {
        let lease = |holder: &str| {
            Some(json!({"metadata": {"uid": "u"}, "spec": {"holderIdentity": holder}}))
        };
        let mut truth = Truth::default();
        truth.put(2, LEASE, lease("a"));
        truth.put(10, LEASE, lease("b"));
        truth.reach(20);
        History {
            truth,
            deeds,
            ..History::default()
        }
    }

    #[test]
    fn one_set_of_controllers_writes() {
        let good = vec![deed("a", 1, 10, 5), deed("b", 2, 100, 12)];
        assert!(check(&history(good.clone())).is_empty());
        // Sent before, and done late.
        assert!(
            check(&history(
                [good.clone(), vec![deed("a", 1, 90, 13)]].concat()
            ))
            .is_empty()
        );
        let late = [good, vec![deed("a", 1, 200, 13)]].concat();
        assert_eq!(check(&history(late.clone()))[0].rule, "K9: two who control");
        let paused = History {
            pauses: vec![(1, 50, 199)],
            ..history(late)
        };
        assert!(check(&paused).is_empty());
    }

    #[test]
    fn what_is_taken_away_is_refused() {
        let right = |expected, found| Right {
            what: "eve".into(),
            member: 1,
            expected,
            found,
        };
        let with = |right| History {
            rights: vec![right],
            ..History::default()
        };
        assert!(check(&with(right(true, true))).is_empty());
        assert_eq!(check(&with(right(false, true)))[0].rule, "K11: rights");
        assert_eq!(check(&with(right(true, false)))[0].rule, "K11: rights");
    }
}
