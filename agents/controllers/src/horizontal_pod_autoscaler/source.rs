//! Asks the API for what an autoscaler needs: the scale of its target, and the figures of its measures. Who serves them is
//! not its concern: `metrics.k8s.io` is built in, the others come with somebody's APIService.

use super::calculator::{PodFigure, PodFigures};
use super::metrics::Reading;
use super::selector;
use crate::quantity;
use agent_runtime::kinds::{
    CrossVersionObjectReference, LabelSelector, MetricIdentifier, MetricSpec,
};
use agent_runtime::resource_ref::{
    DEPLOYMENTS, REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS, push_escaped,
};
use agent_runtime::timestamp::{self, Micros, seconds};
use agent_runtime::{ApiError, Client, ResourceRef};
use serde_json::Value;

/// The time that a source without another one is taken to have measured over.
const WINDOW: Micros = seconds(60);
const CUSTOM: &str = "custom.metrics.k8s.io";
/// Of the versions of custom metrics the first that is served.
const CUSTOM_VERSIONS: [&str; 2] = ["v1beta2", "v1beta1"];

/// The size of a target.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scale {
    pub(super) resource_version: String,
    pub(super) wanted: i32,
    pub(super) present: i32,
    pub(super) selector: String,
}

impl Scale {
    fn read(scale: &Value) -> Self {
        let number = |path: &str| {
            let found = scale.pointer(path).and_then(Value::as_i64);
            i32::try_from(found.unwrap_or(0)).unwrap_or(i32::MAX)
        };
        let text = |path: &str| {
            let found = scale.pointer(path).and_then(Value::as_str);
            found.unwrap_or_default().to_owned()
        };
        Self {
            resource_version: text("/metadata/resourceVersion"),
            wanted: number("/spec/replicas"),
            present: number("/status/replicas"),
            selector: text("/status/selector"),
        }
    }
}

/// The resource that a reference names, by its kind.
pub(super) async fn resource_of(
    client: &Client,
    target: &CrossVersionObjectReference,
) -> Result<ResourceRef, ApiError> {
    let (group, version) = match target.api_version.split_once('/') {
        Some((group, version)) => (group, version),
        None => ("", target.api_version.as_str()),
    };
    let usual = [
        DEPLOYMENTS,
        STATEFUL_SETS,
        REPLICA_SETS,
        REPLICATION_CONTROLLERS,
    ];
    let known = usual
        .into_iter()
        .find(|one| one.group == group && one.kind == target.kind);
    if let Some(known) = known {
        return Ok(known);
    }
    let mut path = match group {
        "" => "/api/".to_owned(),
        _ => "/apis/".to_owned(),
    };
    for part in [group, version].iter().filter(|part| !part.is_empty()) {
        push_escaped(&mut path, part);
        path.push('/');
    }
    let no_match = || ApiError {
        code: 404,
        reason: "NotFound".into(),
        message: format!("no matches for kind {:?} in group {group:?}", target.kind),
        ..ApiError::default()
    };
    let list = match client.get_path(path.trim_end_matches('/')).await {
        Err(error) if error.is_not_found() => return Err(no_match()),
        list => list?,
    };
    let resources = list.get("resources").and_then(Value::as_array);
    let text = |one: &Value, field: &str| {
        let found = one.get(field).and_then(Value::as_str);
        found.unwrap_or_default().to_owned()
    };
    let named = resources
        .into_iter()
        .flatten()
        .find(|one| text(one, "kind") == target.kind && !text(one, "name").contains('/'));
    let named = named.ok_or_else(no_match)?;
    let namespaced = named
        .get("namespaced")
        .and_then(Value::as_bool)
        .unwrap_or(true);
    let plural = text(named, "name");
    Ok(ResourceRef::new(
        group,
        version,
        &plural,
        &target.kind,
        namespaced,
    ))
}

pub(super) async fn scale(
    client: &Client,
    resource: &ResourceRef,
    namespace: &str,
    name: &str,
) -> Result<Scale, ApiError> {
    let scale = client.get_sub(resource, namespace, name, "scale").await?;
    Ok(Scale::read(&scale))
}

