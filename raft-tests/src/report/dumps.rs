//! The state of each member at the end, in figures, and what of it differs.

use super::members::Names;
use super::words;
use crate::recording::{Dump, Pair, Recording};
use serde::Serialize;
use std::collections::BTreeMap;

/// Keys that are shown of a difference.
const DIFFERENCES: usize = 20;
/// Characters of one.
const ROOM: usize = 300;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub member: String,
    pub revision: i64,
    pub compacted: i64,
    pub keys: usize,
    /// What differs from the first member's, in words.
    pub differences: Vec<String>,
    /// Differences that are not shown.
    pub more: usize,
}

pub(super) fn paint(recording: &Recording, names: &Names) -> Vec<Row> {
    let first = recording.dumps.first();
    let row = |dump: &Dump| {
        let all = first.map_or_else(Vec::new, |first| differences(first, dump));
        Row {
            member: names.name(dump.member),
            revision: dump.revision,
            compacted: dump.compacted,
            keys: dump.pairs.len(),
            more: all.len().saturating_sub(DIFFERENCES),
            differences: all.into_iter().take(DIFFERENCES).collect(),
        }
    };
    recording.dumps.iter().map(row).collect()
}

fn differences(first: &Dump, other: &Dump) -> Vec<String> {
    let by_key = |dump| -> BTreeMap<String, Pair> {
        let Dump { pairs, .. }: &Dump = dump;
        pairs
            .iter()
            .map(|pair| (pair.key.clone(), pair.clone()))
            .collect()
    };
    let (ours, theirs) = (by_key(first), by_key(other));
    let keys = ours
        .keys()
        .chain(theirs.keys().filter(|key| !ours.contains_key(*key)));
    let mut found: Vec<(&String, String)> = keys
        .filter(|key| ours.get(*key) != theirs.get(*key))
        .map(|key| {
            let words = format!(
                "{key}: {} there, {} here",
                state(ours.get(key)),
                state(theirs.get(key))
            );
            (key, words::cut(&words, ROOM))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, words)| words).collect()
}

fn state(pair: Option<&Pair>) -> String {
    match pair {
        Some(pair) => format!(
            "{} (created {}, modified {}, version {}, lease {})",
            pair.value, pair.created, pair.modified, pair.version, pair.lease
        ),
        None => "nothing".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let pair = |key: &str, modified| Pair {
            key: key.into(),
            value: "v".into(),
            modified,
            ..Pair::default()
        };
        let dump = |member, pairs| Dump {
            member,
            revision: 9,
            pairs,
            ..Dump::default()
        };
        let recording = Recording {
            dumps: vec![
                dump(1, vec![pair("a", 1), pair("b", 2)]),
                dump(2, vec![pair("a", 1), pair("b", 2)]),
                dump(3, vec![pair("a", 1), pair("b", 3), pair("c", 4)]),
            ],
            ..Recording::default()
        };
        let rows = paint(&recording, &Names::of(&recording));
        let found: Vec<usize> = rows.iter().map(|row| row.differences.len()).collect();
        assert_eq!(found, [0, 0, 2]);
        assert!(
            rows[2].differences[0].starts_with("b: v (created 0, modified 2"),
            "{rows:?}"
        );
        assert!(
            rows[2].differences[1].starts_with("c: nothing there, v"),
            "{rows:?}"
        );
        assert_eq!(rows[2].keys, 3);
    }
}
