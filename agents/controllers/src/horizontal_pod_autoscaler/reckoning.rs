//! One look at an autoscaler: what is to be done, what its status says of that, and what people should read. Pure; the
//! module above asks the questions and does what comes out.

use super::behavior::{Bounds, Memory};
use super::metrics::Verdict;
use super::source::Scale;
use crate::patches;
use agent_runtime::EventType;
use agent_runtime::kinds::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus, condition};
use agent_runtime::timestamp::{self, Moment};
use serde_json::{Value, json};

const ABLE: &str = "AbleToScale";
const ACTIVE: &str = "ScalingActive";
const LIMITED: &str = "ScalingLimited";

/// A change of the target's size.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rescale {
    pub(super) replicas: i32,
    reason: String,
}

/// What there is to do once the size of the target is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Need {
    /// The target was scaled to nothing by hand: it stays so.
    Nothing,
    /// It is out of its bounds, whatever the measures say.
    Rescale(Rescale),
    /// The measures have to be asked.
    Measures,
}

/// An event.
pub(super) type Told = (EventType, &'static str, String);

/// See the module head.
pub(super) struct Reckoning<'a> {
    autoscaler: &'a HorizontalPodAutoscaler,
    now: Moment,
    status: HorizontalPodAutoscalerStatus,
    pub(super) events: Vec<Told>,
}

impl<'a> Reckoning<'a> {
    pub(super) fn new(autoscaler: &'a HorizontalPodAutoscaler, now: Moment) -> Self {
        Self {
            autoscaler,
            now,
            status: autoscaler.status.clone(),
            events: Vec::new(),
        }
    }

    /// The target cannot be read.
    pub(super) fn without_scale(&mut self, error: &str) {
        self.warn("FailedGetScale", error);
        let message =
            format!("the HPA controller was unable to get the target's current scale: {error}");
        self.condition(ABLE, "False", "FailedGetScale", &message);
    }

