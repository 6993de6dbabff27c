//! What agents count, in Prometheus' default registry and under Kubernetes' names, so that dashboards work. Whoever serves
//! that registry shows it: a server at its `/metrics`, beside what its API counts. One set a process: with several members in
//! one process (tests) they add up.
//!
//! Handles are looked up once where something happens often; what can be read off when somebody asks is not counted before.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, register_histogram_vec, register_int_counter_vec, register_int_gauge_vec,
};
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

const REGISTERED: &str = "each name is registered once in a process";
/// Kubernetes' buckets of a request.
const REQUEST_BUCKETS: &[f64] = &[
    0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0,
];
/// And of what goes through a queue: from a microsecond to 1,000 seconds.
const QUEUE_BUCKETS: &[f64] = &[1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0];
/// The code of a request without an answer, as client-go has it.
const NO_ANSWER: &str = "<error>";

struct Families {
    adds: IntCounterVec,
    retries: IntCounterVec,
    waited: HistogramVec,
    worked: HistogramVec,
    requests: IntCounterVec,
    durations: HistogramVec,
    leads: IntGaugeVec,
    controllers: IntGaugeVec,
    zone_sizes: IntGaugeVec,
    zone_unhealthy: IntGaugeVec,
    zone_health: IntGaugeVec,
    zone_evictions: IntCounterVec,
    queues: Arc<LiveQueues>,
}

static FAMILIES: LazyLock<Families> = LazyLock::new(|| {
    let counters = |name: &str, help: &str, labels: &[&str]| {
        register_int_counter_vec!(name, help, labels).expect(REGISTERED)
    };
    let gauges = |name: &str, help: &str, labels: &[&str]| {
        register_int_gauge_vec!(name, help, labels).expect(REGISTERED)
    };
    let histograms = |name: &str, help: &str, labels: &[&str], buckets: &[f64]| {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        register_histogram_vec!(options, labels).expect(REGISTERED)
    };
    let queues = Arc::new(LiveQueues::new());
    let shown = Box::new(Shown(queues.clone()));
    prometheus::register(shown).expect(REGISTERED);
    Families {
        adds: counters(
            "workqueue_adds_total",
            "Keys that were added to a queue and were not in it.",
            &["name"],
        ),
        retries: counters(
            "workqueue_retries_total",
            "Keys that were added to a queue for later.",
            &["name"],
        ),
        waited: histograms(
            "workqueue_queue_duration_seconds",
            "For how long a key was in the queue.",
            &["name"],
            QUEUE_BUCKETS,
        ),
        worked: histograms(
            "workqueue_work_duration_seconds",
            "For how long a key was worked on.",
            &["name"],
            QUEUE_BUCKETS,
        ),
        requests: counters(
            "rest_client_requests_total",
            "Requests of the API by the code of the answer, <error> where there was none.",
            &["code", "method", "host"],
        ),
        durations: histograms(
            "rest_client_request_duration_seconds",
            "Time of a request of the API until its answer begins.",
            &["verb", "host"],
            REQUEST_BUCKETS,
        ),
        leads: gauges(
            "leader_election_master_status",
            "Whether this process holds the lease: 1 is yes.",
            &["name"],
        ),
        controllers: gauges(
            "running_managed_controllers",
            "Controllers that run in this process: 1 is yes.",
            &["name", "manager"],
        ),
        zone_sizes: gauges("node_collector_zone_size", "Nodes in a zone.", &["zone"]),
        zone_unhealthy: gauges(
            "node_collector_unhealthy_nodes_in_zone",
            "Nodes in a zone that are not ready.",
            &["zone"],
        ),
        zone_health: gauges(
            "node_collector_zone_health",
            "Percentage of the nodes in a zone that are ready.",
            &["zone"],
        ),
        zone_evictions: counters(
            "node_collector_evictions_total",
            "Nodes that began to lose their pods because they fell silent.",
            &["zone"],
        ),
        queues,
    }
});

/// A queue as one sees it who only looks.
pub(crate) trait Working: Send + Sync {
    /// How many keys are ready.
    fn depth(&self) -> usize;
    /// For how long each key that is worked on has been.
    fn under_way(&self) -> Vec<Duration>;
}

/// What a queue counts of itself.
#[derive(Clone)]
pub(crate) struct QueueTally {
    pub(crate) adds: IntCounter,
    pub(crate) retries: IntCounter,
    pub(crate) waited: Histogram,
    pub(crate) worked: Histogram,
}

impl QueueTally {
    pub(crate) fn new(name: &str) -> Self {
        let name = &[name];
        Self {
            adds: FAMILIES.adds.with_label_values(name),
            retries: FAMILIES.retries.with_label_values(name),
            waited: FAMILIES.waited.with_label_values(name),
            worked: FAMILIES.worked.with_label_values(name),
        }
    }
}

