//! The product as a user has it: real processes, unmodified kubectl, curl and kube-rs, and real containers where there
//! is a Docker engine. Each test makes a cluster of its own in a temporary directory on free ports, and takes it away.
//!
//! What a machine lacks is said and skipped, never passed over in silence: `make test` installs all of it.

mod cluster;
mod conformance;
mod curl;
mod docker;
mod encryption;
mod etcd;
mod explain;
mod failover;
mod helm;
mod hosts;
mod kube_rs;
mod kubectl;
mod moving_in;
mod rotation;
mod start_stop;
mod store;
mod tools;
mod writer;
