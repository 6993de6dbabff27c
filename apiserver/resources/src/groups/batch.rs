//! batch/v1.

use crate::builtin::{BuiltIn, NAMESPACED, status};
use crate::{defaults, table, validate};

const BATCH: BuiltIn = BuiltIn {
    group: "batch",
    ..NAMESPACED
};

pub(super) static KINDS: &[BuiltIn] = &[
    BuiltIn {
        kind: "CronJob",
        plural: "cronjobs",
        short_names: &["cj"],
        categories: &["all"],
        subresources: &[status("CronJob")],
        generation: Some(&["spec"]),
        columns: table::batch::CRON_JOB,
        cells: table::batch::cron_job,
        defaults: defaults::batch::cron_job,
        check: validate::batch::cron_job,
        advise: validate::warnings::workload,
        ..BATCH
    },
    BuiltIn {
        kind: "Job",
        plural: "jobs",
        categories: &["all"],
        subresources: &[status("Job")],
        generation: Some(&["spec"]),
        field_selectors: &["status.successful"],
        columns: table::batch::JOB,
        cells: table::batch::job,
        defaults: defaults::batch::job,
        on_create: defaults::prepare::job_create,
        on_rename: defaults::prepare::job_rename,
        check: validate::batch::job,
        check_update: validate::batch::job_update,
        check_subresource_update: validate::batch::job_subresource,
        advise: validate::warnings::workload,
        ..BATCH
    },
];
