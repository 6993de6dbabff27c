//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn namespace(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn namespace_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}
