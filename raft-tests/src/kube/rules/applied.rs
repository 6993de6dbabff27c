//! What server-side apply promises, judged by what was stored when an apply was acknowledged: K13.

use serde_json::Value;

use super::{Evidence, Verdict, verdict};
use crate::kube::history::{Applied, Call, History, Told, Truth};

pub(super) fn check(history: &History) -> Vec<Verdict> {
    let calls = history.calls.iter();
    let judged = calls.filter_map(|call| judge(&history.truth, call));
    judged.collect()
}

fn judge(truth: &Truth, call: &Call) -> Option<Verdict> {
    let (Some(applied), Told::Object(seen)) = (&call.applies, &call.told) else {
        return None;
    };
    // An answer that shows what was never stored is K1's.
    let after = truth.change(&seen.key, seen.revision)??;
    let Applied {
        manager,
        field,
        value,
        ..
    } = applied;
    let at = seen.revision;
    let evidence = [Evidence::Call(call.id), Evidence::Change(at)];
    if after["data"][field] != *value || !owners(after, field).any(|owner| owner == manager) {
        let story = format!(
            "{manager} applied {field} of {} (call {}), and was acknowledged at version {at}. There the field has not \
             its value, or is not its own.",
            call.key, call.id
        );
        return Some(verdict("K13: not applied", story, evidence));
    }
    let (made, before) = truth.before(&seen.key, at)?;
    let other = owners(before, field).find(|owner| owner != manager)?;
    let taken = !applied.force && before["data"][field] != *value;
    taken.then(|| {
        let story = format!(
            "{manager} applied {field} of {} without force (call {}), and was acknowledged at version {at}. As of \
             version {made} the field was {other}'s, with another value.",
            call.key, call.id
        );
        verdict("K13: taken over without force", story, evidence)
    })
}

/// Who owns a field of `data`.
fn owners<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = &'a str> {
    let path = format!("f:{field}");
    let entries = object["metadata"]["managedFields"].as_array();
    let owning = entries
        .into_iter()
        .flatten()
        .filter(move |entry| entry["fieldsV1"]["f:data"].get(&path).is_some());
    owning.filter_map(|entry| entry["manager"].as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::rules_of;
    use super::*;
    use crate::kube::history::{Seen, Verb};

    fn object(value: &str, owners: &[&str]) -> Option<Value> {
        let entries = owners.iter().map(
            |owner| json!({"manager": owner, "fieldsV1": {"f:data": {".": {}, "f:value": {}}}}),
        );
        let entries: Vec<Value> = entries.collect();
        Some(json!({"metadata": {"uid": "u", "managedFields": entries}, "data": {"value": value}}))
    }

    /// What is said of `a` applying `mine`, at version 3, where these were there.
    fn rules(before: Option<Value>, after: Option<Value>, force: bool) -> Vec<String> {
        let key = "configmaps/n/x";
        let mut truth = Truth::default();
        truth.put(2, key, before);
        truth.put(3, key, after);
        let call = Call {
            verb: Verb::Patch,
            key: key.into(),
            applies: Some(Applied {
                manager: "a".into(),
                field: "value".into(),
                value: "mine".into(),
                force,
            }),
            told: Told::Object(Seen {
                key: key.into(),
                uid: "u".into(),
                revision: 3,
                digest: 0,
            }),
            ..Call::default()
        };
        let history = History {
            truth,
            calls: vec![call],
            ..History::default()
        };
        rules_of(&check(&history))
    }

    #[test]
    fn what_is_acknowledged_is_there_and_its_managers() {
        let none: [&str; 0] = [];
        let mine = || object("mine", &["a"]);
        assert_eq!(rules(None, mine(), false), none);
        assert_eq!(rules(object("old", &["a"]), mine(), false), none);
        assert_eq!(
            rules(None, object("other", &["a"]), true),
            ["K13: not applied"]
        );
        assert_eq!(
            rules(None, object("mine", &["b"]), true),
            ["K13: not applied"]
        );
    }

    #[test]
    fn a_field_of_another_is_taken_by_force_only() {
        let none: [&str; 0] = [];
        let theirs = || object("theirs", &["b"]);
        let rule = ["K13: taken over without force"];
        assert_eq!(rules(theirs(), object("mine", &["a"]), true), none);
        assert_eq!(rules(theirs(), object("mine", &["a"]), false), rule);
        // The same value is shared.
        assert_eq!(
            rules(object("mine", &["b"]), object("mine", &["a", "b"]), false),
            none
        );
    }
}
