//! What is counted of requests besides their number and their time: who was let in, what is worked on, what was given up,
//! and what admission and its webhooks took. A request adds to a few numbers; who wants to see more looks into traces.

use std::sync::OnceLock;
use std::time::Duration;

use auth::User;
use auth::request::Decision;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::requests::Labels;

/// Kubernetes' buckets of an admission step, and of a webhook.
pub(super) const STEP_BUCKETS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
const WEBHOOK_BUCKETS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
/// Half an hour to a year.
const CERTIFICATE_BUCKETS: &[f64] = &[
    0.0,
    1_800.0,
    3_600.0,
    7_200.0,
    21_600.0,
    43_200.0,
    86_400.0,
    172_800.0,
    345_600.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
];
/// Kubernetes' buckets of finding out who asks, and whether they may.
const RIGHTS_BUCKETS: &[f64] = &[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
];
/// The group of users that have none.
const OTHER: &str = "other";
/// Larger codes of webhooks count as this one: they choose theirs freely.
const CODE_MAX: u16 = 600;

/// A number of answers, and the time that they took.
struct Answers {
    total: IntCounter,
    seconds: Histogram,
}

impl Answers {
    fn add(&self, took: Duration) {
        self.total.inc();
        self.seconds.observe(took.as_secs_f64());
    }
}

pub(crate) struct Calls {
    known: Answers,
    unknown: Answers,
    users: IntCounterVec,
    /// That of nearly all users. Not shown before one comes.
    other_users: OnceLock<IntCounter>,
    certificates: Histogram,
    allowed: Answers,
    denied: Answers,
    no_opinion: Answers,
    undecided: Answers,
    reads: IntGauge,
    writes: IntGauge,
    waiting_reads: IntGauge,
    waiting_writes: IntGauge,
    terminations: IntCounterVec,
    deprecated: IntGaugeVec,
    steps: HistogramVec,
    webhook_durations: HistogramVec,
    webhook_requests: IntCounterVec,
    webhook_rejections: IntCounterVec,
    webhook_fail_opens: IntCounterVec,
}

/// Counts a request as worked on, or as waiting, until it is dropped.
pub(crate) struct InFlight(IntGauge);

