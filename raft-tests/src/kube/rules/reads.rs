//! What single requests were told: K1 (nothing acknowledged is lost), K2 (versions), K3 (nobody goes back in time).

use std::collections::BTreeMap;

use super::{is_shown_right, violation};
use crate::kube::history::{Call, History, Seen, Told, Truth, Verb, is_deleting, uid};
use crate::recording::Violation;

pub(super) fn check(history: &History) -> Vec<Violation> {
    let truth = &history.truth;
    let mut found: Vec<Violation> = Vec::new();
    for call in &history.calls {
        found.extend(shown(truth, call));
        found.extend(overwritten(truth, call));
        found.extend(mixed_pages(truth, call));
        found.extend(not_deleted(truth, call));
    }
    found.extend(stale(history));
    found.extend(unasked_deletions(history));
    found
}

fn is_read(verb: Verb) -> bool {
    matches!(verb, Verb::Get | Verb::List)
}

fn name(call: &Call) -> String {
    format!(
        "client {}'s {:?} of {} on member {} (call {})",
        call.client, call.verb, call.key, call.member, call.id
    )
}

/// K1 and K2: what is shown, or acknowledged, was the state at its version.
fn shown(truth: &Truth, call: &Call) -> Option<Violation> {
    let seen: Vec<&Seen> = match &call.told {
        // What a deletion removed is shown as it last was.
        Told::Object(_) if call.verb == Verb::Delete => return None,
        Told::Object(seen) => vec![seen],
        Told::Pages(pages) => pages.iter().flat_map(|(_, items)| items).collect(),
        _ => return None,
    };
    let wrong = seen
        .into_iter()
        .filter(|seen| is_read(call.verb) || !was_removed(truth, seen))
        .find_map(|seen| is_shown_right(truth, seen).err())?;
    let rule = match is_read(call.verb) {
        true => "K2: wrong state",
        false => "K1: lost write",
    };
    Some(violation(
        rule,
        format!("In the answer to {}: {wrong}", name(call)),
    ))
}

/// A write that takes away the last finalizer removes the object, and shows it as of its end.
fn was_removed(truth: &Truth, seen: &Seen) -> bool {
    let gone = truth
        .at(&seen.key, seen.revision)
        .is_none_or(|(_, now)| uid(now) != seen.uid);
    gone && deletion_of(truth, seen).is_some_and(|deleted| deleted < seen.revision)
}

/// K2: a write that demanded a version replaced that version.
fn overwritten(truth: &Truth, call: &Call) -> Option<Violation> {
    let (Verb::Update | Verb::Patch, Some(expected), Told::Object(seen)) =
        (call.verb, call.expects, &call.told)
    else {
        return None;
    };
    // One that changes nothing leaves the version as it is.
    if seen.revision == expected {
        return None;
    }
    let (before, _) = truth.before(&seen.key, seen.revision)?;
    (before != expected).then(|| {
        let story = format!(
            "{} demanded version {expected}, was acknowledged at {}, and wrote over version {before}.",
            name(call),
            seen.revision
        );
        violation("K2: lost update", story)
    })
}

/// K3: all pages of a list are of one version, and together they are everything of that version.
fn mixed_pages(truth: &Truth, call: &Call) -> Option<Violation> {
    let Told::Pages(pages) = &call.told else {
        return None;
    };
    let (revision, _) = pages.first()?;
    if let Some((other, _)) = pages.iter().find(|(other, _)| other != revision) {
        let story = format!(
            "{} got pages of versions {revision} and {other}.",
            name(call)
        );
        return Some(violation("K3: pages of several versions", story));
    }
    if *revision > truth.last() {
        let story = format!("{} is of version {revision}, which never was.", name(call));
        return Some(violation("K2: wrong state", story));
    }
    let items = pages.iter().flat_map(|(_, items)| items);
    let got: BTreeMap<&str, i64> = items
        .map(|seen| (seen.key.as_str(), seen.revision))
        .collect();
    let all: BTreeMap<&str, i64> = truth.list(&call.key, *revision).into_iter().collect();
    let differs = |key: &&&str| got.get(**key) != all.get(**key);
    let wrong = got.keys().chain(all.keys()).find(differs)?;
    let story = format!(
        "{} is of version {revision} and has {wrong} at {:?}, where the store had it at {:?}.",
        name(call),
        got.get(wrong),
        all.get(wrong)
    );
    Some(violation("K3: list of no version", story))
}

