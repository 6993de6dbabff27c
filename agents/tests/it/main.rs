//! The controllers against a real API server over the in-memory store, all in this process. Where no node runs, a stand-in
//! says that pods are ready; some tests have the scheduler, and node agents whose containers are simulated.

mod autoscaling;
mod bad_input;
mod bindings;
mod cluster;
mod cron_jobs;
mod extended_resources;
mod extenders;
mod figures;
mod garbage;
mod handover;
mod hollow;
mod jobs;
mod lifecycles;
mod loops;
mod machines;
mod namespaces;
mod pods;
mod profiles;
mod resource_claims;
mod rollouts;
mod runtime;
mod scheduling;
mod services;
mod sets;
mod shared_devices;
mod suite;
mod volumes;
