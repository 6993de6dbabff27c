//! The model: a revisioned key-value store as a pure state machine.
//!
//! State changes only through [`apply`]: one replicated [`Entry`] and the state before it give the answer and, in the
//! [`Staged`] overlay, the writes. There is one global revision, raised by each entry that changes a key. The store
//! keeps the newest value of every live key and, since the last compaction, a log of events that carry the value
//! before the change. So a read of an old revision is today's data with later changes undone, a watch is a walk over
//! the log, and compaction drops the front of the log without touching live data.
//!
//! What only costs memory (key counts, which keys changed when, leases) stands in the [`Catalog`]; values and events
//! are behind [`Data`]. [`mem::MemStore`] keeps both in memory; the durable store keeps the second half on disk.
//!
//! Architecture invariants: no clock, no randomness, no thread, no I/O. Time and ids come in with the entry. Bad
//! input is an answer, never an error: an `Err` out of [`apply`] means that this member cannot read its own data.

mod alarm;
mod apply;
mod auth;
mod catalog;
mod command;
mod compact;
mod counted;
mod events;
mod hash;
mod key_run;
mod key_set;
mod keys;
mod lease;
pub mod mem;
mod message;
pub mod mutants;
mod past;
mod range;
mod routes;
mod store;
mod txn;
mod view;
mod watch;

pub use alarm::{alarms, matches as alarm_matches};
pub use apply::apply;
pub use auth::*;
pub use catalog::{Catalog, LeaseRecord};
pub use command::*;
pub use counted::{PairSize, Weight};
pub use events::Events;
pub use hash::{StateHash, key_hash};
pub use keys::{KeyBounds, KeyRange};
pub use lease::{LEASE_TTL_SECONDS_MAX, lease_status};
pub use message::*;
pub use past::{Change, History};
pub use range::{AnswerSize, PartWriter, RangePlan, check_range, range};
pub use store::*;
pub use txn::{
    ReadPlan, TXN_OPS_MAX, bytes_read, check_txn, is_read_only, is_serializable, reads_many,
};
pub use view::{Broken, Data, EventId, Joined, Staged, View, Visit, Write};
pub use watch::{EventLog, Hub, HubLimits, LogChunk, LogError, Watch};

/// Largest request that a store takes, encoded: etcd's 1.5 MiB.
pub const REQUEST_BYTES_MAX: usize = 1536 * 1024;
