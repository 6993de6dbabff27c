//! How fast a number of replicas may follow what measures ask for: windows over what was asked for recently, and bounds on
//! what was changed recently. What is remembered is of this process alone, by the clock that nobody sets.

use agent_runtime::kinds::{HorizontalPodAutoscalerBehavior, ScalingPolicy, ScalingRules};
use std::time::Duration;
use tokio::time::Instant;

/// Over what time the highest recommendation counts before anything is taken away.
const DOWN_WINDOW: Duration = Duration::from_secs(5 * 60);
/// The longest window and period that the API takes; nothing older matters to anybody.
const REMEMBERED_MAX: Duration = Duration::from_secs(60 * 60);
/// More are not kept: a reckoning every 15 seconds makes fewer in the longest window.
const KEPT_MAX: usize = 1024;

/// Without rules no more than twice as many at a time, or this many.
const UP_FACTOR: i64 = 2;
const UP_MINIMUM: i64 = 4;

/// What is remembered of one autoscaler.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Memory {
    recommendations: Vec<(Instant, i32)>,
    ups: Vec<(Instant, i32)>,
    downs: Vec<(Instant, i32)>,
}

/// A condition's reason and message.
pub(super) type Why = (&'static str, &'static str);

/// What is done of what was asked for, and why.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settled {
    pub(super) replicas: i32,
    /// Of `AbleToScale`.
    pub(super) able: Why,
    /// Of `ScalingLimited`, and whether it is.
    pub(super) limited: (bool, Why),
}

/// The bounds of an autoscaler.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds<'a> {
    pub(super) min: i32,
    pub(super) max: i32,
    pub(super) behavior: Option<&'a HorizontalPodAutoscalerBehavior>,
}

const READY: Why = ("ReadyForNewScale", "recommended size matches current size");
const UP_STABILIZED: Why = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: Why = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const WITHIN: Why = (
    "DesiredWithinRange",
    "the desired count is within the acceptable range",
);
const UP_LIMIT: Why = (
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
);
const TOO_MANY: Why = (
    "TooManyReplicas",
    "the desired replica count is more than the maximum replica count",
);
const DOWN_LIMIT: Why = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);
const TOO_FEW: Why = (
    "TooFewReplicas",
    "the desired replica count is less than the minimum replica count",
);

