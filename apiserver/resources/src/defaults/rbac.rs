//! Defaults of role bindings.

use schema::Object;

use crate::look::{Look, each_map, fill_zero, with_map};

const GROUP: &str = "rbac.authorization.k8s.io";

/// API groups of the role and of the subjects.
pub(crate) fn binding(object: &mut Object) {
    with_map(object, &["roleRef"], |role| {
        fill_zero(role, "apiGroup", GROUP)
    });
    each_map(object.fields_mut(), "subjects", |subject| {
        if matches!(subject.text("kind"), "User" | "Group") {
            fill_zero(subject, "apiGroup", GROUP);
        }
    });
}
