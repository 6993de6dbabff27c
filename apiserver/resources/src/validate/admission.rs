//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn mutating_policy(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn mutating_binding(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn webhooks(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn validating_policy(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn validating_binding(_object: &Object, _errors: &mut ErrorList) {}
