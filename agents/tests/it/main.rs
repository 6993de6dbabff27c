//! The controllers against a real API server over the in-memory store, all in this process. No node runs: a stand-in
//! says that pods are ready.

mod cluster;
mod garbage;
mod handover;
mod namespaces;
mod rollouts;
mod runtime;
