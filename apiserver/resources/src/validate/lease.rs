//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn lease(_object: &Object, _errors: &mut ErrorList) {}
