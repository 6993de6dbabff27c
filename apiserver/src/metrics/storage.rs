//! What the API has of its store, which version this is, and which servers of other API versions are there: the names under
//! which alerts of a Kubernetes cluster look for them.

use std::time::Duration;

use kv::StoreStatus;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use resources::Resource;

use crate::config::{VERSION_MINOR, git_version};
use crate::world::World;

/// There is one store, and this is what Kubernetes calls the first.
const STORE: &str = "etcd-0";
const SECONDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];

pub(crate) struct Storage {
    size: IntGauge,
    durations: HistogramVec,
    requests: IntCounterVec,
    errors: IntCounterVec,
    /// Lists from the caches.
    pub(crate) cached: Lists,
    /// Lists of the past, which the store alone knows.
    pub(crate) stored: Lists,
    unavailable: IntGaugeVec,
    falls: IntCounterVec,
}

/// Lists, and pages of them, from one place.
pub(crate) struct Lists {
    total: IntCounterVec,
    objects: IntCounterVec,
}

impl Lists {
    /// A list of the resource had so many objects.
    pub(crate) fn answered(&self, resource: &Resource, objects: usize) {
        let (group, plural): (&str, &str) = (&resource.group, &resource.plural);
        let labels = [group, plural];
        self.total.with_label_values(&labels).inc();
        let objects = u64::try_from(objects).unwrap_or(u64::MAX);
        self.objects.with_label_values(&labels).inc_by(objects);
    }
}

impl Storage {
    pub(super) fn new(registry: &Registry) -> Storage {
        const VALID: &str = "names and labels are constants, and registered once";
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let made = IntGaugeVec::new(Opts::new(name, help), labels).expect(VALID);
            registry.register(Box::new(made.clone())).expect(VALID);
            made
        };
        let size = gauges(
            "apiserver_storage_size_bytes",
            "Size of the store.",
            &["storage_cluster_id"],
        );
        show_build(registry);
        let durations = HistogramOpts::new(
            "etcd_request_duration_seconds",
            "Time that the store takes for a write.",
        );
        let durations = durations.buckets(SECONDS.to_vec());
        let labels = ["operation", "group", "resource"];
        let durations = HistogramVec::new(durations, &labels).expect(VALID);
        registry.register(Box::new(durations.clone())).expect(VALID);
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels).expect(VALID);
            registry.register(Box::new(made.clone())).expect(VALID);
            made
        };
        let lists = |[total, objects]: [&str; 2], place: &str| {
            let of = ["group", "resource"];
            Lists {
                total: counters(
                    total,
                    &format!("Lists, and pages of them, from {place}."),
                    &of,
                ),
                objects: counters(objects, &format!("Objects in lists from {place}."), &of),
            }
        };
        Storage {
            size: size.with_label_values(&[STORE]),
            durations,
            requests: counters("etcd_requests_total", "Writes of the store.", &labels),
            errors: counters(
                "etcd_request_errors_total",
                "Writes of which the store said that they failed, or nothing. A conflict is none of them.",
                &labels,
            ),
            cached: lists(
                [
                    "apiserver_cache_list_total",
                    "apiserver_cache_list_returned_objects_total",
                ],
                "the caches",
            ),
            stored: lists(
                [
                    "apiserver_storage_list_total",
                    "apiserver_storage_list_returned_objects_total",
                ],
                "the store",
            ),
            unavailable: gauges(
                "aggregator_unavailable_apiservice",
                "Whether the server of an API version is away: 1 is yes.",
                &["name"],
            ),
            falls: counters(
                "aggregator_unavailable_apiservice_total",
                "How often the server of an API version was found to be away, and why.",
                &["name", "reason"],
            ),
        }
    }

    pub(super) fn show(&self, status: &StoreStatus) {
        let bytes = i64::try_from(status.size_bytes).unwrap_or(i64::MAX);
        self.size.set(bytes);
    }

    /// Those that are gone are shown no more.
    pub(super) fn show_services(&self, world: &World) {
        self.unavailable.reset();
        for entry in world.list("apiregistration.k8s.io", "apiservices", "") {
            let available = entry.object().condition_status("Available") == Some("True");
            let gauge = self.unavailable.with_label_values(&[entry.name()]);
            gauge.set(i64::from(!available));
        }
    }

    /// The server of an API version was there before, and is away.
    pub(crate) fn service_fell(&self, name: &str, reason: &str) {
        self.falls.with_label_values(&[name, reason]).inc();
    }

    /// The store has done, or refused, a write of an object of this resource, or it has failed.
    pub(crate) fn wrote(
        &self,
        operation: &str,
        resource: &Resource,
        took: Duration,
        has_failed: bool,
    ) {
        let (group, plural): (&str, &str) = (&resource.group, &resource.plural);
        let labels = [operation, group, plural];
        let durations = self.durations.with_label_values(&labels);
        durations.observe(took.as_secs_f64());
        self.requests.with_label_values(&labels).inc();
        if has_failed {
            self.errors.with_label_values(&labels).inc();
        }
    }
}