impl InFlight {
    fn one(gauge: &IntGauge) -> InFlight {
        gauge.inc();
        InFlight(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A call of an admission webhook.
pub(crate) struct WebhookCall<'a> {
    pub(crate) name: &'a str,
    /// `admit` or `validating`.
    pub(crate) kind: &'static str,
    pub(crate) operation: &'static str,
    pub(crate) elapsed: Duration,
}

/// What became of it.
pub(crate) enum WebhookOutcome {
    Allowed,
    /// Its own word, with its code; 0 where it is this server that could not go on.
    Refused(u16),
    /// No answer that counts, and whether that refuses the request.
    Failed {
        closed: bool,
        /// Of the answer, where it is its code that does not do.
        code: u16,
    },
}

impl Calls {
    pub(super) fn new(registry: &Registry) -> Calls {
        const VALID: &str = "names and labels are constants, and registered once";
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels).expect(VALID);
            registry.register(Box::new(made.clone())).expect(VALID);
            made
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let made = IntGaugeVec::new(Opts::new(name, help), labels).expect(VALID);
            registry.register(Box::new(made.clone())).expect(VALID);
            made
        };
        let histograms = |name: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            let made = HistogramVec::new(options, labels).expect(VALID);
            registry.register(Box::new(made.clone())).expect(VALID);
            made
        };
        let authentications = counters(
            "authentication_attempts",
            "Counter of authenticated attempts.",
            &["result"],
        );
        let certificates = histograms(
            "apiserver_client_certificate_expiration_seconds",
            "For how long the client certificates are still valid with which requests come.",
            &[],
            CERTIFICATE_BUCKETS,
        );
        let authorizations = counters(
            "authorization_attempts_total",
            "Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', 'no-opinion' or 'error'.",
            &["result"],
        );
        let authentication_times = histograms(
            "authentication_duration_seconds",
            "Time that it took to find out who asks, by what came of it.",
            &["result"],
            RIGHTS_BUCKETS,
        );
        let authorization_times = histograms(
            "authorization_duration_seconds",
            "Time that it took to find out whether somebody may do what is asked, by what came of it.",
            &["result"],
            RIGHTS_BUCKETS,
        );
        let identity = |result: &str| Answers {
            total: authentications.with_label_values(&[result]),
            seconds: authentication_times.with_label_values(&[result]),
        };
        let right = |result: &str| Answers {
            total: authorizations.with_label_values(&[result]),
            seconds: authorization_times.with_label_values(&[result]),
        };
        let in_flight = gauges(
            "apiserver_current_inflight_requests",
            "Number of requests that are worked on now, per request kind.",
            &["request_kind"],
        );
        let waiting = gauges(
            "apiserver_current_inqueue_requests",
            "Number of requests that wait for a place among those that are worked on, per request kind.",
            &["request_kind"],
        );
        Calls {
            known: identity("success"),
            unknown: identity("failure"),
            users: counters(
                "authenticated_user_requests",
                "Counter of authenticated requests broken out by username.",
                &["username"],
            ),
            other_users: OnceLock::new(),
            certificates: certificates.with_label_values::<&str>(&[]),
            allowed: right("allowed"),
            denied: right("denied"),
            no_opinion: right("no-opinion"),
            undecided: right("error"),
            reads: in_flight.with_label_values(&["readOnly"]),
            writes: in_flight.with_label_values(&["mutating"]),
            waiting_reads: waiting.with_label_values(&["readOnly"]),
            waiting_writes: waiting.with_label_values(&["mutating"]),
            terminations: counters(
                "apiserver_request_terminations_total",
                "Number of requests which apiserver terminated in self-defense.",
                &[
                    "verb",
                    "group",
                    "version",
                    "resource",
                    "subresource",
                    "scope",
                    "component",
                    "code",
                ],
            ),
            deprecated: gauges(
                "apiserver_requested_deprecated_apis",
                "Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, and removed_release.",
                &[
                    "group",
                    "version",
                    "resource",
                    "subresource",
                    "removed_release",
                ],
            ),
            steps: histograms(
                "apiserver_admission_step_admission_duration_seconds",
                "Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type (validate or admit).",
                &["type", "operation", "rejected"],
                STEP_BUCKETS,
            ),
            webhook_durations: histograms(
                "apiserver_admission_webhook_admission_duration_seconds",
                "Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
                &["name", "type", "operation", "rejected"],
                WEBHOOK_BUCKETS,
            ),
            webhook_requests: counters(
                "apiserver_admission_webhook_request_total",
                "Admission webhook request total, identified by name and broken out for each admission type (validating or mutating) and operation.",
                &["name", "type", "operation", "code", "rejected"],
            ),
            webhook_rejections: counters(
                "apiserver_admission_webhook_rejection_count",
                "Admission webhook rejection count, identified by name and broken out for each admission type (validating or admit) and operation.",
                &["name", "type", "operation", "error_type", "rejection_code"],
            ),
            webhook_fail_opens: counters(
                "apiserver_admission_webhook_fail_open_count",
                "Admission webhook fail open count, identified by name and broken out for each admission type (validating or mutating).",
                &["name", "type"],
            ),
        }
    }

    /// Somebody came; none where nobody knows who.
    pub(crate) fn authenticated(&self, user: Option<&User>, took: Duration) {
        let Some(user) = user else {
            return self.unknown.add(took);
        };
        self.known.add(took);
        let counter = |group: &str| self.users.with_label_values(&[group]);
        match group_of(&user.name) {
            OTHER => self.other_users.get_or_init(|| counter(OTHER)).inc(),
            group => counter(group).inc(),
        }
    }

    /// A request came with a client certificate that is valid for so long.
    pub(crate) fn certified(&self, seconds: i64) {
        self.certificates.observe(seconds as f64);
    }

    pub(crate) fn authorized(&self, decision: &Decision, took: Duration) {
        let counter = match decision {
            Decision { allowed: true, .. } => &self.allowed,
            Decision { denied: true, .. } => &self.denied,
            Decision { error, .. } if !error.is_empty() => &self.undecided,
            _ => &self.no_opinion,
        };
        counter.add(took);
    }

    /// A request that is worked on, which is no watch and nothing else that lives as long as its client.
    pub(crate) fn begin(&self, verb: &str) -> InFlight {
        InFlight::one(match reads(verb) {
            true => &self.reads,
            false => &self.writes,
        })
    }

    /// A request that may have to wait before that.
    pub(crate) fn wait(&self, verb: &str) -> InFlight {
        InFlight::one(match reads(verb) {
            true => &self.waiting_reads,
            false => &self.waiting_writes,
        })
    }

    /// This server gave a request up.
    pub(super) fn terminated(&self, of: &Labels<'_>, code: &str) {
        let labels = [
            of.verb,
            of.group,
            of.version,
            of.resource,
            of.subresource,
            of.scope,
            "apiserver",
            code,
        ];
        self.terminations.with_label_values(&labels).inc();
    }

    /// Somebody uses what will go away.
    pub(crate) fn deprecated(&self, resource: &str) {
        let labels = ["", "v1", resource, "", ""];
        self.deprecated.with_label_values(&labels).set(1);
    }

    /// An admission step (`admit` or `validate`) is over.
    pub(crate) fn admitted(
        &self,
        step: &'static str,
        operation: &'static str,
        rejected: bool,
        elapsed: Duration,
    ) {
        let labels = [step, operation, truth(rejected)];
        self.steps
            .with_label_values(&labels)
            .observe(elapsed.as_secs_f64());
    }

    pub(crate) fn called(&self, call: &WebhookCall<'_>, outcome: &WebhookOutcome) {
        let WebhookCall {
            name,
            kind,
            operation,
            elapsed,
        } = *call;
        let (code, rejected, error) = match outcome {
            WebhookOutcome::Allowed => (200, false, ""),
            WebhookOutcome::Refused(0) => (0, true, "apiserver_internal_error"),
            WebhookOutcome::Refused(code) => (*code, true, "no_error"),
            WebhookOutcome::Failed { closed, code } => (*code, *closed, "calling_webhook_error"),
        };
        let code = code.min(CODE_MAX).to_string();
        let labels = [name, kind, operation, &code, truth(rejected)];
        self.webhook_requests.with_label_values(&labels).inc();
        self.webhook_durations
            .with_label_values(&[name, kind, operation, truth(rejected)])
            .observe(elapsed.as_secs_f64());
        if rejected {
            let labels = [name, kind, operation, error, &code];
            self.webhook_rejections.with_label_values(&labels).inc();
        } else if !error.is_empty() {
            let labels = [name, kind];
            self.webhook_fail_opens.with_label_values(&labels).inc();
        }
    }
}

