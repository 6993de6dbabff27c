//! Tests that take whole members apart. Nobody imports this crate.
//!
//! `crash` runs three members as operating-system processes, writes through all of them, kills them with SIGKILL at
//! random moments, and then compares what was acknowledged with what is there ([`history`] is the judge, and pure).
//!
//! A run is kept as a [`recording`]; [`report`] makes a page of it, and [`shrink`] takes away what a failure does not need.
//! [`sim`] runs whole clusters in one thread and in virtual time, the same again for the same seed.
//! [`kube`] does so with the API servers of a control plane on top, and clients of theirs.
//! [`chaos`] does the same and worse to members of the real binary, on machines and networks of their own; [`ui`] is a page
//! on which a person does it.
//!
//! [`etcd`] is how their clients talk to a member, whatever lies between.
//! [`figures`] does one thing to such a cluster many times, and [`tiers`] runs all of it, for a minute or a night.
//!
//! [`mutants`] plants bugs in the product, to see that all of that finds them.
//!
//! [`judge`] says of any [`recording`] whether it was as etcd promises. It is pure, and knows what etcd promises from
//! [`model`], which the store's own model is compared with as well.

pub mod chaos;
pub mod cluster;
pub mod crash;
pub mod etcd;
pub mod figures;
pub mod history;
pub mod judge;
mod kinds;
pub mod kube;
pub mod member;
pub mod model;
pub mod mutants;
pub mod recording;
pub mod report;
pub mod shrink;
pub mod sim;
pub mod tiers;
pub mod ui;
pub mod wire;
pub mod workload;