impl Memory {
    /// What there is when the autoscaler is seen first counts as recommended: a controller that has just begun takes nothing
    /// away at once.
    pub(super) fn begin(&mut self, current: i32, now: Instant) {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, current));
        }
    }

    /// Remembers a change that was made.
    pub(super) fn changed(&mut self, before: i32, after: i32, now: Instant) {
        let change = after.saturating_sub(before);
        let list = if change > 0 {
            &mut self.ups
        } else {
            &mut self.downs
        };
        list.push((now, change.saturating_abs()));
        forget(list, REMEMBERED_MAX, now);
    }

    /// Settles what is asked for, and remembers that it was.
    pub(super) fn settle(
        &mut self,
        current: i32,
        asked: i32,
        bounds: Bounds<'_>,
        now: Instant,
    ) -> Settled {
        let (stable, why) = match bounds.behavior {
            None => self.highest(asked, now),
            Some(behavior) => self.between(current, asked, behavior, now),
        };
        self.recommendations.push((now, asked));
        let kept = match bounds.behavior {
            None => DOWN_WINDOW,
            Some(_) => REMEMBERED_MAX,
        };
        forget(&mut self.recommendations, kept, now);
        let (replicas, limit) = match bounds.behavior {
            None => bounded(current, stable, bounds),
            Some(behavior) => self.paced(current, stable, behavior, bounds, now),
        };
        Settled {
            replicas,
            able: if stable == asked { READY } else { why },
            limited: (replicas != stable, limit),
        }
    }

    /// Without rules: the highest of the window.
    fn highest(&self, asked: i32, now: Instant) -> (i32, Why) {
        let recent = self.recent(DOWN_WINDOW, now, true);
        (recent.max().unwrap_or(asked).max(asked), DOWN_STABILIZED)
    }

    /// With rules: as close to what there is as recommendations of the windows leave it.
    fn between(
        &self,
        current: i32,
        asked: i32,
        behavior: &HorizontalPodAutoscalerBehavior,
        now: Instant,
    ) -> (i32, Why) {
        let (up, down) = (Rules::up(behavior), Rules::down(behavior));
        let lowest = self.recent(up.window, now, false).fold(asked, i32::min);
        let highest = self.recent(down.window, now, false).fold(asked, i32::max);
        let stable = current.max(lowest).min(highest);
        let why = if asked >= current {
            UP_STABILIZED
        } else {
            DOWN_STABILIZED
        };
        (stable, why)
    }

    /// Recommendations of a window.
    fn recent(
        &self,
        window: Duration,
        now: Instant,
        with_edge: bool,
    ) -> impl Iterator<Item = i32> + '_ {
        let is_recent = move |at: Instant| {
            let age = now.saturating_duration_since(at);
            age < window || (with_edge && age == window)
        };
        self.recommendations
            .iter()
            .filter(move |(at, _)| is_recent(*at))
            .map(|(_, replicas)| *replicas)
    }

    fn paced(
        &self,
        current: i32,
        asked: i32,
        behavior: &HorizontalPodAutoscalerBehavior,
        bounds: Bounds<'_>,
        now: Instant,
    ) -> (i32, Why) {
        if asked > current {
            let limit = self.up_limit(current, &Rules::up(behavior), now);
            let (most, why) = match bounds.max > limit {
                true => (limit, UP_LIMIT),
                false => (bounds.max, TOO_MANY),
            };
            if asked > most {
                return (most, why);
            }
        } else if asked < current {
            let limit = self.down_limit(current, &Rules::down(behavior), now);
            let (least, why) = match bounds.min < limit {
                true => (limit, DOWN_LIMIT),
                false => (bounds.min, TOO_FEW),
            };
            if asked < least {
                return (least, why);
            }
        }
        (asked, WITHIN)
    }

    /// What there was when the period of a policy began.
    fn at_start_of(&self, policy: &ScalingPolicy, current: i32, now: Instant) -> i64 {
        let period = Duration::from_secs(u64::try_from(policy.period_seconds).unwrap_or(0));
        let sum = |changes: &[(Instant, i32)]| -> i64 {
            let recent = changes.iter();
            let recent = recent.filter(|(at, _)| now.saturating_duration_since(*at) < period);
            recent.map(|(_, change)| i64::from(*change)).sum()
        };
        i64::from(current) - sum(&self.ups) + sum(&self.downs)
    }

    fn up_limit(&self, current: i32, rules: &Rules, now: Instant) -> i32 {
        let limits = rules.policies.iter().map(|policy| {
            let start = self.at_start_of(policy, current, now);
            match policy.kind.as_str() {
                "Percent" => percent(start, 100 + i64::from(policy.value), true),
                _ => start.saturating_add(i64::from(policy.value)),
            }
        });
        let limit = match rules.select {
            Select::Disabled => None,
            Select::Least => limits.min(),
            Select::Most => limits.max(),
        };
        narrow(limit.unwrap_or(0)).max(current)
    }

    fn down_limit(&self, current: i32, rules: &Rules, now: Instant) -> i32 {
        let limits = rules.policies.iter().map(|policy| {
            let start = self.at_start_of(policy, current, now);
            match policy.kind.as_str() {
                "Percent" => percent(start, 100 - i64::from(policy.value), false),
                _ => start.saturating_sub(i64::from(policy.value)),
            }
        });
        let limit = match rules.select {
            Select::Disabled => None,
            Select::Least => limits.max(),
            Select::Most => limits.min(),
        };
        narrow(limit.unwrap_or(i64::MAX)).min(current)
    }
}

fn forget(list: &mut Vec<(Instant, i32)>, older_than: Duration, now: Instant) {
    list.retain(|(at, _)| now.saturating_duration_since(*at) <= older_than);
    let surplus = list.len().saturating_sub(KEPT_MAX);
    list.drain(..surplus);
}

fn narrow(replicas: i64) -> i32 {
    i32::try_from(replicas.max(i64::from(i32::MIN))).unwrap_or(i32::MAX)
}

/// What a bound of percents leaves: up so that one of one can be added, down so that one of one can go.
fn percent(start: i64, percents: i64, rounds_up: bool) -> i64 {
    let product = i128::from(start) * i128::from(percents);
    let part = match rounds_up {
        true => product.div_euclid(100) + i128::from(product.rem_euclid(100) != 0),
        false => product / 100,
    };
    i64::try_from(part).unwrap_or(i64::MAX)
}

/// Without rules.
fn bounded(current: i32, asked: i32, bounds: Bounds<'_>) -> (i32, Why) {
    let limit = narrow((UP_FACTOR * i64::from(current)).max(UP_MINIMUM));
    let (most, why) = match bounds.max > limit {
        true => (limit, UP_LIMIT),
        false => (bounds.max, TOO_MANY),
    };
    if asked < bounds.min {
        (bounds.min, TOO_FEW)
    } else if asked > most {
        (most, why)
    } else {
        (asked, WITHIN)
    }
}

