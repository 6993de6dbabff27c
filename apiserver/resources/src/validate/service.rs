//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn service(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn service_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}
