//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn flow_schema(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn priority_level(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn priority_class(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn priority_class_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}

pub(crate) fn disruption_budget(_object: &Object, _errors: &mut ErrorList) {}
