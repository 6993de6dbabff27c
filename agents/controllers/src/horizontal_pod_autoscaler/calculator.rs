//! How many replicas a measure asks for. Pods without figures, and pods that are only beginning, are reckoned with so that a
//! wrong guess moves nothing: as idle where it would scale up, as busy where it would scale down.

use crate::quantity;
use agent_runtime::kinds::{Container, Pod, ResourceRequirements};
use agent_runtime::timestamp::{self, Micros, seconds};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// For so long after its start a pod's use of processors is taken with care.
const CPU_INITIALIZATION: Micros = seconds(5 * 60);
/// A pod that became unready in this time after its start was never ready.
const INITIAL_READINESS: Micros = seconds(30);
/// How far from its target a measure may be without anything being done.
const TOLERANCE: f64 = 0.1;

/// A figure of one pod, in thousandths.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PodFigure {
    pub(super) value: i64,
    /// The end of the time over which was measured.
    pub(super) at: Micros,
    pub(super) window: Micros,
}

/// By the name of the pod.
pub(super) type PodFigures = BTreeMap<String, PodFigure>;

/// How far a ratio may be from one, by direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tolerances {
    pub(super) up: f64,
    pub(super) down: f64,
}

impl Tolerances {
    /// From what the rules of each direction say; a tenth where they say nothing.
    pub(super) fn new(up: Option<&Value>, down: Option<&Value>) -> Self {
        let read = |said: Option<&Value>| {
            let milli = said.and_then(quantity::milli).filter(|milli| *milli >= 0);
            milli.map_or(TOLERANCE, |milli| milli as f64 / 1000.0)
        };
        Self {
            up: read(up),
            down: read(down),
        }
    }

    fn allow(self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

/// What a measure asks for, and what it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    /// The average over the pods, or the value of what is measured as a whole; in thousandths.
    pub(super) value: i64,
    /// Of what pods request.
    pub(super) percent: Option<i32>,
}

/// Everything that a reckoning needs besides the figures.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) namespace: &'a str,
    pub(super) pods: &'a [Arc<Pod>],
    /// As the scale wants them.
    pub(super) replicas: i32,
    pub(super) tolerances: Tolerances,
    pub(super) now: Micros,
}

const NO_PODS: &str = "no pods returned by selector while calculating replica count";
const NO_FIGURES: &str = "did not receive metrics for targeted pods (pods might be unready)";