/// K1: a deletion that was acknowledged has deleted, or has marked what finalizers hold.
fn not_deleted(truth: &Truth, call: &Call) -> Option<Violation> {
    let (Verb::Delete, Told::Object(seen)) = (call.verb, &call.told) else {
        return None;
    };
    if deletion_of(truth, seen).is_some() {
        return None;
    }
    let story = format!(
        "{} was acknowledged, and uid {} is still there.",
        name(call),
        seen.uid
    );
    Some(violation("K1: lost deletion", story))
}

/// When an object was deleted, or marked as deleted.
fn deletion_of(truth: &Truth, seen: &Seen) -> Option<i64> {
    let (_, states) = truth.objects().find(|(key, _)| *key == seen.key)?;
    let mut lived = false;
    for (revision, state) in states {
        match state {
            Some(object) if uid(object) == seen.uid => {
                lived = true;
                if is_deleting(object) {
                    return Some(*revision);
                }
            }
            // Deleted, or another one in its place.
            _ if lived => return Some(*revision),
            _ => {}
        }
    }
    None
}

/// The newest version that an answer tells of.
fn newest(truth: &Truth, call: &Call) -> i64 {
    match &call.told {
        Told::Object(seen) if call.verb == Verb::Delete => deletion_of(truth, seen).unwrap_or(0),
        told => told.newest(),
    }
}

/// K1 and K3: no answer is older than what was acknowledged before it was asked for; where any version would do, than what
/// this client had been told before.
fn stale(history: &History) -> Vec<Violation> {
    let mut returned: Vec<(u64, u32, i64)> = history
        .calls
        .iter()
        .filter_map(|call| Some((call.returned?, call.client, newest(&history.truth, call))))
        .filter(|(.., revision)| *revision > 0)
        .collect();
    returned.sort_unstable();
    let mut asked: Vec<&Call> = history
        .calls
        .iter()
        .filter(|call| is_read(call.verb))
        .collect();
    asked.sort_unstable_by_key(|call| call.called);
    let mut told = returned.into_iter().peekable();
    let (mut of_all, mut of_client) = (0, BTreeMap::<u32, i64>::new());
    let mut found = Vec::new();
    for call in asked {
        while let Some((_, client, revision)) = told.next_if(|(at, ..)| *at < call.called) {
            of_all = revision.max(of_all);
            let own = of_client.entry(client).or_default();
            *own = revision.max(*own);
        }
        let own = of_client.get(&call.client).copied().unwrap_or(0);
        let (rule, least) = match call.any_version {
            true => ("K3: back in time", own),
            false if is_older(&history.truth, call, own) => ("K3: back in time", own),
            false => ("K1: stale read", of_all),
        };
        if is_older(&history.truth, call, least) {
            let story = format!(
                "{} shows a state that was over at version {least}, of which it knew before.",
                name(call)
            );
            found.push(violation(rule, story));
        }
    }
    found
}

/// Whether an answer can only be of a version before `least`.
fn is_older(truth: &Truth, call: &Call, least: i64) -> bool {
    match &call.told {
        Told::Object(seen) => truth
            .next_change(&seen.key, seen.revision)
            .is_some_and(|next| next <= least),
        Told::Pages(pages) => pages.iter().any(|(revision, _)| *revision < least),
        // It is there, and stays.
        Told::Refused { code: 404, .. } if call.verb == Verb::Get => {
            let there = truth.at(&call.key, least);
            there.is_some_and(|_| never_gone(truth, &call.key, least))
        }
        _ => false,
    }
}

/// Whether an object that is there at a revision stays to the end.
fn never_gone(truth: &Truth, key: &str, from: i64) -> bool {
    let mut at = from;
    while let Some(next) = truth.next_change(key, at) {
        if truth.change(key, next) == Some(None) {
            return false;
        }
        at = next;
    }
    true
}

