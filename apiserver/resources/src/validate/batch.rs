//! Rules of this topic.

use schema::Object;
use schema::field::ErrorList;

pub(crate) fn cron_job(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn job(_object: &Object, _errors: &mut ErrorList) {}

pub(crate) fn job_update(_new: &Object, _old: &Object, _errors: &mut ErrorList) {}
