//! Requests: how many, how long they took, how large their bodies and answers were, and those that are open as long as their client.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use http::StatusCode;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, linear_buckets,
};
use resources::Resource;

use crate::request::RequestInfo;
use crate::subresources::is_connect;

/// Kubernetes' buckets of the request duration, and of that part of it which is this server's own.
const SECONDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];
const OWN_SECONDS: &[f64] = &[
    0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0,
    30.0, 45.0, 60.0,
];
const SIZES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Which part of a server it was; this is the only one that answers.
const COMPONENT: &str = "apiserver";

pub(super) struct Requests {
    total: IntCounterVec,
    durations: HistogramVec,
    own_durations: HistogramVec,
    sizes: HistogramVec,
    bodies: HistogramVec,
    open: IntGaugeVec,
    /// Of the built-in kinds, so that their labels are looked up once. No more than are shown.
    known: RwLock<BTreeMap<Key, Arc<Series>>>,
}

/// Which requests are counted together. The labels that it lacks follow from the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// Where the kind stands in memory. It stays there: it is of the program.
    kind: usize,
    code: u16,
    verb: &'static str,
    subresource: &'static str,
    scope: &'static str,
    dry_run: &'static str,
}

/// What requests are counted in that are counted together. A series that is never asked for is not shown.
struct Series {
    total: IntCounter,
    durations: OnceLock<[Histogram; 2]>,
    sizes: OnceLock<Histogram>,
}

/// What became of a request.
pub(crate) struct Served {
    pub(crate) code: StatusCode,
    /// The value of the query, or `invalid`.
    pub(crate) dry_run: &'static str,
    /// Whether a patch was one of server-side apply.
    pub(crate) applies: bool,
    pub(crate) elapsed: Duration,
    /// What of that was spent on waiting for a place, and on webhooks.
    pub(crate) outside: Duration,
    /// Bytes of the answer, where that is known.
    pub(crate) bytes: Option<u64>,
}

/// Counts an open watch until it is dropped.
pub(crate) struct OpenWatch(IntGauge);

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What a request is counted under. Only names that exist become labels: clients must not be able to grow the tables.
pub(super) struct Labels<'a> {
    pub(super) verb: &'static str,
    pub(super) group: &'a str,
    pub(super) version: &'a str,
    pub(super) resource: &'a str,
    pub(super) subresource: &'static str,
    pub(super) scope: &'static str,
}

impl<'a> Labels<'a> {
    pub(super) fn of(
        info: &'a RequestInfo,
        served: Option<&'a Resource>,
        applies: bool,
    ) -> Labels<'a> {
        let served = served.filter(|_| info.is_resource);
        let known = |text: &'a str| if served.is_some() { text } else { "" };
        let subresource = served
            .and_then(|resource| resource.subresource(&info.subresource))
            .map_or("", |subresource| subresource.name);
        Labels {
            verb: verb(info.verb, subresource, applies),
            group: known(&info.group),
            version: known(&info.version),
            resource: known(&info.resource),
            subresource,
            scope: match served {
                Some(_) => scope(info),
                None => "",
            },
        }
    }

    /// In the order in which figures of requests name them.
    fn all(&self) -> [&str; 7] {
        [
            self.verb,
            self.group,
            self.version,
            self.resource,
            self.subresource,
            self.scope,
            COMPONENT,
        ]
    }
}

/// The words of Kubernetes' figures, which are the methods of HTTP with a few exceptions.
fn verb(verb: &str, subresource: &str, applies: bool) -> &'static str {
    match verb {
        _ if is_connect(subresource) => "CONNECT",
        "get" | "head" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" if applies => "APPLY",
        "patch" => "PATCH",
        "delete" | "deletecollection" => "DELETE",
        _ => "other",
    }
}

fn scope(info: &RequestInfo) -> &'static str {
    match info.is_collection() {
        false => "resource",
        true if !info.namespace.is_empty() => "namespace",
        true => "cluster",
    }
}

