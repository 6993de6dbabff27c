//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn ingress_class(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn ingress_class_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}

pub(crate) fn ingress(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn ip_address(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn ip_address_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}

pub(crate) fn network_policy(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn service_cidr(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn service_cidr_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}
