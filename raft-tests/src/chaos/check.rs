//! What is looked at beside what the judges look at: that the members agree, that nothing is gone that was added and
//! never deleted, and that the run was worth something.

use crate::recording::{
    Fault, Operand, Outcome, Recording, Request, Response, Role, Step, Violation,
};
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong by the dumps alone.
pub fn violations(recording: &Recording) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut dumps = recording.dumps.iter();
    let Some(first) = dumps.next() else {
        return found;
    };
    for other in dumps {
        if other.pairs != first.pairs {
            let ours: BTreeSet<_> = first
                .pairs
                .iter()
                .map(|pair| (&pair.key, pair))
                .map(key_of)
                .collect();
            let theirs: BTreeSet<_> = other
                .pairs
                .iter()
                .map(|pair| (&pair.key, pair))
                .map(key_of)
                .collect();
            let differ: Vec<_> = ours.symmetric_difference(&theirs).take(3).collect();
            found.push(Violation {
                rule: "replicas differ".into(),
                story: format!(
                    "Members {:x} and {:x} have different keys at revision {}. Among them: {differ:?}.",
                    first.member, other.member, first.revision
                ),
                ..Violation::default()
            });
        }
    }
    let there: BTreeMap<&str, &str> = first
        .pairs
        .iter()
        .map(|pair| (pair.key.as_str(), pair.value.as_str()))
        .collect();
    for operation in &recording.operations {
        let Some((key, value)) = element(&operation.request) else {
            continue;
        };
        let added = match &operation.outcome {
            Outcome::Ok {
                response: Response::Txn { succeeded, .. },
                ..
            } => *succeeded,
            Outcome::Failed { .. } => false,
            _ => continue,
        };
        let is_there = there.get(key) == Some(&value);
        if added != is_there {
            let (rule, story) = match added {
                true => (
                    "lost write",
                    "was acknowledged. It is not there at the end, though nobody deletes such keys.",
                ),
                false => (
                    "phantom write",
                    "was refused, for certain without effect. It is there at the end.",
                ),
            };
            found.push(Violation {
                rule: rule.into(),
                story: format!("Client {}'s {key} = {value} {story}", operation.client),
                operations: vec![operation.id],
                watches: Vec::new(),
            });
        }
    }
    found
}

fn key_of<'a>((key, pair): (&'a String, &'a crate::recording::Pair)) -> (&'a str, i64, i64) {
    (key, pair.modified, pair.version)
}

/// The key and the value of a call that adds an element: each is added by one call, once, and never deleted.
fn element(request: &Request) -> Option<(&str, &str)> {
    let Request::Txn(txn) = request else {
        return None;
    };
    let ([compare], [Step::Put(put)]) = (txn.compares.as_slice(), txn.then.as_slice()) else {
        return None;
    };
    // The lists are sets in one key each, which is written again and again.
    let own = put.key.starts_with("set/") && !put.key.starts_with("set/list/");
    (own && compare.operand == Operand::CreateRevision(0))
        .then_some((put.key.as_str(), put.value.as_str()))
}

/// Terms in which a leader was seen.
pub fn leaders(recording: &Recording) -> BTreeSet<(u64, u64)> {
    let leading = recording
        .samples
        .iter()
        .filter(|sample| sample.role == Role::Leader);
    leading.map(|sample| (sample.term, sample.member)).collect()
}

/// Whether another one leads after such a fault hit the leader.
pub fn changes_leader(kind: &str) -> bool {
    [
        "kill",
        "crash-loop",
        "power",
        "disk-error",
        "move-leader",
        "member",
    ]
    .contains(&kind)
}

/// Why the run proves too little, if it does.
pub fn lacks(recording: &Recording, planned: usize) -> Vec<String> {
    let mut lacks = Vec::new();
    if recording.faults.len() < planned {
        lacks.push(format!(
            "only {} of {planned} planned faults came",
            recording.faults.len()
        ));
    }
    for fault in &recording.faults {
        if !recording.is_felt(fault) {
            lacks.push(format!(
                "no call was under way during {} at {:.1} s",
                fault.kind,
                fault.from as f64 / 1e9
            ));
        }
    }
    let copies: Vec<&Fault> = of_kind(recording, "backup").collect();
    if !copies.is_empty() && !copies.iter().any(|fault| fault.what.contains("restored")) {
        lacks.push("no copy of the store could be taken and restored".into());
    }
    let may_change = recording
        .faults
        .iter()
        .any(|fault| changes_leader(&fault.kind));
    if may_change && leaders(recording).len() < 2 {
        lacks.push("the leader never changed".into());
    }
    let good = recording
        .operations
        .iter()
        .filter(|operation| matches!(operation.outcome, Outcome::Ok { .. }));
    // Few calls a second, on the slowest of machines.
    let wanted = recording.run.length / 1_000_000_000;
    if (good.count() as u64) < wanted {
        lacks.push(format!("fewer than {wanted} calls were answered well"));
    }
    lacks
}

