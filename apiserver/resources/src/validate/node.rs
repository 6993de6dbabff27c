//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn node(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn node_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}

pub(crate) fn runtime_class(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn runtime_class_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}
