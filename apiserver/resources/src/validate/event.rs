//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn core_event(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn event(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn event_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}
