//! Since when devices have their taints.

use schema::Object;
use serde_json::Value;

use crate::look::{Look, each_map, fill, with_map};

/// When each taint of a device came, where the driver does not say: whatever its effect, as Kubernetes fills in
/// `timeAdded`. A taint that the device had before keeps its time, so that a driver which publishes its slice again does not
/// put off the pods' end.
pub(crate) fn stamp(new: &mut Object, old: Option<&Object>, now: &str) {
    let before = old.map(|old| old.at("spec").list("devices"));
    let before = before.unwrap_or_default();
    with_map(new, &["spec"], |spec| {
        each_map(spec, "devices", |device| {
            let name = device.text("name");
            let known = before.iter().find(|old| old.text("name") == name);
            let known = known.map(|old| old.list("taints")).unwrap_or_default();
            each_map(device, "taints", |taint| {
                let said = ["key", "value", "effect"];
                let is_same = |old: &&Value| {
                    said.iter()
                        .all(|field| old.text(field) == taint.text(field))
                        && !old.text("timeAdded").is_empty()
                };
                let since = known.iter().find(is_same);
                let since = since.map_or(now, |old| old.text("timeAdded"));
                fill(taint, "timeAdded", since);
            });
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slice(taints: Value) -> Object {
        let devices = json!([{"name": "a", "taints": taints}, {"name": "b"}]);
        Object::new(json!({"spec": {"devices": devices}})).unwrap()
    }

    fn times(slice: &Object) -> Vec<&str> {
        let devices = slice.at("spec").list("devices");
        let taints = devices.iter().flat_map(|device| device.list("taints"));
        taints.map(|taint| taint.text("timeAdded")).collect()
    }

    #[test]
    fn a_taint_has_the_time_when_it_came_and_keeps_it() {
        let slow = json!({"key": "slow", "effect": "NoSchedule"});
        let gone = json!({"key": "gone", "value": "1", "effect": "NoExecute"});
        let mut old = slice(json!([slow, gone]));
        stamp(&mut old, None, "t1");
        assert_eq!(times(&old), ["t1", "t1"]);

        let other = json!({"key": "gone", "value": "2", "effect": "NoExecute"});
        let said = json!({"key": "slow", "effect": "NoExecute", "timeAdded": "t0"});
        let mut new = slice(json!([gone, slow, other, said]));
        stamp(&mut new, Some(&old), "t2");
        assert_eq!(times(&new), ["t1", "t1", "t2", "t0"]);

        let mut none = Object::new(json!({"spec": {}})).unwrap();
        stamp(&mut none, Some(&old), "t2");
        assert_eq!(none.value(), &json!({"spec": {}}));
    }
}