impl Subject<'_> {
    /// By what pods use of a resource, as a share of what they request of it. `container` is empty for all of them.
    pub(super) fn utilization(
        &self,
        mut figures: PodFigures,
        target: i32,
        resource: &str,
        container: &str,
    ) -> Result<Proposal, String> {
        let groups = self.group(&mut figures, resource == "cpu")?;
        let requests = requests(self.pods, resource, container)?;
        if figures.is_empty() {
            return Err(NO_FIGURES.to_owned());
        }
        let reckon = |figures: &PodFigures| utilization_of(figures, &requests, target);
        let (ratio, percent, average) = reckon(&figures)?;
        let missing = |pod: &str| {
            if ratio >= 1.0 {
                // Exactly at the target nothing is guessed: any guess would move something.
                return (ratio > 1.0).then_some(0);
            }
            let share = i128::from(target.max(100));
            let request = i128::from(requests.get(pod).copied().unwrap_or(0));
            Some(i64::try_from(request * share / 100).unwrap_or(i64::MAX))
        };
        let replicas = self.settle(figures, &groups, ratio, &missing, &|figures| {
            reckon(figures).map(|(ratio, ..)| ratio)
        })?;
        Ok(Proposal {
            replicas,
            value: average,
            percent: Some(percent),
        })
    }

    /// By the average of a figure over the pods.
    pub(super) fn average(
        &self,
        mut figures: PodFigures,
        target: i64,
        is_cpu: bool,
    ) -> Result<Proposal, String> {
        let groups = self.group(&mut figures, is_cpu)?;
        if figures.is_empty() {
            return Err(NO_FIGURES.to_owned());
        }
        let (ratio, average) = average_of(&figures, target);
        let missing = |_: &str| Some(if ratio < 1.0 { target } else { 0 });
        let replicas = self.settle(figures, &groups, ratio, &missing, &|figures| {
            Ok(average_of(figures, target).0)
        })?;
        Ok(Proposal {
            replicas,
            value: average,
            percent: None,
        })
    }

    /// By one figure for all pods together.
    pub(super) fn value(&self, value: i64, target: i64) -> Result<Proposal, String> {
        let ratio = value as f64 / target as f64;
        let replicas =
            if self.replicas == 0 {
                // From nothing there is nothing to multiply.
                up(ratio)
            } else if self.tolerances.allow(ratio) {
                self.replicas
            } else {
                let ready = self.ready();
                up(ratio
                    * ready.map_err(|error| format!("unable to calculate ready pods: {error}"))?)
            };
        Ok(Proposal {
            replicas,
            value,
            percent: None,
        })
    }

    /// By one figure for all pods together, of which each should have a part. `present` replicas are there.
    pub(super) fn value_per_pod(&self, value: i64, target: i64, present: i32) -> Proposal {
        let (value_f, target) = (value as f64, target as f64);
        let ratio = value_f / (target * f64::from(present));
        let replicas = match self.tolerances.allow(ratio) {
            true => present,
            false => up(value_f / target),
        };
        let part = match present {
            0 => value,
            _ => (value_f / f64::from(present)).ceil() as i64,
        };
        Proposal {
            replicas,
            value: part,
            percent: None,
        }
    }

    fn ready(&self) -> Result<f64, String> {
        if self.pods.is_empty() {
            return Err(NO_PODS.to_owned());
        }
        let is_ready = |pod: &&Arc<Pod>| pod.status.phase == "Running" && pod.is_ready();
        Ok(self.pods.iter().filter(is_ready).count() as f64)
    }

    /// Sorts the pods, and takes the figures away that do not count.
    fn group(&self, figures: &mut PodFigures, is_cpu: bool) -> Result<Groups, String> {
        if self.pods.is_empty() {
            return Err(NO_PODS.to_owned());
        }
        let mut groups = Groups::default();
        for pod in self.pods {
            let name = &pod.metadata.name;
            match self.state(pod, figures.get(name), is_cpu) {
                State::Ready => groups.ready += 1,
                State::Missing => groups.missing.push(name.clone()),
                State::Unready => {
                    groups.unready.push(name.clone());
                    figures.remove(name);
                }
                State::Ignored => {
                    figures.remove(name);
                }
            }
        }
        Ok(groups)
    }

    fn state(&self, pod: &Pod, figure: Option<&PodFigure>, is_cpu: bool) -> State {
        if pod.metadata.is_deleting() || pod.status.phase == "Failed" {
            return State::Ignored;
        }
        if pod.status.phase == "Pending" {
            return State::Unready;
        }
        match figure {
            None => State::Missing,
            Some(figure) if is_cpu && self.is_beginning(pod, figure) => State::Unready,
            Some(_) => State::Ready,
        }
    }

    /// Whether a pod's use of processors says nothing yet of how it will be.
    fn is_beginning(&self, pod: &Pod, figure: &PodFigure) -> bool {
        let started = pod.status.start_time.micros();
        let (Some(ready), Some(started)) = (pod.condition("Ready"), started) else {
            return true;
        };
        let changed = ready.last_transition_time.as_deref();
        let changed = changed.and_then(timestamp::parse).unwrap_or(0);
        let is_unready = ready.status == "False";
        if started.saturating_add(CPU_INITIALIZATION) > self.now {
            // What was measured reaches back to before it was so.
            is_unready || figure.at < changed.saturating_add(figure.window)
        } else {
            is_unready && started.saturating_add(INITIAL_READINESS) > changed
        }
    }

    /// From the first ratio to a number of replicas: pods that are not reckoned with yet are guessed against its direction,
    /// and the guess may cancel the change but never turn it. `missing` guesses what a pod without figures has.
    fn settle(
        &self,
        mut figures: PodFigures,
        groups: &Groups,
        ratio: f64,
        missing: &dyn Fn(&str) -> Option<i64>,
        reckon: &dyn Fn(&PodFigures) -> Result<f64, String>,
    ) -> Result<i32, String> {
        let rebalances = !groups.unready.is_empty() && ratio > 1.0;
        if !rebalances && groups.missing.is_empty() {
            return Ok(match self.tolerances.allow(ratio) {
                true => self.replicas,
                false => up(ratio * groups.ready as f64),
            });
        }
        let guess = |value: i64| PodFigure {
            value,
            at: self.now,
            window: 0,
        };
        for pod in &groups.missing {
            if let Some(value) = missing(pod) {
                figures.insert(pod.clone(), guess(value));
            }
        }
        if rebalances {
            for pod in &groups.unready {
                figures.insert(pod.clone(), guess(0));
            }
        }
        let again = reckon(&figures)?;
        let turned = (ratio < 1.0 && again > 1.0) || (ratio > 1.0 && again < 1.0);
        if self.tolerances.allow(again) || turned {
            return Ok(self.replicas);
        }
        let replicas = up(again * figures.len() as f64);
        let against =
            (again < 1.0 && replicas > self.replicas) || (again > 1.0 && replicas < self.replicas);
        Ok(if against { self.replicas } else { replicas })
    }
}

