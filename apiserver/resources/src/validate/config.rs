//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn config_map(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn config_map_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}

pub(crate) fn secret(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn secret_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}

pub(crate) fn service_account(_object: &Object, _errors: &mut ErrorList) {}
