//! What is counted of scheduling, in Prometheus' default registry and under Kubernetes' names. The loop counts; nothing that
//! decides knows of it.

use crate::queue::{Arrivals, Counts, Pool, Queued};
use crate::snapshot::Millis;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    exponential_buckets, register_histogram, register_histogram_vec, register_int_counter,
    register_int_counter_vec, register_int_gauge_vec,
};
use std::sync::LazyLock;
use std::time::Duration;

const REGISTERED: &str = "each name is registered once in a process";
/// So many attempts, and more, are one label.
const ATTEMPTS_MANY: u32 = 15;

struct Families {
    attempts: IntCounterVec,
    attempt_seconds: HistogramVec,
    decision_seconds: Histogram,
    waited_seconds: HistogramVec,
    tries: Histogram,
    arrivals: IntCounterVec,
    pending: [IntGauge; 4],
    preemptions: IntCounter,
    victims: Histogram,
}

static FAMILIES: LazyLock<Families> = LazyLock::new(|| {
    let buckets = |first: f64, count: usize| {
        exponential_buckets(first, 2.0, count).expect("the bounds are positive")
    };
    let counters = |name: &str, help: &str, labels: &[&str]| {
        register_int_counter_vec!(name, help, labels).expect(REGISTERED)
    };
    let histogram = |name: &str, help: &str, buckets: Vec<f64>| {
        let options = HistogramOpts::new(name, help).buckets(buckets);
        register_histogram!(options).expect(REGISTERED)
    };
    let histograms = |name: &str, help: &str, labels: &[&str], buckets: Vec<f64>| {
        let options = HistogramOpts::new(name, help).buckets(buckets);
        register_histogram_vec!(options, labels).expect(REGISTERED)
    };
    let help = "Pods that wait, by the pool they wait in.";
    let pending = register_int_gauge_vec!("scheduler_pending_pods", help, &["queue"]);
    let pending = pending.expect(REGISTERED);
    Families {
        attempts: counters(
            "scheduler_schedule_attempts_total",
            "Attempts to schedule a pod, by what became of them.",
            &["result", "profile"],
        ),
        attempt_seconds: histograms(
            "scheduler_scheduling_attempt_duration_seconds",
            "Time of an attempt to schedule a pod, up to the end of its binding.",
            &["result", "profile"],
            buckets(0.001, 15),
        ),
        decision_seconds: histogram(
            "scheduler_scheduling_algorithm_duration_seconds",
            "Time to find a node for a pod, or that there is none.",
            buckets(0.001, 15),
        ),
        waited_seconds: histograms(
            "scheduler_pod_scheduling_sli_duration_seconds",
            "Time from when a pod could first be scheduled to when it was bound.",
            &["attempts"],
            buckets(0.01, 20),
        ),
        tries: histogram(
            "scheduler_pod_scheduling_attempts",
            "Attempts that it took to bind a pod.",
            buckets(1.0, 5),
        ),
        arrivals: counters(
            "scheduler_queue_incoming_pods_total",
            "Pods that came into a pool of the queue, and what brought them there.",
            &["queue", "event"],
        ),
        pending: Pool::ALL.map(|pool| pending.with_label_values(&[pool.label()])),
        preemptions: register_int_counter!(
            "scheduler_preemption_attempts_total",
            "How often room was looked for by evicting others."
        )
        .expect(REGISTERED),
        victims: histogram(
            "scheduler_preemption_victims",
            "Pods that were chosen to leave for another one.",
            buckets(1.0, 7),
        ),
    }
});

/// What became of an attempt.
#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    Unschedulable,
    Error,
}

/// A node was found, or that there is none.
pub(crate) fn decided(took: Duration) {
    FAMILIES.decision_seconds.observe(took.as_secs_f64());
}

/// An attempt ended without a node.
pub(crate) fn ended(queued: &Queued, outcome: Outcome) {
    let result = match outcome {
        Outcome::Unschedulable => "unschedulable",
        Outcome::Error => "error",
    };
    attempted(queued, result);
}

