//! What single requests were told: K1 (nothing acknowledged is lost), K2 (versions), K3 (nobody goes back in time).

use std::collections::BTreeMap;

use super::{Evidence, Verdict, is_shown_right, verdict};
use crate::kube::history::{Call, History, Seen, Told, Truth, Verb, is_deleting, uid};

pub(super) fn check(history: &History) -> Vec<Verdict> {
    let truth = &history.truth;
    let mut found: Vec<Verdict> = Vec::new();
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
fn shown(truth: &Truth, call: &Call) -> Option<Verdict> {
    let seen: Vec<&Seen> = match &call.told {
        // What a deletion removed is shown as it last was.
        Told::Object(_) if call.verb == Verb::Delete => return None,
        Told::Object(seen) => vec![seen],
        Told::Pages(pages) => pages.iter().flat_map(|(_, items)| items).collect(),
        _ => return None,
    };
    let (seen, wrong) = seen
        .into_iter()
        .filter(|seen| is_read(call.verb) || !was_removed(truth, seen))
        .find_map(|seen| Some((seen, is_shown_right(truth, seen).err()?)))?;
    let rule = match is_read(call.verb) {
        true => "K2: wrong state",
        false => "K1: lost write",
    };
    let story = format!("{} was answered. In it {wrong}.", name(call));
    let mut found = verdict(rule, story, [Evidence::Call(call.id)]);
    if truth.change(&seen.key, seen.revision).is_some() {
        found.evidence.push(Evidence::Change(seen.revision));
    }
    Some(found)
}

/// A write that takes away the last finalizer removes the object, and shows it as of its end.
fn was_removed(truth: &Truth, seen: &Seen) -> bool {
    let gone = truth
        .at(&seen.key, seen.revision)
        .is_none_or(|(_, now)| uid(now) != seen.uid);
    gone && deletion_of(truth, seen).is_some_and(|deleted| deleted < seen.revision)
}

/// K2: a write that demanded a version replaced that version.
fn overwritten(truth: &Truth, call: &Call) -> Option<Verdict> {
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
            "{} demanded version {expected}, and was acknowledged at {}. What it replaced was version {before}.",
            name(call),
            seen.revision
        );
        let evidence = [Evidence::Call(call.id), Evidence::Change(before)];
        verdict("K2: lost update", story, evidence)
    })
}

/// K3: all pages of a list are of one version, and together they are everything of that version.
fn mixed_pages(truth: &Truth, call: &Call) -> Option<Verdict> {
    let Told::Pages(pages) = &call.told else {
        return None;
    };
    let (revision, _) = pages.first()?;
    if let Some((other, _)) = pages.iter().find(|(other, _)| other != revision) {
        let story = format!(
            "{} got pages of versions {revision} and {other}. A list is of one version.",
            name(call)
        );
        let rule = "K3: pages of several versions";
        return Some(verdict(rule, story, [Evidence::Call(call.id)]));
    }
    if *revision > truth.last() {
        let story = format!(
            "{} is of version {revision}. The store has only come to {}.",
            name(call),
            truth.last()
        );
        return Some(verdict("K2: wrong state", story, [Evidence::Call(call.id)]));
    }
    let items = pages.iter().flat_map(|(_, items)| items);
    let got: BTreeMap<&str, i64> = items
        .map(|seen| (seen.key.as_str(), seen.revision))
        .collect();
    let all: BTreeMap<&str, i64> = truth.list(&call.key, *revision).into_iter().collect();
    let differs = |key: &&&str| got.get(**key) != all.get(**key);
    let wrong = got.keys().chain(all.keys()).find(differs)?;
    let at = |found: Option<&i64>| match found {
        Some(revision) => format!("at {revision}"),
        None => "not at all".into(),
    };
    let story = format!(
        "{} is of version {revision} and has {wrong} {}. The store had it {} then.",
        name(call),
        at(got.get(wrong)),
        at(all.get(wrong))
    );
    let mut found = verdict("K3: list of no version", story, [Evidence::Call(call.id)]);
    let made = all.get(wrong).or_else(|| got.get(wrong));
    found.evidence.extend(made.map(|at| Evidence::Change(*at)));
    Some(found)
}

/// K1: a deletion that was acknowledged has deleted, or has marked what finalizers hold.
fn not_deleted(truth: &Truth, call: &Call) -> Option<Verdict> {
    let (Verb::Delete, Told::Object(seen)) = (call.verb, &call.told) else {
        return None;
    };
    if deletion_of(truth, seen).is_some() {
        return None;
    }
    let story = format!(
        "{} was acknowledged. What it was to delete, with uid {}, is there to the end.",
        name(call),
        seen.uid
    );
    Some(verdict(
        "K1: lost deletion",
        story,
        [Evidence::Call(call.id)],
    ))
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

/// A version that was told, and the id of the call that told it.
type Known = (i64, u64);

/// The newest version that an answer tells of.
fn newest(truth: &Truth, call: &Call) -> i64 {
    match &call.told {
        Told::Object(seen) if call.verb == Verb::Delete => deletion_of(truth, seen).unwrap_or(0),
        told => told.newest(),
    }
}

/// K1 and K3: no answer is older than what was acknowledged before it was asked for; where any version would do, than what
/// this client had been told before.
fn stale(history: &History) -> Vec<Verdict> {
    let mut returned: Vec<(u64, u32, Known)> = history
        .calls
        .iter()
        .filter_map(|call| {
            let known = (newest(&history.truth, call), call.id);
            Some((call.returned?, call.client, known))
        })
        .filter(|(.., known)| known.0 > 0)
        .collect();
    returned.sort_unstable();
    let mut asked: Vec<&Call> = history
        .calls
        .iter()
        .filter(|call| is_read(call.verb))
        .collect();
    asked.sort_unstable_by_key(|call| call.called);
    let mut told = returned.into_iter().peekable();
    let (mut of_all, mut of_client) = (Known::default(), BTreeMap::<u32, Known>::new());
    let mut found = Vec::new();
    for call in asked {
        while let Some((_, client, known)) = told.next_if(|(at, ..)| *at < call.called) {
            of_all = known.max(of_all);
            let own = of_client.entry(client).or_default();
            *own = known.max(*own);
        }
        let own = of_client.get(&call.client).copied().unwrap_or_default();
        let (rule, who, (least, by)) = match call.any_version {
            true => ("K3: back in time", "that client", own),
            false if is_older(&history.truth, call, own.0) => {
                ("K3: back in time", "that client", own)
            }
            false => ("K1: stale read", "somebody", of_all),
        };
        if is_older(&history.truth, call, least) {
            let story = format!(
                "{} shows a state that was over at version {least}. Of that version {who} had been told before it was \
                 asked (call {by}).",
                name(call)
            );
            let evidence = [Evidence::Call(by), Evidence::Call(call.id)];
            found.push(verdict(rule, story, evidence));
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
fn unasked_deletions(history: &History) -> Vec<Verdict> {
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
            if let (Some((made, was)), None) = (before, state) {
                let asked = [key, collection.as_str()].into_iter();
                let mut asked = asked.filter_map(|key| deletions.get(key)).flatten();
                if !asked.any(|call| explains(call, was)) {
                    let story = format!(
                        "{key}, as it was at version {made}, was deleted at version {revision}. Nobody has asked for that."
                    );
                    let evidence = [Evidence::Change(made), Evidence::Change(*revision)];
                    found.push(verdict("K1: lost object", story, evidence));
                }
            }
            before = state.as_deref().map(|object| (*revision, object));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::rules_of;
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
        rules_of(&check(&history))
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
