//! The etcd v3 front: etcd's wire API over the store. It bypasses the API server and its RBAC, so it is off unless
//! asked for, listens on loopback only, and takes none but clients with a certificate of an authority that has issued
//! none for the API.
//!
//! `methods.rs` lists what is served; a service has a file of its own, a method is a function in it. `rpc.rs` is what
//! all methods have in common, `admission.rs` who may have how much under way, `errors.rs` the one place where errors
//! become statuses, `tally.rs` what is counted of calls, `serve.rs` the port, `http.rs` what it serves besides gRPC,
//! `door.rs` the way in without a port.
//! `schema.txt` is the API as data, for reflection and the JSON gateway.
//! Beyond `kv::Store` the services see a member through `backend.rs`.

mod admission;
pub(crate) mod archive;
mod auth;
mod backend;
pub mod client;
mod cluster;
mod door;
mod election;
mod errors;
mod front;
mod gateway;
mod handshakes;
mod headed;
mod history;
mod http;
mod json;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod members;
mod message;
mod methods;
mod receive;
mod reflection;
mod rpc;
mod schema;
mod serve;
mod sized;
mod tally;
#[cfg(test)]
mod tests;
mod turn;
mod watch;
mod watch_set;

pub use door::{Door, DoorSettings};
pub(crate) use front::ETCD_VERSION as VERSION;
pub use serve::{FrontError, FrontTls, bind, serve};
