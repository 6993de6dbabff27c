//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn cluster_role_binding(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn binding_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}

pub(crate) fn cluster_role(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn role_binding(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn role(_object: &Object, _errors: &mut ErrorList) {}
