//! A lane for each client: one bar for each call.

use super::members::Names;
use super::part::Part;
use super::picture::{Named, Overview, overview, sort};
use super::words;
use crate::recording::{Operation, Outcome, Recording, RestCall, RestFate};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lane {
    pub client: u32,
    /// Its calls are of the Kubernetes API. Others may have the same number.
    pub rest: bool,
    pub name: String,
    /// A client that calls again before it is answered has more than one row.
    pub rows: usize,
    /// Ascending by call.
    pub operations: Vec<Bar>,
    /// Of all the client's calls, where the page draws only a part of them.
    pub overview: Option<Overview>,
}

/// One call. It is written as a list, in the order of the fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    pub id: u64,
    pub row: usize,
    pub member: String,
    pub from: u64,
    pub returned: Option<u64>,
    /// Where the bar ends: at the answer, or else at the client's next call.
    pub until: u64,
    /// 0 answered, 1 failed, 2 unknown.
    pub sort: usize,
    /// In the answer's header; 0 where there is none.
    pub revision: i64,
    pub verb: String,
    pub request: String,
    pub answer: String,
}

impl Serialize for Bar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let place = (self.id, self.row, &self.member);
        let time = (self.from, self.returned, self.until);
        let what = (self.sort, self.revision, &self.verb);
        let ((id, row, member), (from, returned, until)) = (place, time);
        let (sort, revision, verb) = what;
        let words = (&self.request, &self.answer);
        (
            id, row, member, from, returned, until, sort, revision, verb, words.0, words.1,
        )
            .serialize(serializer)
    }
}

/// More calls at once than this share the last row.
const ROWS_MAX: usize = 8;

pub(super) fn paint(
    recording: &Recording,
    named: &Named,
    names: &Names,
    part: Option<Part>,
    length: u64,
    room: usize,
) -> Vec<Lane> {
    let mut clients: BTreeMap<u32, Vec<&Operation>> = BTreeMap::new();
    for operation in &recording.operations {
        clients.entry(operation.client).or_default().push(operation);
    }
    let mut lanes: Vec<(bool, Lane)> = clients
        .into_iter()
        .map(|(client, mut operations)| {
            operations.sort_by_key(|operation| (operation.called, operation.id));
            let has_named = operations
                .iter()
                .any(|one| named.operations.contains(&one.id));
            let drawn = |operation: &Operation| {
                part.is_none_or(|part| part.span.contains(operation.called))
                    || named.operations.contains(&operation.id)
            };
            let (rows, bars) = bars(&operations, names, drawn, length, room);
            let lane = Lane {
                client,
                rest: false,
                name: format!("client {client}"),
                rows,
                operations: bars,
                overview: part.map(|_| {
                    let calls = operations.iter().map(|one| (one.called, sort(one)));
                    overview(calls, length)
                }),
            };
            (!has_named, lane)
        })
        .collect();
    lanes.extend(rest(recording, named, names, part, length, room));
    // Whoever has to do with a violation stands first, so that it is on the first screen.
    lanes.sort_by_key(|(other, lane)| (*other, lane.rest, lane.client));
    lanes.into_iter().map(|(_, lane)| lane).collect()
}

/// Lanes of clients of the Kubernetes API; true of those that have nothing to do with a violation.
fn rest(
    recording: &Recording,
    named: &Named,
    names: &Names,
    part: Option<Part>,
    length: u64,
    room: usize,
) -> Vec<(bool, Lane)> {
    let mut clients: BTreeMap<u32, Vec<(u64, &RestCall)>> = BTreeMap::new();
    for (id, call) in recording.rest_calls() {
        clients.entry(call.client).or_default().push((id, call));
    }
    let lane = |(client, mut calls): (u32, Vec<(u64, &RestCall)>)| {
        calls.sort_by_key(|(id, call)| (call.called, *id));
        let mut ends = Vec::new();
        let mut bars = Vec::new();
        for (index, (id, call)) in calls.iter().enumerate() {
            let is_named = named.operations.contains(id);
            if !is_named && part.is_some_and(|part| !part.span.contains(call.called)) {
                continue;
            }
            let next = calls.get(index + 1).map_or(length, |(_, next)| next.called);
            let until = call.returned.unwrap_or(next).max(call.called);
            let row = row(&mut ends, call.called, until);
            bars.push(rest_bar(*id, call, names, row, until, room));
        }
        let has_named = calls.iter().any(|(id, _)| named.operations.contains(id));
        let numbered = || format!("API client {client}");
        let lane = Lane {
            client,
            rest: true,
            name: recording
                .names
                .get(&client)
                .cloned()
                .unwrap_or_else(numbered),
            rows: ends.len().max(1),
            operations: bars,
            overview: part.map(|_| {
                let calls = calls.iter().map(|(_, call)| (call.called, rest_sort(call)));
                overview(calls, length)
            }),
        };
        (!has_named, lane)
    };
    clients.into_iter().map(lane).collect()
}

pub(super) fn rest_sort(call: &RestCall) -> usize {
    match call.fate {
        RestFate::Done(_) => 0,
        RestFate::Refused => 1,
        RestFate::Unknown => 2,
    }
}

fn rest_bar(id: u64, call: &RestCall, names: &Names, row: usize, until: u64, room: usize) -> Bar {
    Bar {
        id,
        row,
        member: names.name(call.member),
        from: call.called,
        returned: call.returned,
        until,
        sort: rest_sort(call),
        revision: match call.fate {
            RestFate::Done(revision) => revision,
            _ => 0,
        },
        verb: words::cut(&call.verb, room),
        request: words::cut(&call.request, room),
        answer: words::cut(&call.answer, room),
    }
}

fn bars(
    operations: &[&Operation],
    names: &Names,
    drawn: impl Fn(&Operation) -> bool,
    length: u64,
    room: usize,
) -> (usize, Vec<Bar>) {
    let mut ends: Vec<u64> = Vec::new();
    let mut bars = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        if !drawn(operation) {
            continue;
        }
        let next = operations.get(index + 1).map_or(length, |next| next.called);
        let until = operation.returned.unwrap_or(next).max(operation.called);
        let row = row(&mut ends, operation.called, until);
        bars.push(bar(operation, names, row, until, room));
    }
    (ends.len().max(1), bars)
}

/// The first row that is free at `from`.
fn row(ends: &mut Vec<u64>, from: u64, until: u64) -> usize {
    let free = ends.iter().position(|end| *end <= from);
    match free {
        Some(row) => {
            ends[row] = until;
            row
        }
        None if ends.len() < ROWS_MAX => {
            ends.push(until);
            ends.len() - 1
        }
        None => {
            let last = ROWS_MAX - 1;
            ends[last] = ends[last].max(until);
            last
        }
    }
}

fn bar(operation: &Operation, names: &Names, row: usize, until: u64, room: usize) -> Bar {
    Bar {
        id: operation.id,
        row,
        member: names.name(operation.member),
        from: operation.called,
        returned: operation.returned,
        until,
        sort: sort(operation),
        revision: match operation.outcome {
            Outcome::Ok { revision, .. } => revision,
            _ => 0,
        },
        verb: words::verb(&operation.request).into(),
        request: words::cut(&words::request(&operation.request), room),
        answer: words::cut(&words::outcome(&operation.outcome), room),
    }
}
