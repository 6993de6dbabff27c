//! What flow control does now, for people: `/debug/api_priority_and_fairness/..`, with Kubernetes' columns.

use http::Method;

use super::FlowControl;
use super::level::Picture;
use super::present::{Present, State};
use super::queues::work_guessed;
use crate::request::{Query, RequestInfo};

const PREFIX: &str = "/debug/api_priority_and_fairness/";
/// Narrowest column, with its comma and space.
const WIDTH_MIN: usize = 8;
const LEVELS: [&str; 10] = [
    "PriorityLevelName",
    "ActiveQueues",
    "IsIdle",
    "IsQuiescing",
    "WaitingRequests",
    "ExecutingRequests",
    "DispatchedRequests",
    "RejectedRequests",
    "TimedoutRequests",
    "CancelledRequests",
];
const QUEUES: [&str; 9] = [
    "PriorityLevelName",
    "Index",
    "PendingRequests",
    "ExecutingRequests",
    "SeatsInUse",
    "NextDispatchR",
    "InitialSeatsSum",
    "MaxSeatsSum",
    "TotalWorkSum",
];
/// Misspelled as in Kubernetes.
const REQUESTS: [&str; 10] = [
    "PriorityLevelName",
    "FlowSchemaName",
    "QueueIndex",
    "RequestIndexInQueue",
    "FlowDistingsher",
    "ArriveTime",
    "InitialSeats",
    "FinalSeats",
    "AdditionalLatency",
    "StartTime",
];
const DETAILS: [&str; 8] = [
    "UserName",
    "Verb",
    "APIPath",
    "Namespace",
    "Name",
    "APIVersion",
    "Resource",
    "SubResource",
];
/// When a request started that did not.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// A level at one moment, or nearly so: its requests go on while they are looked at.
struct Shown {
    name: String,
    picture: Picture,
    present: Vec<(Present, Option<usize>)>,
}

/// The text of one of these paths.
pub(crate) fn respond(control: &FlowControl, path: &str, query: &Query) -> Option<String> {
    let dump = path.strip_prefix(PREFIX)?;
    let rules = control.rules();
    let levels = rules.levels.iter().map(|(name, configured)| Shown {
        name: name.clone(),
        picture: configured.level.picture(),
        present: configured.level.present(),
    });
    let levels: Vec<Shown> = levels.collect();
    match dump {
        "dump_priority_levels" => Some(aligned(&LEVELS, levels.iter().map(level_row))),
        "dump_queues" => Some(aligned(&QUEUES, levels.iter().flat_map(queue_rows))),
        "dump_requests" => {
            let asked = query.get("includeRequestDetails");
            let detailed = asked.is_some_and(|value| !value.is_empty());
            let mut head = REQUESTS.to_vec();
            if detailed {
                head.extend(DETAILS);
            }
            let rows = levels
                .iter()
                .flat_map(|level| request_rows(level, detailed));
            Some(aligned(&head, rows))
        }
        _ => None,
    }
}

fn level_row(level: &Shown) -> Vec<String> {
    let picture = &level.picture;
    let (counts, totals) = (picture.counts, picture.totals);
    let is_active = |queue: &&super::queues::Look| queue.waiting > 0 || queue.running > 0;
    vec![
        level.name.clone(),
        picture.queues.iter().filter(is_active).count().to_string(),
        (counts.running == 0 && counts.waiting == 0).to_string(),
        // A level that is gone is not shown any more.
        false.to_string(),
        counts.waiting.to_string(),
        counts.running.to_string(),
        totals.dispatched.to_string(),
        totals.rejected.to_string(),
        totals.timed_out.to_string(),
        totals.cancelled.to_string(),
    ]
}

fn queue_rows(level: &Shown) -> Vec<Vec<String>> {
    let row = |(at, queue): (usize, &super::queues::Look)| {
        let waiting = level.present.iter().filter(|(present, index)| {
            matches!(present.state, State::Waits(place) if place.queue() == at) && index.is_some()
        });
        let (mut initial, mut most, mut total) = (0_u64, 0_u64, 0_u64);
        for (present, _) in waiting {
            let (after, lasting_ns) = present.after;
            initial += u64::from(present.seats);
            most += u64::from(present.seats.max(after));
            let afterwards = u64::from(after).saturating_mul(lasting_ns);
            total = total.saturating_add(work_guessed(present.seats).saturating_add(afterwards));
        }
        vec![
            level.name.clone(),
            at.to_string(),
            queue.waiting.to_string(),
            queue.running.to_string(),
            queue.seats.to_string(),
            seat_seconds(queue.tag_ns),
            initial.to_string(),
            most.to_string(),
            seat_seconds(total),
        ]
    };
    level.picture.queues.iter().enumerate().map(row).collect()
}