/// Where the figures of one autoscaler come from. What several measures need is asked for once.
pub(super) struct Sources<'a> {
    client: &'a Client,
    namespace: &'a str,
    /// As the scale has it.
    pods: &'a str,
    usage: Option<Result<Value, String>>,
    custom: Option<Result<&'static str, String>>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(client: &'a Client, namespace: &'a str, pods: &'a str) -> Self {
        Self {
            client,
            namespace,
            pods,
            usage: None,
            custom: None,
        }
    }

    pub(super) async fn read(&mut self, spec: &MetricSpec) -> Result<Reading, String> {
        if let Some(source) = &spec.resource {
            return pod_usage(self.usage().await?, &source.name, "").map(Reading::Pods);
        }
        if let Some(source) = &spec.container_resource {
            let usage = self.usage().await?;
            return pod_usage(usage, &source.name, &source.container).map(Reading::Pods);
        }
        if let Some(source) = &spec.pods {
            let list = self
                .custom("pods", "*", &source.metric, Some(self.pods))
                .await?;
            return custom_figures(&list).map(Reading::Pods);
        }
        if let Some(source) = &spec.object {
            let object = &source.described_object;
            let list = if object.kind == "Namespace" {
                // What is said of a namespace stands beside what is said of objects in it.
                self.custom("metrics", "", &source.metric, None).await?
            } else {
                let resource = resource_of(self.client, object).await;
                let resource = resource.map_err(|error| error.message)?;
                let plural = resource.to_string();
                self.custom(&plural, &object.name, &source.metric, None)
                    .await?
            };
            return first_value(&list).map(Reading::Value);
        }
        let metric = spec.external.clone().unwrap_or_default().metric;
        let mut path = format!(
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/",
            self.namespace
        );
        push_escaped(&mut path, &metric.name);
        query(
            &mut path,
            "labelSelector",
            &selector::text(metric.selector.as_ref()),
        );
        let resource = format!("{}.external.metrics.k8s.io", metric.name);
        let list = self.get(&path, &resource).await;
        sum(&list.map_err(|error| unfetched("external", &error))?).map(Reading::Value)
    }

    async fn get(&self, path: &str, resource: &str) -> Result<Value, String> {
        let answer = self.client.get_path(path).await;
        answer.map_err(|error| worded(error, resource))
    }

    async fn usage(&mut self) -> Result<&Value, String> {
        if self.usage.is_none() {
            let namespace = self.namespace;
            let mut path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods");
            query(&mut path, "labelSelector", self.pods);
            let list = self.get(&path, "pods.metrics.k8s.io").await;
            self.usage = Some(list.map_err(|error| unfetched("resource", &error)));
        }
        match &self.usage {
            Some(Ok(list)) => Ok(list),
            Some(Err(error)) => Err(error.clone()),
            None => Err(String::new()),
        }
    }

    async fn custom(
        &mut self,
        resource: &str,
        name: &str,
        metric: &MetricIdentifier,
        pods: Option<&str>,
    ) -> Result<Value, String> {
        let version = self.custom_version().await;
        let version = version.map_err(|error| unfetched("custom", &error))?;
        let mut path = format!("/apis/{CUSTOM}/{version}/namespaces/{}", self.namespace);
        for part in [resource, name, &metric.name] {
            if !part.is_empty() {
                path.push('/');
                // `*` stands for all pods.
                match part {
                    "*" => path.push('*'),
                    part => push_escaped(&mut path, part),
                }
            }
        }
        query(&mut path, "labelSelector", pods.unwrap_or_default());
        let selector = selector::text(metric.selector.as_ref());
        query(&mut path, "metricLabelSelector", &selector);
        let list = self.get(&path, &format!("{resource}.{CUSTOM}")).await;
        list.map_err(|error| unfetched("custom", &error))
    }

    async fn custom_version(&mut self) -> Result<&'static str, String> {
        if let Some(known) = &self.custom {
            return known.clone();
        }
        let found = match self.client.get_path(&format!("/apis/{CUSTOM}")).await {
            Ok(group) => custom_version(&group),
            Err(error) if error.is_not_found() => {
                Err(format!("no custom metrics API ({CUSTOM}) registered"))
            }
            Err(error) => Err(error.message),
        };
        self.custom = Some(found.clone());
        found
    }
}

/// An error as Kubernetes words it, which tells what did not answer from what has answered nothing.
fn unfetched(api: &str, error: &str) -> String {
    format!("unable to fetch metrics from {api} metrics API: {error}")
}

/// What went wrong, in the words of Kubernetes' client: where an API is not there at all, the answer is no Status.
fn worded(error: ApiError, resource: &str) -> String {
    match error.code == 404 && error.details.is_none() {
        true => format!("the server could not find the requested resource (get {resource})"),
        false => error.message,
    }
}

