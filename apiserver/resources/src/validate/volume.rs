//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn claim(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn claim_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}

pub(crate) fn volume(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn volume_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}