/// Those that wait in a queue stand before those of the queue that run, and last those that have no queue.
fn request_rows(level: &Shown, detailed: bool) -> Vec<Vec<String>> {
    let mut rows: Vec<((usize, usize), Vec<String>)> = Vec::new();
    for (present, index) in &level.present {
        let (queue, index, started) = match (present.state, index) {
            (State::Waits(place), Some(index)) => (Some(place.queue()), Some(*index), None),
            (State::Runs(queue, since), _) => (queue, None, Some(since)),
            // It is just between two states.
            _ => continue,
        };
        let mut row = request_row(&level.name, present, (queue, index), started);
        if detailed {
            row.extend(details(present));
        }
        let order = (queue.unwrap_or(usize::MAX), index.unwrap_or(usize::MAX));
        rows.push((order, row));
    }
    rows.sort_by_key(|(order, _)| *order);
    rows.into_iter().map(|(_, row)| row).collect()
}

fn request_row(
    level: &str,
    present: &Present,
    (queue, index): (Option<usize>, Option<usize>),
    started: Option<u128>,
) -> Vec<String> {
    let number = |number: Option<usize>| number.map_or("-1".to_owned(), |n| n.to_string());
    let (seats, lasting_ns) = present.after;
    let latency = i64::try_from(lasting_ns).unwrap_or(i64::MAX);
    vec![
        level.to_owned(),
        present.flow.schema.name.clone(),
        number(queue),
        number(index),
        present.distinguisher().to_owned(),
        instant(present.arrived_ns),
        present.seats.to_string(),
        seats.to_string(),
        schema::time::duration_text(latency),
        started.map_or(NEVER.to_owned(), instant),
    ]
}

fn details(present: &Present) -> Vec<String> {
    let info = RequestInfo::parse(&Method::GET, &present.info.path, &Query::default());
    let api_version = match info.group.as_str() {
        "" => info.version,
        group => format!("{group}/{}", info.version),
    };
    vec![
        present.user.to_string(),
        present.info.verb.to_owned(),
        present.info.path.clone(),
        info.namespace,
        info.name,
        api_version,
        info.resource,
        info.subresource,
    ]
}

/// Nanoseconds since 1970 as Go writes them in RFC 3339.
fn instant(ns: u128) -> String {
    let seconds = i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX);
    let mut text = schema::time::now_rfc3339(seconds);
    let part = ns % 1_000_000_000;
    if part > 0 {
        text.pop();
        let fraction = format!(".{part:09}");
        text.push_str(fraction.trim_end_matches('0'));
        text.push('Z');
    }
    text
}

/// Work, which is counted in seats by nanoseconds.
fn seat_seconds(ns: u64) -> String {
    let (seconds, part) = (ns / 1_000_000_000, ns % 1_000_000_000 / 10);
    format!("{seconds}.{part:08}ss")
}

/// Columns that end with a comma, under each other.
fn aligned(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut lines = vec![head.iter().map(|name| (*name).to_owned()).collect()];
    lines.extend(rows);
    let width = |column: usize| {
        let cells = lines
            .iter()
            .filter_map(|line: &Vec<String>| line.get(column));
        // With its comma and the space after it.
        let widest = cells.map(|cell| cell.chars().count() + 2).max();
        widest.unwrap_or(0).max(WIDTH_MIN)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            if at + 1 < line.len() {
                let cell = format!("{cell},");
                text.push_str(&format!("{cell:<width$}"));
            } else {
                text.push_str(cell);
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [
            vec!["exempt-too".to_owned(), "1".into(), "x".into()],
            vec!["a".into(), "20".into(), String::new()],
        ];
        let text = aligned(&["Name", "Count", "Last"], rows.into_iter());
        assert_eq!(
            text,
            "Name,       Count,  Last\nexempt-too, 1,      x\na,          20,     \n"
        );
    }

    #[test]
    fn times_and_work_are_written_as_go_does() {
        assert_eq!(instant(0), "1970-01-01T00:00:00Z");
        assert_eq!(
            instant(1_689_639_171_386_556_250),
            "2023-07-18T00:12:51.38655625Z"
        );
        assert_eq!(seat_seconds(3_000_000), "0.00300000ss");
        assert_eq!(seat_seconds(61_234_567_891), "61.23456789ss");
    }
}