fn with<'a, const N: usize>(labels: [&'a str; 7], more: [&'a str; N]) -> Vec<&'a str> {
    labels.into_iter().chain(more).collect()
}

impl Requests {
    pub(super) fn new(registry: &Registry) -> Requests {
        const VALID: &str = "names and labels are constants, and registered once";
        let histograms = |name: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            let made = HistogramVec::new(options, labels).expect(VALID);
            registry.register(Box::new(made.clone())).expect(VALID);
            made
        };
        let of_request = [
            "verb",
            "group",
            "version",
            "resource",
            "subresource",
            "scope",
            "component",
        ];
        let with = |more: &[&'static str]| [&of_request[..], more].concat();
        let total = Opts::new(
            "apiserver_request_total",
            "Requests that were answered, and with which code.",
        );
        let total = IntCounterVec::new(total, &with(&["dry_run", "code"])).expect(VALID);
        registry.register(Box::new(total.clone())).expect(VALID);
        let open = Opts::new(
            "apiserver_longrunning_requests",
            "Watches that are open now.",
        );
        let open = IntGaugeVec::new(open, &of_request).expect(VALID);
        registry.register(Box::new(open.clone())).expect(VALID);
        Requests {
            total,
            durations: histograms(
                "apiserver_request_duration_seconds",
                "Time to answer requests that do not live as long as their client.",
                &with(&["dry_run"]),
                SECONDS,
            ),
            own_durations: histograms(
                "apiserver_request_sli_duration_seconds",
                "The same without what was spent on webhooks, and on waiting for a place among the requests.",
                &of_request,
                OWN_SECONDS,
            ),
            sizes: histograms(
                "apiserver_response_sizes",
                "Bytes of answers to requests that read.",
                &of_request,
                SIZES,
            ),
            bodies: histograms(
                "apiserver_request_body_size_bytes",
                "Bytes of the bodies of writes.",
                &["group", "resource", "verb"],
                &linear_buckets(5e4, 1e5, 31).expect("positive bounds"),
            ),
            open,
            known: RwLock::default(),
        }
    }

    pub(super) fn observe(&self, info: &RequestInfo, served: Option<&Resource>, request: &Served) {
        let labels = Labels::of(info, served, request.applies);
        let is_long_running = info.is_long_running();
        let built_in = served.filter(|kind| info.is_resource && kind.custom.is_none());
        let Some(kind) = built_in else {
            let series = self.series(&labels, request);
            return self.add(&series, &labels, request, is_long_running);
        };
        let key = Key {
            kind: std::ptr::from_ref(kind).addr(),
            code: request.code.as_u16(),
            verb: labels.verb,
            subresource: labels.subresource,
            scope: labels.scope,
            dry_run: request.dry_run,
        };
        let series = self.known(key, || self.series(&labels, request));
        self.add(&series, &labels, request, is_long_running);
    }

    fn known(&self, key: Key, make: impl FnOnce() -> Series) -> Arc<Series> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = known.get(&key) {
            return series.clone();
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(key).or_insert_with(|| Arc::new(make())).clone()
    }

    fn series(&self, labels: &Labels<'_>, request: &Served) -> Series {
        let code = request.code.as_u16().to_string();
        let labels = with(labels.all(), [request.dry_run, &code]);
        Series {
            total: self.total.with_label_values(&labels),
            durations: OnceLock::new(),
            sizes: OnceLock::new(),
        }
    }

    fn add(&self, series: &Series, labels: &Labels<'_>, request: &Served, is_long_running: bool) {
        series.total.inc();
        if is_long_running {
            return;
        }
        let [durations, own_durations] = series.durations.get_or_init(|| {
            let all = labels.all();
            let by_dry_run = with(all, [request.dry_run]);
            [
                self.durations.with_label_values(&by_dry_run),
                self.own_durations.with_label_values(&all),
            ]
        });
        durations.observe(request.elapsed.as_secs_f64());
        let own = request.elapsed.saturating_sub(request.outside);
        own_durations.observe(own.as_secs_f64());
        if let (Some(bytes), "GET" | "LIST") = (request.bytes, labels.verb) {
            let sizes = series.sizes.get_or_init(|| {
                let all = labels.all();
                self.sizes.with_label_values(&all)
            });
            sizes.observe(bytes as f64);
        }
    }

    /// The body of a write. Verbs are not those of the other figures here.
    pub(super) fn observe_body(&self, verb: &str, resource: &Resource, bytes: usize) {
        let verb = match verb {
            "create" | "update" | "patch" | "delete" => verb,
            "deletecollection" => "delete_collection",
            _ => return,
        };
        let labels = [&*resource.group, &*resource.plural, verb];
        let bodies = self.bodies.with_label_values(&labels);
        bodies.observe(bytes as f64);
    }

    pub(super) fn open_watch(&self, info: &RequestInfo, resource: &Resource) -> OpenWatch {
        let gauge = self.open.with_label_values(&[
            "WATCH",
            &resource.group,
            &resource.version,
            &resource.plural,
            "",
            scope(info),
            COMPONENT,
        ]);
        gauge.inc();
        OpenWatch(gauge)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use prometheus::TextEncoder;

    use super::*;
    use crate::request::Query;

    fn request(method: &Method, uri: &str) -> (RequestInfo, Option<&'static Resource>) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let info = RequestInfo::parse(method, path, &Query::parse(Some(query)));
        let resource = resources::find(&info.group, &info.version, &info.resource);
        (info, resource)
    }

    #[test]
    fn verbs_and_scopes_are_those_of_kubernetes_figures() {
        let pods = "/api/v1/namespaces/d/pods";
        for (method, uri, applies, expected) in [
            (Method::GET, pods.to_owned(), false, ["LIST", "namespace"]),
            (
                Method::GET,
                "/api/v1/pods".into(),
                false,
                ["LIST", "cluster"],
            ),
            (
                Method::GET,
                format!("{pods}?watch=1"),
                false,
                ["WATCH", "namespace"],
            ),
            (Method::HEAD, pods.into(), false, ["LIST", "namespace"]),
            (Method::GET, format!("{pods}/p"), false, ["GET", "resource"]),
            (
                Method::HEAD,
                format!("{pods}/p"),
                false,
                ["GET", "resource"],
            ),
            (Method::HEAD, "/healthz".into(), false, ["GET", ""]),
            (Method::POST, pods.into(), false, ["POST", "resource"]),
            (
                Method::PUT,
                format!("{pods}/p/status"),
                false,
                ["PUT", "resource"],
            ),
            (
                Method::PATCH,
                format!("{pods}/p"),
                false,
                ["PATCH", "resource"],
            ),
            (
                Method::PATCH,
                format!("{pods}/p"),
                true,
                ["APPLY", "resource"],
            ),
            (Method::DELETE, pods.into(), false, ["DELETE", "namespace"]),
            (
                Method::POST,
                format!("{pods}/p/exec"),
                false,
                ["CONNECT", "resource"],
            ),
            (Method::GET, "/api/v1/nonsense".into(), false, ["LIST", ""]),
            (Method::OPTIONS, "/healthz".into(), false, ["other", ""]),
        ] {
            let (info, resource) = request(&method, &uri);
            let labels = Labels::of(&info, resource, applies);
            assert_eq!([labels.verb, labels.scope], expected, "{method} {uri}");
        }
    }

    /// What is shown after these requests, each of which is counted by what an earlier one found where `remembers`.
    fn shown(requests: &[(&Method, &str, &Served)], remembers: bool) -> String {
        let registry = Registry::new();
        let counted = Requests::new(&registry);
        for (method, uri, served) in requests {
            let (info, resource) = request(method, uri);
            counted.observe(&info, resource, served);
            if !remembers {
                counted.known.write().unwrap().clear();
            }
        }
        TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap()
    }

    #[test]
    fn what_is_remembered_counts_the_same() {
        let of = |code: u16, dry_run, applies, bytes| Served {
            code: StatusCode::from_u16(code).unwrap(),
            dry_run,
            applies,
            elapsed: Duration::from_millis(500),
            outside: Duration::from_millis(420),
            bytes,
        };
        let pod = "/api/v1/namespaces/d/pods/p";
        let status = format!("{pod}/status");
        let log = format!("{pod}/log");
        let deployment = "/apis/apps/v1/namespaces/d/deployments/p";
        let (get, patch) = (&Method::GET, &Method::PATCH);
        let found = of(200, "", false, Some(7));
        let endless = of(200, "", false, None);
        let missing = of(404, "", false, Some(9));
        let tried = of(200, "All", false, Some(7));
        let applied = of(200, "", true, Some(7));
        let kinds = [
            (get, pod, &found),
            (get, pod, &endless),
            (get, pod, &missing),
            (get, status.as_str(), &found),
            (get, log.as_str(), &found),
            (get, deployment, &found),
            (get, "/api/v1/namespaces/d/pods", &found),
            (get, "/api/v1/pods", &found),
            (get, "/api/v1/nonsense", &missing),
            (get, "/healthz", &found),
            (patch, pod, &found),
            (patch, pod, &tried),
            (patch, pod, &applied),
        ];
        let twice = [kinds, kinds].concat();
        assert_eq!(shown(&twice, true), shown(&twice, false));
    }

    #[test]
    fn what_was_not_this_servers_own_time_is_left_out_of_the_objective() {
        let registry = Registry::new();
        let requests = Requests::new(&registry);
        let (info, resource) = request(&Method::GET, "/api/v1/pods?limit=5");
        let served = Served {
            code: StatusCode::OK,
            dry_run: "",
            applies: false,
            elapsed: Duration::from_millis(500),
            outside: Duration::from_millis(420),
            bytes: Some(1_234),
        };
        requests.observe(&info, resource, &served);
        let _open = requests.open_watch(&info, resource.unwrap());
        let (_, deployments) = request(&Method::GET, "/apis/apps/v1/deployments");
        requests.observe_body("create", deployments.unwrap(), 60_000);
        requests.observe_body("deletecollection", resource.unwrap(), 0);
        let text = TextEncoder::new().encode_to_string(&registry.gather());
        let text = text.unwrap();
        let of = "group=\"\",resource=\"pods\",scope=\"cluster\",subresource=\"\"";
        for line in [
            format!(
                "apiserver_request_total{{code=\"200\",component=\"apiserver\",dry_run=\"\",{of},verb=\"LIST\",version=\"v1\"}} 1"
            ),
            format!(
                "apiserver_request_duration_seconds_bucket{{component=\"apiserver\",dry_run=\"\",{of},verb=\"LIST\",version=\"v1\",le=\"0.4\"}} 0"
            ),
            format!(
                "apiserver_request_sli_duration_seconds_bucket{{component=\"apiserver\",{of},verb=\"LIST\",version=\"v1\",le=\"0.1\"}} 1"
            ),
            format!(
                "apiserver_response_sizes_sum{{component=\"apiserver\",{of},verb=\"LIST\",version=\"v1\"}} 1234"
            ),
            "apiserver_request_body_size_bytes_bucket{group=\"apps\",resource=\"deployments\",verb=\"create\",le=\"50000\"} 0".to_owned(),
            "apiserver_request_body_size_bytes_sum{group=\"apps\",resource=\"deployments\",verb=\"create\"} 60000".to_owned(),
            "apiserver_request_body_size_bytes_count{group=\"\",resource=\"pods\",verb=\"delete_collection\"} 1".to_owned(),
            format!(
                "apiserver_longrunning_requests{{component=\"apiserver\",{of},verb=\"WATCH\",version=\"v1\"}} 1"
            ),
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
    }
}
