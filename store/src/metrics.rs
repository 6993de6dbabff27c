//! Metrics, in Prometheus' default registry, under etcd's names where etcd has them, so that dashboards work. One set
//! a process: with several members in one process (tests) they show whichever wrote last.

use std::sync::LazyLock;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntGauge, register_histogram, register_int_counter,
    register_int_gauge,
};

pub(crate) struct Metrics {
    pub(crate) has_leader: IntGauge,
    pub(crate) is_leader: IntGauge,
    pub(crate) is_learner: IntGauge,
    pub(crate) leader_changes: IntCounter,
    pub(crate) proposals_committed: IntGauge,
    pub(crate) proposals_applied: IntGauge,
    pub(crate) proposals_pending: IntGauge,
    pub(crate) proposals_failed: IntCounter,
    pub(crate) wal_fsync: Histogram,
    pub(crate) wal_write_bytes: IntCounter,
    pub(crate) backend_commit: Histogram,
    pub(crate) db_size: IntGauge,
    pub(crate) current_revision: IntGauge,
    pub(crate) compact_revision: IntGauge,
    pub(crate) watchers: IntGauge,
    pub(crate) read_indexes: IntCounter,
    pub(crate) read_index_rounds: IntCounter,
    pub(crate) scans: IntCounter,
    pub(crate) scanned_bytes: IntGauge,
    pub(crate) snapshots_sent: IntCounter,
    pub(crate) snapshots_installed: IntCounter,
    pub(crate) leases_expired: IntCounter,
    pub(crate) state_comparisons: IntCounter,
    pub(crate) diverged_members: IntGauge,
    pub(crate) disk_free: IntGauge,
}

const REGISTERED: &str = "each name is registered once in a process";

fn gauge(name: &str, help: &str) -> IntGauge {
    register_int_gauge!(name, help).expect(REGISTERED)
}

fn counter(name: &str, help: &str) -> IntCounter {
    register_int_counter!(name, help).expect(REGISTERED)
}

fn seconds(name: &str, help: &str) -> Histogram {
    let buckets = prometheus::exponential_buckets(0.000_25, 2.0, 16).expect("positive bounds");
    register_histogram!(HistogramOpts::new(name, help).buckets(buckets)).expect(REGISTERED)
}

pub(crate) static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    has_leader: gauge(
        "etcd_server_has_leader",
        "Whether a leader is known: 1 is yes.",
    ),
    is_leader: gauge(
        "etcd_server_is_leader",
        "Whether this member leads: 1 is yes.",
    ),
    is_learner: gauge(
        "etcd_server_is_learner",
        "Whether this member is a learner: 1 is yes.",
    ),
    leader_changes: counter(
        "etcd_server_leader_changes_seen_total",
        "Leader changes seen.",
    ),
    proposals_committed: gauge(
        "etcd_server_proposals_committed_total",
        "Index up to which the log is committed.",
    ),
    proposals_applied: gauge(
        "etcd_server_proposals_applied_total",
        "Index up to which the log is applied.",
    ),
    proposals_pending: gauge(
        "etcd_server_proposals_pending",
        "Writes of this member's clients under way.",
    ),
    proposals_failed: counter("etcd_server_proposals_failed_total", "Writes that failed."),
    wal_fsync: seconds(
        "etcd_disk_wal_fsync_duration_seconds",
        "Time to write and sync one batch of the log.",
    ),
    wal_write_bytes: counter(
        "etcd_disk_wal_write_bytes_total",
        "Bytes written to the log.",
    ),
    backend_commit: seconds(
        "etcd_disk_backend_commit_duration_seconds",
        "Time to store one batch of the state.",
    ),
    db_size: gauge("etcd_mvcc_db_total_size_in_bytes", "Size of the state."),
    current_revision: gauge(
        "etcd_debugging_mvcc_current_revision",
        "Newest revision of the store.",
    ),
    compact_revision: gauge(
        "etcd_debugging_mvcc_compact_revision",
        "Revision of the last compaction.",
    ),
    watchers: gauge("etcd_debugging_mvcc_watcher_total", "Open watches."),
    read_indexes: counter(
        "kontiki_store_read_indexes_total",
        "Linearizable reads served.",
    ),
    read_index_rounds: counter(
        "kontiki_store_read_index_rounds_total",
        "Quorum rounds made for them.",
    ),
    scans: counter(
        "kontiki_store_large_ranges_total",
        "Ranges that were streamed because of their size.",
    ),
    scanned_bytes: gauge(
        "kontiki_store_large_range_bytes",
        "Bytes of such ranges that are in memory: read, and not sent yet.",
    ),
    snapshots_sent: counter(
        "kontiki_store_snapshots_sent_total",
        "Snapshots sent to other members.",
    ),
    snapshots_installed: counter(
        "kontiki_store_snapshots_installed_total",
        "Snapshots installed here.",
    ),
    leases_expired: counter(
        "etcd_debugging_lease_expired_total",
        "Leases found expired by this member as leader.",
    ),
    state_comparisons: counter(
        "kontiki_store_state_comparisons_total",
        "Times that this member, as leader, has compared the members' states.",
    ),
    diverged_members: gauge(
        "kontiki_store_diverged_members",
        "Members whose state was found to be another than most others' at the last comparison.",
    ),
    disk_free: gauge(
        "kontiki_store_disk_free_bytes",
        "Room on the disk of the data directory.",
    ),
});