    pub(super) fn need(&mut self, scale: &Scale, memory: &mut Memory) -> Need {
        let message = "the HPA controller was able to get the target's current scale";
        self.condition(ABLE, "True", "SucceededGetScale", message);
        memory.begin(scale.wanted, self.now.steady);
        let bounds = self.bounds();
        let to = |replicas: i32, reason: &str| {
            Need::Rescale(Rescale {
                replicas,
                reason: reason.to_owned(),
            })
        };
        if scale.wanted == 0 && bounds.min != 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            self.condition(ACTIVE, "False", "ScalingDisabled", message);
            Need::Nothing
        } else if scale.wanted > bounds.max {
            to(
                bounds.max,
                "Current number of replicas above Spec.MaxReplicas",
            )
        } else if scale.wanted < bounds.min {
            to(
                bounds.min,
                "Current number of replicas below Spec.MinReplicas",
            )
        } else {
            Need::Measures
        }
    }

    fn bounds(&self) -> Bounds<'a> {
        let spec = &self.autoscaler.spec;
        Bounds {
            min: spec.min_replicas.unwrap_or(1),
            max: spec.max_replicas,
            behavior: spec.behavior.as_ref(),
        }
    }

    /// What the target selects cannot be told, or is not this autoscaler's alone. The message of the condition, where it is not
    /// that of the event.
    pub(super) fn without_pods(
        &mut self,
        scale: &Scale,
        event: &'static str,
        reason: &'static str,
        message: &str,
        condition: Option<&str>,
    ) {
        self.warn(event, message);
        self.condition(ACTIVE, "False", reason, condition.unwrap_or(message));
        self.failed(scale, message);
    }

    /// Follows the measures as far as the bounds allow. None where nothing is to be done.
    pub(super) fn follow(
        &mut self,
        scale: &Scale,
        verdict: &Verdict,
        memory: &mut Memory,
    ) -> Option<Rescale> {
        for failure in &verdict.failures {
            self.warn(failure.reason, &failure.message);
        }
        let Some((asked, measure)) = &verdict.wanted else {
            if let Some(first) = verdict.failures.first() {
                let (reason, message) = (first.reason, &first.message);
                let message = format!("the HPA was unable to compute the replica count: {message}");
                self.condition(ACTIVE, "False", reason, &message);
            }
            let summary = verdict.summary.clone().unwrap_or_default();
            self.failed(scale, &summary);
            return None;
        };
        let message =
            format!("the HPA was able to successfully calculate a replica count from {measure}");
        self.condition(ACTIVE, "True", "ValidMetricFound", &message);
        let current = scale.wanted;
        let asked = (*asked).max(0);
        let reason = match asked.cmp(&current) {
            std::cmp::Ordering::Greater => format!("{measure} above target"),
            std::cmp::Ordering::Less => "All metrics below target".to_owned(),
            std::cmp::Ordering::Equal => String::new(),
        };
        let settled = memory.settle(current, asked, self.bounds(), self.now.steady);
        let (able, (is_limited, limited)) = (settled.able, settled.limited);
        self.condition(ABLE, "True", able.0, able.1);
        let is_limited = if is_limited { "True" } else { "False" };
        self.condition(LIMITED, is_limited, limited.0, limited.1);
        (settled.replicas != current).then_some(Rescale {
            replicas: settled.replicas,
            reason,
        })
    }

    /// No measure says anything.
    fn failed(&mut self, scale: &Scale, summary: &str) {
        self.warn("FailedComputeMetricsReplicas", summary);
        self.status.current_replicas = scale.wanted;
    }

    /// The target has its new size.
    pub(super) fn rescaled(
        &mut self,
        scale: &Scale,
        rescale: &Rescale,
        statuses: Vec<Value>,
        memory: &mut Memory,
    ) {
        let Rescale { replicas, reason } = rescale;
        let message =
            format!("the HPA controller was able to update the target scale to {replicas}");
        self.condition(ABLE, "True", "SucceededRescale", &message);
        let message = format!("New size: {replicas}; reason: {reason}");
        self.events
            .push((EventType::Normal, "SuccessfulRescale", message));
        memory.changed(scale.wanted, *replicas, self.now.steady);
        self.status.last_scale_time = Some(timestamp::time(self.now.wall));
        self.settled(scale, *replicas, statuses);
    }

    pub(super) fn not_rescaled(&mut self, scale: &Scale, rescale: &Rescale, error: &str) {
        let Rescale { replicas, reason } = rescale;
        let message = format!("New size: {replicas}; reason: {reason}; error: {error}");
        self.warn("FailedRescale", &message);
        let message = format!("the HPA controller was unable to update the target scale: {error}");
        self.condition(ABLE, "False", "FailedUpdateScale", &message);
        self.status.current_replicas = scale.wanted;
    }

    /// The size is what it should be.
    pub(super) fn settled(&mut self, scale: &Scale, desired: i32, statuses: Vec<Value>) {
        self.status.current_replicas = scale.wanted;
        self.status.desired_replicas = desired;
        self.status.current_metrics = statuses;
    }

    fn warn(&mut self, reason: &'static str, message: &str) {
        let event = (EventType::Warning, reason, message.to_owned());
        self.events.push(event);
    }

    fn condition(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let mut next = patches::condition(kind, status, reason, message, self.now.wall);
        let all = &mut self.status.conditions;
        if let Some(before) = condition(all, kind).filter(|before| before.status == status) {
            next.last_transition_time
                .clone_from(&before.last_transition_time);
        }
        match all.iter_mut().find(|one| one.kind == kind) {
            Some(one) => *one = next,
            None => all.push(next),
        }
    }

    /// The status as a patch, where it changed.
    pub(super) fn patch(&self) -> Option<Value> {
        let status = &self.status;
        if *status == self.autoscaler.status {
            return None;
        }
        let metrics = match status.current_metrics.is_empty() {
            true => Value::Null,
            false => status.current_metrics.clone().into(),
        };
        Some(
            json!({"metadata": {"uid": self.autoscaler.metadata.uid}, "status": {
                "lastScaleTime": status.last_scale_time,
                "currentReplicas": patches::or_absent(status.current_replicas.into()),
                "desiredReplicas": status.desired_replicas,
                "currentMetrics": metrics,
                "conditions": patches::conditions(&status.conditions),
            }}),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::calculator::{PodFigure, PodFigures, Subject, Tolerances};
    use super::super::metrics::{Reading, judge};
    use super::*;
    use crate::testing::{after, object};
    use agent_runtime::kinds::Pod;
    use std::sync::Arc;

    fn autoscaler(spec: &str) -> HorizontalPodAutoscaler {
        object(&format!(
            "metadata: {{name: web, namespace: a, uid: u}}\nspec: {{scaleTargetRef: {{kind: Deployment, name: web, apiVersion: apps/v1}}, {spec}}}"
        ))
    }

    fn scale(wanted: i32) -> Scale {
        Scale {
            wanted,
            present: wanted,
            selector: "app=web".into(),
            ..Scale::default()
        }
    }

    fn pods(count: usize) -> Vec<Arc<Pod>> {
        let pod = |index| {
            Arc::new(object(&format!(
                "metadata: {{name: p{index}}}\nspec: {{containers: [{{name: c, resources: {{requests: {{cpu: '1'}}}}}}]}}\nstatus: {{phase: Running, startTime: '2026-01-01T09:00:00Z', conditions: [{{type: Ready, status: 'True', lastTransitionTime: '2026-01-01T09:00:10Z'}}]}}"
            )))
        };
        (0..count).map(pod).collect()
    }

    fn usage(values: &[i64]) -> Result<Reading, String> {
        let figure = |(index, value): (usize, &i64)| {
            (
                format!("p{index}"),
                PodFigure {
                    value: *value,
                    at: after(0).wall,
                    window: 0,
                },
            )
        };
        Ok(Reading::Pods(
            values
                .iter()
                .enumerate()
                .map(figure)
                .collect::<PodFigures>(),
        ))
    }

    /// The lines of one look at a target of so many replicas.
    fn look(spec: &str, wanted: i32, readings: Vec<Result<Reading, String>>) -> Vec<String> {
        let autoscaler = autoscaler(spec);
        let (mut memory, scale) = (Memory::default(), scale(wanted));
        let mut reckoning = Reckoning::new(&autoscaler, after(0));
        let rescale = match reckoning.need(&scale, &mut memory) {
            Need::Nothing => {
                reckoning.settled(&scale, scale.wanted, Vec::new());
                None
            }
            Need::Rescale(rescale) => Some((rescale, Vec::new())),
            Need::Measures => {
                let pods = pods(usize::try_from(wanted).unwrap());
                let subject = Subject {
                    namespace: "a",
                    pods: &pods,
                    replicas: wanted,
                    tolerances: Tolerances::new(None, None),
                    now: after(0).wall,
                };
                let verdict = judge(&autoscaler.spec.metrics, readings, &subject, wanted);
                let rescale = reckoning.follow(&scale, &verdict, &mut memory);
                if rescale.is_none() && verdict.wanted.is_some() {
                    reckoning.settled(&scale, wanted, verdict.statuses.clone());
                }
                rescale.map(|rescale| (rescale, verdict.statuses))
            }
        };
        if let Some((rescale, statuses)) = rescale {
            reckoning.rescaled(&scale, &rescale, statuses, &mut memory);
        }
        lines(&reckoning)
    }

    fn lines(reckoning: &Reckoning<'_>) -> Vec<String> {
        let conditions = reckoning.status.conditions.iter();
        let conditions = conditions.map(|c| format!("{}={} {}", c.kind, c.status, c.reason));
        let events = reckoning.events.iter();
        let events = events.map(|(_, reason, message)| format!("{reason}: {message}"));
        let status = &reckoning.status;
        let sizes = format!("{} -> {}", status.current_replicas, status.desired_replicas);
        conditions.chain(events).chain([sizes]).collect()
    }

    const CPU: &str = "maxReplicas: 10, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]";

    #[test]
    fn busy_pods_get_company() {
        assert_eq!(
            look(CPU, 2, vec![usage(&[900, 700])]),
            [
                "AbleToScale=True SucceededRescale",
                "ScalingActive=True ValidMetricFound",
                "ScalingLimited=False DesiredWithinRange",
                "SuccessfulRescale: New size: 4; reason: cpu resource utilization (percentage of request) above target",
                "2 -> 4",
            ]
        );
        assert_eq!(
            look(CPU, 2, vec![usage(&[500, 500])]),
            [
                "AbleToScale=True ReadyForNewScale",
                "ScalingActive=True ValidMetricFound",
                "ScalingLimited=False DesiredWithinRange",
                "2 -> 2",
            ]
        );
        // Idle, but what there was a moment ago counts for five minutes.
        assert_eq!(
            look(CPU, 4, vec![usage(&[0, 0, 0, 0])])[0],
            "AbleToScale=True ScaleDownStabilized"
        );
    }

    #[test]
    fn a_target_out_of_its_bounds_is_brought_back_whatever_it_does() {
        for (wanted, spec, expected) in [
            (
                12,
                "maxReplicas: 10",
                "SuccessfulRescale: New size: 10; reason: Current number of replicas above Spec.MaxReplicas",
            ),
            (
                1,
                "minReplicas: 3, maxReplicas: 10",
                "SuccessfulRescale: New size: 3; reason: Current number of replicas below Spec.MinReplicas",
            ),
        ] {
            let lines = look(spec, wanted, Vec::new());
            assert!(lines.iter().any(|line| line == expected), "{lines:#?}");
        }
        let lines = look(CPU, 0, Vec::new());
        assert_eq!(
            lines[1..],
            ["ScalingActive=False ScalingDisabled", "0 -> 0"]
        );
    }

    #[test]
    fn figures_that_are_absent_change_nothing_and_are_told() {
        let absent = || Err("no metrics returned from resource metrics API".to_owned());
        assert_eq!(
            look(CPU, 2, vec![absent()]),
            [
                "AbleToScale=True SucceededGetScale",
                "ScalingActive=False FailedGetResourceMetric",
                "FailedGetResourceMetric: failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API",
                "FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API",
                "2 -> 0",
            ]
        );
        let both = "maxReplicas: 10, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}, {type: Pods, pods: {metric: {name: qps}, target: {type: AverageValue, averageValue: '10'}}}]";
        // The other measure is followed up, and never down.
        assert!(
            look(both, 2, vec![absent(), usage(&[20_000, 20_000])]).contains(&"2 -> 4".to_owned())
        );
        let down = look(both, 2, vec![absent(), usage(&[1, 1])]);
        assert!(
            down.contains(&"ScalingActive=False FailedGetResourceMetric".to_owned()),
            "{down:#?}"
        );
    }

    #[test]
    fn of_several_measures_the_one_that_asks_for_most_counts() {
        let three = "maxReplicas: 100, metrics: [{type: Pods, pods: {metric: {name: qps}, target: {type: AverageValue, averageValue: '10'}}}, {type: External, external: {metric: {name: queue, selector: {matchLabels: {q: jobs}}}, target: {type: AverageValue, averageValue: '30'}}}, {type: Object, object: {describedObject: {kind: Ingress, name: main, apiVersion: networking.k8s.io/v1}, metric: {name: hits}, target: {type: Value, value: 2k}}}]";
        let lines = look(
            three,
            4,
            vec![
                usage(&[10_000; 4]),
                Ok(Reading::Value(210_000)),
                Ok(Reading::Value(2_000_000)),
            ],
        );
        let event = "SuccessfulRescale: New size: 7; reason: external metric queue(&LabelSelector{MatchLabels:map[string]string{q: jobs,},MatchExpressions:[]LabelSelectorRequirement{},}) above target";
        assert!(lines.iter().any(|line| line == event), "{lines:#?}");
        let lines = look(
            three,
            4,
            vec![
                usage(&[10_000; 4]),
                Ok(Reading::Value(120_000)),
                Ok(Reading::Value(4_000_000)),
            ],
        );
        assert!(
            lines.contains(
                &"SuccessfulRescale: New size: 8; reason: Ingress metric hits above target"
                    .to_owned()
            ),
            "{lines:#?}"
        );
        let lines = look(
            three,
            4,
            vec![
                Ok(Reading::Value(1)),
                Err("late".into()),
                Err("gone".into()),
            ],
        );
        for event in [
            "FailedGetObjectMetric: unable to get metric hits: Ingress on a main/gone",
            "FailedGetExternalMetric: unable to get external metric a/queue/&LabelSelector{MatchLabels:map[string]string{q: jobs,},MatchExpressions:[]LabelSelectorRequirement{},}: late",
        ] {
            assert!(lines.contains(&event.to_owned()), "{event}: {lines:#?}");
        }
    }

    #[test]
    fn the_status_has_what_was_measured_and_is_written_when_it_changed() {
        let mut autoscaler = autoscaler(CPU);
        let (mut memory, scale) = (Memory::default(), scale(2));
        let pods = pods(2);
        let subject = Subject {
            namespace: "a",
            pods: &pods,
            replicas: 2,
            tolerances: Tolerances::new(None, None),
            now: after(0).wall,
        };
        let verdict = judge(
            &autoscaler.spec.metrics,
            vec![usage(&[500, 480])],
            &subject,
            2,
        );
        let patch = |autoscaler: &HorizontalPodAutoscaler, memory: &mut Memory, seconds: u64| {
            let mut reckoning = Reckoning::new(autoscaler, after(seconds));
            assert_eq!(reckoning.need(&scale, memory), Need::Measures);
            assert_eq!(reckoning.follow(&scale, &verdict, memory), None);
            reckoning.settled(&scale, 2, verdict.statuses.clone());
            reckoning.patch()
        };
        let first = patch(&autoscaler, &mut memory, 0).unwrap();
        assert_eq!(
            first["status"]["currentMetrics"],
            json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 49, "averageValue": "490m"}}}])
        );
        assert_eq!(
            first["status"]["conditions"][0]["lastTransitionTime"],
            "2026-01-01T10:00:00Z"
        );
        assert_eq!(
            (
                &first["status"]["currentReplicas"],
                &first["status"]["desiredReplicas"]
            ),
            (&json!(2), &json!(2))
        );
        autoscaler.status = serde_json::from_value(first["status"].clone()).unwrap();
        assert_eq!(patch(&autoscaler, &mut memory, 15), None);
    }

    #[test]
    fn a_target_that_cannot_be_read_or_written_is_told() {
        let autoscaler = autoscaler(CPU);
        let mut reckoning = Reckoning::new(&autoscaler, after(0));
        reckoning.without_scale("deployments.apps \"web\" not found");
        assert_eq!(
            lines(&reckoning)[..2],
            [
                "AbleToScale=False FailedGetScale",
                "FailedGetScale: deployments.apps \"web\" not found"
            ]
        );
        let mut memory = Memory::default();
        let mut reckoning = Reckoning::new(&autoscaler, after(0));
        let Need::Rescale(rescale) = reckoning.need(&scale(12), &mut memory) else {
            panic!()
        };
        reckoning.not_rescaled(&scale(12), &rescale, "no");
        assert_eq!(
            lines(&reckoning)[..2],
            [
                "AbleToScale=False FailedUpdateScale",
                "FailedRescale: New size: 10; reason: Current number of replicas above Spec.MaxReplicas; error: no"
            ]
        );
    }
}