enum Select {
    Disabled,
    /// The policy that changes least.
    Least,
    Most,
}

/// The rules of one direction with what the API would have put where nothing was said.
struct Rules {
    window: Duration,
    select: Select,
    policies: Vec<ScalingPolicy>,
}

impl Rules {
    fn up(behavior: &HorizontalPodAutoscalerBehavior) -> Self {
        let usual = [policy("Pods", 4, 15), policy("Percent", 100, 15)];
        Self::of(behavior.scale_up.as_ref(), Duration::ZERO, &usual)
    }

    fn down(behavior: &HorizontalPodAutoscalerBehavior) -> Self {
        let usual = [policy("Percent", 100, 15)];
        Self::of(behavior.scale_down.as_ref(), DOWN_WINDOW, &usual)
    }

    fn of(said: Option<&ScalingRules>, window: Duration, usual: &[ScalingPolicy]) -> Self {
        let seconds = said.and_then(|rules| rules.stabilization_window_seconds);
        let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let policies = said.map(|rules| rules.policies.clone());
        let select = said.and_then(|rules| rules.select_policy.as_deref());
        Self {
            window: seconds.map_or(window, Duration::from_secs),
            select: match select {
                Some("Disabled") => Select::Disabled,
                Some("Min") => Select::Least,
                _ => Select::Most,
            },
            policies: policies
                .filter(|all| !all.is_empty())
                .unwrap_or_else(|| usual.to_vec()),
        }
    }
}