/// From now on the queue is shown, until nobody has it any more.
pub(crate) fn show_queue(name: &'static str, queue: Weak<dyn Working>) {
    FAMILIES.queues.add(name, queue);
}

/// The queues that there are, and the gauges that are read off them.
struct LiveQueues {
    depth: IntGaugeVec,
    unfinished: GaugeVec,
    longest: GaugeVec,
    live: Mutex<Vec<(&'static str, Weak<dyn Working>)>>,
}

impl LiveQueues {
    fn new() -> Self {
        const VALID: &str = "names and labels are constants";
        let gauges =
            |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &["name"]).expect(VALID);
        let depth = Opts::new("workqueue_depth", "Keys that are in a queue now.");
        Self {
            depth: IntGaugeVec::new(depth, &["name"]).expect(VALID),
            unfinished: gauges(
                "workqueue_unfinished_work_seconds",
                "For how long the keys that are worked on have been, together.",
            ),
            longest: gauges(
                "workqueue_longest_running_processor_seconds",
                "For how long the key has been worked on that takes the longest.",
            ),
            live: Mutex::default(),
        }
    }

    fn add(&self, name: &'static str, queue: Weak<dyn Working>) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|(_, queue)| queue.strong_count() > 0);
        live.push((name, queue));
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Held to the end: another one who asks meanwhile would empty the gauges.
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        self.depth.reset();
        self.unfinished.reset();
        self.longest.reset();
        for (name, queue) in &*live {
            let Some(queue) = queue.upgrade() else {
                continue;
            };
            let depth = i64::try_from(queue.depth()).unwrap_or(i64::MAX);
            self.depth.with_label_values(&[name]).add(depth);
            let under_way = queue.under_way();
            let seconds = under_way.iter().sum::<Duration>().as_secs_f64();
            self.unfinished.with_label_values(&[name]).add(seconds);
            let longest = self.longest.with_label_values(&[name]);
            let seconds = under_way.iter().max().map_or(0.0, Duration::as_secs_f64);
            longest.set(longest.get().max(seconds));
        }
        let mut families = self.depth.collect();
        families.extend(self.unfinished.collect());
        families.extend(self.longest.collect());
        families
    }
}

/// The live queues, for the registry.
struct Shown(Arc<LiveQueues>);

impl Collector for Shown {
    fn desc(&self) -> Vec<&Desc> {
        let queues = &self.0;
        let mut all = queues.depth.desc();
        all.extend(queues.unfinished.desc());
        all.extend(queues.longest.desc());
        all
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.collect()
    }
}

/// Counts a request of the API; without a code where there was no answer.
pub(crate) fn requested(method: &http::Method, host: &str, code: Option<u16>, took: Duration) {
    let (method, families) = (method.as_str(), &*FAMILIES);
    let text = code.map(|code| code.to_string());
    let code = text.as_deref().unwrap_or(NO_ANSWER);
    let requests = families.requests.with_label_values(&[code, method, host]);
    requests.inc();
    let durations = families.durations.with_label_values(&[method, host]);
    durations.observe(took.as_secs_f64());
}

/// Shows 1 until it is dropped, and 0 from then on.
#[must_use]
pub struct Shows(IntGauge);