/// A pod was bound.
pub(crate) fn bound(queued: &Queued, now: Millis) {
    attempted(queued, "scheduled");
    FAMILIES.tries.observe(f64::from(queued.attempts));
    let Some(since) = queued.first_active else {
        return;
    };
    let label = match queued.attempts {
        many if many >= ATTEMPTS_MANY => format!("{ATTEMPTS_MANY}+"),
        few => few.to_string(),
    };
    let waited = Duration::from_millis(now.saturating_sub(since));
    let histogram = FAMILIES.waited_seconds.with_label_values(&[label.as_str()]);
    histogram.observe(waited.as_secs_f64());
}

fn attempted(queued: &Queued, result: &str) {
    let labels = [result, queued.pod.scheduler_name.as_str()];
    FAMILIES.attempts.with_label_values(&labels).inc();
    let took = queued.begun.map(|begun| begun.elapsed());
    let took = took.unwrap_or_default().as_secs_f64();
    let seconds = FAMILIES.attempt_seconds.with_label_values(&labels);
    seconds.observe(took);
}

/// Room was looked for, and so many have to leave for it; none where that is of no use.
pub(crate) fn preempted(victims: Option<usize>) {
    FAMILIES.preemptions.inc();
    if let Some(victims) = victims {
        FAMILIES.victims.observe(victims as f64);
    }
}

/// How many pods wait, as long as this process leads.
#[derive(Default)]
pub(crate) struct Pending(Counts);

impl Pending {
    pub(crate) fn show(&mut self, counts: Counts, arrivals: &Arrivals) {
        let shown = std::mem::replace(&mut self.0, counts);
        let changes = shown.0.into_iter().zip(counts.0);
        for (gauge, (before, now)) in FAMILIES.pending.iter().zip(changes) {
            if before != now {
                gauge.add(number(now) - number(before));
            }
        }
        for (pool, event, count) in arrivals.iter() {
            let labels = [pool.label(), event];
            FAMILIES.arrivals.with_label_values(&labels).inc_by(count);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.show(Counts::default(), &Arrivals::default());
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Pod;
    use crate::queue::Queue;
    use prometheus::TextEncoder;
    use serde_json::json;
    use std::sync::Arc;

    fn has(line: &str) {
        let families = prometheus::gather();
        let text = TextEncoder::new().encode_to_string(&families).unwrap();
        assert!(text.lines().any(|one| one == line), "{line}\n{text}");
    }

    #[test]
    fn attempts_and_waiting_pods_are_counted_under_kubernetes_names() {
        let mut queue = Queue::default();
        for uid in ["a", "b"] {
            let pod = json!({"metadata": {"uid": uid}, "spec": {"schedulerName": "s"}});
            queue.set(Arc::new(Pod::compile(&pod)), 1_000);
        }
        let mut pending = Pending::default();
        pending.show(queue.counts(), &queue.take_arrivals());
        has("scheduler_pending_pods{queue=\"active\"} 2");
        let mut first = queue.pop(1_000).unwrap();
        bound(&first, 1_025);
        first.attempts = 15;
        bound(&first, 61_000);
        ended(&first, Outcome::Unschedulable);
        ended(&first, Outcome::Error);
        pending.show(queue.counts(), &queue.take_arrivals());
        has("scheduler_pending_pods{queue=\"active\"} 1");
        drop(pending);
        has("scheduler_pending_pods{queue=\"active\"} 0");
        preempted(None);
        preempted(Some(3));
        decided(Duration::from_millis(3));
        for line in [
            "scheduler_queue_incoming_pods_total{event=\"UnschedulablePodAdd\",queue=\"active\"} 2",
            "scheduler_schedule_attempts_total{profile=\"s\",result=\"scheduled\"} 2",
            "scheduler_schedule_attempts_total{profile=\"s\",result=\"unschedulable\"} 1",
            "scheduler_schedule_attempts_total{profile=\"s\",result=\"error\"} 1",
            "scheduler_scheduling_attempt_duration_seconds_count{profile=\"s\",result=\"error\"} 1",
            "scheduler_pod_scheduling_sli_duration_seconds_bucket{attempts=\"1\",le=\"0.04\"} 1",
            "scheduler_pod_scheduling_sli_duration_seconds_sum{attempts=\"15+\"} 60",
            "scheduler_pod_scheduling_attempts_sum 16",
            "scheduler_preemption_attempts_total 2",
            "scheduler_preemption_victims_sum 3",
            "scheduler_scheduling_algorithm_duration_seconds_count 1",
        ] {
            has(line);
        }
    }
}