fn policy(kind: &str, value: i32, period_seconds: i32) -> ScalingPolicy {
    ScalingPolicy {
        kind: kind.to_owned(),
        value,
        period_seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{after, object};

    /// Settles a series of (seconds, current, asked) and gives the replicas with the reasons.
    fn series(behavior: &str, steps: &[(u64, i32, i32)]) -> Vec<(i32, &'static str, &'static str)> {
        let behavior: Option<HorizontalPodAutoscalerBehavior> =
            (!behavior.is_empty()).then(|| object(behavior));
        let bounds = Bounds {
            min: 1,
            max: 50,
            behavior: behavior.as_ref(),
        };
        let mut memory = Memory::default();
        let step = |(seconds, current, asked): &(u64, i32, i32)| {
            let now = after(*seconds).steady;
            memory.begin(*current, now);
            let settled = memory.settle(*current, *asked, bounds, now);
            if settled.replicas != *current {
                memory.changed(*current, settled.replicas, now);
            }
            (settled.replicas, settled.able.0, settled.limited.1.0)
        };
        steps.iter().map(step).collect()
    }

    fn replicas(behavior: &str, steps: &[(u64, i32, i32)]) -> Vec<i32> {
        let settled = series(behavior, steps).into_iter();
        settled.map(|(replicas, ..)| replicas).collect()
    }

    #[test]
    fn without_rules_it_doubles_at_most_and_waits_before_it_takes_away() {
        assert_eq!(
            series("", &[(0, 1, 20), (15, 4, 20), (30, 8, 20), (45, 16, 20)]),
            [
                (4, "ReadyForNewScale", "ScaleUpLimit"),
                (8, "ReadyForNewScale", "ScaleUpLimit"),
                (16, "ReadyForNewScale", "ScaleUpLimit"),
                (20, "ReadyForNewScale", "DesiredWithinRange"),
            ]
        );
        assert_eq!(
            series(
                "",
                &[
                    (0, 10, 10),
                    (15, 10, 2),
                    (300, 10, 3),
                    (301, 10, 2),
                    (700, 3, 0)
                ]
            ),
            [
                (10, "ReadyForNewScale", "DesiredWithinRange"),
                (10, "ScaleDownStabilized", "DesiredWithinRange"),
                (10, "ScaleDownStabilized", "DesiredWithinRange"),
                (3, "ScaleDownStabilized", "DesiredWithinRange"),
                (1, "ReadyForNewScale", "TooFewReplicas"),
            ]
        );
        assert_eq!(
            series("", &[(0, 40, 99)]),
            [(50, "ReadyForNewScale", "TooManyReplicas")]
        );
    }

    #[test]
    fn a_controller_that_has_just_begun_takes_nothing_away() {
        assert_eq!(
            replicas("", &[(0, 8, 2), (299, 8, 2), (301, 8, 2)]),
            [8, 8, 2]
        );
    }

    #[test]
    fn policies_bound_what_is_added_in_their_periods() {
        let pods = "scaleUp: {policies: [{type: Pods, value: 3, periodSeconds: 60}]}";
        assert_eq!(
            replicas(pods, &[(0, 2, 20), (15, 5, 20), (59, 5, 20), (60, 5, 20)]),
            [5, 5, 5, 8]
        );
        let both = |select: &str| {
            format!(
                "scaleUp: {{selectPolicy: {select}, policies: [{{type: Pods, value: 4, periodSeconds: 60}}, {{type: Percent, value: 10, periodSeconds: 60}}]}}"
            )
        };
        assert_eq!(replicas(&both("Max"), &[(0, 20, 40)]), [24]);
        assert_eq!(replicas(&both("Min"), &[(0, 20, 40)]), [22]);
        assert_eq!(
            series(&both("Disabled"), &[(0, 20, 40)]),
            [(20, "ReadyForNewScale", "ScaleUpLimit")]
        );
        // A tenth of one is one.
        assert_eq!(replicas(&both("Min"), &[(0, 1, 40)]), [2]);
        // The usual ones: four, or as many again.
        assert_eq!(
            replicas("scaleDown: {}", &[(0, 1, 40), (15, 5, 40), (30, 10, 40)]),
            [5, 10, 20]
        );
    }

    #[test]
    fn policies_bound_what_is_taken_away_in_their_periods() {
        let rules = |select: &str| {
            format!(
                "scaleDown: {{stabilizationWindowSeconds: 0, selectPolicy: {select}, policies: [{{type: Pods, value: 2, periodSeconds: 60}}, {{type: Percent, value: 50, periodSeconds: 60}}]}}"
            )
        };
        assert_eq!(
            replicas(&rules("Max"), &[(0, 20, 1), (30, 10, 1), (61, 10, 1)]),
            [10, 10, 5]
        );
        assert_eq!(
            series(&rules("Min"), &[(0, 20, 1), (60, 18, 1)]),
            [
                (18, "ReadyForNewScale", "ScaleDownLimit"),
                (16, "ReadyForNewScale", "ScaleDownLimit")
            ]
        );
        assert_eq!(replicas(&rules("Disabled"), &[(0, 20, 1)]), [20]);
        // What was added in the period may go again besides.
        let quick = "scaleUp: {policies: [{type: Pods, value: 10, periodSeconds: 60}]}\nscaleDown: {stabilizationWindowSeconds: 0, policies: [{type: Pods, value: 1, periodSeconds: 60}]}";
        assert_eq!(replicas(quick, &[(0, 5, 15), (10, 15, 3)]), [15, 4]);
    }

    #[test]
    fn windows_hold_what_there_is_in_both_directions() {
        let rules = "scaleUp: {stabilizationWindowSeconds: 60}\nscaleDown: {stabilizationWindowSeconds: 120}";
        assert_eq!(
            series(
                rules,
                &[
                    (0, 5, 5),
                    (15, 5, 9),
                    (75, 5, 9),
                    (90, 9, 2),
                    (194, 9, 3),
                    (196, 9, 2)
                ]
            ),
            [
                (5, "ReadyForNewScale", "DesiredWithinRange"),
                (5, "ScaleUpStabilized", "DesiredWithinRange"),
                (9, "ReadyForNewScale", "DesiredWithinRange"),
                (9, "ScaleDownStabilized", "DesiredWithinRange"),
                (9, "ScaleDownStabilized", "DesiredWithinRange"),
                (3, "ScaleDownStabilized", "DesiredWithinRange"),
            ]
        );
        // The usual window of what is taken away is that of autoscalers without rules.
        assert_eq!(
            replicas("scaleUp: {}", &[(0, 5, 2), (299, 5, 2), (300, 5, 2)]),
            [5, 5, 2]
        );
    }

    #[test]
    fn odd_rules_do_no_harm() {
        let odd = "scaleUp: {stabilizationWindowSeconds: -1, policies: [{type: Percent, value: 2147483647, periodSeconds: -5}, {type: '', value: -7}]}";
        assert_eq!(
            replicas(odd, &[(0, 2147483647, 2147483647), (1, 5, 2147483647)]),
            [2147483647, 50]
        );
        let mut memory = Memory::default();
        let now = after(0).steady;
        for _ in 0..2000 {
            memory.changed(1, 2, now);
        }
        assert_eq!(memory.ups.len(), KEPT_MAX);
    }
}
