//! Events, in either of their shapes.

use schema::Object;
use serde_json::Value;

use super::Column;
use super::{NAME, UNKNOWN, since, text, wide};
use crate::look::Look;

pub(crate) const EVENT: &[Column] = &[
    text("Last Seen", "Time since this was last seen."),
    text("Type", "Normal or Warning."),
    text("Reason", "Why, in one word."),
    text("Object", "What this is about."),
    wide("Subobject", "Part of the object that this is about."),
    wide("Source", "Who noticed."),
    text("Message", "Why, in a sentence."),
    wide("First Seen", "Time since this was first seen."),
    wide("Count", "How often this was seen."),
    Column {
        priority: 1,
        ..NAME
    },
];

/// The first of the named fields that is set.
fn one_of<'a>(object: &'a Object, fields: [&str; 2]) -> &'a Value {
    let first = object.at(fields[0]);
    if first.is_null() {
        object.at(fields[1])
    } else {
        first
    }
}

pub(crate) fn event(object: &Object, now: i64) -> Vec<Value> {
    let target = one_of(object, ["involvedObject", "regarding"]);
    let message = one_of(object, ["message", "note"])
        .as_str()
        .unwrap_or("")
        .trim();
    let mut first = since(
        one_of(object, ["firstTimestamp", "deprecatedFirstTimestamp"]),
        now,
    );
    if first == UNKNOWN {
        first = since(object.at("eventTime"), now);
    }
    let mut last = since(
        one_of(object, ["lastTimestamp", "deprecatedLastTimestamp"]),
        now,
    );
    if last == UNKNOWN {
        last.clone_from(&first);
    }
    let mut count = one_of(object, ["count", "deprecatedCount"])
        .as_i64()
        .unwrap_or(0);
    let series = object.at("series");
    if series.is_object() {
        last = since(series.at("lastObservedTime"), now);
        count = series.int("count").unwrap_or(0);
    } else if count == 0 {
        count = 1;
    }
    let kind = target.text("kind").to_lowercase();
    let about = if target.text("name").is_empty() {
        kind
    } else {
        format!("{kind}/{}", target.text("name"))
    };
    let plain = |field: &str| -> Value { object.at(field).as_str().unwrap_or("").into() };
    vec![
        last.into(),
        plain("type"),
        plain("reason"),
        about.into(),
        target.text("fieldPath").into(),
        source(object).into(),
        message.into(),
        first.into(),
        count.into(),
        object.name().into(),
    ]
}

fn source(object: &Object) -> String {
    let source = one_of(object, ["source", "deprecatedSource"]);
    let mut component = source.text("component");
    if component.is_empty() {
        component = one_of(object, ["reportingComponent", "reportingController"])
            .as_str()
            .unwrap_or("");
    }
    let mut host = source.text("host");
    if host.is_empty() {
        host = object.at("reportingInstance").as_str().unwrap_or("");
    }
    match host {
        "" => component.to_owned(),
        host => format!("{component}, {host}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_shapes_give_the_same_row() {
        let old = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Pulled", "message": " hi ",
            "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec"}, "count": 3,
            "firstTimestamp": "1970-01-01T00:00:00Z", "lastTimestamp": "1970-01-01T00:01:00Z",
            "source": {"component": "kubelet", "host": "n"}});
        let new = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Pulled", "note": " hi ",
            "regarding": {"kind": "Pod", "name": "p", "fieldPath": "spec"}, "deprecatedCount": 3,
            "deprecatedFirstTimestamp": "1970-01-01T00:00:00Z", "deprecatedLastTimestamp": "1970-01-01T00:01:00Z",
            "deprecatedSource": {"component": "kubelet", "host": "n"}});
        let row = event(&Object::new(old).unwrap(), 120);
        assert_eq!(
            row,
            [
                json!("60s"),
                json!("Normal"),
                json!("Pulled"),
                json!("pod/p"),
                json!("spec"),
                json!("kubelet, n"),
                json!("hi"),
                json!("2m"),
                json!(3),
                json!("e")
            ]
        );
        assert_eq!(row, event(&Object::new(new).unwrap(), 120));
        let own = json!({"metadata": {"name": "e"}, "reportingController": "a.b/c", "reportingInstance": "i"});
        assert_eq!(event(&Object::new(own).unwrap(), 120)[5], "a.b/c, i");
    }
}
