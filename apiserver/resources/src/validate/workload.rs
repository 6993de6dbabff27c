//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn controller_revision(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn controller_revision_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}

pub(crate) fn daemon_set(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn selector_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}

pub(crate) fn deployment(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn replica_set(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn stateful_set(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn stateful_set_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}

pub(crate) fn pod_template(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn replication_controller(_object: &Object, _errors: &mut ErrorList) {}
