//! What is counted of flow control, under Kubernetes' names. Handles are looked up once for each flow schema, so that a
//! request only adds to numbers.

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGaugeVec, Opts, Registry,
};

use super::demand::Seen;
use super::queues::{Counts, Refusal};
use super::shares::Bounds;

const BY_SCHEMA: &[&str] = &["priority_level", "flow_schema"];
const BY_LEVEL: &[&str] = &["priority_level"];
/// Kubernetes' buckets of waiting and of execution.
const SECONDS: &[f64] = &[
    0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0,
];

/// Kubernetes says in the help of a metric how stable it is: these are.
const BETA: &[&str] = &[
    "rejected_requests_total",
    "dispatched_requests_total",
    "current_inqueue_requests",
    "current_executing_requests",
    "current_executing_seats",
    "request_wait_duration_seconds",
    "nominal_limit_seats",
];
/// What Kubernetes does not have.
const OWN: &[&str] = &["response_bytes", "response_limit_bytes"];

/// The help of a metric, as Kubernetes shows it.
fn help_of(name: &str, text: &str) -> String {
    match (OWN.contains(&name), BETA.contains(&name)) {
        (true, _) => text.to_owned(),
        (false, true) => format!("[BETA] {text}"),
        (false, false) => format!("[ALPHA] {text}"),
    }
}

