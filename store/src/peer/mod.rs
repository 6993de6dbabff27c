//! How members talk: frames over mutual TLS.
//!
//! A connection serves one purpose, its lane, so that a large append or a snapshot never stands before a heartbeat:
//! calls (raft's and clients' on separate connections), a stream of appends, a snapshot. Identity is proved in the TLS
//! handshake: certificates carry `spiffe://kontiki/<cluster>/member/<id>`, which the dialler compares with whom it
//! dialled and the listener with whom the first frame says it is.

pub mod call;
pub mod codec;
pub mod serve;
pub mod snapshot;
pub mod tls;
pub mod transport;
pub mod wire;
