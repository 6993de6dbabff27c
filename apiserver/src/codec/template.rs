//! The stored form of objects that are like one: where they differ from it in who they are and when they were made, and in nothing
//! else, that is all that has to be written into its text.

use std::ops::Range;

use bytes::Bytes;
use serde_json::Value;

use super::{ENTRIES, encode, end_of_nested, members, metadata_at};

/// What each has for itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own<'a> {
    pub(crate) name: &'a str,
    pub(crate) uid: &'a str,
    /// When it was created, and when the first of its managed fields were set.
    pub(crate) time: &'a str,
}

/// Which of that stands in a place.
#[derive(Clone, Copy, Debug)]
enum Which {
    Name,
    Uid,
    Time,
}

/// The text of the first one, and where in it stands what is its own, from the front to the back.
#[derive(Debug)]
pub(crate) struct Template {
    text: Bytes,
    places: [(Range<usize>, Which); 4],
}

impl Template {
    /// None where the object lacks any of what each has for itself.
    pub(crate) fn of(object: &Value) -> Option<Template> {
        let text = encode(object);
        let start = metadata_at(&text)? - 1;
        let metadata = &text[start..start + end_of_nested(&text[start..])];
        let moved = |place: Range<usize>, by: usize| place.start + by..place.end + by;
        let member = |name: &str| {
            let place = members::value_at(metadata, name)?;
            Some(moved(place, start))
        };
        // Behind the bracket that opens their list.
        let first = member(ENTRIES)?.start + 1;
        let entry = &text[first..];
        if !entry.starts_with(b"{") {
            return None;
        }
        let time = members::value_at(&entry[..end_of_nested(entry)], "time")?;
        let mut places = [
            (member("name")?, Which::Name),
            (member("uid")?, Which::Uid),
            (member("creationTimestamp")?, Which::Time),
            (moved(time, first), Which::Time),
        ];
        places.sort_by_key(|(place, _)| place.start);
        // Not the room that it was written in.
        let text = Bytes::copy_from_slice(&text);
        Some(Template { text, places })
    }

    /// The bytes to store of an object that has this for itself, and all else as the first one: as [`encode`] writes them.
    pub(crate) fn with(&self, own: Own<'_>) -> Bytes {
        // Mostly as much as the first one has.
        let mut out = Vec::with_capacity(self.text.len());
        let mut from = 0;
        for (place, which) in &self.places {
            out.extend_from_slice(&self.text[from..place.start]);
            let value = match which {
                Which::Name => own.name,
                Which::Uid => own.uid,
                Which::Time => own.time,
            };
            serde_json::to_writer(&mut out, value).expect("writing to memory cannot fail");
            from = place.end;
        }
        out.extend_from_slice(&self.text[from..]);
        Bytes::from(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// What may stand before, between and behind what an object has for itself.
    fn object(own: Own<'_>, rest: &[(String, String)]) -> Value {
        let labels: serde_json::Map<String, Value> = rest
            .iter()
            .map(|(key, value)| (key.clone(), value.as_str().into()))
            .collect();
        let mut object = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": own.name, "uid": own.uid, "creationTimestamp": own.time,
                "annotations": labels, "labels": labels, "resourceVersion": "7",
                "managedFields": [
                    {"manager": "m", "fieldsV1": {"f:time": {}, "k:{\"a\":9}": {}, "k:{\"a\":80}": {}, ".": {}}, "time": own.time},
                    {"manager": "n", "time": "another"},
                ]},
            "spec": {"name": "other", "labels": labels}, "status": labels});
        for (key, value) in rest {
            let metadata = object["metadata"].as_object_mut().unwrap();
            metadata
                .entry(key.clone())
                .or_insert_with(|| value.as_str().into());
        }
        object
    }

    #[test]
    fn what_lacks_any_of_it_is_no_template() {
        let own = Own {
            name: "a",
            uid: "b",
            time: "c",
        };
        let whole = object(own, &[]);
        assert!(Template::of(&whole).is_some());
        for name in ["name", "uid", "creationTimestamp", "managedFields"] {
            let mut part = whole.clone();
            part["metadata"].as_object_mut().unwrap().remove(name);
            assert!(Template::of(&part).is_none(), "{name}");
        }
        for entries in [
            json!([]),
            json!({}),
            json!(["time"]),
            json!([{"manager": "m"}]),
            Value::Null,
        ] {
            let mut part = whole.clone();
            part["metadata"]["managedFields"] = entries;
            assert!(Template::of(&part).is_none(), "{part}");
        }
        assert!(Template::of(&json!({})).is_none());
    }

    proptest! {
        #[test]
        fn others_are_written_as_they_are_encoded(
            first in prop::array::uniform3("[a-c\\\\\"{}\\[\\],:ü-]{0,12}"),
            other in prop::array::uniform3("[a-c\\\\\"{}\\[\\],:ü-]{0,12}"),
            rest in prop::collection::vec(("[a-z\"\\\\]{0,6}|name|uid|time", "[a-z\"\\\\{}\\[\\],:]{0,9}"), 0..6),
        ) {
            let [name, uid, time] = &first;
            let template = Template::of(&object(Own { name, uid, time }, &rest)).unwrap();
            for [name, uid, time] in [&first, &other] {
                let own = Own { name, uid, time };
                prop_assert_eq!(template.with(own), encode(&object(own, &rest)));
            }
        }
    }
}
