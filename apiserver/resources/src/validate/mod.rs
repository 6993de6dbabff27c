//! Validation.

pub(crate) mod admission;
pub(crate) mod batch;
pub(crate) mod certificate;
pub(crate) mod config;
pub(crate) mod devices;
pub(crate) mod endpoints;
pub(crate) mod event;
pub(crate) mod extensions;
pub(crate) mod lease;
pub(crate) mod namespace;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod pod;
pub(crate) mod pod_update;
pub(crate) mod policy;
pub(crate) mod quota;
pub(crate) mod rbac;
pub(crate) mod reviews;
pub(crate) mod scaler;
pub(crate) mod service;
pub(crate) mod storage;
pub(crate) mod volume;
pub(crate) mod warnings;
pub(crate) mod workload;
