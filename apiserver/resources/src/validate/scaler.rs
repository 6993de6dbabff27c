//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn v2(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn v1(_object: &Object, _errors: &mut ErrorList) {}
