//! How a violation is told to a person.

use crate::recording::{Found, Operation, Pair, Request, Response, Step, Watch};

/// "c3's read of k (operation 17)".
pub(super) fn operation(operation: &Operation) -> String {
    format!(
        "c{}'s {} (operation {}, member {})",
        operation.client,
        request(&operation.request),
        operation.id,
        operation.member
    )
}

/// "c3's watch of a* from 5 (watch 2)".
pub(super) fn watch(watch: &Watch) -> String {
    format!(
        "c{}'s watch of {} from {} (watch {}, member {})",
        watch.client,
        range(&watch.key, &watch.end),
        watch.start_revision,
        watch.id,
        watch.member
    )
}

fn request(request: &Request) -> String {
    match request {
        Request::Range(asked) if asked.revision > 0 => format!(
            "read of {} as of revision {}",
            range(&asked.key, &asked.end),
            asked.revision
        ),
        Request::Range(asked) => format!("read of {}", range(&asked.key, &asked.end)),
        Request::Put(put) => format!("put of {}={:?}", name(&put.key), short(&put.value)),
        Request::Delete(delete) => format!("deletion of {}", range(&delete.key, &delete.end)),
        Request::Txn(txn) => {
            let mut keys: Vec<String> = txn.compares.iter().map(|c| name(&c.key)).collect();
            for step in txn.then.iter().chain(&txn.otherwise) {
                keys.push(match step {
                    Step::Range(asked) => range(&asked.key, &asked.end),
                    Step::Put(put) => format!("{}={:?}", name(&put.key), short(&put.value)),
                    Step::Delete(delete) => range(&delete.key, &delete.end),
                    Step::Txn(_) => "more".into(),
                });
            }
            keys.dedup();
            keys.truncate(4);
            format!("transaction on {}", keys.join(", "))
        }
        Request::Grant { lease, ttl } => format!("grant of lease {lease} for {ttl} s"),
        Request::Revoke { lease } => format!("revocation of lease {lease}"),
        Request::KeepAlive { lease } => format!("renewal of lease {lease}"),
        Request::Compact { revision } => format!("compaction at {revision}"),
        Request::Lock { name: line, lease } => format!("lock of {} with lease {lease}", name(line)),
        Request::Unlock { key } => format!("unlock of {}", name(key)),
        Request::Campaign {
            name: line, lease, ..
        } => format!("campaign for {} with lease {lease}", name(line)),
        Request::Proclaim { key, value, .. } => {
            format!("proclamation of {}={:?}", name(key), short(value))
        }
        Request::Resign { key, .. } => format!("resignation of {}", name(key)),
        Request::Leader { name: line } => format!("question who leads {}", name(line)),
        Request::HashKv { revision } => format!("hash of revision {revision}"),
    }
}

/// A time of the run.
pub(super) fn time(nanoseconds: u64) -> String {
    format!("{:.3} s", nanoseconds as f64 / 1e9)
}

/// A range of keys.
pub(super) fn range(key: &str, end: &str) -> String {
    match end {
        "" => name(key),
        "\0" if key == "\0" => "all keys".into(),
        "\0" => format!("all from {} on", name(key)),
        end => format!("{} to {}", name(key), name(end)),
    }
}

/// A pair or its absence.
pub(super) fn pair(key: &str, pair: Option<&Pair>) -> String {
    match pair {
        None => format!("no {}", name(key)),
        Some(pair) => format!(
            "{}={:?} of revision {} (created at {}, version {}{})",
            name(&pair.key),
            short(&pair.value),
            pair.modified,
            pair.created,
            pair.version,
            match pair.lease {
                0 => String::new(),
                lease => format!(", lease {lease}"),
            }
        ),
    }
}

pub(super) fn name(key: &str) -> String {
    let plain = |c: char| !c.is_control() && c != ' ';
    match key.chars().all(plain) && !key.is_empty() {
        true => short(key),
        false => format!("{key:?}"),
    }
}

fn short(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    match text.char_indices().nth(CHARS_MAX) {
        None => text.into(),
        Some((place, _)) => format!("{}…", &text[..place]),
    }
}

/// The first thing in which an answer is not the expected one: (key, expected, answered).
pub(super) fn difference(expected: &Response, answered: &Response) -> (String, String, String) {
    let told = |key: &str, a: String, b: String| (key.to_string(), a, b);
    match (expected, answered) {
        (Response::Range(expected), Response::Range(answered)) => found(expected, answered),
        (Response::Put { prev: a }, Response::Put { prev: b }) => {
            let key = a.as_ref().or(b.as_ref()).map_or("", |pair| &pair.key);
            told(key, pair(key, a.as_ref()), pair(key, b.as_ref()))
        }
        (
            Response::Delete {
                deleted: a,
                prev: before,
            },
            Response::Delete {
                deleted: b,
                prev: said,
            },
        ) => {
            if a != b {
                let key = before
                    .iter()
                    .chain(said)
                    .next()
                    .map_or("", |pair| &pair.key);
                return told(key, format!("{a} keys"), format!("{b} keys"));
            }
            pairs(before, said)
        }
        (
            Response::Txn {
                succeeded: a,
                steps: expected,
            },
            Response::Txn {
                succeeded: b,
                steps: answered,
            },
        ) => {
            if a != b {
                let branch = |taken: bool| match taken {
                    true => "its comparisons hold".to_string(),
                    false => "its comparisons fail".to_string(),
                };
                return told("", branch(*a), branch(*b));
            }
            let mut both = expected.iter().zip(answered);
            match both.find(|(a, b)| a != b) {
                Some((a, b)) => difference(a, b),
                None => told(
                    "",
                    format!("{} steps", expected.len()),
                    format!("{} steps", answered.len()),
                ),
            }
        }
        _ => told("", format!("{expected:?}"), format!("{answered:?}")),
    }
}

fn found(expected: &Found, answered: &Found) -> (String, String, String) {
    if expected.pairs != answered.pairs {
        return pairs(&expected.pairs, &answered.pairs);
    }
    let words = |found: &Found| {
        let more = if found.more { " and more" } else { "" };
        format!("a count of {}{more}", found.count)
    };
    (String::new(), words(expected), words(answered))
}

fn pairs(expected: &[Pair], answered: &[Pair]) -> (String, String, String) {
    let place = expected.iter().zip(answered).position(|(a, b)| a != b);
    let place = place.unwrap_or(expected.len().min(answered.len()));
    let (a, b) = (expected.get(place), answered.get(place));
    let key = match (a, b) {
        (Some(a), Some(b)) => (&a.key).min(&b.key),
        (Some(one), None) | (None, Some(one)) => &one.key,
        (None, None) => return Default::default(),
    };
    let own = |one: Option<&Pair>| pair(key, one.filter(|pair| pair.key == *key));
    (key.clone(), own(a), own(b))
}
