//! What a Job's policy makes of a failed pod.

use agent_runtime::kinds::{ContainerStatus, OnExitCodes, Pod, PodFailurePolicyRule};

/// What the first rule that matches says; without one, a failure counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// As if the pod had never been.
    Ignore,
    Count,
    /// No other pod for its index.
    FailIndex,
    /// The whole Job, with this message.
    FailJob(String),
}

impl Action {
    /// Whether the failure counts towards the limits.
    pub(super) fn counts(&self) -> bool {
        *self != Self::Ignore
    }
}

pub(super) fn action(rules: &[PodFailurePolicyRule], pod: &Pod) -> Action {
    let mut matching = rules.iter().enumerate();
    matching
        .find_map(|(at, rule)| verdict(at, rule, pod))
        .unwrap_or(Action::Count)
}

fn verdict(at: usize, rule: &PodFailurePolicyRule, pod: &Pod) -> Option<Action> {
    let cause = match &rule.on_exit_codes {
        Some(wanted) => exit_cause(wanted, pod)?,
        None => condition_cause(rule, pod)?,
    };
    match rule.action.as_str() {
        "Ignore" => Some(Action::Ignore),
        "Count" => Some(Action::Count),
        "FailIndex" => Some(Action::FailIndex),
        "FailJob" => Some(Action::FailJob(format!(
            "{cause} matching FailJob rule at index {at}"
        ))),
        _ => None,
    }
}

/// The first container that ended with one of the codes, containers before init containers.
fn exit_cause(wanted: &OnExitCodes, pod: &Pod) -> Option<String> {
    let status = &pod.status;
    let code = |container: &ContainerStatus| {
        let code = container.state.terminated.as_ref()?.exit_code;
        let of_it = wanted
            .container_name
            .as_ref()
            .is_none_or(|name| *name == container.name);
        (of_it && code != 0 && is_among(code, wanted)).then_some(code)
    };
    let mut containers = status
        .container_statuses
        .iter()
        .chain(&status.init_container_statuses);
    let (container, code) = containers.find_map(|c| Some((c, code(c)?)))?;
    Some(format!(
        "Container {} for pod {}/{} failed with exit code {code}",
        container.name, pod.metadata.namespace, pod.metadata.name
    ))
}

fn is_among(code: i32, wanted: &OnExitCodes) -> bool {
    match wanted.operator.as_str() {
        "In" => wanted.values.contains(&code),
        "NotIn" => !wanted.values.contains(&code),
        _ => false,
    }
}

fn condition_cause(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let patterns = &rule.on_pod_conditions;
    let condition = pod.status.conditions.iter().find(|condition| {
        let same =
            |status: &str| if status.is_empty() { "True" } else { status } == condition.status;
        patterns
            .iter()
            .any(|p| p.kind == condition.kind && same(&p.status))
    })?;
    Some(format!(
        "Pod {}/{} has condition {}",
        pod.metadata.namespace, pod.metadata.name, condition.kind
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::object;

    const POD: &str = "{metadata: {name: p, namespace: a}, status: {phase: Failed,
        conditions: [{type: DisruptionTarget, status: 'True'}, {type: Ready, status: 'False'}],
        containerStatuses: [{name: main, state: {terminated: {exitCode: 0}}}, {name: side, state: {terminated: {exitCode: 42}}}, {name: late, state: {running: {}}}],
        initContainerStatuses: [{name: init, state: {terminated: {exitCode: 7}}}]}}";

    fn decide(rules: &str) -> Action {
        let rules: Vec<PodFailurePolicyRule> = object(rules);
        action(&rules, &object(POD))
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        for (rules, expected) in [
            ("[]", Action::Count),
            (
                "[{action: Ignore, onExitCodes: {operator: In, values: [1, 42]}}]",
                Action::Ignore,
            ),
            (
                "[{action: Ignore, onExitCodes: {operator: In, values: [7]}}]",
                Action::Ignore,
            ),
            (
                "[{action: Ignore, onExitCodes: {containerName: main, operator: In, values: [42]}}]",
                Action::Count,
            ),
            (
                "[{action: FailIndex, onExitCodes: {containerName: side, operator: NotIn, values: [1]}}]",
                Action::FailIndex,
            ),
            // Success never matches, not even `NotIn`.
            (
                "[{action: Ignore, onExitCodes: {containerName: main, operator: NotIn, values: [1]}}]",
                Action::Count,
            ),
            (
                "[{action: Ignore, onExitCodes: {operator: NotIn, values: [42, 7]}}]",
                Action::Count,
            ),
            (
                "[{action: Ignore, onPodConditions: [{type: DisruptionTarget}]}]",
                Action::Ignore,
            ),
            (
                "[{action: Ignore, onPodConditions: [{type: DisruptionTarget, status: 'False'}]}]",
                Action::Count,
            ),
            (
                "[{action: Ignore, onPodConditions: [{type: Ready, status: 'False'}]}, {action: FailIndex, onExitCodes: {operator: In, values: [42]}}]",
                Action::Ignore,
            ),
            (
                "[{action: Surprise, onPodConditions: [{type: DisruptionTarget}]}]",
                Action::Count,
            ),
        ] {
            assert_eq!(decide(rules), expected, "{rules}");
        }
    }

    #[test]
    fn a_failed_job_says_why() {
        let codes = "[{action: Count, onExitCodes: {operator: In, values: [3]}}, {action: FailJob, onExitCodes: {operator: In, values: [42]}}]";
        let message =
            "Container side for pod a/p failed with exit code 42 matching FailJob rule at index 1";
        assert_eq!(decide(codes), Action::FailJob(message.into()));
        let conditions =
            "[{action: FailJob, onPodConditions: [{type: DisruptionTarget, status: 'True'}]}]";
        let message = "Pod a/p has condition DisruptionTarget matching FailJob rule at index 0";
        assert_eq!(decide(conditions), Action::FailJob(message.into()));
    }
}
