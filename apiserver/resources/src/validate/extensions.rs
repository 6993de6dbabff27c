//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn api_service(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn definition(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn definition_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}
