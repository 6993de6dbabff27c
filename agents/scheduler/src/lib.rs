//! The scheduler: decides which node runs a pod.
//!
//! One loop owns everything. It keeps a [`snapshot::Snapshot`] of the cluster current from the watches, takes the next
//! pod from the [`queue::Queue`], decides with [`schedule::schedule`], assumes the pod onto its node and binds it in
//! the background. Deciding is pure: plugins are plain functions of the pod and the snapshot, listed in [`plugins`].
//! What no node takes is parked with the reasons, as an event and in the pod's `PodScheduled` condition; pods of lower
//! priority may have to make room ([`preempt`]).

mod bind_claims;
mod bind_special;
mod bind_volumes;
mod binder;
mod classes;
pub mod config;
pub mod devices;
pub mod explain;
mod extender;
mod feed;
mod gang;
mod metrics;
pub mod object;
pub mod plan;
pub mod plugins;
pub mod preempt;
pub mod quantity;
pub mod queue;
#[cfg(test)]
mod reference;
pub mod resources;
mod run;
pub mod schedule;
pub mod selector;
pub mod shares;
pub mod snapshot;
pub mod tracked;
pub mod volume;
mod wait_devices;
pub mod world;
mod write;

pub use run::run;