impl Shows {
    fn one(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Shows {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Somebody competes for this lease, who does not have it yet.
pub(crate) fn competes(lease: &str) {
    FAMILIES.leads.with_label_values(&[lease]);
}

/// This process has the lease.
pub(crate) fn leads(lease: &str) -> Shows {
    Shows::one(FAMILIES.leads.with_label_values(&[lease]))
}

/// A controller of this manager runs.
pub fn runs(controller: &str, manager: &str) -> Shows {
    let labels = [controller, manager];
    Shows::one(FAMILIES.controllers.with_label_values(&labels))
}

/// Shows how the zones of the cluster are, until it is dropped.
#[must_use]
#[derive(Default)]
pub struct ShownZones {
    shown: Mutex<BTreeSet<String>>,
}

impl ShownZones {
    /// Each zone with how many of its nodes are ready and are not; zones that are not among them are shown no more. Whoever looks
    /// meanwhile finds each zone that was there and still is.
    pub fn show<'a>(&self, zones: impl Iterator<Item = (&'a str, usize, usize)>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = std::mem::take(&mut *shown);
        for (zone, ready, unready) in zones {
            gone.remove(zone);
            shown.insert(zone.to_owned());
            let set = |gauges: &IntGaugeVec, value: usize| {
                let gauge = gauges.with_label_values(&[zone]);
                gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            };
            let size = ready + unready;
            set(&FAMILIES.zone_sizes, size);
            set(&FAMILIES.zone_unhealthy, unready);
            set(&FAMILIES.zone_health, 100 * ready / size.max(1));
        }
        hide(&gone);
    }

    /// A node of this zone begins to lose its pods.
    pub fn evicts(&self, zone: &str) {
        FAMILIES.zone_evictions.with_label_values(&[zone]).inc();
    }
}

impl Drop for ShownZones {
    fn drop(&mut self) {
        let shown = self.shown.get_mut();
        hide(shown.unwrap_or_else(PoisonError::into_inner));
    }
}

/// Shows these zones no more.
fn hide(zones: &BTreeSet<String>) {
    let families = [
        &FAMILIES.zone_sizes,
        &FAMILIES.zone_unhealthy,
        &FAMILIES.zone_health,
    ];
    for (zone, family) in zones.iter().flat_map(|zone| families.map(|f| (zone, f))) {
        // Only one that is not there cannot be removed.
        let _ = family.remove_label_values(&[zone.as_str()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Queue;
    use prometheus::TextEncoder;

    fn text() -> String {
        let families = prometheus::gather();
        TextEncoder::new().encode_to_string(&families).unwrap()
    }

    fn has(line: &str) {
        let text = text();
        assert!(text.lines().any(|one| one == line), "{line}\n{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_named_queue_is_counted_and_shown_while_it_is_there() {
        let queue = Queue::named("counted");
        for key in ["a", "b", "a"] {
            queue.add(key);
        }
        queue.add_after("c", Duration::from_secs(60));
        tokio::time::advance(Duration::from_secs(2)).await;
        let key = queue.next().await.unwrap();
        queue.add(key);
        tokio::time::advance(Duration::from_secs(5)).await;
        has("workqueue_depth{name=\"counted\"} 1");
        has("workqueue_unfinished_work_seconds{name=\"counted\"} 5");
        has("workqueue_longest_running_processor_seconds{name=\"counted\"} 5");
        has("workqueue_retries_total{name=\"counted\"} 1");
        has("workqueue_queue_duration_seconds_sum{name=\"counted\"} 2");
        queue.done(&key);
        has("workqueue_adds_total{name=\"counted\"} 3");
        has("workqueue_depth{name=\"counted\"} 2");
        has("workqueue_work_duration_seconds_bucket{name=\"counted\",le=\"10\"} 1");
        has("workqueue_work_duration_seconds_sum{name=\"counted\"} 5");
        drop(queue);
        assert!(!text().contains("workqueue_depth{name=\"counted\"}"));
    }

    #[test]
    fn requests_and_leases_are_counted_under_kubernetes_names() {
        let method = http::Method::PUT;
        requested(&method, "h:1", Some(409), Duration::from_millis(30));
        requested(&method, "h:1", None, Duration::from_secs(1));
        has("rest_client_requests_total{code=\"409\",host=\"h:1\",method=\"PUT\"} 1");
        has("rest_client_requests_total{code=\"<error>\",host=\"h:1\",method=\"PUT\"} 1");
        has("rest_client_request_duration_seconds_bucket{host=\"h:1\",verb=\"PUT\",le=\"0.1\"} 1");
        competes("a-lease");
        has("leader_election_master_status{name=\"a-lease\"} 0");
        let leading = leads("a-lease");
        has("leader_election_master_status{name=\"a-lease\"} 1");
        drop(leading);
        has("leader_election_master_status{name=\"a-lease\"} 0");
        let running = runs("a-controller", "a-manager");
        has("running_managed_controllers{manager=\"a-manager\",name=\"a-controller\"} 1");
        drop(running);
        has("running_managed_controllers{manager=\"a-manager\",name=\"a-controller\"} 0");
    }

    #[test]
    fn zones_are_shown_as_they_are_now() {
        let zones = ShownZones::default();
        zones.show([("r:a", 3, 1), ("r:b", 0, 0)].into_iter());
        has("node_collector_zone_size{zone=\"r:a\"} 4");
        has("node_collector_zone_health{zone=\"r:a\"} 75");
        has("node_collector_unhealthy_nodes_in_zone{zone=\"r:a\"} 1");
        zones.evicts("r:a");
        zones.show([("r:b", 2, 0)].into_iter());
        has("node_collector_zone_health{zone=\"r:b\"} 100");
        has("node_collector_evictions_total{zone=\"r:a\"} 1");
        assert!(!text().contains("zone_size{zone=\"r:a\"}"));
        let meanwhile = [("r:a", 1, 0), ("r:b", 1, 0)].into_iter().inspect(|_| {
            assert!(text().contains("zone_size{zone=\"r:b\"}"));
        });
        zones.show(meanwhile);
        drop(zones);
        assert!(!text().contains("node_collector_zone_size"));
    }
}