enum State {
    Ready,
    Unready,
    Missing,
    Ignored,
}

#[derive(Debug, Default, PartialEq)]
struct Groups {
    ready: usize,
    unready: Vec<String>,
    missing: Vec<String>,
}

/// Rounded up; no amount of replicas is beyond what can be said.
fn up(replicas: f64) -> i32 {
    replicas.ceil() as i32
}

/// Ratio to the target, percent of the requests, and average.
fn utilization_of(
    figures: &PodFigures,
    requests: &BTreeMap<String, i64>,
    target: i32,
) -> Result<(f64, i32, i64), String> {
    let (mut used, mut requested, mut count) = (0_i128, 0_i128, 0_i128);
    for (pod, figure) in figures {
        let Some(request) = requests.get(pod) else {
            continue;
        };
        used += i128::from(figure.value);
        requested += i128::from(*request);
        count += 1;
    }
    if requested == 0 {
        return Err("no metrics returned matched known pods".to_owned());
    }
    let percent = i32::try_from(used * 100 / requested).unwrap_or(i32::MAX);
    let average = i64::try_from(used / count).unwrap_or(i64::MAX);
    Ok((f64::from(percent) / f64::from(target), percent, average))
}

/// Ratio to the target, and average, of some figures.
fn average_of(figures: &PodFigures, target: i64) -> (f64, i64) {
    let total: i128 = figures
        .values()
        .map(|figure| i128::from(figure.value))
        .sum();
    let count = i128::try_from(figures.len().max(1)).unwrap_or(1);
    let average = i64::try_from(total / count).unwrap_or(i64::MAX);
    (average as f64 / target as f64, average)
}

/// What each pod requests of a resource. Every container has to say it, for else there is no share.
fn requests(
    pods: &[Arc<Pod>],
    resource: &str,
    container: &str,
) -> Result<BTreeMap<String, i64>, String> {
    let of_pod = |pod: &Arc<Pod>| {
        Ok((
            pod.metadata.name.clone(),
            request(pod, resource, container)?,
        ))
    };
    pods.iter().map(of_pod).collect()
}

