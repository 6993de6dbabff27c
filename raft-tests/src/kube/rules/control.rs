//! K9 (one set of controllers writes), K11 (what is taken away is refused) and K12 (who shows life is not taken for dead);
//! and that watches tell events.

use serde_json::Value;

use super::{Evidence, Verdict, verdict};
use crate::kube::history::{Access, Ask, Deed, History, Right, Truth};
use crate::kube::kubelet;
use crate::recording::RestFate;

const LEASE: &str = "leases/kube-system/kube-controller-manager";
/// A machine that stood still within this before a write may not have noticed yet that its lease is over. Longer than that
/// lease.
const PAUSE_COUNTS: u64 = 40_000_000_000;
/// Who has renewed a node's lease within this is alive. Controllers wait for longer, 50 seconds, but see things late.
const ALIVE: u64 = 30_000_000_000;

pub(super) fn check(history: &History) -> Vec<Verdict> {
    let mut found = Vec::new();
    for place in 0..history.deeds.len() {
        found.extend(late(history, place));
        found.extend(buried(history, place));
    }
    found.extend(history.rights.iter().filter_map(right));
    let nonsense = |place: &usize| nonsense(history, *place);
    found.extend(history.nonsense.iter().map(nonsense));
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

/// Whether it is said of a node that nobody knows how it is.
fn is_unknown(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|one| one["type"] == "Ready" && one["status"] == "Unknown")
}

/// K12: no node is taken for dead whose agent has just renewed its lease, whatever the clocks of machines say.
fn buried(history: &History, place: usize) -> Option<Verdict> {
    let deed = &history.deeds[place];
    let node = deed.what.strip_prefix("PATCH /api/v1/nodes/")?;
    let node = node.strip_suffix("/status")?;
    let key = format!("nodes/{node}");
    let (_, after) = history.truth.at(&key, deed.revision)?;
    let before = history.truth.before(&key, deed.revision);
    if !is_unknown(after) || before.is_some_and(|(_, before)| is_unknown(before)) {
        return None;
    }
    let agent = kubelet::client(node.strip_prefix('n')?.parse().ok()?);
    let shows_life = |ask: &Ask| {
        let since = deed.called.saturating_sub(ALIVE);
        let in_time = ask
            .returned
            .is_some_and(|at| since <= at && at <= deed.called);
        let renews = ask.client == agent && ask.request.contains("/kube-node-lease/leases");
        in_time && renews && matches!(ask.fate, RestFate::Done(_))
    };
    let sign = history.asks.iter().rposition(shows_life)?;
    let ago = (deed.called - history.asks[sign].returned?) / 1_000_000;
    let story = format!(
        "{} took {node} for dead in version {}, {ago} ms after its agent had renewed its lease. A node is silent only when \
         nothing has come from it for longer than 30 seconds.",
        deed.who, deed.revision
    );
    let evidence = [Evidence::Ask(sign), Evidence::Deed(place)];
    Some(verdict("K12: taken for dead", story, evidence))
}

/// K11: every member knows of a change within a second, and says so when it is asked.
fn right(right: &Right) -> Option<Verdict> {
    let Right {
        what,
        member,
        expected,
        found,
        asks,
    } = right;
    let story = match found {
        Some(found) if found == expected => return None,
        Some(found) => format!(
            "A second after the change, on member {member}: {what}, and is {}. By then every member has to know of it.",
            in_words(*found)
        ),
        None => format!(
            "After the change, on member {member}: {what}, and is told nothing of it. Nobody disturbs the member any more."
        ),
    };
    Some(verdict("K11: rights", story, asks.map(Evidence::Ask)))
}

fn in_words(found: Access) -> &'static str {
    match found {
        Access::Allowed => "allowed to",
        Access::Forbidden => "not allowed to",
        Access::Unknown => "not known to be anybody",
    }
}

/// Whatever a watch tells is an event of this API.
fn nonsense(history: &History, place: usize) -> Verdict {
    let Ask {
        client,
        member,
        request,
        answer,
        ..
    } = &history.asks[place];
    let story = format!(
        "Client {client} was told by member {member}, as it asked {request}: {answer:?}. That is no event of a watch."
    );
    verdict("K4: no event", story, [Evidence::Ask(place)])
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
    fn who_shows_life_is_not_taken_for_dead() {
        const SECOND: u64 = 1_000_000_000;
        let node = |ready: &str| {
            let conditions = json!([{"type": "Ready", "status": ready}]);
            Some(json!({"metadata": {"uid": "u"}, "status": {"conditions": conditions}}))
        };
        let with = |states: [&str; 2], renewed: u64, fate| {
            let mut truth = Truth::default();
            truth.put(5, "nodes/n0", node(states[0]));
            truth.put(9, "nodes/n0", node(states[1]));
            let renewal = |node: u32, at: u64| Ask {
                client: 200 + node,
                member: 1,
                called: at - 1,
                returned: Some(at),
                method: "patch".into(),
                request: "PATCH /apis/x/kube-node-lease/leases/n {}".into(),
                fate,
                answer: String::new(),
                call: None,
            };
            let what = "PATCH /api/v1/nodes/n0/status".into();
            let deed = Deed {
                what,
                ..deed("a", 1, 100 * SECOND, 9)
            };
            let asks = vec![
                renewal(0, renewed * SECOND),
                renewal(1, 99 * SECOND),
                renewal(0, 101 * SECOND),
            ];
            check(&History {
                truth,
                asks,
                deeds: vec![deed],
                ..History::default()
            })
        };
        let (done, dead) = (RestFate::Done(4), ["True", "Unknown"]);
        let found = with(dead, 95, done);
        assert_eq!(rules_of(&found), ["K12: taken for dead"]);
        assert_eq!(found[0].evidence, [Evidence::Ask(0), Evidence::Deed(0)]);
        assert!(with(dead, 50, done).is_empty());
        assert!(with(dead, 95, RestFate::Refused).is_empty());
        assert!(with(["True", "True"], 95, done).is_empty());
        assert!(with(["Unknown", "Unknown"], 95, done).is_empty());
    }

    #[test]
    fn what_is_taken_away_is_refused() {
        let with = |expected, found| {
            let right = Right {
                what: "eve lists what she might list before".into(),
                member: 1,
                expected,
                found,
                asks: [3, 4],
            };
            check(&History {
                rights: vec![right],
                ..History::default()
            })
        };
        let all = [Access::Allowed, Access::Forbidden, Access::Unknown];
        for expected in all {
            for found in all.map(Some).into_iter().chain([None]) {
                let verdicts = with(expected, found);
                if found == Some(expected) {
                    assert!(verdicts.is_empty());
                    continue;
                }
                assert_eq!(rules_of(&verdicts), ["K11: rights"]);
                assert_eq!(verdicts[0].evidence, [Evidence::Ask(3), Evidence::Ask(4)]);
            }
        }
    }

    #[test]
    fn what_is_no_event_is_told() {
        let ask = |answer: &str| Ask {
            client: 100,
            member: 1,
            called: 1,
            returned: Some(2),
            method: "get".into(),
            request: "GET /x?watch=true".into(),
            fate: RestFate::Refused,
            answer: answer.into(),
            call: None,
        };
        let mut history = History {
            asks: vec![ask("{"), ask("ERROR 500")],
            ..History::default()
        };
        assert!(check(&history).is_empty());
        history.nonsense = vec![1];
        let found = check(&history);
        assert_eq!(rules_of(&found), ["K4: no event"]);
        assert_eq!(found[0].evidence, [Evidence::Ask(1)]);
        assert!(found[0].story.contains("ERROR 500"));
    }
}