fn custom_version(group: &Value) -> Result<&'static str, String> {
    let versions = group.get("versions").and_then(Value::as_array);
    let serves = |version: &&str| {
        let mut all = versions.into_iter().flatten();
        all.any(|one| one.get("version").and_then(Value::as_str) == Some(*version))
    };
    let found = CUSTOM_VERSIONS.into_iter().find(serves);
    found.ok_or_else(|| format!("no known available metric versions found for {CUSTOM}"))
}

fn query(path: &mut String, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    path.push(if path.contains('?') { '&' } else { '?' });
    path.push_str(name);
    path.push('=');
    push_escaped(path, value);
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    let items = list.get("items").and_then(Value::as_array);
    items.into_iter().flatten()
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn time(value: &Value) -> Micros {
    timestamp::parse(text(value, "/timestamp")).unwrap_or(0)
}

/// What each pod, or one container of each, uses of a resource. Of a pod that is said in part nothing is known.
fn pod_usage(list: &Value, resource: &str, container: &str) -> Result<PodFigures, String> {
    let mut figures = PodFigures::new();
    let mut any = false;
    for pod in items(list) {
        any = true;
        let name = text(pod, "/metadata/name");
        let containers = pod.get("containers").and_then(Value::as_array);
        let own = containers
            .into_iter()
            .flatten()
            .filter(|one| container.is_empty() || text(one, "/name") == container);
        let own: Vec<&Value> = own.collect();
        if own.is_empty() && !container.is_empty() {
            let namespace = text(pod, "/metadata/namespace");
            return Err(format!(
                "container {container} not present in metrics for pod {namespace}/{name}"
            ));
        }
        let used = own
            .iter()
            .map(|one| quantity::milli(one.get("usage")?.get(resource)?));
        let used: Option<Vec<i64>> = used.collect();
        if let Some(used) = used.filter(|used| !used.is_empty()) {
            let figure = PodFigure {
                value: used.into_iter().fold(0, i64::saturating_add),
                at: time(pod),
                window: go_duration(text(pod, "/window")).unwrap_or(WINDOW),
            };
            figures.insert(name.to_owned(), figure);
        }
    }
    match any {
        true => Ok(figures),
        false => Err("no metrics returned from resource metrics API".to_owned()),
    }
}

/// The figure of each pod that a source of custom ones has.
fn custom_figures(list: &Value) -> Result<PodFigures, String> {
    let figure = |item: &Value| {
        let window = item.get("windowSeconds").and_then(Value::as_i64);
        let figure = PodFigure {
            value: quantity::milli(item.get("value")?)?,
            at: time(item),
            window: window.map_or(WINDOW, |window| seconds(window.clamp(0, 86_400))),
        };
        Some((text(item, "/describedObject/name").to_owned(), figure))
    };
    let figures: PodFigures = items(list).filter_map(figure).collect();
    match figures.is_empty() {
        true => Err("no metrics returned from custom metrics API".to_owned()),
        false => Ok(figures),
    }
}

fn first_value(list: &Value) -> Result<i64, String> {
    let first = items(list)
        .next()
        .and_then(|item| quantity::milli(item.get("value")?));
    first.ok_or_else(|| "no metrics returned from custom metrics API".to_owned())
}

fn sum(list: &Value) -> Result<i64, String> {
    let values = items(list).map(|item| quantity::milli(item.get("value")?));
    let values: Option<Vec<i64>> = values.collect();
    match values.filter(|values| !values.is_empty()) {
        Some(values) => Ok(values.into_iter().fold(0, i64::saturating_add)),
        None => Err("no metrics returned from external metrics API".to_owned()),
    }
}

/// `1m0.5s` as the API writes durations.
fn go_duration(text: &str) -> Option<Micros> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let units = [
            ("ms", 0.001),
            ("us", 0.000_001),
            ("µs", 0.000_001),
            ("ns", 1e-9),
            ("h", 3600.0),
            ("m", 60.0),
            ("s", 1.0),
        ];
        let (unit, factor) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        total += number * factor;
        rest = &rest[unit.len()..];
    }
    (!text.is_empty()).then_some((total * 1e6) as Micros)
}