fn request(pod: &Pod, resource: &str, container: &str) -> Result<i64, String> {
    let said = |resources: &ResourceRequirements| {
        quantity::milli(&Value::from(resources.requests.get(resource)?.as_str()))
    };
    let of_pod = pod.spec.resources.as_deref().and_then(said);
    if let Some(of_pod) = of_pod.filter(|_| container.is_empty()) {
        return Ok(of_pod);
    }
    let is_sidecar = |one: &&Container| one.restart_policy.as_deref() == Some("Always");
    let sidecars = pod.spec.init_containers.iter().filter(is_sidecar);
    let mut total = 0_i64;
    for one in pod.spec.containers.iter().chain(sidecars) {
        if !container.is_empty() && one.name != container {
            continue;
        }
        let own = said(&one.resources).ok_or_else(|| {
            let (name, pod) = (&one.name, &pod.metadata.name);
            format!("missing request for {resource} in container {name} of Pod {pod}")
        })?;
        total = total.saturating_add(own);
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{after, object};

    /// Pods by a word each: `ready`, `unready` (since lately), `never` (ready), `fresh` (began a moment ago), `pending`, `failed`,
    /// `deleted`.
    fn pods(words: &[&str]) -> Vec<Arc<Pod>> {
        let pod = |(index, word): (usize, &&str)| {
            let (phase, ready, started, changed) = match *word {
                "pending" => ("Pending", "False", "09:00:00", "09:00:00"),
                "failed" => ("Failed", "False", "09:00:00", "09:00:00"),
                "unready" => ("Running", "False", "09:00:00", "09:30:00"),
                "never" => ("Running", "False", "09:00:00", "09:00:10"),
                "fresh" => ("Running", "True", "09:59:50", "09:59:55"),
                _ => ("Running", "True", "09:00:00", "09:00:10"),
            };
            let deleted = if *word == "deleted" {
                ", deletionTimestamp: '2026-01-01T10:00:00Z'"
            } else {
                ""
            };
            Arc::new(object(&format!(
                "metadata: {{name: p{index}{deleted}}}\nspec: {{containers: [{{name: c, resources: {{requests: {{cpu: '1'}}}}}}, {{name: d, resources: {{requests: {{cpu: 500m}}}}}}]}}\nstatus: {{phase: {phase}, startTime: '2026-01-01T{started}Z', conditions: [{{type: Ready, status: '{ready}', lastTransitionTime: '2026-01-01T{changed}Z'}}]}}"
            )))
        };
        words.iter().enumerate().map(pod).collect()
    }

    /// Figures of the pods in their order; a negative one is missing.
    fn figures(values: &[i64]) -> PodFigures {
        let at = after(0).wall;
        let figure = |(index, value): (usize, &i64)| {
            let figure = PodFigure {
                value: *value,
                at,
                window: seconds(10),
            };
            (*value >= 0).then_some((format!("p{index}"), figure))
        };
        values.iter().enumerate().filter_map(figure).collect()
    }

    fn subject(pods: &[Arc<Pod>]) -> Subject<'_> {
        Subject {
            namespace: "a",
            pods,
            replicas: i32::try_from(pods.len()).unwrap(),
            tolerances: Tolerances::new(None, None),
            now: after(0).wall,
        }
    }

    #[test]
    fn utilization_scales_by_the_share_of_requests() {
        // Of 1500m each; the target is a half.
        for (words, used, expected) in [
            (&["ready"; 3][..], &[750, 750, 750][..], (3, 50, 750)),
            (&["ready"; 3], &[1500, 1500, 1500], (6, 100, 1500)),
            (&["ready"; 3], &[1000, 1000, 1000], (4, 66, 1000)),
            (&["ready"; 4], &[150, 150, 150, 150], (1, 10, 150)),
            // Within a tenth of the target nothing is done.
            (&["ready"; 3], &[800, 800, 800], (3, 53, 800)),
            (&["ready"; 3], &[700, 700, 700], (3, 46, 700)),
            (&["ready"; 1], &[0], (0, 0, 0)),
        ] {
            let pods = pods(words);
            let found = subject(&pods)
                .utilization(figures(used), 50, "cpu", "")
                .unwrap();
            assert_eq!(
                (found.replicas, found.percent.unwrap(), found.value),
                expected,
                "{used:?}"
            );
        }
    }

    #[test]
    fn pods_without_figures_are_guessed_against_the_direction() {
        for (words, used, expected, why) in [
            (
                &["ready"; 3][..],
                &[1500, 1500, -1][..],
                4,
                "up: the missing one is idle",
            ),
            (
                &["ready"; 3],
                &[900, 900, -1],
                3,
                "up: the guess turns the direction, so nothing is done",
            ),
            (
                &["ready"; 4],
                &[75, 75, 75, -1],
                3,
                "down: the missing one is busy",
            ),
            (
                &["ready"; 2],
                &[375, -1],
                2,
                "down: the guess is above the target",
            ),
            (
                &["ready"; 3],
                &[750, 750, -1],
                3,
                "at the target nothing is guessed",
            ),
            (
                &["ready", "ready", "unready"],
                &[1500, 1500, 1500],
                6,
                "unready long after it was ready",
            ),
            (
                &["ready", "ready", "never"],
                &[1500, 1500, 1500],
                4,
                "up: one that was never ready is idle",
            ),
            (
                &["ready", "ready", "fresh"],
                &[1500, 1500, 1500],
                4,
                "up: one that begins is idle",
            ),
            (
                &["ready", "ready", "fresh"],
                &[150, 150, 1500],
                1,
                "down: one that begins does not count",
            ),
            (
                &["ready", "ready", "pending"],
                &[1500, 1500, -1],
                4,
                "up: a pending one is idle",
            ),
            (
                &["ready", "ready", "failed"],
                &[1500, 1500, 1500],
                4,
                "a failed one is nothing",
            ),
            (
                &["ready", "ready", "deleted"],
                &[750, 750, 1500],
                3,
                "one that goes is nothing",
            ),
        ] {
            let pods = pods(words);
            let found = subject(&pods)
                .utilization(figures(used), 50, "cpu", "")
                .unwrap();
            assert_eq!(found.replicas, expected, "{why}");
        }
    }

    #[test]
    fn a_container_is_reckoned_alone_and_missing_requests_are_told() {
        let pods = pods(&["ready", "ready"]);
        let subject = subject(&pods);
        let of =
            |container: &str| subject.utilization(figures(&[1000, 1000]), 50, "cpu", container);
        assert_eq!(of("c").unwrap().replicas, 4);
        assert_eq!(of("d").unwrap().percent, Some(200));
        let missing = subject.utilization(figures(&[1, 1]), 50, "memory", "");
        assert_eq!(
            missing.unwrap_err(),
            "missing request for memory in container c of Pod p0"
        );
        let none = subject.utilization(PodFigures::new(), 50, "cpu", "");
        assert_eq!(none.unwrap_err(), NO_FIGURES);
        let strangers = figures(&[-1, -1, 5]);
        let unknown = subject.utilization(strangers, 50, "cpu", "");
        assert_eq!(
            unknown.unwrap_err(),
            "no metrics returned matched known pods"
        );
        let empty = Subject {
            pods: &[],
            ..subject
        };
        assert_eq!(empty.average(figures(&[1]), 1, false).unwrap_err(), NO_PODS);
    }

    #[test]
    fn averages_scale_by_the_value_of_each_pod() {
        for (words, values, is_cpu, expected) in [
            (&["ready"; 2][..], &[20_000, 40_000][..], false, (6, 30_000)),
            (&["ready"; 2], &[10_500, 10_500], false, (2, 10_500)),
            (&["ready"; 4], &[1_000, 1_000, 1_000, -1], false, (2, 1_000)),
            (&["ready"; 2], &[40_000, -1], false, (4, 40_000)),
            // Only what is said of processors is taken with care.
            (&["ready", "fresh"], &[20_000, 20_000], false, (4, 20_000)),
            (&["ready", "fresh"], &[20_000, 20_000], true, (2, 20_000)),
        ] {
            let pods = pods(words);
            let found = subject(&pods)
                .average(figures(values), 10_000, is_cpu)
                .unwrap();
            assert_eq!(
                (found.replicas, found.value),
                expected,
                "{words:?} {values:?}"
            );
        }
    }

    #[test]
    fn values_scale_by_ready_pods_or_by_parts() {
        let pods = pods(&["ready", "ready", "pending"]);
        let subject = subject(&pods);
        assert_eq!(subject.value(20_000, 10_000).unwrap().replicas, 4);
        assert_eq!(subject.value(10_900, 10_000).unwrap().replicas, 3);
        let none = Subject {
            replicas: 0,
            pods: &[],
            ..subject
        };
        assert_eq!(none.value(25_000, 10_000).unwrap().replicas, 3);
        assert_eq!(none.value(0, 10_000).unwrap().replicas, 0);
        let of = |value, present| {
            let found = subject.value_per_pod(value, 10_000, present);
            (found.replicas, found.value)
        };
        assert_eq!(of(50_000, 2), (5, 25_000));
        assert_eq!(of(21_000, 2), (2, 10_500));
        assert_eq!(of(0, 0), (0, 0));
        assert_eq!(of(30_000, 0), (3, 30_000));
        // A source that lies makes large numbers, and no panic.
        assert_eq!(of(i64::MAX, 1).0, i32::MAX);
        assert_eq!(subject.value(i64::MIN, 0).unwrap().replicas, i32::MIN);
    }

    #[test]
    fn tolerances_are_of_each_direction() {
        let pods = pods(&["ready"; 10]);
        let asks = |up: Option<&str>, down: Option<&str>, used: i64| {
            let value = |text: &str| Value::from(text);
            let (up, down) = (up.map(value), down.map(value));
            let tolerances = Tolerances::new(up.as_ref(), down.as_ref());
            let subject = Subject {
                tolerances,
                ..subject(&pods)
            };
            let found = subject.average(figures(&[used; 10]), 1000, false);
            found.unwrap().replicas
        };
        assert_eq!(asks(None, None, 1050), 10);
        assert_eq!(asks(Some("0"), None, 1050), 11);
        assert_eq!(asks(Some("0.5"), None, 1400), 10);
        assert_eq!(asks(None, Some("0.01"), 950), 10);
        assert_eq!(asks(None, Some("10m"), 890), 9);
        assert_eq!(asks(Some("no"), None, 1050), 10);
    }
}
