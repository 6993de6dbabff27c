//! Stored objects with the defaults of their kind, which may be newer than the object.

use std::borrow::Cow;

use resources::Resource;
use schema::Object;

use crate::managed;

/// An object with the defaults of its kind: itself, where it has them, as nearly all that is stored. No default is about
/// managed fields, which need no copy to see that.
pub(super) fn defaulted<'o>(resource: &Resource, object: &'o Object) -> Cow<'o, Object> {
    let mut copy = managed::copy_without_entries(object);
    resource.default(&mut copy);
    if managed::same_but_entries(&copy, object) {
        return Cow::Borrowed(object);
    }
    managed::put(&mut copy, managed::entries(object).cloned());
    Cow::Owned(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_lacks_defaults_gets_them() {
        let entries = json!([{"manager": "m", "operation": "Update", "apiVersion": "v1",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}, "time": "2026-01-01T00:00:00Z"}]);
        let containers = json!([{"name": "c", "image": "i"}]);
        for (group, version, plural, spec) in [
            ("", "v1", "pods", json!({"containers": containers})),
            ("", "v1", "services", json!({"ports": [{"port": 80}]})),
            (
                "apps",
                "v1",
                "deployments",
                json!({"template": {"spec": {"containers": containers}}}),
            ),
            ("", "v1", "configmaps", json!(null)),
        ] {
            let resource = resources::find(group, version, plural).unwrap();
            for entries in [json!(null), entries.clone()] {
                let mut bare = Object::empty(&resource.api_version(), &resource.kind);
                bare.set(&["metadata", "name"], "n");
                for (path, value) in [
                    (&["spec"][..], &spec),
                    (&["metadata", "managedFields"][..], &entries),
                ] {
                    if !value.is_null() {
                        bare.set(path, value.clone());
                    }
                }
                let mut long = bare.clone();
                resource.default(&mut long);
                assert_eq!(*defaulted(resource, &bare), long, "{plural}");
                let again = defaulted(resource, &long);
                assert_eq!(*again, long, "{plural}");
                assert!(matches!(again, Cow::Borrowed(_)), "{plural}");
            }
        }
    }
}
