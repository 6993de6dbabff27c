//! What the node agent counts, in Prometheus' default registry and under the names of Kubernetes' node agent, and what of
//! that registry its own port shows: the process may be a server's, whose figures are no business of a node.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, TextEncoder, register_histogram,
    register_histogram_vec,
};

const REGISTERED: &str = "each name is registered once in a process";
/// Of the node agent, of its requests of the API, of its process.
const SHOWN: &[&str] = &["kubelet_", "rest_client_", "process_"];
/// Kubernetes' buckets.
const START_SECONDS: &[f64] = &[
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0,
    300.0, 360.0, 480.0, 600.0, 900.0, 1_200.0, 1_800.0, 2_700.0, 3_600.0,
];

static STARTS: LazyLock<Histogram> = LazyLock::new(|| {
    let options = HistogramOpts::new(
        "kubelet_pod_start_duration_seconds",
        "Time from when a pod is seen for the first time to when all of its containers run.",
    );
    register_histogram!(options.buckets(START_SECONDS.to_vec())).expect(REGISTERED)
});

static ROUNDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    register_histogram_vec!(
        "kubelet_pod_worker_duration_seconds",
        "Time to look at a pod and to do what it needs.",
        &["operation_type"]
    )
    .expect(REGISTERED)
});

/// A pod runs, for the first time.
pub(crate) fn started(took: Duration) {
    STARTS.observe(took.as_secs_f64());
}

/// A pod was looked at, for the first time or again.
pub(crate) fn looked_at(is_first: bool, took: Duration) {
    let operation = if is_first { "create" } else { "sync" };
    let durations = ROUNDS.with_label_values(&[operation]);
    durations.observe(took.as_secs_f64());
}

/// What of the process's registry belongs to a node.
pub(crate) fn of_process() -> String {
    LazyLock::force(&STARTS);
    let mut families = prometheus::gather();
    families.retain(|family| SHOWN.iter().any(|head| family.name().starts_with(head)));
    let mut text = Vec::new();
    if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
        tracing::error!(%error, "metrics could not be encoded");
    }
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::register_int_counter;

    #[test]
    fn a_node_shows_its_own_figures_and_no_others() {
        started(Duration::from_millis(1_500));
        looked_at(true, Duration::from_millis(20));
        let other = register_int_counter!("scheduler_of_this_process_total", "x").unwrap();
        other.inc();
        let text = of_process();
        for line in [
            "kubelet_pod_start_duration_seconds_bucket{le=\"2\"} 1",
            "kubelet_pod_worker_duration_seconds_count{operation_type=\"create\"} 1",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
        assert!(!text.contains("scheduler_of_this_process"), "{text}");
    }
}