/// Which version this is, for good.
fn show_build(registry: &Registry) {
    const VALID: &str = "names and labels are constants, and registered once";
    let build = Opts::new(
        "kubernetes_build_info",
        "1 for the version of Kubernetes that this server is like.",
    );
    let names = [
        "major",
        "minor",
        "git_version",
        "git_commit",
        "git_tree_state",
        "build_date",
        "go_version",
        "compiler",
        "platform",
    ];
    let build = IntGaugeVec::new(build, &names).expect(VALID);
    registry.register(Box::new(build.clone())).expect(VALID);
    let version = git_version();
    let platform = crate::config::platform();
    let labels = [
        "1",
        VERSION_MINOR,
        &version,
        "",
        "clean",
        "1970-01-01T00:00:00Z",
        "none",
        "rustc",
        &platform,
    ];
    build.with_label_values(&labels).set(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::TextEncoder;

    #[test]
    fn the_store_and_the_version_are_shown_under_kubernetes_names() {
        let registry = Registry::new();
        let storage = Storage::new(&registry);
        storage.show(&StoreStatus {
            size_bytes: 4_096,
            ..StoreStatus::default()
        });
        let pods = resources::find("", "v1", "pods").unwrap();
        storage.service_fell("v1.a.com", "MissingEndpoints");
        storage.wrote("create", pods, Duration::from_millis(7), false);
        storage.wrote("create", pods, Duration::from_secs(9), true);
        storage.cached.answered(pods, 5);
        storage.cached.answered(pods, 0);
        storage.stored.answered(pods, 3);
        let text = TextEncoder::new().encode_to_string(&registry.gather());
        let text = text.unwrap();
        for line in [
            "aggregator_unavailable_apiservice_total{name=\"v1.a.com\",reason=\"MissingEndpoints\"} 1",
            "apiserver_storage_size_bytes{storage_cluster_id=\"etcd-0\"} 4096",
            "etcd_request_duration_seconds_bucket{group=\"\",operation=\"create\",resource=\"pods\",le=\"0.025\"} 1",
            "etcd_requests_total{group=\"\",operation=\"create\",resource=\"pods\"} 2",
            "etcd_request_errors_total{group=\"\",operation=\"create\",resource=\"pods\"} 1",
            "apiserver_cache_list_total{group=\"\",resource=\"pods\"} 2",
            "apiserver_cache_list_returned_objects_total{group=\"\",resource=\"pods\"} 5",
            "apiserver_storage_list_returned_objects_total{group=\"\",resource=\"pods\"} 3",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        let version = format!("git_version=\"{}\"", git_version());
        let build = text
            .lines()
            .find(|line| line.starts_with("kubernetes_build_info{"));
        let build = build.unwrap();
        assert!(build.contains(&version) && build.ends_with(" 1"), "{build}");
    }
}
