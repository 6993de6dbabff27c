//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn pod_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}

pub(crate) fn pod_subresource(
    _subresource: &str,
    _new: &Object,
    _old: &Object,
    _errors: &mut ErrorList,
) {
}
