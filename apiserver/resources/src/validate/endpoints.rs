//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn endpoint_slice(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn endpoint_slice_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}

pub(crate) fn endpoints(_object: &Object, _errors: &mut ErrorList) {}
