//! What all methods share: the member, and the header of every answer.

use std::sync::Arc;
use std::time::Duration;

use kv::Answer;
use prost::Message;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::Clients;
use super::auth;
use super::backend::Backend;
use super::headed::{Headed, Header};
use super::rpc::ENVELOPE_BYTES;
use super::tally::Tally;
use crate::metrics::{METRICS, label_of};

/// The etcd version whose behaviour the front has; clients switch features by it.
pub(crate) const ETCD_VERSION: &str = "3.6.14";
/// The version of the cluster and of its storage, as etcd counts them.
pub(super) const ETCD_CLUSTER_VERSION: &str = "3.6.0";

/// Snapshots sent at once.
pub(super) const SNAPSHOTS: usize = 4;

/// What may be set.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// How often a quiet watch that asked for it is told how far it is.
    pub(super) progress_interval: Duration,
    /// Where etcd clients reach this member.
    pub(super) client_url: String,
    /// Logarithm of what a password costs.
    pub(super) bcrypt_cost: u32,
    /// A message that has begun to come has to be there within this time.
    pub(super) received_within: Duration,
    /// What waits behind other calls of its client waits so long.
    pub(super) patience: Duration,
    /// A watch's answer of more bytes goes in pieces to who can put them together; at most what a message may have.
    pub(super) fragment_bytes: usize,
    /// A part of an answer on its way: what a client that does not read costs.
    pub(super) part_bytes: usize,
    /// A message of a range as a stream has at most so much; at most what a request may have.
    pub(super) stream_part_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            // etcd's.
            progress_interval: Duration::from_secs(600),
            client_url: String::new(),
            // etcd's.
            bcrypt_cost: 10,
            received_within: Duration::from_secs(30),
            patience: Duration::from_secs(7),
            fragment_bytes: usize::MAX,
            part_bytes: 256 << 10,
            stream_part_bytes: usize::MAX,
        }
    }
}

/// See the module head.
pub(super) struct Front {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) options: Options,
    /// Work that outlives its call, each with a deadline of its own.
    pub(super) tasks: TaskTracker,
    /// Ends streams: the port closes, or the member stops.
    pub(super) stop: CancellationToken,
    /// Snapshots being sent: each reads the whole state and holds what it reads.
    pub(super) snapshots: Arc<Semaphore>,
    pub(super) auth: auth::State,
    pub(super) clients: Clients,
    pub(super) cluster_id: u64,
    pub(super) member_id: u64,
}

impl Front {
    pub(super) fn new(backend: Arc<dyn Backend>, options: Options) -> Arc<Front> {
        let status = backend.status();
        let stop = backend.stopping().child_token();
        Tally::register();
        let version = METRICS.version.with_label_values(&[ETCD_VERSION]);
        version.set(1);
        let (cluster_version, _) = ETCD_CLUSTER_VERSION.rsplit_once('.').unwrap_or_default();
        let cluster_version = METRICS
            .cluster_version
            .with_label_values(&[cluster_version]);
        cluster_version.set(1);
        let id = METRICS.id.with_label_values(&[label_of(status.member_id)]);
        id.set(1);
        Arc::new(Front {
            stop,
            backend,
            auth: auth::State::new(options.bcrypt_cost),
            clients: Clients::new(options.patience),
            options,
            tasks: TaskTracker::new(),
            snapshots: Arc::new(Semaphore::new(SNAPSHOTS)),
            cluster_id: status.cluster_id,
            member_id: status.member_id,
        })
    }

    pub(super) fn message_bytes_max(&self) -> usize {
        self.backend.request_bytes_max() + ENVELOPE_BYTES
    }

    pub(super) fn fragment_bytes(&self) -> usize {
        self.options.fragment_bytes.min(self.message_bytes_max())
    }

    pub(super) fn header(&self, revision: i64) -> Header {
        Header {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision,
            raft_term: self.backend.raft_term(),
        }
    }

    /// An answer of the store, as it is sent.
    pub(super) fn headed<T: Message>(&self, answer: Answer<T>) -> Headed<T> {
        Headed {
            header: self.header(answer.revision),
            body: answer.body,
        }
    }

    /// An answer that is not of a revision: the header has this member's newest.
    pub(super) fn now<T: Message>(&self, body: T) -> Headed<T> {
        Headed {
            header: self.header(self.backend.revision()),
            body,
        }
    }
}
