//! The controllers: each makes the cluster look as one kind of object says it should.
//!
//! A controller is one file and one line in [`CONTROLLERS`]. Its heart is a plain function from an object and the world
//! (caches and the time) to a plan; the manager feeds the queue, performs the plan and waits until the caches have seen
//! the result before the same key is looked at again. Few controllers need an answer from the server in the middle
//! (namespace deletion, garbage collection) or a state of their own (node lifecycle): they are tasks with a pure core.

mod account_secret;
#[cfg(test)]
mod api;
mod bootstrap_signer;
mod certificate_approval;
mod certificate_cleaner;
mod certificate_signing;
mod cloud_node;
mod cron_job;
mod daemon_set;
mod deployment;
mod device_taint_eviction;
mod discovery;
mod disruption;
mod driven_out;
mod endpoint_slice;
mod endpoint_slice_mirroring;
mod endpoints;
mod ephemeral_volume;
mod garbage_collector;
mod history;
mod horizontal_pod_autoscaler;
mod job;
mod load_balancer;
mod manager;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod node_log;
mod node_route;
mod node_ttl;
mod patches;
mod persistent_volume;
mod pod_control;
mod pod_gc;
mod pod_tally;
mod quantity;
mod queue_names;
mod ranking;
mod replica_set;
mod replication;
mod replication_controller;
mod resource_claim;
mod root_ca;
mod service_account;
mod service_cidrs;
#[cfg(test)]
mod simulation;
mod stateful_set;
mod storage_protection;
mod taint_eviction;
#[cfg(test)]
mod testing;
mod token_cleaner;
mod ttl_after_finished;
mod world;

pub use manager::{Body, Controller, TaskContext, run, run_without_election};
pub use world::{Caches, World};

/// All controllers. They run in one process under one lease.
pub static CONTROLLERS: &[Controller] = &[
    namespace::CONTROLLER,
    service_account::CONTROLLER,
    account_secret::CONTROLLER,
    root_ca::CONTROLLER,
    replica_set::CONTROLLER,
    replication_controller::CONTROLLER,
    deployment::CONTROLLER,
    daemon_set::CONTROLLER,
    stateful_set::CONTROLLER,
    cron_job::CONTROLLER,
    job::CONTROLLER,
    job::ORPHANS,
    endpoint_slice::CONTROLLER,
    endpoint_slice_mirroring::CONTROLLER,
    endpoints::CONTROLLER,
    garbage_collector::CONTROLLER,
    pod_gc::CONTROLLER,
    node_lifecycle::CONTROLLER,
    taint_eviction::CONTROLLER,
    device_taint_eviction::CONTROLLER,
    disruption::CONTROLLER,
    ttl_after_finished::CONTROLLER,
    persistent_volume::CONTROLLER,
    persistent_volume::DEFAULT_CLASS,
    horizontal_pod_autoscaler::CONTROLLER,
    storage_protection::CLAIMS,
    storage_protection::VOLUMES,
    ephemeral_volume::CONTROLLER,
    resource_claim::CONTROLLER,
    token_cleaner::CONTROLLER,
    certificate_cleaner::CONTROLLER,
    certificate_approval::CONTROLLER,
    certificate_signing::CONTROLLER,
    node_ipam::CONTROLLER,
    service_cidrs::CONTROLLER,
    node_ttl::CONTROLLER,
    bootstrap_signer::CONTROLLER,
    cloud_node::CONTROLLER,
    load_balancer::CONTROLLER,
    node_route::CONTROLLER,
];

#[cfg(test)]
mod tests {
    use super::CONTROLLERS;

    #[test]
    fn the_page_about_controllers_names_each() {
        let page = include_str!("../../../docs/reference/controllers.md");
        for controller in CONTROLLERS {
            let row = format!("| `{}` | {} |", controller.name, controller.help);
            assert!(page.contains(&row), "{row}");
        }
    }

    #[test]
    fn names_are_unique_and_explained() {
        for (index, controller) in CONTROLLERS.iter().enumerate() {
            assert!(
                !controller.help.is_empty() && controller.workers > 0,
                "{}",
                controller.name
            );
            assert!(
                CONTROLLERS[..index]
                    .iter()
                    .all(|other| other.name != controller.name),
                "{}",
                controller.name
            );
        }
    }
}
