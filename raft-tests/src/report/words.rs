//! Requests and answers as a person reads them: `put k3 = 17`, `1 key: k3 = 17 (rev 41)`.

use crate::recording::{
    Compare, Delete, Found, Operand, Order, Outcome, Pair, Put, Range, Relation, Request, Response,
    Step, WatchBody,
};

/// The text, with what would not be seen or would change what is around it written out, cut to `room` characters.
pub(crate) fn cut(text: &str, room: usize) -> String {
    let mut shown = String::new();
    let mut characters = text.chars();
    for character in characters.by_ref().take(room) {
        if unseen(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    match characters.count() {
        0 => shown,
        more => format!("{shown}… (+{more} characters)"),
    }
}

/// Controls, and what turns the direction of the text around it.
fn unseen(character: char) -> bool {
    let turns = matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || turns
}

pub(crate) fn request(request: &Request) -> String {
    match request {
        Request::Range(range) => self::range(range),
        Request::Put(put) => self::put(put),
        Request::Delete(delete) => self::delete(delete),
        Request::Txn(txn) => {
            let compares = joined(&txn.compares, " and ", compare);
            let condition = match compares.is_empty() {
                true => "always".into(),
                false => format!("if {compares}"),
            };
            let then = joined(&txn.then, "; ", step);
            match txn.otherwise.is_empty() {
                true => format!("{condition} then {{ {then} }}"),
                false => {
                    let otherwise = joined(&txn.otherwise, "; ", step);
                    format!("{condition} then {{ {then} }} else {{ {otherwise} }}")
                }
            }
        }
        Request::Grant { lease, ttl } => format!("grant lease {lease} for {ttl} s"),
        Request::Revoke { lease } => format!("revoke lease {lease}"),
        Request::KeepAlive { lease } => format!("keep lease {lease} alive"),
        Request::Compact { revision } => format!("compact to {revision}"),
        Request::Lock { name, lease } => format!("lock {name} with lease {lease}"),
        Request::Unlock { key } => format!("unlock {key}"),
        Request::Campaign { name, lease, value } => {
            format!("campaign for {name} with lease {lease} as {value}")
        }
        Request::Proclaim { key, value, .. } => format!("proclaim {value} as {key}"),
        Request::Resign { key, .. } => format!("resign {key}"),
        Request::Leader { name } => format!("who leads {name}"),
        Request::HashKv { revision: 0 } => "hash of all keys".into(),
        Request::HashKv { revision } => format!("hash of all keys as of {revision}"),
    }
}

/// The first word of a request, which tells its sort.
pub(super) fn verb(request: &Request) -> &'static str {
    match request {
        Request::Range(_) => "get",
        Request::Put(_) => "put",
        Request::Delete(_) => "delete",
        Request::Txn(_) => "txn",
        Request::Grant { .. } => "grant",
        Request::Revoke { .. } => "revoke",
        Request::KeepAlive { .. } => "keep-alive",
        Request::Compact { .. } => "compact",
        Request::Lock { .. } => "lock",
        Request::Unlock { .. } => "unlock",
        Request::Campaign { .. } => "campaign",
        Request::Proclaim { .. } => "proclaim",
        Request::Resign { .. } => "resign",
        Request::Leader { .. } => "leader",
        Request::HashKv { .. } => "hash",
    }
}

/// `k`, `k*` for a prefix, `a … b`, or `all from a on`.
pub(super) fn keys(key: &str, end: &str) -> String {
    if end.is_empty() {
        return key.into();
    }
    if end == "\0" {
        return match key.trim_start_matches('\0').is_empty() {
            true => "all keys".into(),
            false => format!("all from {key} on"),
        };
    }
    match ends_prefix(key, end) {
        true => format!("{key}*"),
        false => format!("{key} … {end}"),
    }
}

/// Whether the keys before `end` are those that begin with `key`.
fn ends_prefix(key: &str, end: &str) -> bool {
    let (key, end) = (key.as_bytes(), end.as_bytes());
    match (key.split_last(), end.split_last()) {
        (Some((last, head)), Some((next, same))) => {
            head == same && last.checked_add(1) == Some(*next)
        }
        _ => false,
    }
}

fn range(range: &Range) -> String {
    let mut text = format!("get {}", keys(&range.key, &range.end));
    if range.revision != 0 {
        text += &format!(" at revision {}", range.revision);
    }
    if range.limit != 0 {
        text += &format!(", at most {}", range.limit);
    }
    if range.order != Order::None {
        text += &format!(", {:?}ing by {:?}", range.order, range.target).to_lowercase();
    }
    let bounds = [
        ("modified", range.min_mod, range.max_mod),
        ("created", range.min_create, range.max_create),
    ];
    for (what, min, max) in bounds {
        match (min, max) {
            (0, 0) => {}
            (min, 0) => text += &format!(", {what} from {min} on"),
            (min, max) => text += &format!(", {what} from {min} to {max}"),
        }
    }
    let options = [
        (range.serializable, "serializable"),
        (range.count_only, "count only"),
        (range.keys_only, "keys only"),
        (range.streamed, "in parts"),
    ];
    for (_, option) in options.iter().filter(|(set, _)| *set) {
        text += ", ";
        text += option;
    }
    text
}

fn put(put: &Put) -> String {
    let lease = match put.lease {
        0 => String::new(),
        lease => format!(" with lease {lease}"),
    };
    format!("put {} = {}{lease}", put.key, put.value)
}

fn delete(delete: &Delete) -> String {
    format!("delete {}", keys(&delete.key, &delete.end))
}

fn step(step: &Step) -> String {
    match step {
        Step::Range(range) => self::range(range),
        Step::Put(put) => self::put(put),
        Step::Delete(delete) => self::delete(delete),
        Step::Txn(txn) => request(&Request::Txn(txn.clone())),
    }
}

fn compare(compare: &Compare) -> String {
    let key = &compare.key;
    let relation = match compare.relation {
        Relation::Equal => "=",
        Relation::Greater => ">",
        Relation::Less => "<",
        Relation::NotEqual => "≠",
    };
    match &compare.operand {
        Operand::Version(number) => format!("version({key}) {relation} {number}"),
        Operand::CreateRevision(number) => format!("created({key}) {relation} {number}"),
        Operand::ModRevision(number) => format!("modified({key}) {relation} {number}"),
        Operand::Value(value) => format!("{key} {relation} {value}"),
        Operand::Lease(lease) => format!("lease({key}) {relation} {lease}"),
    }
}

pub(super) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Ok { response, .. } => self::response(response),
        Outcome::Failed { code, message } => {
            format!("refused, {} ({code}): {message}", status(*code))
        }
        Outcome::Unknown { message } => message.clone(),
    }
}

