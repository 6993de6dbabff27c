//! Metrics, in Prometheus' default registry, under etcd's names where etcd has them, so that dashboards work. One set
//! a process: with several members in one process (tests) they show whichever wrote last.

use std::sync::LazyLock;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    register_histogram, register_histogram_vec, register_int_counter, register_int_counter_vec,
    register_int_gauge, register_int_gauge_vec,
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
    pub(crate) db_size_in_use: IntGauge,
    pub(crate) db_size_max: IntGauge,
    pub(crate) keys: IntGauge,
    pub(crate) current_revision: IntGauge,
    pub(crate) compact_revision: IntGauge,
    pub(crate) watchers: IntGauge,
    pub(crate) read_indexes: IntCounter,
    pub(crate) read_indexes_failed: IntCounter,
    pub(crate) read_index_rounds: IntCounter,
    pub(crate) scans: IntCounter,
    pub(crate) scanned_bytes: IntGauge,
    pub(crate) snapshots_sent: IntCounter,
    pub(crate) snapshots_installed: IntCounter,
    pub(crate) leases_expired: IntCounter,
    pub(crate) state_comparisons: IntCounter,
    pub(crate) diverged_members: IntGauge,
    pub(crate) disk_free: IntGauge,
    pub(crate) scrubs: IntCounter,
    pub(crate) scrubs_damaged: IntCounter,
    pub(crate) scrubbed_bytes: IntCounter,
    /// `server_version`: 1 for this one.
    pub(crate) version: IntGaugeVec,
    /// `cluster_version`: the same.
    pub(crate) cluster_version: IntGaugeVec,
    /// `server_id`: 1 for this member.
    pub(crate) id: IntGaugeVec,
    pub(crate) health_success: IntCounter,
    pub(crate) health_failures: IntCounter,
    /// `type` (livez, readyz), `name`: the last result.
    pub(crate) healthcheck: IntGaugeVec,
    /// And `status`.
    pub(crate) healthchecks: IntCounterVec,
    pub(crate) peer_sent_bytes: IntCounterVec,
    pub(crate) peer_received_bytes: IntCounterVec,
    pub(crate) peer_sent_failures: IntCounterVec,
    pub(crate) peer_round_trip: HistogramVec,
    pub(crate) client_received_bytes: IntCounter,
    pub(crate) client_sent_bytes: IntCounter,
    /// `grpc_type`, `grpc_service`, `grpc_method`, here and below; see `etcd/tally.rs`.
    pub(crate) calls_started: IntCounterVec,
    /// And `grpc_code`.
    pub(crate) calls_handled: IntCounterVec,
    pub(crate) messages_received: IntCounterVec,
    pub(crate) messages_sent: IntCounterVec,
    pub(crate) call_seconds: HistogramVec,
}

/// A member as a label of etcd's has it.
pub(crate) fn label_of(member: u64) -> String {
    format!("{member:x}")
}

const REGISTERED: &str = "each name is registered once in a process";

fn gauge(name: &str, help: &str) -> IntGauge {
    register_int_gauge!(name, help).expect(REGISTERED)
}

fn counter(name: &str, help: &str) -> IntCounter {
    register_int_counter!(name, help).expect(REGISTERED)
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register_int_gauge_vec!(name, help, labels).expect(REGISTERED)
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register_int_counter_vec!(name, help, labels).expect(REGISTERED)
}

/// Of a call of gRPC.
const METHOD: [&str; 3] = ["grpc_type", "grpc_service", "grpc_method"];

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
    db_size_in_use: gauge(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "The same: there is nothing to defragment.",
    ),
    db_size_max: gauge(
        "etcd_server_quota_backend_bytes",
        "What the state can grow to before this member raises NOSPACE: its size, and the room on its disk.",
    ),
    keys: gauge("etcd_debugging_mvcc_keys_total", "Live keys."),
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
    read_indexes_failed: counter(
        "etcd_server_read_indexes_failed_total",
        "Linearizable reads for which no leader with a quorum was found in time.",
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
        "etcd_debugging_server_lease_expired_total",
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
    scrubs: counter(
        "kontiki_store_scrubs_total",
        "Times that all that is stored was read again and found to be as it was written.",
    ),
    scrubs_damaged: counter(
        "kontiki_store_scrubs_damaged_total",
        "Times that what is stored was read again and found to be damaged, upon which the member stops.",
    ),
    scrubbed_bytes: counter(
        "kontiki_store_scrubbed_bytes_total",
        "Bytes of keys, values and log entries that were read again.",
    ),
    disk_free: gauge(
        "kontiki_store_disk_free_bytes",
        "Room on the disk of the data directory.",
    ),
    version: gauges(
        "etcd_server_version",
        "1 for the version of etcd that this member is like.",
        &["server_version"],
    ),
    cluster_version: gauges(
        "etcd_cluster_version",
        "1 for the version of etcd that the cluster is like.",
        &["cluster_version"],
    ),
    id: gauges(
        "etcd_server_id",
        "1 for this member's id, hexadecimal.",
        &["server_id"],
    ),
    health_success: counter("etcd_server_health_success", "`/health` said yes."),
    health_failures: counter("etcd_server_health_failures", "`/health` said no."),
    healthcheck: gauges(
        "etcd_server_healthcheck",
        "What a check of `/livez` or `/readyz` said last: 1 is well.",
        &["type", "name"],
    ),
    healthchecks: counters(
        "etcd_server_healthchecks_total",
        "Such checks made.",
        &["type", "name", "status"],
    ),
    peer_sent_bytes: counters(
        "etcd_network_peer_sent_bytes_total",
        "Bytes sent to a member, before encryption.",
        &["To"],
    ),
    peer_received_bytes: counters(
        "etcd_network_peer_received_bytes_total",
        "Bytes received from a member.",
        &["From"],
    ),
    peer_sent_failures: counters(
        "etcd_network_peer_sent_failures_total",
        "Connections to a member that did not come about, and calls of it without an answer.",
        &["To"],
    ),
    peer_round_trip: register_histogram_vec!(
        HistogramOpts::new(
            "etcd_network_peer_round_trip_time_seconds",
            "For a word to a member and back, each four seconds.",
        )
        // etcd's.
        .buckets(prometheus::exponential_buckets(0.0001, 2.0, 16).expect("positive bounds")),
        &["To"]
    )
    .expect(REGISTERED),
    client_received_bytes: counter(
        "etcd_network_client_grpc_received_bytes_total",
        "Bytes of messages received from clients.",
    ),
    client_sent_bytes: counter(
        "etcd_network_client_grpc_sent_bytes_total",
        "Bytes of messages sent to clients.",
    ),
    calls_started: counters("grpc_server_started_total", "Calls begun.", &METHOD),
    calls_handled: counters(
        "grpc_server_handled_total",
        "Calls that have ended, and how.",
        &[METHOD[0], METHOD[1], METHOD[2], "grpc_code"],
    ),
    messages_received: counters(
        "grpc_server_msg_received_total",
        "Messages received from clients.",
        &METHOD,
    ),
    messages_sent: counters(
        "grpc_server_msg_sent_total",
        "Messages sent to clients.",
        &METHOD,
    ),
    call_seconds: register_histogram_vec!(
        "grpc_server_handling_seconds",
        "From a call's beginning to its end.",
        &METHOD
    )
    .expect(REGISTERED),
});

