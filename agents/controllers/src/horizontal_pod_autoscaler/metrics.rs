//! What each measure of an autoscaler asks for, from what its source said; and how it stands in the status.

use super::calculator::{PodFigures, Proposal, Subject};
use super::selector;
use crate::quantity;
use agent_runtime::kinds::{
    ExternalMetricSource, MetricIdentifier, MetricSpec, MetricTarget, ObjectMetricSource,
};
use serde_json::{Value, json};

/// What a source said of a measure, in thousandths.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reading {
    /// One figure a pod.
    Pods(PodFigures),
    /// One figure for all; those of several series are added.
    Value(i64),
}

/// What a measure asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) replicas: i32,
    /// How people call the measure.
    pub(super) name: String,
    pub(super) status: Value,
}

/// Why a measure says nothing.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure {
    /// Of the event and the condition.
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// What is said of the measure among others.
    pub(super) summary: String,
}

/// What all measures together ask for: the most that one of them does.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Verdict {
    /// None where they cannot be followed: all of them failed, or one did and the others would take replicas away.
    pub(super) wanted: Option<(i32, String)>,
    pub(super) statuses: Vec<Value>,
    pub(super) failures: Vec<Failure>,
    /// All failures in one sentence.
    pub(super) summary: Option<String>,
}

/// `readings` are as many as `specs`; `present` replicas are there.
pub(super) fn judge(
    specs: &[MetricSpec],
    readings: Vec<Result<Reading, String>>,
    subject: &Subject<'_>,
    present: i32,
) -> Verdict {
    let mut verdict = Verdict::default();
    let mut most: Option<(i32, String)> = None;
    for (spec, reading) in specs.iter().zip(readings) {
        match wanted(spec, reading, subject, present) {
            Err(failure) => verdict.failures.push(failure),
            Ok(one) => {
                verdict.statuses.push(one.status);
                let is_more = most
                    .as_ref()
                    .is_none_or(|(replicas, _)| one.replicas > *replicas);
                if is_more {
                    most = Some((one.replicas, one.name));
                }
            }
        }
    }
    if let Some(first) = verdict.failures.first() {
        verdict.summary = Some(format!(
            "invalid metrics ({} invalid out of {}), first error is: {}",
            verdict.failures.len(),
            specs.len(),
            first.summary
        ));
    }
    let is_whole = verdict.failures.is_empty();
    verdict.wanted = most.filter(|(replicas, _)| is_whole || *replicas >= subject.replicas);
    verdict
}

fn wanted(
    spec: &MetricSpec,
    reading: Result<Reading, String>,
    subject: &Subject<'_>,
    present: i32,
) -> Result<Wanted, Failure> {
    match spec.kind.as_str() {
        "Resource" => {
            let source = spec.resource.clone().unwrap_or_default();
            let usage = Usage {
                resource: &source.name,
                container: "",
                target: &source.target,
            };
            let found = usage.wanted(reading, subject).map_err(|message| Failure {
                reason: "FailedGetResourceMetric",
                summary: format!(
                    "failed to get {} resource metric value: {message}",
                    source.name
                ),
                message,
            })?;
            let status = json!({"type": "Resource", "resource": {"name": source.name, "current": found.status}});
            Ok(Wanted { status, ..found })
        }
        "ContainerResource" => {
            let source = spec.container_resource.clone().unwrap_or_default();
            let usage = Usage {
                resource: &source.name,
                container: &source.container,
                target: &source.target,
            };
            let found = usage.wanted(reading, subject).map_err(|message| Failure {
                reason: "FailedGetContainerResourceMetric",
                summary: format!(
                    "failed to get {} container metric value: {message}",
                    source.container
                ),
                message,
            })?;
            let status = json!({"type": "ContainerResource", "containerResource":
                {"name": source.name, "container": source.container, "current": found.status}});
            Ok(Wanted { status, ..found })
        }
        "Pods" => {
            let source = spec.pods.clone().unwrap_or_default();
            let (name, average) = (
                &source.metric.name,
                milli(source.target.average_value.as_ref()),
            );
            let figures =
                pods(reading).map_err(|error| format!("unable to get metric {name}: {error}"));
            let found = figures.and_then(|figures| subject.average(figures, average, false));
            let found = found.map_err(|message| Failure {
                reason: "FailedGetPodsMetric",
                summary: format!("failed to get pods metric value: {message}"),
                message,
            })?;
            let status = json!({"type": "Pods", "pods":
                {"metric": identifier(&source.metric), "current": {"averageValue": quantity::text(found.value)}}});
            Ok(Wanted {
                replicas: found.replicas,
                name: format!("pods metric {name}"),
                status,
            })
        }
        "Object" => {
            let source = spec.object.clone().unwrap_or_default();
            of_object(&source, reading, subject, present).map_err(|(message, outer)| Failure {
                reason: "FailedGetObjectMetric",
                summary: format!("failed to get object metric value: {outer}"),
                message,
            })
        }
        "External" => {
            let source = spec.external.clone().unwrap_or_default();
            let name = &source.metric.name;
            of_external(&source, reading, subject, present).map_err(|(message, outer)| Failure {
                reason: "FailedGetExternalMetric",
                summary: format!("failed to get {name} external metric value: {outer}"),
                message,
            })
        }
        other => {
            let message = format!("unknown metric source type {other:?}");
            Err(Failure {
                reason: "InvalidMetricSourceType",
                summary: message.clone(),
                message,
            })
        }
    }
}

/// What pods use of a resource.
struct Usage<'a> {
    resource: &'a str,
    /// Empty for all.
    container: &'a str,
    target: &'a MetricTarget,
}

