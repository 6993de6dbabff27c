//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn token_review(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn local_access_review(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn self_access_review(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn access_review(_object: &Object, _errors: &mut ErrorList) {}
