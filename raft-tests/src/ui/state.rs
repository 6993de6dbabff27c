//! What the page shows of a moment, as values.

use super::{Cluster, Condition, Member};
use crate::recording::{Operation, Outcome, Role, Sample};
use crate::report::words;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// How much of the past the lanes of clients show.
pub const PAST_NS: u64 = 12_000_000_000;
/// Characters of a request.
const WORDS: usize = 60;
/// Of what is wrong.
const FINDINGS: usize = 5;
const FINDING_WORDS: usize = 300;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct State {
    pub now: u64,
    pub members: Vec<Node>,
    pub cuts: BTreeSet<(usize, usize)>,
    pub lanes: Vec<Lane>,
    pub findings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    pub name: String,
    pub condition: Condition,
    /// As it says itself; down where it says nothing.
    pub role: Role,
    pub term: u64,
    pub applied: u64,
    pub revision: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lane {
    pub client: u32,
    pub calls: Vec<Call>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Call {
    pub from: u64,
    pub until: Option<u64>,
    /// `ok`, `failed`, `unknown`, or `open` where no answer has come yet.
    pub sort: &'static str,
    pub words: String,
}

pub fn look(cluster: &dyn Cluster) -> State {
    let now = cluster.now();
    let operations = cluster.operations(now.saturating_sub(PAST_NS));
    State {
        now,
        members: nodes(cluster.members(), &cluster.samples()),
        cuts: cluster.cuts(),
        lanes: lanes(&operations),
        findings: newest(cluster.findings()),
    }
}

/// As many as a page has room for, the newest first.
fn newest(findings: Vec<String>) -> Vec<String> {
    let cut = |words: &String| words::cut(words, FINDING_WORDS);
    findings.iter().rev().take(FINDINGS).map(cut).collect()
}

fn nodes(members: Vec<Member>, samples: &[Sample]) -> Vec<Node> {
    members
        .into_iter()
        .map(|member| {
            let sample = samples.iter().find(|sample| sample.member == member.id);
            let sample = sample.cloned().unwrap_or_default();
            Node {
                name: member.name,
                // What is stopped may have said something a moment ago.
                role: match member.condition {
                    Condition::Stopped => Role::Down,
                    _ => sample.role,
                },
                condition: member.condition,
                term: sample.term,
                applied: sample.applied,
                revision: sample.revision,
            }
        })
        .collect()
}

fn lanes(operations: &[Operation]) -> Vec<Lane> {
    let mut clients: BTreeMap<u32, Vec<Call>> = BTreeMap::new();
    for operation in operations {
        let call = Call {
            from: operation.called,
            until: operation.returned,
            sort: sort(operation),
            words: words::cut(&words::request(&operation.request), WORDS),
        };
        clients.entry(operation.client).or_default().push(call);
    }
    let lane = |(client, calls)| Lane { client, calls };
    clients.into_iter().map(lane).collect()
}

fn sort(operation: &Operation) -> &'static str {
    match (&operation.outcome, operation.returned) {
        (Outcome::Ok { .. }, _) => "ok",
        (Outcome::Failed { .. }, _) => "failed",
        (Outcome::Unknown { .. }, Some(_)) => "unknown",
        (Outcome::Unknown { .. }, None) => "open",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Put, Request, Response};

    #[test]
    fn a_member_that_was_stopped_leads_no_more_whatever_it_said_last() {
        let member = |id, condition| Member {
            id,
            name: format!("m{id}"),
            condition,
        };
        let said = |member| Sample {
            member,
            role: Role::Leader,
            term: 3,
            applied: 40,
            revision: 7,
            at: 1,
        };
        let nodes = nodes(
            vec![
                member(1, Condition::Running),
                member(2, Condition::Stopped),
                member(3, Condition::Paused),
            ],
            &[said(1), said(2)],
        );
        let roles: Vec<Role> = nodes.iter().map(|node| node.role).collect();
        assert_eq!(roles, [Role::Leader, Role::Down, Role::Down]);
        assert_eq!(
            (nodes[1].term, nodes[1].applied, nodes[1].revision),
            (3, 40, 7)
        );
    }

    #[test]
    fn the_newest_of_what_is_wrong_comes_first() {
        let findings = (0..9).map(|number| number.to_string()).collect();
        assert_eq!(newest(findings), ["8", "7", "6", "5", "4"]);
        assert_eq!(newest(vec!["x\u{202e}".into()]), ["x\\u{202e}"]);
    }

    #[test]
    fn calls_stand_in_the_lanes_of_their_clients() {
        let call = |client, returned, outcome| Operation {
            id: 0,
            client,
            member: 1,
            called: 5,
            returned,
            request: Request::Put(Put {
                key: "k".into(),
                value: "v".into(),
                ..Put::default()
            }),
            outcome,
        };
        let unknown = || Outcome::Unknown {
            message: String::new(),
        };
        let ok = Outcome::Ok {
            revision: 1,
            response: Response::Put { prev: None },
        };
        let lanes = lanes(&[
            call(2, Some(9), ok),
            call(1, Some(8), unknown()),
            call(2, None, unknown()),
        ]);
        let sorts: Vec<(u32, Vec<&str>)> = lanes
            .iter()
            .map(|lane| {
                (
                    lane.client,
                    lane.calls.iter().map(|call| call.sort).collect(),
                )
            })
            .collect();
        assert_eq!(sorts, [(1, vec!["unknown"]), (2, vec!["ok", "open"])]);
        assert_eq!(lanes[1].calls[0].words, "put k = v");
    }
}