fn reads(verb: &str) -> bool {
    matches!(verb, "get" | "list" | "watch" | "head" | "options")
}

fn truth(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// Kubernetes' few names of users, so that clients cannot grow the table.
fn group_of(name: &str) -> &str {
    match name {
        "admin" | "client" | "kube_proxy" | "kubelet" => name,
        "system:serviceaccount:kube-system:default" => name,
        name if name.contains('@') => "email_id",
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn calls_are_counted_under_kubernetes_names() {
        let registry = Registry::new();
        let calls = Calls::new(&registry);
        let took = Duration::from_millis(3);
        calls.authenticated(Some(&User::new("jane@example.com", ["dev"])), took);
        calls.authenticated(None, took);
        let text = TextEncoder::new().encode_to_string(&registry.gather());
        assert!(!text.unwrap().contains("username=\"other\""));
        for name in ["jane", "system:serviceaccount:a:b", "system:node:n"] {
            calls.authenticated(Some(&User::new(name, ["dev"])), took);
        }
        calls.authorized(&Decision::allow(""), took);
        calls.authorized(&Decision::no_opinion("why"), took);
        let terminated = Labels {
            verb: "LIST",
            group: "",
            version: "v1",
            resource: "pods",
            subresource: "",
            scope: "cluster",
        };
        calls.terminated(&terminated, "504");
        calls.deprecated("endpoints");
        calls.certified(5_000);
        calls.admitted("admit", "CREATE", false, Duration::ZERO);
        let call = WebhookCall {
            name: "h.example.com",
            kind: "admit",
            operation: "CREATE",
            elapsed: Duration::ZERO,
        };
        for outcome in [
            WebhookOutcome::Allowed,
            WebhookOutcome::Refused(999),
            WebhookOutcome::Failed {
                closed: false,
                code: 503,
            },
            WebhookOutcome::Failed {
                closed: true,
                code: 404,
            },
        ] {
            calls.called(&call, &outcome);
        }
        let working = calls.begin("create");
        let waiting = calls.wait("list");
        let text = || {
            TextEncoder::new()
                .encode_to_string(&registry.gather())
                .unwrap()
        };
        assert!(
            text().contains("apiserver_current_inflight_requests{request_kind=\"mutating\"} 1")
        );
        assert!(text().contains("apiserver_current_inqueue_requests{request_kind=\"readOnly\"} 1"));
        drop((working, waiting));
        let text = text();
        let hook = "name=\"h.example.com\",operation=\"CREATE\"";
        for line in [
            "apiserver_current_inflight_requests{request_kind=\"mutating\"} 0".to_owned(),
            "apiserver_current_inqueue_requests{request_kind=\"readOnly\"} 0".to_owned(),
            format!("apiserver_admission_webhook_request_total{{code=\"503\",{hook},rejected=\"false\",type=\"admit\"}} 1"),
            "authentication_attempts{result=\"failure\"} 1".to_owned(),
            "authenticated_user_requests{username=\"email_id\"} 1".to_owned(),
            "authentication_duration_seconds_bucket{result=\"success\",le=\"0.004\"} 4".to_owned(),
            "authorization_duration_seconds_bucket{result=\"allowed\",le=\"0.002\"} 0".to_owned(),
            "authorization_duration_seconds_count{result=\"allowed\"} 1".to_owned(),
            "authenticated_user_requests{username=\"other\"} 3".to_owned(),
            "apiserver_client_certificate_expiration_seconds_bucket{le=\"7200\"} 1".to_owned(),
            "apiserver_client_certificate_expiration_seconds_bucket{le=\"3600\"} 0".to_owned(),
            "authorization_attempts_total{result=\"no-opinion\"} 1".to_owned(),
            "apiserver_request_terminations_total{code=\"504\",component=\"apiserver\",group=\"\",resource=\"pods\",scope=\"cluster\",subresource=\"\",verb=\"LIST\",version=\"v1\"} 1".to_owned(),
            "apiserver_requested_deprecated_apis{group=\"\",removed_release=\"\",resource=\"endpoints\",subresource=\"\",version=\"v1\"} 1".to_owned(),
            "apiserver_admission_step_admission_duration_seconds_count{operation=\"CREATE\",rejected=\"false\",type=\"admit\"} 1".to_owned(),
            format!("apiserver_admission_webhook_request_total{{code=\"600\",{hook},rejected=\"true\",type=\"admit\"}} 1"),
            "apiserver_admission_webhook_fail_open_count{name=\"h.example.com\",type=\"admit\"} 1".to_owned(),
            format!("apiserver_admission_webhook_rejection_count{{error_type=\"calling_webhook_error\",{hook},rejection_code=\"404\",type=\"admit\"}} 1"),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
    }
}
