//! Rules of this topic.

use schema::Object;

pub(crate) fn workload(_object: &Object) -> Vec<String> {
    Vec::new()
}

pub(crate) fn pod(_object: &Object) -> Vec<String> {
    Vec::new()
}
