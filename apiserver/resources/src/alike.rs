//! What of an update is as it is stored already, so that rules and defaults need not go through it again.

use schema::Object;
use serde_json::Value;

use crate::Resource;

impl Resource {
    /// Whether the rules for the kind's own fields have to say the same of both objects: all that they look at is equal.
    /// False where that cannot be told so cheaply.
    pub(crate) fn is_judged_alike(&self, new: &Object, old: &Object) -> bool {
        let reads_annotations = matches!(
            (&*self.group, &*self.kind),
            ("", "Pod" | "Secret" | "Service")
                | ("apiextensions.k8s.io", "CustomResourceDefinition")
        );
        self.custom.is_none()
            && are_equal_but_metadata(new, old)
            && new.name() == old.name()
            && new.namespace() == old.namespace()
            // Some rules are for objects that have no version yet.
            && new.resource_version().is_empty() == old.resource_version().is_empty()
            && (!reads_annotations || is_same_metadata(new, old, "annotations"))
    }

    /// Whether defaults leave a `stored` object as it is, judged by one that went through them: they are idempotent, and
    /// all that they look at is equal. False where that cannot be told so cheaply.
    pub fn is_defaulted_like(&self, stored: &Object, defaulted: &Object) -> bool {
        let writes_labels = matches!(
            (&*self.group, &*self.kind),
            ("", "Namespace" | "ReplicationController") | ("batch", "Job")
        );
        self.custom.is_none()
            && are_equal_but_metadata(stored, defaulted)
            && (!writes_labels
                || ["name", "labels"]
                    .iter()
                    .all(|field| is_same_metadata(stored, defaulted, field)))
    }
}

fn are_equal_but_metadata(a: &Object, b: &Object) -> bool {
    parts(a).eq(parts(b))
}

fn parts(object: &Object) -> impl Iterator<Item = (&String, &Value)> {
    let all = object.value().as_object().into_iter().flatten();
    all.filter(|(name, _)| *name != "metadata")
}

fn is_same_metadata(a: &Object, b: &Object, field: &str) -> bool {
    a.get(&["metadata", field]) == b.get(&["metadata", field])
}
