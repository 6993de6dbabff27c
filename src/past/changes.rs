//! What differs between two versions of an object, and what an object was before.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// Written by the server with every change: they say that something changed, not what.
const BOOKKEEPING: [&str; 3] = ["resourceVersion", "generation", "managedFields"];
/// What an object gets anew where it is made again, and keeps where it is there.
const IDENTITY: [&str; 8] = [
    "resourceVersion",
    "generation",
    "managedFields",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
];
/// Of a value in a line.
const SHOWN_CHARS: usize = 200;

/// One field that is not the same.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    /// `spec.template.spec.containers[name=web].image`.
    pub(crate) path: String,
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |value: &Value| {
            let text = value.to_string();
            match text.char_indices().nth(SHOWN_CHARS) {
                Some((end, _)) => format!("{}...", &text[..end]),
                None => text,
            }
        };
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => {
                write!(f, "~ {}: {} -> {}", self.path, text(before), text(after))
            }
            (None, Some(after)) => write!(f, "+ {}: {}", self.path, text(after)),
            (Some(before), None) => write!(f, "- {}: {}", self.path, text(before)),
            (None, None) => write!(f, "  {}", self.path),
        }
    }
}

/// All that differs, the server's bookkeeping left out. What a Secret holds is not shown.
pub(crate) fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    compare("", Some(before), Some(after), &mut found);
    found.retain(|change| {
        let top = change.path.strip_prefix("metadata.");
        top.is_none_or(|rest| !BOOKKEEPING.iter().any(|field| is_at(rest, field)))
    });
    if after["kind"] == "Secret" || before["kind"] == "Secret" {
        found.iter_mut().for_each(hide);
    }
    found
}

