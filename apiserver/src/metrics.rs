//! `/metrics`, under the names that Kubernetes' API server uses, so that existing dashboards work.

mod audited;
mod calls;
mod checks;
mod plugins;
mod policies;
mod requests;
mod storage;
mod watched;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use resources::Resource;

use crate::ApiServer;
use crate::request::RequestInfo;
use crate::world::World;
use audited::Audited;
pub(crate) use calls::{Calls, WebhookCall, WebhookOutcome};
use checks::Checks;
pub(crate) use plugins::{Asked as AskedPlugin, Plugins};
pub(crate) use policies::{Bound as BoundPolicy, Policies};
use requests::{Labels, Requests};
pub(crate) use requests::{OpenWatch, Served};
pub(crate) use storage::Storage;
pub(crate) use watched::Sent;
use watched::Watched;

/// Kubernetes' buckets of a call of a conversion webhook, and of the conversion by its versions.
const CONVERSION_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0,
];
const VERSION_BUCKETS: &[f64] = &[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
];

pub(crate) struct Metrics {
    registry: Registry,
    requests: Requests,
    objects: IntGaugeVec,
    /// The same under the newer name.
    resource_objects: IntGaugeVec,
    pub(crate) calls: Calls,
    pub(crate) checks: Checks,
    /// The plugins of admission.
    pub(crate) plugins: Plugins,
    /// The policies that it asks.
    pub(crate) policies: Policies,
    watched: Watched,
    pub(crate) storage: Storage,
    revision: IntGauge,
    conversions: Conversions,
    reloads: IntCounterVec,
    expiries: IntGaugeVec,
    audited: Audited,
    /// Held while figures are brought up to date and read: two readers at a time would find services left out that are
    /// there, and count what was lost twice.
    showing: Mutex<()>,
}

/// What conversion webhooks did.
struct Conversions {
    requests: IntCounterVec,
    durations: HistogramVec,
    versions: HistogramVec,
}

impl Conversions {
    fn new() -> Conversions {
        const VALID: &str = "names and labels are constants";
        let labels = ["result", "failure_type"];
        let requests = Opts::new(
            "apiserver_conversion_webhook_request_total",
            "Counter for conversion webhook requests with success/failure and failure error type",
        );
        let durations = HistogramOpts::new(
            "apiserver_conversion_webhook_duration_seconds",
            "Conversion webhook request latency",
        );
        let versions = HistogramOpts::new(
            "apiserver_crd_conversion_webhook_duration_seconds",
            "CRD webhook conversion duration in seconds",
        );
        let by_version = ["crd_name", "from_version", "to_version", "succeeded"];
        Conversions {
            requests: IntCounterVec::new(requests, &labels).expect(VALID),
            durations: HistogramVec::new(durations.buckets(CONVERSION_BUCKETS.to_vec()), &labels)
                .expect(VALID),
            versions: HistogramVec::new(versions.buckets(VERSION_BUCKETS.to_vec()), &by_version)
                .expect(VALID),
        }
    }
}

impl Metrics {
    pub(crate) fn new(world: &World) -> Metrics {
        const VALID: &str = "names and labels are constants";
        let registry = Registry::new();
        let objects = IntGaugeVec::new(
            Opts::new(
                "apiserver_storage_objects",
                "Number of stored objects at the time of last check split by kind.",
            ),
            &["resource"],
        )
        .expect(VALID);
        let resource_objects = IntGaugeVec::new(
            Opts::new(
                "apiserver_resource_objects",
                "Number of stored objects at the time of last check split by kind.",
            ),
            &["group", "resource"],
        )
        .expect(VALID);
        let calls = Calls::new(&registry);
        let revision = IntGauge::new(
            "apiserver_watch_cache_revision",
            "Revision of the store up to which all caches are complete.",
        )
        .expect(VALID);
        let conversions = Conversions::new();
        let reloads = IntCounterVec::new(
            Opts::new(
                "kontiki_file_reloads_total",
                "Contents of changed certificate and configuration files, by whether they were usable and taken.",
            ),
            &["file", "result"],
        )
        .expect(VALID);
        let expiries = IntGaugeVec::new(
            Opts::new(
                "kontiki_certificate_expiration_timestamp_seconds",
                "Until when the certificates in use are valid.",
            ),
            &["file"],
        )
        .expect(VALID);
        for collector in [
            Box::new(objects.clone()) as Box<dyn prometheus::core::Collector>,
            Box::new(resource_objects.clone()),
            Box::new(revision.clone()),
            Box::new(conversions.requests.clone()),
            Box::new(conversions.durations.clone()),
            Box::new(conversions.versions.clone()),
            Box::new(reloads.clone()),
            Box::new(expiries.clone()),
            Box::new(world.sealer.operations().clone()),
        ] {
            registry
                .register(collector)
                .expect("every collector is registered once");
        }
        Metrics {
            requests: Requests::new(&registry),
            audited: Audited::new(&registry),
            checks: Checks::new(&registry),
            plugins: Plugins::new(&registry),
            policies: Policies::new(&registry),
            watched: Watched::new(&registry),
            storage: Storage::new(&registry),
            registry,
            objects,
            resource_objects,
            calls,
            revision,
            conversions,
            reloads,
            expiries,
            showing: Mutex::default(),
        }
    }

