//! The store: what makes the model of `kv` durable, replicated and served.
//!
//! [`Node::start`] gives a member; it is a [`kv::Store`]. A write goes to the leader (`write.rs`), into Raft's log
//! (`raft/log.rs` over `wal/`), and when a quorum has it on disk every member applies it (`raft/machine.rs`
//! over `rocks/state.rs`). A linearizable read asks the leader how far it has to wait and is then served locally
//! (`read.rs`). Members talk over mutual TLS (`peer/`).
//! `backup/` works on the files of members that do not run; `mirror/` is a client of two running stores.
//!
//! Architecture invariants: openraft is named under `raft/` and where its handle is used (`backlog.rs`, `core.rs`,
//! `node.rs`, `client.rs`, `contact.rs`, `hand_over.rs`, `members.rs`, `read.rs`, `etcd/backend.rs`, `backup/`), rocksdb under
//! `rocks/` alone. What is on disk is in `disk.rs` and, for the log's own files, `wal/format.rs`. Clock, network and storage come in
//! through the traits of `env.rs`, tasks, threads and chance through `host`.

mod backlog;
pub mod backup;
mod client;
pub mod config;
mod contact;
mod core;
mod data_dir;
pub mod disk;
mod disk_space;
mod divergence;
pub mod env;
pub mod etcd;
mod export;
mod files;
mod formation;
mod hand_over;
mod history;
pub mod host;
pub mod import;
pub mod incarnations;
mod lease_clock;
mod members;
mod metrics;
pub mod mirror;
mod node;
pub mod peer;
mod proposals;
pub mod raft;
mod read;
mod recent;
mod reports;
pub mod rocks;
mod scan;
mod scrub;
mod turns;
pub mod wal;
mod write;

pub use ::host::watch;

pub use config::{Config, InitialMember, Limits};
pub use data_dir::DataDirError;
pub use disk_space::Space;
pub use history::Moment;
pub use kv::mutants::MUTANTS;
pub use members::MemberError;
pub use node::{Node, StartError};
pub use peer::tls::{TlsError, TlsIdentity, peer_uri};
pub use raft::standing::{Place, RaftState};
pub use reports::MemberReport;
