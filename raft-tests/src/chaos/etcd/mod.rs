//! A client of etcd's API that says exactly what became of each call.

pub mod client;
pub mod message;
pub mod outcome;
