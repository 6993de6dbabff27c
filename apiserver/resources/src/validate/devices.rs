//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn claim(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn spec_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}

pub(crate) fn claim_template(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn slice(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn slice_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}
