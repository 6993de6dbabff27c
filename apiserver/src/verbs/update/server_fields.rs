//! The fields of metadata that only the server writes.

use schema::Object;
use serde_json::{Map, Value};

const SERVER_FIELDS: [&str; 5] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
];

/// Whether validation refuses another value than the one before: another identity, and a deletion that nobody asked for.
fn is_refused(field: &str, is_there: bool) -> bool {
    match field {
        "uid" | "deletionGracePeriodSeconds" => true,
        "deletionTimestamp" => !is_there,
        _ => false,
    }
}

/// What metadata say in the fields of the server, found in one walk.
fn server_fields(metadata: Option<&Map<String, Value>>) -> [Option<&Value>; SERVER_FIELDS.len()] {
    let mut found = [None; SERVER_FIELDS.len()];
    for (name, value) in metadata.into_iter().flatten() {
        if let Some(at) = SERVER_FIELDS.iter().position(|field| field == name) {
            found[at] = Some(value);
        }
    }
    found
}

/// What only the server writes stays as it was.
pub(super) fn carry_server_fields(new: &mut Object, old: &Object) {
    let was = server_fields(old.metadata());
    // Nearly all clients send it back as it is.
    if server_fields(new.metadata()) == was {
        return;
    }
    for (field, before) in SERVER_FIELDS.into_iter().zip(was) {
        let wanted = new.get(&["metadata", field]);
        let says_other = wanted.is_some_and(|value| !value.is_null() && *value != "");
        if wanted == before || (says_other && is_refused(field, before.is_some())) {
            continue;
        }
        match before.cloned() {
            Some(before) => {
                new.metadata_mut().insert(field.to_owned(), before);
            }
            None => {
                new.metadata_mut().remove(field);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Each field for itself.
    fn carried(mut new: Object, old: &Object) -> Object {
        for field in SERVER_FIELDS {
            let before = old.get(&["metadata", field]);
            let wanted = new.get(&["metadata", field]);
            let says_other = wanted.is_some_and(|value| !value.is_null() && *value != "");
            if wanted == before || (says_other && is_refused(field, before.is_some())) {
                continue;
            }
            match before {
                Some(before) => new.set(&["metadata", field], before.clone()),
                None => {
                    new.metadata_mut().remove(field);
                }
            }
        }
        new
    }

    #[test]
    fn what_the_server_writes_is_carried_field_by_field() {
        let mut all = Vec::new();
        for field in SERVER_FIELDS {
            for value in [json!(null), json!(""), json!("a"), json!("b"), json!(0)] {
                for label in ["x", "y"] {
                    all.push(
                        json!({"metadata": {"name": "a", field: value, "labels": {"l": label}}}),
                    );
                    all.push(json!({"metadata": {"uid": "u", "selfLink": "s", field: value}}));
                }
            }
        }
        all.extend([
            json!({}),
            json!({"metadata": []}),
            json!({"metadata": {"name": "a"}}),
        ]);
        let all: Vec<Object> = all
            .into_iter()
            .map(|value| Object::new(value).unwrap())
            .collect();
        let mut changed = 0;
        for old in &all {
            for new in &all {
                let mut is = new.clone();
                carry_server_fields(&mut is, old);
                assert_eq!(is, carried(new.clone(), old), "{new:?} {old:?}");
                changed += usize::from(is != *new);
            }
        }
        assert!(changed > 100);
    }
}