fn of_kind<'a>(recording: &'a Recording, kind: &'a str) -> impl Iterator<Item = &'a Fault> {
    let faults = recording.faults.iter();
    faults.filter(move |fault| fault.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Compare, Dump, Operation, Pair, Put, Relation, Sample, Txn};

    fn add(id: u64, outcome: Outcome) -> Operation {
        let key = format!("set/1/{id}");
        let put = Put {
            key: key.clone(),
            value: format!("1.{id}"),
            ..Put::default()
        };
        Operation {
            id,
            client: 1,
            member: 1,
            called: 10 * id,
            returned: Some(10 * id + 5),
            request: Request::Txn(Txn {
                compares: vec![Compare {
                    key,
                    relation: Relation::Equal,
                    operand: Operand::CreateRevision(0),
                }],
                then: vec![Step::Put(put)],
                otherwise: Vec::new(),
            }),
            outcome,
        }
    }

    fn ok() -> Outcome {
        Outcome::Ok {
            revision: 1,
            response: Response::Txn {
                succeeded: true,
                steps: Vec::new(),
            },
        }
    }

    fn failed() -> Outcome {
        Outcome::Failed {
            code: 14,
            message: String::new(),
        }
    }

    fn unknown() -> Outcome {
        Outcome::Unknown {
            message: String::new(),
        }
    }

    fn dump(member: u64, ids: &[u64]) -> Dump {
        let pair = |id: &u64| Pair {
            key: format!("set/1/{id}"),
            value: format!("1.{id}"),
            ..Pair::default()
        };
        Dump {
            member,
            pairs: ids.iter().map(pair).collect(),
            ..Dump::default()
        }
    }

    fn rules(operations: Vec<Operation>, dumps: Vec<Dump>) -> Vec<String> {
        let recording = Recording {
            operations,
            dumps,
            ..Recording::default()
        };
        let found = violations(&recording).into_iter();
        found.map(|violation| violation.rule).collect()
    }

    #[test]
    fn what_was_acknowledged_is_there_and_what_was_refused_is_not() {
        let calls = || vec![add(1, ok()), add(2, failed()), add(3, unknown())];
        let none: [&str; 0] = [];
        assert_eq!(rules(calls(), vec![dump(1, &[1])]), none);
        assert_eq!(rules(calls(), vec![dump(1, &[1, 3])]), none);
        assert_eq!(rules(calls(), vec![dump(1, &[3])]), ["lost write"]);
        assert_eq!(rules(calls(), vec![dump(1, &[1, 2])]), ["phantom write"]);
        let dumps = vec![dump(1, &[1, 3]), dump(2, &[1])];
        assert_eq!(rules(calls(), dumps), ["replicas differ"]);
    }

    #[test]
    fn a_run_in_which_nothing_met_proves_nothing() {
        let fault = |from, until| Fault {
            kind: "kill".into(),
            from,
            until: Some(until),
            ..Fault::default()
        };
        let leader = |term| Sample {
            role: Role::Leader,
            term,
            member: 1,
            ..Sample::default()
        };
        let mut recording = Recording {
            operations: vec![add(1, ok())],
            faults: vec![fault(12, 14)],
            samples: vec![leader(1), leader(2)],
            ..Recording::default()
        };
        assert_eq!(lacks(&recording, 1), Vec::<String>::new());
        assert_eq!(lacks(&recording, 2).len(), 1);
        recording.faults = vec![fault(16, 20)];
        assert_eq!(lacks(&recording, 1).len(), 1);
        recording.samples.pop();
        assert_eq!(lacks(&recording, 1).len(), 2);
        recording.faults[0].kind = "delay".into();
        assert_eq!(lacks(&recording, 1).len(), 1);
        recording.run.length = 5_000_000_000;
        assert_eq!(lacks(&recording, 1).len(), 2);
        recording.faults[0].kind = "backup".into();
        assert_eq!(lacks(&recording, 1).len(), 3);
        recording.faults[0].what = "a copy; restored".into();
        assert_eq!(lacks(&recording, 1).len(), 2);
    }
}
