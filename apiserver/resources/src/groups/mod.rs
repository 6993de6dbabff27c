//! The entries, one file a group (small groups of one topic share a file).

mod admission;
mod apps;
mod autoscaling;
mod batch;
mod core;
mod discovery;
mod extensions;
mod flowcontrol;
mod metrics;
mod networking;
mod policy;
mod rbac;
mod resource_claims;
mod reviews;
mod scheduling;
mod storage;

use crate::builtin::BuiltIn;

/// All lists in discovery order.
pub(crate) static LISTS: &[&[BuiltIn]] = &[
    core::KINDS,
    extensions::REGISTRATION,
    apps::KINDS,
    core::EVENTS,
    reviews::KINDS,
    autoscaling::KINDS,
    batch::KINDS,
    rbac::CERTIFICATES,
    networking::KINDS,
    policy::KINDS,
    rbac::KINDS,
    storage::KINDS,
    admission::KINDS,
    extensions::DEFINITIONS,
    scheduling::KINDS,
    discovery::LEASES,
    scheduling::RUNTIMES,
    discovery::KINDS,
    resource_claims::KINDS,
    flowcontrol::KINDS,
    metrics::KINDS,
];