fn response(response: &Response) -> String {
    match response {
        Response::Range(found) => self::found(found),
        Response::Put { prev: None } => "written".into(),
        Response::Put { prev: Some(pair) } => format!("written over {}", self::pair(pair)),
        Response::Delete { deleted: 0, .. } => "there was nothing to delete".into(),
        Response::Delete { deleted, prev } if prev.is_empty() => format!("{deleted} deleted"),
        Response::Delete { deleted, prev } => {
            format!("{deleted} deleted: {}", joined(prev, ", ", pair))
        }
        Response::Txn { succeeded, steps } => {
            let branch = match succeeded {
                true => "condition held",
                false => "condition did not hold",
            };
            match steps.is_empty() {
                true => branch.into(),
                false => format!("{branch}: {}", joined(steps, "; ", self::response)),
            }
        }
        Response::Lease { ttl: 0 } => "no time left: the lease is gone".into(),
        Response::Lease { ttl } => format!("{ttl} s left"),
        Response::Compacted => "compacted".into(),
        Response::Held { key, created: 0 } => format!("{key} is the first"),
        Response::Held { key, created } => format!("{key} of {created} is the first"),
        Response::Done => "done".into(),
        Response::Hash {
            hash,
            revision,
            compacted,
        } => format!("{hash:08x} at {revision}, compacted to {compacted}"),
    }
}

fn found(found: &Found) -> String {
    let more = if found.more { ", and more" } else { "" };
    match (found.pairs.len(), found.count) {
        (0, 0) => "nothing there".into(),
        (0, 1) => "1 key".into(),
        (0, count) => format!("{count} keys"),
        (1, 1) => pair(&found.pairs[0]),
        (_, count) => format!("{count} keys: {}{more}", joined(&found.pairs, ", ", pair)),
    }
}

pub(super) fn pair(pair: &Pair) -> String {
    let lease = match pair.lease {
        0 => String::new(),
        lease => format!(", lease {lease}"),
    };
    format!(
        "{} = {} (rev {}{lease})",
        pair.key, pair.value, pair.modified
    )
}

