//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn csi_driver(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn csi_driver_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}

pub(crate) fn csi_node(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn csi_storage_capacity(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn csi_storage_capacity_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}

pub(crate) fn storage_class(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn storage_class_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}

pub(crate) fn volume_attachment(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn volume_attachment_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}

pub(crate) fn volume_attributes_class(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn volume_attributes_class_update(
    _new: &Object,
    _old: &Object,
    _errors: &mut ErrorList,
) {
}