/// Whether `path` is `field` or below it.
fn is_at(path: &str, field: &str) -> bool {
    path.strip_prefix(field)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn hide(change: &mut Change) {
    let secret = ["data", "stringData"];
    // A client may have put all of it into an annotation.
    let copied = change.path.contains("last-applied-configuration");
    if !copied && !secret.iter().any(|field| is_at(&change.path, field)) {
        return;
    }
    for value in [&mut change.before, &mut change.after]
        .into_iter()
        .flatten()
    {
        *value = "***".into();
    }
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Change>) {
    match (before, after) {
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for key in keys {
                let path = field(path, key);
                compare(&path, before.get(key), after.get(key), found);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => {
            let both = |key: &&str| Some((keyed(before, key)?, keyed(after, key)?));
            let (before, after) = KEYS
                .iter()
                .find_map(both)
                .unwrap_or_else(|| (numbered(before), numbered(after)));
            let find = |list: &[(String, &Value)], key: &str| -> Option<Value> {
                let item = list.iter().find(|(name, _)| name == key);
                item.map(|(_, value)| (*value).clone())
            };
            let keys: BTreeSet<&String> = before.iter().chain(&after).map(|(key, _)| key).collect();
            for key in keys {
                let path = format!("{path}{key}");
                let (before, after) = (find(&before, key), find(&after, key));
                compare(&path, before.as_ref(), after.as_ref(), found);
            }
        }
        (before, after) if before == after => {}
        (before, after) => found.push(Change {
            path: path.into(),
            before: before.cloned(),
            after: after.cloned(),
        }),
    }
}

fn field(path: &str, key: &str) -> String {
    match key.contains(['.', '/', '[']) {
        true => format!("{path}[{key:?}]"),
        false if path.is_empty() => key.into(),
        false => format!("{path}.{key}"),
    }
}

/// Items of a list by what each has for itself under one of these, in both versions of it.
const KEYS: [&str; 2] = ["name", "type"];

fn keyed<'a>(list: &'a [Value], key: &str) -> Option<Vec<(String, &'a Value)>> {
    let mut seen = BTreeSet::new();
    let own = |item: &Value| Some(item.get(key)?.as_str()?.to_owned());
    list.iter()
        .map(|item| {
            let own = own(item).filter(|own| seen.insert(own.clone()))?;
            Some((format!("[{key}={own}]"), item))
        })
        .collect()
}

fn numbered(list: &[Value]) -> Vec<(String, &Value)> {
    let item = |(at, item)| (format!("[{at}]"), item);
    list.iter().enumerate().map(item).collect()
}

/// Who has changed an object between two versions, and when, as far as it says so itself.
pub(crate) fn authors(before: Option<&Value>, after: &Value) -> Vec<(String, String)> {
    let entries = |object: &Value| -> Vec<(String, String)> {
        let list = object["metadata"]["managedFields"].as_array();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let entry = |entry: &Value| (text(&entry["manager"]), text(&entry["time"]));
        list.into_iter().flatten().map(entry).collect()
    };
    let known = before.map(entries).unwrap_or_default();
    let mut found = entries(after);
    found.retain(|entry| !known.contains(entry));
    found
}

/// What to write so that the object is again as it was `then`: over what is there `now`, and only if that does not change
/// meanwhile, or anew. Its status is not the client's to say.
pub(crate) fn restored(then: &Value, now: Option<&Value>) -> Value {
    let mut body = then.clone();
    if let Some(body) = body.as_object_mut() {
        body.remove("status");
    }
    if !body["metadata"].is_object() {
        body["metadata"] = json!({});
    }
    let metadata: &mut Map<String, Value> = body["metadata"]
        .as_object_mut()
        .expect("it is made an object above");
    for field in IDENTITY {
        metadata.remove(field);
    }
    for field in ["uid", "resourceVersion"] {
        if let Some(value) = now.and_then(|now| now["metadata"].get(field)) {
            metadata.insert(field.into(), value.clone());
        }
    }
    body
}

/// What a write of [`restored`] changes.
pub(crate) fn undone(then: &Value, now: &Value) -> Vec<Change> {
    let without_status = |object: &Value| {
        let mut object = restored(object, None);
        object["metadata"]["name"] = Value::Null;
        object
    };
    changes(&without_status(now), &without_status(then))
}

/// Whether a person or a program of his wants what [`undone`] says: controllers and kubectl leave notes of their own.
pub(crate) fn is_wanted(change: &Change) -> bool {
    let note = |key: &str| {
        let domain = key.split_once('/').map_or("", |(domain, _)| domain);
        domain.ends_with(".kubernetes.io")
    };
    let all_notes = |value: &Option<Value>| match value {
        Some(Value::Object(notes)) => notes.keys().all(|key| note(key)),
        Some(_) => false,
        None => true,
    };
    let Some(rest) = change.path.strip_prefix("metadata.annotations") else {
        return true;
    };
    match rest
        .strip_prefix("[\"")
        .and_then(|rest| rest.strip_suffix("\"]"))
    {
        Some(key) => !note(key),
        None => !(rest.is_empty() && all_notes(&change.before) && all_notes(&change.after)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(before: &Value, after: &Value) -> Vec<String> {
        let found = changes(before, after);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_differs_is_named_by_its_path() {
        let before = json!({"kind": "Deployment",
            "metadata": {"resourceVersion": "5", "generation": 1, "labels": {"a": "1", "example.com/b": "2"},
                "managedFields": [{"manager": "x"}]},
            "status": {"conditions": [{"type": "Ready", "status": "False"}]},
            "spec": {"replicas": 1, "args": ["a", "b"], "containers": [{"name": "web", "image": "w:1"}, {"name": "log"}]}});
        let after = json!({"kind": "Deployment",
            "metadata": {"resourceVersion": "6", "generation": 2, "labels": {"a": "1", "example.com/b": "3"},
                "managedFields": []},
            "status": {"conditions": [{"type": "New"}, {"type": "Ready", "status": "True"}]},
            "spec": {"replicas": 3, "args": ["a", "c"], "containers": [{"name": "new"}, {"name": "web", "image": "w:2"}]}});
        assert_eq!(
            lines(&before, &after),
            [
                r#"~ metadata.labels["example.com/b"]: "2" -> "3""#,
                r#"~ spec.args[1]: "b" -> "c""#,
                r#"- spec.containers[name=log]: {"name":"log"}"#,
                r#"+ spec.containers[name=new]: {"name":"new"}"#,
                r#"~ spec.containers[name=web].image: "w:1" -> "w:2""#,
                "~ spec.replicas: 1 -> 3",
                r#"+ status.conditions[type=New]: {"type":"New"}"#,
                r#"~ status.conditions[type=Ready].status: "False" -> "True""#,
            ]
        );
        assert!(lines(&before, &before).is_empty());
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = |data: &str| {
            json!({"kind": "Secret", "data": {"password": data},
            "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": data}}})
        };
        let text = lines(&secret("YQ=="), &secret("Yg==")).join("\n");
        assert!(
            text.contains(r#"~ data.password: "***" -> "***""#),
            "{text}"
        );
        assert!(!text.contains("YQ==") && !text.contains("Yg=="), "{text}");
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let long = json!({"data": "ä".repeat(500)});
        let text = lines(&json!({}), &long).remove(0);
        assert!(text.ends_with("..."));
        assert!(text.chars().count() < 250);
    }

    #[test]
    fn what_was_is_written_over_what_is() {
        let then = json!({"kind": "ConfigMap", "data": {"a": "1"}, "status": {"x": 1},
            "metadata": {"name": "m", "uid": "old", "resourceVersion": "4", "creationTimestamp": "t",
                "labels": {"l": "1"}, "managedFields": [], "generation": 1, "deletionTimestamp": "t"}});
        let now = json!({"kind": "ConfigMap", "data": {"b": "1"},
            "metadata": {"name": "m", "uid": "new", "resourceVersion": "9"}});
        assert_eq!(
            restored(&then, Some(&now)),
            json!({"kind": "ConfigMap", "data": {"a": "1"},
                "metadata": {"name": "m", "uid": "new", "resourceVersion": "9", "labels": {"l": "1"}}})
        );
        assert_eq!(
            restored(&then, None)["metadata"],
            json!({"name": "m", "labels": {"l": "1"}})
        );
        let mut moved = then.clone();
        moved["status"]["x"] = 2.into();
        moved["metadata"]["uid"] = "other".into();
        assert!(undone(&then, &moved).is_empty());
        assert_eq!(undone(&then, &now).len(), 3);
    }

    #[test]
    fn notes_of_controllers_are_not_what_is_undone() {
        let with = |annotations: Value| json!({"metadata": {"annotations": annotations}});
        let wanted = |before: &Value, after: &Value| changes(before, after).iter().any(is_wanted);
        let revision = |n: &str| with(json!({"deployment.kubernetes.io/revision": n}));
        assert!(!wanted(&revision("1"), &revision("2")));
        assert!(!wanted(&json!({"metadata": {}}), &revision("1")));
        let own = with(json!({"deployment.kubernetes.io/revision": "1", "example.com/a": "1"}));
        assert!(wanted(&revision("1"), &own));
        assert!(wanted(&json!({"metadata": {}}), &own));
        assert!(wanted(&json!({"data": {}}), &json!({"data": {"a": "1"}})));
    }

    #[test]
    fn who_wrote_is_what_the_object_says_anew() {
        let object = |entries: &[(&str, &str)]| {
            let entry = |(manager, time): &(&str, &str)| json!({"manager": manager, "time": time});
            let entries: Vec<Value> = entries.iter().map(entry).collect();
            json!({"metadata": {"managedFields": entries}})
        };
        let before = object(&[("kubectl", "1"), ("controller", "1")]);
        let after = object(&[("kubectl", "1"), ("controller", "2")]);
        let both = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(authors(Some(&before), &after), [both("controller", "2")]);
        assert_eq!(authors(None, &before).len(), 2);
        assert!(authors(None, &json!({})).is_empty());
    }
}