/// K1: nothing goes that nobody wanted to go. Of the kind that only these clients write.
fn unasked_deletions(history: &History) -> Vec<Violation> {
    let mut deletions: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in &history.calls {
        let may_delete = matches!(
            call.verb,
            Verb::Delete | Verb::DeleteCollection | Verb::Update | Verb::Patch
        );
        let refused = matches!(call.told, Told::Refused { code, .. } if code < 500);
        if may_delete && !refused {
            deletions.entry(&call.key).or_default().push(call);
        }
    }
    let explains = |call: &&Call, was: &serde_json::Value| match call.verb {
        Verb::Delete => call
            .expects_uid
            .as_ref()
            .is_none_or(|wanted| wanted == uid(was)),
        Verb::DeleteCollection => true,
        // The last finalizer of what is being deleted.
        _ => is_deleting(was),
    };
    let mut found = Vec::new();
    for (key, states) in history.truth.objects() {
        let Some((collection, _)) = key.rsplit_once('/') else {
            continue;
        };
        let collection = format!("{collection}/");
        if !history
            .calls
            .iter()
            .any(|call| call.verb == Verb::Create && call.key == collection)
        {
            continue;
        }
        let mut before = None;
        for (revision, state) in states {
            if let (Some(was), None) = (before, state) {
                let asked = [key, collection.as_str()].into_iter();
                let mut asked = asked.filter_map(|key| deletions.get(key)).flatten();
                if !asked.any(|call| explains(call, was)) {
                    let story = format!(
                        "{key} was deleted at version {revision}, and nobody asked for that."
                    );
                    found.push(violation("K1: lost object", story));
                }
            }
            before = state.as_deref();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kube::history::digest;

    const KEY: &str = "configmaps/n/a";

    fn object(uid: &str, value: &str) -> Value {
        json!({"metadata": {"namespace": "n", "name": "a", "uid": uid}, "data": {"v": value}})
    }

    fn seen(uid: &str, value: &str, revision: i64) -> Seen {
        Seen {
            key: KEY.into(),
            uid: uid.into(),
            revision,
            digest: digest(&object(uid, value)),
        }
    }

    fn call(id: u64, verb: Verb, told: Told) -> Call {
        let key = match verb {
            Verb::Create | Verb::List | Verb::DeleteCollection => "configmaps/n/",
            _ => KEY,
        };
        Call {
            id,
            client: 1,
            member: 1,
            called: id * 10,
            returned: Some(id * 10 + 5),
            verb,
            key: key.into(),
            told,
            ..Call::default()
        }
    }

    /// One object: created at 2, changed at 4, deleted at 6.
    fn truth() -> Truth {
        let mut truth = Truth::default();
        truth.put(2, KEY, Some(object("u", "1")));
        truth.put(4, KEY, Some(object("u", "2")));
        truth.put(6, KEY, None);
        truth
    }

    fn created() -> Call {
        call(1, Verb::Create, Told::Object(seen("u", "1", 2)))
    }

    fn deleted(id: u64) -> Call {
        call(id, Verb::Delete, Told::Object(seen("u", "2", 6)))
    }

    fn rules(truth: Truth, calls: Vec<Call>) -> Vec<String> {
        let history = History {
            truth,
            calls,
            ..History::default()
        };
        check(&history)
            .into_iter()
            .map(|found| found.rule)
            .collect()
    }

    fn pages(pages: &[(i64, &[Seen])]) -> Told {
        Told::Pages(
            pages
                .iter()
                .map(|(revision, items)| (*revision, items.to_vec()))
                .collect(),
        )
    }

    #[test]
    fn what_is_right_is_right() {
        let update = Call {
            expects: Some(2),
            ..call(3, Verb::Update, Told::Object(seen("u", "2", 4)))
        };
        let calls = vec![
            created(),
            call(2, Verb::Get, Told::Object(seen("u", "1", 2))),
            update,
            call(4, Verb::List, pages(&[(4, &[seen("u", "2", 4)])])),
            deleted(5),
            call(6, Verb::List, pages(&[(6, &[])])),
            call(
                7,
                Verb::Get,
                Told::Refused {
                    code: 404,
                    reason: "NotFound".into(),
                },
            ),
        ];
        assert_eq!(rules(truth(), calls), Vec::<String>::new());
    }

    #[test]
    fn a_write_that_is_not_there_is_lost() {
        let lost = call(2, Verb::Update, Told::Object(seen("u", "9", 5)));
        assert_eq!(
            rules(truth(), vec![created(), lost, deleted(3)]),
            ["K1: lost write"]
        );
        let other = call(2, Verb::Update, Told::Object(seen("u", "9", 4)));
        assert_eq!(
            rules(truth(), vec![created(), other, deleted(3)]),
            ["K1: lost write"]
        );
    }

    #[test]
    fn what_is_shown_was_so_at_its_version() {
        let wrong = call(2, Verb::Get, Told::Object(seen("u", "1", 4)));
        assert_eq!(
            rules(truth(), vec![created(), wrong, deleted(3)]),
            ["K2: wrong state"]
        );
        let future = call(2, Verb::Get, Told::Object(seen("u", "2", 9)));
        assert_eq!(
            rules(truth(), vec![created(), future, deleted(3)]),
            ["K2: wrong state"]
        );
    }

    #[test]
    fn a_write_replaces_the_version_that_it_demanded() {
        let mut truth = truth();
        truth.put(5, KEY, Some(object("u", "3")));
        let blind = Call {
            expects: Some(2),
            ..call(2, Verb::Update, Told::Object(seen("u", "3", 5)))
        };
        assert_eq!(
            rules(truth, vec![created(), blind, deleted(3)]),
            ["K2: lost update"]
        );
    }

    #[test]
    fn pages_are_of_one_version_and_complete() {
        let mut truth = Truth::default();
        truth.put(2, KEY, Some(object("u", "1")));
        truth.put(4, KEY, Some(object("u", "2")));
        let mixed = call(2, Verb::List, pages(&[(2, &[seen("u", "1", 2)]), (4, &[])]));
        assert_eq!(
            rules(truth, vec![created(), mixed]),
            ["K3: pages of several versions"]
        );
        let missing = call(2, Verb::List, pages(&[(4, &[])]));
        assert_eq!(
            rules(self::truth(), vec![created(), missing, deleted(3)]),
            ["K3: list of no version"]
        );
        let old = call(2, Verb::List, pages(&[(4, &[seen("u", "1", 2)])]));
        assert_eq!(
            rules(self::truth(), vec![created(), old, deleted(3)]),
            ["K3: list of no version"]
        );
    }

    #[test]
    fn no_client_goes_back_in_time() {
        let any = |version, client| Call {
            client,
            any_version: true,
            ..call(3, Verb::List, pages(&[version]))
        };
        let old = [seen("u", "1", 2)];
        let write = call(2, Verb::Update, Told::Object(seen("u", "2", 4)));
        let calls = vec![created(), write.clone(), any((3, &old), 1), deleted(5)];
        assert_eq!(rules(truth(), calls), ["K3: back in time"]);
        // Another one knew nothing, and said that any version would do.
        let calls = vec![created(), write.clone(), any((3, &old), 2), deleted(5)];
        assert_eq!(rules(truth(), calls), Vec::<String>::new());
        let quorum = Call {
            any_version: false,
            ..any((3, &old), 2)
        };
        let calls = vec![created(), write.clone(), quorum, deleted(5)];
        assert_eq!(rules(truth(), calls), ["K1: stale read"]);
        let get = call(3, Verb::Get, Told::Object(seen("u", "1", 2)));
        let calls = vec![created(), write, get, deleted(5)];
        assert_eq!(rules(truth(), calls), ["K3: back in time"]);
    }

    #[test]
    fn what_is_deleted_is_not_seen_again() {
        let ghost = |id| call(id, Verb::Get, Told::Object(seen("u", "2", 4)));
        assert_eq!(
            rules(truth(), vec![created(), ghost(2), deleted(3)]),
            Vec::<String>::new()
        );
        assert_eq!(
            rules(truth(), vec![created(), deleted(3), ghost(4)]),
            ["K3: back in time"]
        );
    }

    #[test]
    fn what_was_written_is_found() {
        let mut truth = Truth::default();
        truth.put(2, KEY, Some(object("u", "1")));
        let blind = call(
            2,
            Verb::Get,
            Told::Refused {
                code: 404,
                reason: "NotFound".into(),
            },
        );
        assert_eq!(rules(truth, vec![created(), blind]), ["K3: back in time"]);
    }

    #[test]
    fn a_deletion_deletes_and_nothing_else_does() {
        let mut truth = Truth::default();
        truth.put(2, KEY, Some(object("u", "1")));
        let void = call(2, Verb::Delete, Told::Object(seen("u", "1", 2)));
        assert_eq!(rules(truth, vec![created(), void]), ["K1: lost deletion"]);
        assert_eq!(rules(self::truth(), vec![created()]), ["K1: lost object"]);
        let other = Call {
            expects_uid: Some("other".into()),
            ..call(2, Verb::Delete, Told::Unknown("timeout".into()))
        };
        assert_eq!(
            rules(self::truth(), vec![created(), other.clone()]),
            ["K1: lost object"]
        );
        let maybe = Call {
            expects_uid: None,
            ..other
        };
        assert_eq!(
            rules(self::truth(), vec![created(), maybe]),
            Vec::<String>::new()
        );
    }
}