impl Usage<'_> {
    /// The status is that of the current value alone.
    fn wanted(
        &self,
        reading: Result<Reading, String>,
        subject: &Subject<'_>,
    ) -> Result<Wanted, String> {
        let resource = self.resource;
        let figures = pods(reading)
            .map_err(|error| format!("unable to get metrics for resource {resource}: {error}"));
        if let Some(average) = &self.target.average_value {
            let target = milli(Some(average));
            let found = figures
                .and_then(|figures| subject.average(figures, target, resource == "cpu"))
                .map_err(|error| format!("failed to get {resource} usage: {error}"))?;
            return Ok(Wanted {
                replicas: found.replicas,
                name: format!("{resource} resource"),
                status: json!({"averageValue": quantity::text(found.value)}),
            });
        }
        let Some(target) = self.target.average_utilization else {
            return Err("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set".to_owned());
        };
        let found = figures
            .and_then(|figures| subject.utilization(figures, target, resource, self.container))
            .map_err(|error| format!("failed to get {resource} utilization: {error}"))?;
        let whose = if self.container.is_empty() {
            ""
        } else {
            "container "
        };
        Ok(Wanted {
            replicas: found.replicas,
            name: format!("{resource} {whose}resource utilization (percentage of request)"),
            status: json!({"averageUtilization": found.percent, "averageValue": quantity::text(found.value)}),
        })
    }
}

/// A message for the event, and the same as it stands among others.
type Nested = (String, String);

fn of_object(
    source: &ObjectMetricSource,
    reading: Result<Reading, String>,
    subject: &Subject<'_>,
    present: i32,
) -> Result<Wanted, Nested> {
    let (metric, object) = (&source.metric.name, &source.described_object);
    let value = value(reading).map_err(|error| {
        let (kind, name) = (&object.kind, &object.name);
        let namespace = subject.namespace;
        format!("unable to get metric {metric}: {kind} on {namespace} {name}/{error}")
    });
    let status = |current: Value| {
        json!({"type": "Object", "object":
            {"metric": identifier(&source.metric), "describedObject": object, "current": current}})
    };
    let plain = |message: String| (message.clone(), message);
    match source.target.kind.as_str() {
        "Value" => {
            let target = milli(source.target.value.as_ref());
            let found = value.and_then(|value| subject.value(value, target)).map_err(plain)?;
            Ok(Wanted {
                replicas: found.replicas,
                name: format!("{} metric {metric}", object.kind),
                status: status(json!({"value": quantity::text(found.value)})),
            })
        }
        "AverageValue" => {
            let target = milli(source.target.average_value.as_ref());
            let value = value.map_err(|error| {
                let outer = format!("failed to get {metric} object metric: {error}");
                (error, outer)
            })?;
            let found = subject.value_per_pod(value, target, present);
            Ok(whole(found, &source.metric, status))
        }
        _ => Err(plain("invalid object metric source: neither a value target nor an average value target was set".to_owned())),
    }
}

fn of_external(
    source: &ExternalMetricSource,
    reading: Result<Reading, String>,
    subject: &Subject<'_>,
    present: i32,
) -> Result<Wanted, Nested> {
    let metric = &source.metric.name;
    let printed = selector::printed(source.metric.selector.as_ref());
    let value = value(reading).map_err(|error| {
        let namespace = subject.namespace;
        format!("unable to get external metric {namespace}/{metric}/{printed}: {error}")
    });
    let status = |current: Value| json!({"type": "External", "external": {"metric": identifier(&source.metric), "current": current}});
    if let Some(average) = &source.target.average_value {
        let value = value.map_err(|error| {
            let outer = format!("failed to get {metric} external metric: {error}");
            (error, outer)
        })?;
        let found = subject.value_per_pod(value, milli(Some(average)), present);
        return Ok(whole(found, &source.metric, status));
    }
    let Some(target) = &source.target.value else {
        let message = "invalid external metric source: neither a value target nor an average value target was set";
        return Err((message.to_owned(), message.to_owned()));
    };
    let found = value
        .and_then(|value| subject.value(value, milli(Some(target))))
        .map_err(|error| {
            let outer = format!("failed to get external metric {metric}: {error}");
            (error, outer)
        })?;
    Ok(Wanted {
        replicas: found.replicas,
        name: format!("external metric {metric}({printed})"),
        status: status(json!({"value": quantity::text(found.value)})),
    })
}

/// A figure of which each pod should have a part.
fn whole(found: Proposal, metric: &MetricIdentifier, status: impl Fn(Value) -> Value) -> Wanted {
    let printed = selector::printed(metric.selector.as_ref());
    Wanted {
        replicas: found.replicas,
        name: format!("external metric {}({printed})", metric.name),
        status: status(json!({"averageValue": quantity::text(found.value)})),
    }
}

fn identifier(metric: &MetricIdentifier) -> Value {
    match &metric.selector {
        Some(selector) => json!({"name": metric.name, "selector": selector}),
        None => json!({"name": metric.name}),
    }
}

/// The API refuses what is no amount.
fn milli(amount: Option<&Value>) -> i64 {
    amount.and_then(quantity::milli).unwrap_or(0)
}

fn pods(reading: Result<Reading, String>) -> Result<PodFigures, String> {
    match reading? {
        Reading::Pods(figures) => Ok(figures),
        Reading::Value(_) => Err("no metrics returned for pods".to_owned()),
    }
}

fn value(reading: Result<Reading, String>) -> Result<i64, String> {
    match reading? {
        Reading::Value(value) => Ok(value),
        Reading::Pods(_) => Err("no value returned".to_owned()),
    }
}