/// What a scale selects; an error in the words of the condition.
pub(super) fn pods_of(scale: &Scale) -> Result<LabelSelector, String> {
    selector::parse(&scale.selector).map_err(|error| {
        format!("couldn't convert selector into a corresponding internal selector object: {error}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn usage_is_the_sum_of_the_containers_or_that_of_one() {
        let pod = |name: &str, containers: Value| json!({"metadata": {"name": name, "namespace": "n"}, "timestamp": "2026-01-01T00:00:00Z", "window": "10.5s", "containers": containers});
        let both = json!([{"name": "a", "usage": {"cpu": "100m", "memory": "1Mi"}}, {"name": "b", "usage": {"cpu": "250m"}}]);
        let list = json!({"items": [pod("p", both), pod("q", json!([{"name": "a", "usage": {}}])), pod("r", json!([]))]});
        let of = |resource: &str, container: &str| {
            let found = pod_usage(&list, resource, container);
            found.map(|figures| {
                figures
                    .iter()
                    .map(|(pod, figure)| format!("{pod} {}", figure.value))
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(of("cpu", "").unwrap(), ["p 350"]);
        assert_eq!(of("memory", "").unwrap(), Vec::<String>::new());
        assert_eq!(
            of("cpu", "b").unwrap_err(),
            "container b not present in metrics for pod n/q"
        );
        let window = pod_usage(&list, "cpu", "").unwrap()["p"].window;
        assert_eq!(window, 10_500_000);
        let none = pod_usage(&json!({"items": []}), "cpu", "");
        assert_eq!(
            none.unwrap_err(),
            "no metrics returned from resource metrics API"
        );
    }

    #[test]
    fn sources_that_say_nothing_or_nonsense_are_errors() {
        for list in [
            json!({}),
            json!({"items": []}),
            json!({"items": [{"value": "much"}]}),
            json!(null),
            json!({"items": 1}),
        ] {
            assert!(custom_figures(&list).is_err(), "{list}");
            assert!(first_value(&list).is_err(), "{list}");
            assert!(sum(&list).is_err(), "{list}");
        }
        let list = json!({"items": [{"describedObject": {"name": "p"}, "value": "1500m", "windowSeconds": 30}, {"value": 2}]});
        assert_eq!(sum(&list), Ok(3500));
        assert_eq!(first_value(&list), Ok(1500));
        assert_eq!(custom_figures(&list).unwrap()["p"].window, seconds(30));
    }

    #[test]
    fn an_api_that_does_not_answer_is_named() {
        assert_eq!(
            unfetched(
                "custom",
                "no custom metrics API (custom.metrics.k8s.io) registered"
            ),
            "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"
        );
    }

    #[test]
    fn an_api_that_is_not_there_is_said_not_to_be_found() {
        let resource = "queue.external.metrics.k8s.io";
        let absent = ApiError::from_response(404, None, b"404 page not found\n");
        assert_eq!(
            worded(absent, resource),
            "the server could not find the requested resource (get queue.external.metrics.k8s.io)"
        );
        let status = json!({"kind": "Status", "reason": "NotFound", "message": "no queue", "details": {"name": "queue"}});
        let known = ApiError::from_response(404, None, status.to_string().as_bytes());
        assert_eq!(worded(known, resource), "no queue");
        assert_eq!(worded(ApiError::transport("refused"), resource), "refused");
    }

    #[test]
    fn the_newer_version_of_custom_metrics_is_asked() {
        let group = |versions: &[&str]| {
            let versions = versions.iter().map(|version| json!({"version": version}));
            custom_version(&json!({"versions": versions.collect::<Vec<_>>()}))
        };
        assert_eq!(group(&["v1beta1", "v1beta2"]), Ok("v1beta2"));
        assert_eq!(group(&["v1beta1"]), Ok("v1beta1"));
        assert!(group(&["v2"]).is_err());
    }

    #[test]
    fn durations_are_read() {
        for (text, expected) in [
            ("10s", Some(10_000_000)),
            ("1m0.5s", Some(60_500_000)),
            ("250ms", Some(250_000)),
            ("1h", Some(3_600_000_000)),
            ("", None),
            ("5", None),
            ("x", None),
        ] {
            assert_eq!(go_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn queries_are_escaped() {
        let mut path = "/x".to_owned();
        query(&mut path, "a", "");
        query(&mut path, "b", "k in (v,w)");
        query(&mut path, "c", "d");
        assert_eq!(path, "/x?b=k%20in%20%28v%2Cw%29&c=d");
    }
}