/// The sort of a watch's message, and what it says.
pub(super) fn message(body: &WatchBody) -> (&'static str, String) {
    match body {
        WatchBody::Created => ("created", "the watch is there".into()),
        WatchBody::Events { events, fragment } => {
            let text = joined(events, "; ", |event| match event.deleted {
                true => format!("{} deleted (rev {})", event.pair.key, event.pair.modified),
                false => pair(&event.pair),
            });
            let goes_on = if *fragment { " … goes on" } else { "" };
            ("events", format!("{text}{goes_on}"))
        }
        WatchBody::Progress => ("progress", "nothing older is still to come".into()),
        WatchBody::Canceled {
            compacted: 0,
            reason,
        } => ("canceled", reason.clone()),
        WatchBody::Canceled { compacted, reason } => {
            let compacted = format!("compacted up to {compacted}");
            let reason = [compacted.as_str(), reason].join(": ");
            ("canceled", reason.trim_end_matches(": ").into())
        }
        WatchBody::Lost { message } => ("lost", message.clone()),
    }
}

/// gRPC's names of its codes.
fn status(code: i32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "canceled",
        "unknown",
        "invalid argument",
        "deadline exceeded",
        "not found",
        "already exists",
        "permission denied",
        "resource exhausted",
        "failed precondition",
        "aborted",
        "out of range",
        "unimplemented",
        "internal",
        "unavailable",
        "data loss",
        "unauthenticated",
    ];
    let index = usize::try_from(code).unwrap_or(usize::MAX);
    NAMES.get(index).copied().unwrap_or("no code of gRPC")
}

fn joined<T>(items: &[T], between: &str, say: impl Fn(&T) -> String) -> String {
    items.iter().map(say).collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Event, Txn};

    fn pair_of(key: &str, value: &str, modified: i64) -> Pair {
        Pair {
            key: key.into(),
            value: value.into(),
            modified,
            ..Pair::default()
        }
    }

    #[test]
    fn keys_are_one_a_prefix_a_range_or_all() {
        assert_eq!(keys("k", ""), "k");
        assert_eq!(keys("jobs/", "jobs0"), "jobs/*");
        assert_eq!(keys("a", "c"), "a … c");
        assert_eq!(keys("a", "\0"), "all from a on");
        assert_eq!(keys("", "\0"), "all keys");
    }

    #[test]
    fn a_transaction_reads_as_a_sentence() {
        let txn = Txn {
            compares: vec![Compare {
                key: "k".into(),
                relation: Relation::Equal,
                operand: Operand::ModRevision(41),
            }],
            then: vec![Step::Put(Put {
                key: "k".into(),
                value: "v".into(),
                ..Put::default()
            })],
            otherwise: vec![Step::Range(Range {
                key: "k".into(),
                ..Range::default()
            })],
        };
        let text = request(&Request::Txn(txn));
        assert_eq!(
            text,
            "if modified(k) = 41 then { put k = v } else { get k }"
        );
    }

    #[test]
    fn answers_say_what_was_found_and_at_which_revision() {
        let one = Found {
            pairs: vec![pair_of("k", "v", 41)],
            count: 1,
            more: false,
        };
        assert_eq!(found(&one), "k = v (rev 41)");
        assert_eq!(found(&Found::default()), "nothing there");
        let counted = Found {
            count: 7,
            ..Found::default()
        };
        assert_eq!(found(&counted), "7 keys");
        let refused = Outcome::Failed {
            code: 14,
            message: "no leader".into(),
        };
        assert_eq!(outcome(&refused), "refused, unavailable (14): no leader");
    }

    #[test]
    fn events_and_ends_of_watches_have_words() {
        let events = WatchBody::Events {
            events: vec![
                Event {
                    deleted: false,
                    pair: pair_of("a", "1", 5),
                    prev: None,
                },
                Event {
                    deleted: true,
                    pair: pair_of("b", "", 6),
                    prev: None,
                },
            ],
            fragment: true,
        };
        let said = message(&events).1;
        assert_eq!(said, "a = 1 (rev 5); b deleted (rev 6) … goes on");
        let canceled = WatchBody::Canceled {
            compacted: 9,
            reason: String::new(),
        };
        assert_eq!(message(&canceled), ("canceled", "compacted up to 9".into()));
    }

    #[test]
    fn long_text_is_cut_at_a_character_and_hidden_ones_are_shown() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüx", 3), "äöü… (+1 characters)");
        assert_eq!(cut("a\u{202e}b\n", 9), "a\\u{202e}b\\u{a}");
    }
}