/// The list of them in the reference. `make reference` writes it.
#[cfg(test)]
mod reference {
    use super::*;

    const PAGE: &str = "../docs/reference/etcd-api.md";
    const HEAD: &str = "| metric | kind | labels | what |\n|---|---|---|---|\n";

    /// All that this crate counts, as the endpoint names it.
    fn table() -> String {
        // Those that have a series for each member, or check, have none before there is one.
        let metrics = &*METRICS;
        metrics.version.with_label_values(&["x"]);
        metrics.cluster_version.with_label_values(&["x"]);
        metrics.id.with_label_values(&["x"]);
        metrics.healthcheck.with_label_values(&["x"; 2]);
        metrics.healthchecks.with_label_values(&["x"; 3]);
        for counters in [
            &metrics.peer_sent_bytes,
            &metrics.peer_received_bytes,
            &metrics.peer_sent_failures,
        ] {
            counters.with_label_values(&["x"]);
        }
        metrics.peer_round_trip.with_label_values(&["x"]);
        for counters in [
            &metrics.calls_started,
            &metrics.messages_received,
            &metrics.messages_sent,
        ] {
            counters.with_label_values(&["x"; 3]);
        }
        metrics.calls_handled.with_label_values(&["x"; 4]);
        metrics.call_seconds.with_label_values(&["x"; 3]);
        let mut families = prometheus::gather();
        families.retain(|family| !family.name().starts_with("process_"));
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let rows = families.iter().map(|family| {
            let labels = family.get_metric()[0].get_label().iter();
            let labels: Vec<String> = labels.map(|label| format!("`{}`", label.name())).collect();
            let kind = format!("{:?}", family.get_field_type()).to_lowercase();
            format!(
                "| `{}` | {kind} | {} | {} |\n",
                family.name(),
                labels.join(", "),
                family.help()
            )
        });
        HEAD.to_string() + &rows.collect::<String>()
    }

    #[test]
    fn the_page_lists_every_metric() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
        let page = std::fs::read_to_string(&file).unwrap();
        let begin = page.find(HEAD).expect("the page has a table of metrics");
        let end = page[begin..].find("|\n\n").expect("and more after it") + begin + 2;
        let (told, table) = (&page[begin..end], table());
        if std::env::var_os("KONTIKI_WRITE_REFERENCE").is_some() {
            let page = [&page[..begin], &table, &page[end..]].concat();
            return std::fs::write(&file, page).unwrap();
        }
        assert!(told == table, "{PAGE} is stale: run `make reference`");
    }

    /// What the Grafana dashboard and the alerts that etcd's developers publish ask for.
    #[test]
    fn etcds_dashboard_and_alerts_find_what_they_ask_for() {
        let table = table();
        for name in [
            "etcd_server_has_leader",
            "etcd_server_leader_changes_seen_total",
            "etcd_server_proposals_failed_total",
            "etcd_server_proposals_pending",
            "etcd_server_proposals_committed_total",
            "etcd_server_proposals_applied_total",
            "etcd_server_quota_backend_bytes",
            "etcd_mvcc_db_total_size_in_bytes",
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            "etcd_disk_wal_fsync_duration_seconds",
            "etcd_disk_backend_commit_duration_seconds",
            "etcd_network_client_grpc_received_bytes_total",
            "etcd_network_client_grpc_sent_bytes_total",
            "etcd_network_peer_received_bytes_total",
            "etcd_network_peer_sent_bytes_total",
            "etcd_network_peer_sent_failures_total",
            "etcd_network_peer_round_trip_time_seconds",
            "grpc_server_started_total",
            "grpc_server_handled_total",
            "grpc_server_handling_seconds",
        ] {
            assert!(table.contains(&format!("| `{name}` |")), "{name}");
        }
    }
}
