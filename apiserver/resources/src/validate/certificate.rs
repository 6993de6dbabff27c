//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn signing_request(_object: &Object, _errors: &mut ErrorList) {}