    /// Where others count.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn count_reload(&self, file: &str, taken: bool) {
        let result = if taken { "taken" } else { "refused" };
        self.reloads.with_label_values(&[file, result]).inc();
    }

    pub(crate) fn show_expiry(&self, file: &str, seconds: i64) {
        self.expiries.with_label_values(&[file]).set(seconds);
    }

    /// Counts a request that was answered.
    pub(crate) fn observe(&self, info: &RequestInfo, served: Option<&Resource>, request: &Served) {
        self.requests.observe(info, served, request);
    }

    /// Counts the body of a request that was read as a whole, if it is a write.
    pub(crate) fn observe_body(&self, verb: &str, resource: &Resource, bytes: usize) {
        self.requests.observe_body(verb, resource, bytes);
    }

    /// Counts a request that this server gave up.
    pub(crate) fn terminate(&self, info: &RequestInfo, served: Option<&Resource>, code: u16) {
        let labels = Labels::of(info, served, false);
        self.calls.terminated(&labels, &code.to_string());
    }

    /// Counts a call of the conversion webhook of a definition; `failure` is the sort of what went wrong.
    pub(crate) fn observe_conversion(
        &self,
        definition: &str,
        (from, to): (&str, &str),
        failure: Option<&str>,
        elapsed: Duration,
    ) {
        let result = if failure.is_some() {
            "failure"
        } else {
            "success"
        };
        let labels = [result, failure.unwrap_or_default()];
        let seconds = elapsed.as_secs_f64();
        let conversions = &self.conversions;
        conversions.requests.with_label_values(&labels).inc();
        let durations = conversions.durations.with_label_values(&labels);
        durations.observe(seconds);
        let succeeded = if failure.is_some() { "false" } else { "true" };
        let labels = [definition, from, to, succeeded];
        conversions
            .versions
            .with_label_values(&labels)
            .observe(seconds);
    }

    pub(crate) fn open_watch(&self, info: &RequestInfo, resource: &Resource) -> OpenWatch {
        self.requests.open_watch(info, resource)
    }

    /// Where a watch of the resource counts what it sends.
    pub(crate) fn sent_to_watches(&self, resource: &Resource) -> Sent {
        self.watched.of(resource)
    }

    pub(crate) fn render(&self, server: &ApiServer) -> String {
        let showing = self.showing.lock().unwrap_or_else(PoisonError::into_inner);
        for cache in server.world.caches() {
            if let Some(resource) = cache.shapes.first() {
                let objects = cache.len();
                let count = i64::try_from(objects).unwrap_or(i64::MAX);
                self.objects
                    .with_label_values(&[&resource.group_resource()])
                    .set(count);
                let (group, plural): (&str, &str) = (&resource.group, &resource.plural);
                let gauge = self.resource_objects.with_label_values(&[group, plural]);
                gauge.set(count);
                let capacity = crate::cache::ring_len_max(objects);
                self.watched.show_cache(resource, capacity, cache.seen());
            }
        }
        self.revision.set(server.world.revision());
        self.storage.show(&server.store.status());
        self.storage.show_services(&server.world);
        server.flow.observe();
        if let Some(auditor) = server.auditors.now() {
            self.audited.show(&auditor);
        }
        // The process's own registry holds what the store counts, under etcd's names, and the process's memory and CPU.
        let mut families = prometheus::gather();
        families.extend(self.registry.gather());
        drop(showing);
        encoded(&families)
    }

    /// What the checks of health said, alone.
    pub(crate) fn render_checks(&self) -> String {
        encoded(&self.checks.registry.gather())
    }
}

fn encoded(families: &[MetricFamily]) -> String {
    let mut text = Vec::new();
    if let Err(error) = TextEncoder::new().encode(families, &mut text) {
        tracing::error!(%error, "metrics could not be encoded");
    }
    String::from_utf8(text).unwrap_or_default()
}
