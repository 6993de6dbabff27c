//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn limit_range(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn resource_quota(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn resource_quota_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}
