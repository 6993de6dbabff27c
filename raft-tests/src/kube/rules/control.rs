//! K9 (one set of controllers writes) and K11 (what is taken away is refused).

use super::{Evidence, Verdict, verdict};
use crate::kube::history::{Deed, History, Right, Truth};

const LEASE: &str = "leases/kube-system/kube-controller-manager";
/// A machine that stood still within this before a write may not have noticed yet that its lease is over. Longer than that
/// lease.
const PAUSE_COUNTS: u64 = 40_000_000_000;

pub(super) fn check(history: &History) -> Vec<Verdict> {
    let mut found = Vec::new();
    for place in 0..history.deeds.len() {
        found.extend(late(history, place));
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
fn late(history: &History, place: usize) -> Option<Verdict> {
    let deed = &history.deeds[place];
    let next = holder(&history.truth, deed.revision).filter(|holder| *holder != deed.who)?;
    let stood_still = history.pauses.iter().any(|(member, from, until)| {
        *member == deed.member
            && *from <= deed.called
            && until.saturating_add(PAUSE_COUNTS) >= deed.called
    });
    if stood_still {
        return None;
    }
    let comes_first = |other: &Deed| {
        let holds = holder(&history.truth, other.revision) == Some(next);
        other.who == next && other.returned < deed.called && holds
    };
    let first = history.deeds.iter().position(comes_first)?;
    let Deed { who, revision, .. } = deed;
    let story = format!(
        "{who} wrote version {revision}, which it sent after {next} had the lease and had written version {}. Who has lost \
         the lease may write nothing once its next holder has.",
        history.deeds[first].revision
    );
    let evidence = [Evidence::Deed(first), Evidence::Deed(place)];
    Some(verdict("K9: two who control", story, evidence))
}

/// K11.
fn right(right: &Right) -> Option<Verdict> {
    let Right {
        what,
        member,
        expected,
        found,
        asks,
    } = right;
    (expected != found).then(|| {
        let story = format!(
            "A second after the change, on member {member}: {what}: {found}. By then every member has to know of it."
        );
        verdict("K11: rights", story, asks.map(Evidence::Ask))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::rules_of;
    use super::*;

    fn deed(who: &str, member: u64, called: u64, revision: i64) -> Deed {
        Deed {
            who: who.into(),
            member,
            called,
            returned: called + 1,
            revision,
            what: "PUT /x".into(),
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
        let found = check(&history(late.clone()));
        assert_eq!(rules_of(&found), ["K9: two who control"]);
        assert_eq!(found[0].evidence, [Evidence::Deed(1), Evidence::Deed(2)]);
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
            asks: [3, 4],
        };
        let with = |right| History {
            rights: vec![right],
            ..History::default()
        };
        assert!(check(&with(right(true, true))).is_empty());
        for wrong in [right(false, true), right(true, false)] {
            let found = check(&with(wrong));
            assert_eq!(rules_of(&found), ["K11: rights"]);
            assert_eq!(found[0].evidence, [Evidence::Ask(3), Evidence::Ask(4)]);
        }
    }
}
