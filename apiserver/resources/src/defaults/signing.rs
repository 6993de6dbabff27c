//! What updates do to a signing request: nothing of themselves; its decision and its certificate have doors of their own.

use schema::Object;
use serde_json::Value;

use crate::look::Look;
use crate::resource::copy_field;

/// A signing request never changes after its creation.
pub(crate) fn update(new: &mut Object, old: &Object) {
    copy_field(new, old, "spec");
    copy_field(new, old, "status");
}

/// `approval` writes the conditions, `status` the certificate and every condition that is no decision. Both take
/// metadata too.
pub(crate) fn subresource(subresource: &str, new: &mut Object, old: &Object) {
    match subresource {
        "approval" => {
            let asked = new.at("status").at("conditions").clone();
            copy_field(new, old, "spec");
            copy_field(new, old, "status");
            if asked.is_null() {
                new.remove(&["status", "conditions"]);
            } else {
                new.set(&["status", "conditions"], asked);
            }
        }
        "status" => {
            for decision in ["Approved", "Denied"] {
                keep(decision, new, old);
            }
        }
        _ => {}
    }
}

/// Conditions of this type stay as they were. Where some came or went nothing is done: validation refuses that.
fn keep(kind: &str, new: &mut Object, old: &Object) {
    let before = old.at("status").list("conditions");
    let mut before = before.iter().filter(|c| c.text("type") == kind);
    let Some(Value::Array(after)) = new.get_mut(&["status", "conditions"]) else {
        return;
    };
    let count = after.iter().filter(|c| c.text("type") == kind).count();
    if count != before.clone().count() {
        return;
    }
    for condition in after.iter_mut().filter(|c| c.text("type") == kind) {
        if let Some(kept) = before.next() {
            *condition = kept.clone();
        }
    }
}

/// When each condition was written, and since when it is so, where the client does not say.
pub(crate) fn stamp(new: &mut Object, old: &Object, now: &str) {
    let before = old.at("status").list("conditions");
    let Some(Value::Array(after)) = new.get_mut(&["status", "conditions"]) else {
        return;
    };
    for condition in after {
        let same = before.iter().find(|c| {
            c.text("type") == condition.text("type")
                && c.text("status") == condition.text("status")
                && !c.text("lastTransitionTime").is_empty()
        });
        let since = same.map_or(now, |c| c.text("lastTransitionTime"));
        let Value::Object(fields) = condition else {
            continue;
        };
        for (field, time) in [("lastUpdateTime", now), ("lastTransitionTime", since)] {
            if fields.get(field).is_none_or(Value::is_null) {
                fields.insert(field.to_owned(), time.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(conditions: Value) -> Object {
        let value = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": "r"}, "status": {"conditions": conditions}});
        Object::new(value).unwrap()
    }

    #[test]
    fn what_the_status_says_of_a_decision_is_not_taken() {
        let old = request(json!([{"type": "Approved", "status": "True", "reason": "a"}]));
        let mut new = request(json!([{"type": "Other", "status": "True"},
            {"type": "Approved", "status": "True", "reason": "b"}]));
        subresource("status", &mut new, &old);
        let expected = json!([{"type": "Other", "status": "True"},
            {"type": "Approved", "status": "True", "reason": "a"}]);
        assert_eq!(new.value()["status"]["conditions"], expected);
    }

    #[test]
    fn both_doors_take_metadata() {
        let old = request(json!([]));
        for door in ["approval", "status"] {
            let mut new = request(json!([]));
            new.set_annotation("a", "b");
            subresource(door, &mut new, &old);
            assert_eq!(new.annotation("a"), Some("b"), "{door}");
        }
    }

    #[test]
    fn conditions_get_the_times_that_are_not_said() {
        let old = request(
            json!([{"type": "A", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]),
        );
        let mut new = request(
            json!([{"type": "A", "status": "True"}, {"type": "B", "status": "True",
            "lastUpdateTime": "2025-01-01T00:00:00Z", "lastTransitionTime": null}]),
        );
        stamp(&mut new, &old, "2026-02-02T00:00:00Z");
        let conditions = &new.value()["status"]["conditions"];
        assert_eq!(conditions[0]["lastUpdateTime"], "2026-02-02T00:00:00Z");
        assert_eq!(conditions[0]["lastTransitionTime"], "2026-01-01T00:00:00Z");
        assert_eq!(conditions[1]["lastUpdateTime"], "2025-01-01T00:00:00Z");
        assert_eq!(conditions[1]["lastTransitionTime"], "2026-02-02T00:00:00Z");
    }
}
