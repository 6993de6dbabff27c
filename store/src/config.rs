//! What a member is told at start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::env::{Clock, Engine, Network, SystemClock, Tcp};
use crate::peer::tls::TlsIdentity;
use crate::rocks::Rocks;

/// A member of a new cluster. All members are started with the same list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMember {
    pub id: u64,
    pub name: String,
    /// `host:port`.
    pub peer_address: String,
}

/// Bounds and intervals. The defaults are for a cluster in one place on ordinary disks.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A leader says so much often.
    pub heartbeat: Duration,
    /// Without a word from the leader for a random time between these two, a member stands for election. The shorter
    /// has to be longer than the lease and two heartbeats.
    pub election_min: Duration,
    pub election_max: Duration,
    /// A lease is granted for so long at least: it could not be kept alive over an election else, and etcd's clients
    /// count on no less.
    pub lease_min: Duration,
    /// The state is flushed after so many entries, which are replayed at a start that finds it unflushed.
    pub snapshot_entries: u64,
    /// And after so many bytes of it, which is memory. What comes slowly is flushed before it is so much.
    pub snapshot_bytes: u64,
    /// So many entries stay in the log below the flushed index, for members that are a little behind.
    pub log_entries_kept: u64,
    /// Of them, those with so many bytes after them go all the same.
    pub log_bytes_kept: u64,
    /// Until a write or linearizable read is given up.
    pub request_deadline: Duration,
    /// Writes under way at once; more are refused as overload.
    pub writes_under_way: usize,
    /// Ranges too large to be read at once that are under way; others wait, not longer than a request may take. Each
    /// has a thread and a snapshot.
    pub large_ranges: usize,
    /// A range of more keys is large, however few bytes they have: reading them takes time.
    pub small_keys: u64,
    /// Pairs that have to be sorted are held, and what transactions that do not write read: so many bytes at most, of all
    /// together.
    pub held_bytes: u64,
    /// What one transaction reads, also to compare, is read in one go and its answer held: so many bytes at most.
    pub txn_bytes: u64,
    /// For the client of such a range to take the next part of it.
    pub part_patience: Duration,
    /// Largest request, encoded, in bytes.
    pub request_bytes: usize,
    /// The leader compares the members' states so often.
    pub compare_interval: Duration,
    /// Damage of what is stored is found within so long, also where nobody reads it: all of it is read again. Zero for
    /// never.
    pub scrub_interval: Duration,
    /// A member looks so often how much room its disk has.
    pub disk_interval: Duration,
    /// A connection of another member on which nothing comes for so long is closed. A living one gives a sign of life
    /// thrice as often.
    pub peer_silence: Duration,
    /// What is held for watches, of all together.
    pub watches: kv::HubLimits,
}

/// As long as the slowest answer of a member in the same place takes, and then some.
const HEARTBEAT: Duration = Duration::from_millis(50);

impl Default for Limits {
    fn default() -> Self {
        Limits {
            heartbeat: HEARTBEAT,
            election_min: 10 * HEARTBEAT,
            election_max: 15 * HEARTBEAT,
            lease_min: Duration::from_millis(1500),
            snapshot_entries: 100_000,
            snapshot_bytes: 48 << 20,
            log_entries_kept: 10_000,
            log_bytes_kept: 128 << 20,
            // etcd's: five seconds and two elections.
            request_deadline: Duration::from_secs(7),
            writes_under_way: 8192,
            large_ranges: 64,
            small_keys: 256,
            held_bytes: 256 << 20,
            txn_bytes: 256 << 20,
            part_patience: Duration::from_secs(30),
            request_bytes: kv::REQUEST_BYTES_MAX,
            compare_interval: Duration::from_secs(5),
            scrub_interval: Duration::from_secs(600),
            disk_interval: Duration::from_secs(2),
            peer_silence: Duration::from_secs(30),
            watches: kv::HubLimits::default(),
        }
    }
}

impl Limits {
    /// With another heartbeat, and elections and leases that fit it. It has to be longer than a message takes to the
    /// farthest member and back.
    pub fn with_heartbeat(self, heartbeat: Duration) -> Limits {
        let election_min = 10 * heartbeat;
        Limits {
            heartbeat,
            election_min,
            election_max: 15 * heartbeat,
            lease_min: self.lease_min.max(election_min.mul_f64(1.5)),
            ..self
        }
    }

    /// For so long after a word from the leader, a member grants its vote to nobody else.
    pub fn leader_lease(&self) -> Duration {
        self.election_max / 2
    }
}

/// The storage engine of the product.
pub fn engine() -> Arc<dyn Engine> {
    Arc::new(Rocks)
}

/// Everything a member needs to start.
#[derive(Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    pub cluster_id: u64,
    /// Never used again for another member, nor for this one after its data was lost.
    pub member_id: u64,
    pub name: String,
    /// Where to listen for members, `host:port`.
    pub peer_listen: String,
    /// Where other members reach this one, `host:port`.
    pub peer_advertise: String,
    /// Where API clients reach this member, `host:port`; published to all members.
    pub client_address: String,
    /// Where etcd clients reach this member, as a URL; published to all members. Empty where it serves none.
    pub etcd_url: String,
    /// The members of a new cluster. Empty for a member that joins an existing one, and without meaning once the data
    /// directory has data.
    pub initial_members: Vec<InitialMember>,
    pub tls: TlsIdentity,
    pub limits: Limits,
    pub clock: Arc<dyn Clock>,
    pub network: Arc<dyn Network>,
    pub engine: Arc<dyn Engine>,
}

impl Config {
    /// With the real clock, network and storage, default limits, and nobody else in the cluster.
    pub fn new(data_dir: PathBuf, cluster_id: u64, member_id: u64, tls: TlsIdentity) -> Config {
        Config {
            data_dir,
            cluster_id,
            member_id,
            name: format!("{member_id:016x}"),
            peer_listen: "127.0.0.1:6480".into(),
            peer_advertise: "127.0.0.1:6480".into(),
            client_address: String::new(),
            etcd_url: String::new(),
            initial_members: Vec::new(),
            tls,
            limits: Limits::default(),
            clock: Arc::new(SystemClock::default()),
            network: Arc::new(Tcp),
            engine: engine(),
        }
    }
}