pub(crate) struct Metrics {
    rejected: IntCounterVec,
    dispatched: IntCounterVec,
    wait: HistogramVec,
    execution: HistogramVec,
    queue_length: HistogramVec,
    seats: HistogramVec,
    watches: HistogramVec,
    in_queue: IntGaugeVec,
    in_queue_seats: IntGaugeVec,
    executing: IntGaugeVec,
    executing_seats: IntGaugeVec,
    level_gauges: Vec<(&'static str, GaugeVec)>,
    fair_fraction: Gauge,
}

/// Of one flow schema.
pub(crate) struct OfSchema {
    pub(crate) queue_full: IntCounter,
    pub(crate) concurrency_limit: IntCounter,
    pub(crate) time_out: IntCounter,
    pub(crate) cancelled: IntCounter,
    pub(crate) dispatched: IntCounter,
    pub(crate) waited: Histogram,
    pub(crate) waited_in_vain: Histogram,
    pub(crate) executed: Histogram,
    pub(crate) executed_watch: Histogram,
    pub(crate) queue_length: Histogram,
    pub(crate) seats: Histogram,
    pub(crate) watches: Histogram,
    pub(crate) in_queue: prometheus::IntGauge,
    pub(crate) in_queue_seats: prometheus::IntGauge,
    pub(crate) executing: prometheus::IntGauge,
    pub(crate) executing_seats: prometheus::IntGauge,
}

impl OfSchema {
    pub(crate) fn refused(&self, refusal: Refusal) -> &IntCounter {
        match refusal {
            Refusal::ConcurrencyLimit => &self.concurrency_limit,
            Refusal::QueueFull => &self.queue_full,
            Refusal::TimeOut => &self.time_out,
        }
    }
}

/// Gauges of a level and what they show.
const LEVEL_GAUGES: &[(&str, &str)] = &[
    (
        "nominal_limit_seats",
        "Nominal number of execution seats configured for each priority level",
    ),
    (
        "lower_limit_seats",
        "Configured lower bound on number of execution seats available to each priority level",
    ),
    (
        "upper_limit_seats",
        "Configured upper bound on number of execution seats available to each priority level",
    ),
    (
        "current_limit_seats",
        "current derived number of execution seats available to each priority level",
    ),
    (
        "demand_seats_high_watermark",
        "High watermark, over last adjustment period, of demand_seats",
    ),
    (
        "demand_seats_average",
        "Time-weighted average, over last adjustment period, of demand_seats",
    ),
    (
        "demand_seats_stdev",
        "Time-weighted standard deviation, over last adjustment period, of demand_seats",
    ),
    ("demand_seats_smoothed", "Smoothed seat demands"),
    ("target_seats", "Seat allocation targets"),
    (
        "response_bytes",
        "Bytes of answers on their way, or soon to be",
    ),
    (
        "response_limit_bytes",
        "Bytes of answers that may be on their way at once",
    ),
];

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Metrics {
        const VALID: &str = "names and labels are constants, and registered once";
        let name = |name: &str| format!("apiserver_flowcontrol_{name}");
        let counters = |text: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name(text), help_of(text, help)), labels)
                .expect(VALID);
            registry.register(Box::new(made.clone())).expect(VALID);
            made
        };
        let gauges = |text: &str, help: &str| {
            let made = IntGaugeVec::new(Opts::new(name(text), help_of(text, help)), BY_SCHEMA)
                .expect(VALID);
            registry.register(Box::new(made.clone())).expect(VALID);
            made
        };
        let histograms = |text: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            let options =
                HistogramOpts::new(name(text), help_of(text, help)).buckets(buckets.to_vec());
            let made = HistogramVec::new(options, labels).expect(VALID);
            registry.register(Box::new(made.clone())).expect(VALID);
            made
        };
        let level_gauges = LEVEL_GAUGES.iter().map(|(text, help)| {
            let made =
                GaugeVec::new(Opts::new(name(text), help_of(text, help)), BY_LEVEL).expect(VALID);
            registry.register(Box::new(made.clone())).expect(VALID);
            (*text, made)
        });
        let level_gauges = level_gauges.collect();
        let fair_fraction = Gauge::new(
            name("seat_fair_frac"),
            help_of(
                "seat_fair_frac",
                "Fair fraction of server's concurrency to allocate to each priority level that can use it",
            ),
        )
        .expect(VALID);
        registry
            .register(Box::new(fair_fraction.clone()))
            .expect(VALID);
        Metrics {
            rejected: counters(
                "rejected_requests_total",
                "Number of requests rejected by API Priority and Fairness subsystem",
                &["priority_level", "flow_schema", "reason"],
            ),
            dispatched: counters(
                "dispatched_requests_total",
                "Number of requests executed by API Priority and Fairness subsystem",
                BY_SCHEMA,
            ),
            wait: histograms(
                "request_wait_duration_seconds",
                "Length of time a request spent waiting in its queue",
                &["priority_level", "flow_schema", "execute"],
                SECONDS,
            ),
            execution: histograms(
                "request_execution_seconds",
                "Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution in the API Priority and Fairness subsystem",
                &["priority_level", "flow_schema", "type"],
                SECONDS,
            ),
            queue_length: histograms(
                "request_queue_length_after_enqueue",
                "Length of queue in the API Priority and Fairness subsystem, as seen by each request after it is enqueued",
                BY_SCHEMA,
                &[0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0],
            ),
            seats: histograms(
                "work_estimated_seats",
                "Number of estimated seats (maximum of initial and final seats) associated with requests in API Priority and Fairness",
                BY_SCHEMA,
                &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0],
            ),
            watches: histograms(
                "watch_count_samples",
                "count of watchers for mutating requests in API Priority and Fairness",
                BY_SCHEMA,
                &[0.0, 1.0, 10.0, 100.0, 1_000.0, 10_000.0],
            ),
            in_queue: gauges(
                "current_inqueue_requests",
                "Number of requests currently pending in queues of the API Priority and Fairness subsystem",
            ),
            in_queue_seats: gauges(
                "current_inqueue_seats",
                "Number of seats currently pending in queues of the API Priority and Fairness subsystem",
            ),
            executing: gauges(
                "current_executing_requests",
                "Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem",
            ),
            executing_seats: gauges(
                "current_executing_seats",
                "Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness subsystem",
            ),
            level_gauges,
            fair_fraction,
        }
    }

    pub(crate) fn of_schema(&self, level: &str, schema: &str) -> OfSchema {
        let labels = [level, schema];
        let refused = |reason| self.rejected.with_label_values(&[level, schema, reason]);
        let wait = |executed| self.wait.with_label_values(&[level, schema, executed]);
        let execution = |kind| self.execution.with_label_values(&[level, schema, kind]);
        OfSchema {
            queue_full: refused(Refusal::QueueFull.reason()),
            concurrency_limit: refused(Refusal::ConcurrencyLimit.reason()),
            time_out: refused(Refusal::TimeOut.reason()),
            cancelled: refused("cancelled"),
            dispatched: self.dispatched.with_label_values(&labels),
            waited: wait("true"),
            waited_in_vain: wait("false"),
            executed: execution("regular"),
            executed_watch: execution("watch"),
            queue_length: self.queue_length.with_label_values(&labels),
            seats: self.seats.with_label_values(&labels),
            watches: self.watches.with_label_values(&labels),
            in_queue: self.in_queue.with_label_values(&labels),
            in_queue_seats: self.in_queue_seats.with_label_values(&labels),
            executing: self.executing.with_label_values(&labels),
            executing_seats: self.executing_seats.with_label_values(&labels),
        }
    }

    /// Forgets a schema that is gone, so that nobody can grow this table by making and deleting them. What is not there is
    /// no error.
    pub(crate) fn forget_schema(&self, level: &str, schema: &str) {
        let labels = [level, schema];
        for reason in ["queue-full", "concurrency-limit", "time-out", "cancelled"] {
            let _ = self.rejected.remove_label_values(&[level, schema, reason]);
        }
        for executed in ["true", "false"] {
            let _ = self.wait.remove_label_values(&[level, schema, executed]);
        }
        for kind in ["regular", "watch"] {
            let _ = self.execution.remove_label_values(&[level, schema, kind]);
        }
        let _ = self.dispatched.remove_label_values(&labels);
        let _ = self.queue_length.remove_label_values(&labels);
        let _ = self.seats.remove_label_values(&labels);
        let _ = self.watches.remove_label_values(&labels);
        for gauge in [
            &self.in_queue,
            &self.in_queue_seats,
            &self.executing,
            &self.executing_seats,
        ] {
            let _ = gauge.remove_label_values(&labels);
        }
    }

    pub(crate) fn forget_level(&self, level: &str) {
        for (_, gauge) in &self.level_gauges {
            let _ = gauge.remove_label_values(&[level]);
        }
    }

    fn set_of_level(&self, level: &str, values: &[(&str, f64)]) {
        for (name, value) in values {
            if let Some((_, gauge)) = self.level_gauges.iter().find(|(own, _)| own == name) {
                gauge.with_label_values(&[level]).set(*value);
            }
        }
    }

    pub(crate) fn bounds(&self, level: &str, bounds: Bounds) {
        let values = [
            ("nominal_limit_seats", f64::from(bounds.nominal)),
            ("lower_limit_seats", f64::from(bounds.lower)),
            ("upper_limit_seats", f64::from(bounds.upper)),
        ];
        self.set_of_level(level, &values);
    }

    /// After an adjustment.
    pub(crate) fn adjusted(&self, level: &str, seen: Seen, bounds: Bounds) {
        let floor = bounds.lower.max(bounds.nominal.min(seen.demand.highest));
        let values = [
            (
                "demand_seats_high_watermark",
                f64::from(seen.demand.highest),
            ),
            ("demand_seats_average", seen.average),
            ("demand_seats_stdev", seen.deviation),
            ("demand_seats_smoothed", seen.demand.smoothed),
            ("target_seats", seen.demand.smoothed.max(f64::from(floor))),
        ];
        self.set_of_level(level, &values);
    }

    pub(crate) fn fair_fraction(&self, value: f64) {
        self.fair_fraction.set(value);
    }

    /// What is only looked at when somebody asks.
    pub(crate) fn now(&self, level: &str, counts: Counts, limit: u32, bytes: u64) {
        let values = [
            ("current_limit_seats", f64::from(limit)),
            ("response_bytes", counts.bytes as f64),
            ("response_limit_bytes", bytes as f64),
        ];
        self.set_of_level(level, &values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helps_say_how_stable_a_metric_is() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry);
        let _schema = metrics.of_schema("global-default", "service-accounts");
        metrics.now("global-default", Counts::default(), 1, 1);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather());
        let text = text.unwrap();
        for (name, expected) in [
            (
                "dispatched_requests_total",
                "[BETA] Number of requests executed by API Priority and Fairness subsystem",
            ),
            (
                "watch_count_samples",
                "[ALPHA] count of watchers for mutating requests in API Priority and Fairness",
            ),
            (
                "current_limit_seats",
                "[ALPHA] current derived number of execution seats available to each priority level",
            ),
            (
                "response_bytes",
                "Bytes of answers on their way, or soon to be",
            ),
        ] {
            let line = format!("# HELP apiserver_flowcontrol_{name} {expected}\n");
            assert!(text.contains(&line), "{line} is not in {text}");
        }
    }
}
