//! Says in the status of each PodDisruptionBudget how many of its pods may be evicted now.

use crate::manager::{Body, Controller};
use crate::patches;
use crate::world::{Caches, World};
use agent_runtime::events::reference;
use agent_runtime::kinds::{
    Condition, IntOrString, LabelSelector, Labels, ObjectMeta, OwnerReference, Pod,
    PodDisruptionBudget, PodDisruptionBudgetStatus, condition,
};
use agent_runtime::plan::{Op, Plan, Report};
use agent_runtime::resource_ref::POD_DISRUPTION_BUDGETS;
use agent_runtime::timestamp::{self, Micros, seconds};
use agent_runtime::{EventType, Key, Queue};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "disruption-controller",
    help: "keeps the status of PodDisruptionBudgets",
    workers: 2,
    body: Body::Keyed { wire, reconcile },
};

/// An eviction that was granted counts against the budget for so long, unless the pod is seen going.
const DISRUPTION_TIMEOUT: Micros = seconds(120);

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches
        .disruption_budgets
        .subscribe(move |change| keys.add(Key::of(&change.latest().metadata)));
    let (budgets, keys) = (caches.disruption_budgets.clone(), queue.clone());
    caches.pods.subscribe(move |change| {
        for pod in change.by_labels() {
            let meta = &pod.metadata;
            let mut selecting = budgets.might_select(&meta.namespace, &meta.labels);
            selecting.retain(|budget| selects(budget, pod));
            for budget in selecting {
                keys.add(Key::of(&budget.metadata));
            }
        }
    });
}

fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    budget
        .spec
        .selector
        .as_ref()
        .is_some_and(|selector| selector.matches(&pod.metadata.labels))
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let Some(budget) = world.caches.disruption_budgets.by_key(key) else {
        return Plan::none();
    };
    let selector = budget.spec.selector.as_ref();
    let pods = selector
        .map(|selector| {
            let namespace = &budget.metadata.namespace;
            world.caches.pods.select(namespace, selector)
        })
        .unwrap_or_default();
    let (disrupted, recheck) = still_disrupted(&budget.status.disrupted_pods, &pods, world.now);
    let healthy = pods
        .iter()
        .filter(|pod| {
            !pod.metadata.is_deleting()
                && pod.is_ready()
                && !disrupted.contains_key(&pod.metadata.name)
        })
        .count();
    let Expectation {
        expected,
        desired,
        unmanaged,
    } = match expectation(&budget, &pods, world) {
        Ok(counts) => counts,
        Err(message) => return refuse(&budget, &message, world.now),
    };
    let healthy = i64::try_from(healthy).unwrap_or(i64::MAX);
    let allowed = if expected <= 0 {
        0
    } else {
        (healthy - desired).max(0)
    };
    let verdict = if allowed > 0 {
        ("True", "SufficientPods")
    } else {
        ("False", "InsufficientPods")
    };
    let status = PodDisruptionBudgetStatus {
        observed_generation: budget.metadata.generation,
        disruptions_allowed: narrow(allowed),
        current_healthy: narrow(healthy),
        desired_healthy: narrow(desired),
        expected_pods: narrow(expected),
        conditions: with_condition(
            &budget.status.conditions,
            verdict.0,
            verdict.1,
            "",
            budget.metadata.generation,
            world.now,
        ),
        disrupted_pods: disrupted,
    };
    let mut plan = Plan::none();
    if status != budget.status {
        plan.push(Op::status(
            &POD_DISRUPTION_BUDGETS,
            &budget.metadata,
            written(&status, &budget.status),
        ));
        if pods.is_empty() {
            let message = "No matching pods found".to_owned();
            plan.push(event(&budget, EventType::Normal, "NoPods", message));
        }
        if unmanaged {
            plan.push(warn(&budget, "UnmanagedPods", unmanaged_pods(&budget)));
        }
    }
    if let Some(delay) = recheck {
        plan.again(delay);
    }
    plan
}

fn narrow(count: i64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The status as a merge patch: pods that are no longer disrupted are taken out by name.
fn written(status: &PodDisruptionBudgetStatus, old: &PodDisruptionBudgetStatus) -> Value {
    let gone = old
        .disrupted_pods
        .keys()
        .map(|name| (name.clone(), Value::Null));
    let left = status
        .disrupted_pods
        .iter()
        .map(|(name, at)| (name.clone(), at.as_str().into()));
    json!({
        "observedGeneration": status.observed_generation, "disruptionsAllowed": status.disruptions_allowed,
        "currentHealthy": status.current_healthy, "desiredHealthy": status.desired_healthy, "expectedPods": status.expected_pods,
        "conditions": status.conditions, "disruptedPods": gone.chain(left).collect::<serde_json::Map<_, _>>(),
    })
}

/// Evictions that were granted and whose pods are not yet seen going.
fn still_disrupted(granted: &Labels, pods: &[Arc<Pod>], now: Micros) -> (Labels, Option<Duration>) {
    let mut left = Labels::new();
    let mut recheck: Option<Micros> = None;
    for (name, at) in granted {
        let waiting = pods
            .iter()
            .any(|pod| pod.metadata.name == *name && !pod.metadata.is_deleting());
        let until = timestamp::parse(at)
            .unwrap_or(0)
            .saturating_add(DISRUPTION_TIMEOUT);
        if waiting && until > now {
            left.insert(name.clone(), at.clone());
            recheck = Some(recheck.map_or(until, |r| r.min(until)));
        }
    }
    (
        left,
        recheck.map(|until| Duration::from_micros(u64::try_from(until - now).unwrap_or(0))),
    )
}

fn unmanaged_pods(budget: &PodDisruptionBudget) -> String {
    let selector = budget.spec.selector.as_ref().map(shown).unwrap_or_default();
    format!(
        "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the \
         status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these \
         pods please set \".spec.minAvailable\" field of the PDB to an integer value."
    )
}

/// A selector as Kubernetes' Go code prints it into messages.
fn shown(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter();
    let labels: String = labels
        .map(|(key, value)| format!("{key}: {value},"))
        .collect();
    let requirements = selector.match_expressions.iter();
    let requirements: String = requirements
        .map(|r| {
            format!(
                "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{}],}},",
                r.key,
                r.operator,
                r.values.join(" ")
            )
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{requirements}}},}}"
    )
}

fn warn(budget: &PodDisruptionBudget, reason: &'static str, message: String) -> Op {
    event(budget, EventType::Warning, reason, message)
}

fn event(
    budget: &PodDisruptionBudget,
    kind: EventType,
    reason: &'static str,
    message: String,
) -> Op {
    Op::Event(Box::new(Report {
        regarding: reference(&POD_DISRUPTION_BUDGETS, &budget.metadata),
        kind,
        reason,
        message,
    }))
}

struct Expectation {
    /// How many pods there should be.
    expected: i64,
    /// How many of them healthy.
    desired: i64,
    /// Whether some pods have no controller that says how many there should be.
    unmanaged: bool,
}

/// How many pods there should be, and how many of them healthy.
fn expectation(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    world: &World,
) -> Result<Expectation, String> {
    let scaled = |bound: &IntOrString, total: i64| {
        bound
            .scaled(total, true)
            .ok_or_else(|| "the budget's bound is neither a number nor a percentage".to_owned())
    };
    let by_owners = |desired: &dyn Fn(i64) -> Result<i64, String>| {
        let (expected, unmanaged) = wanted_by_owners(pods, world)?;
        Ok(Expectation {
            expected,
            desired: desired(expected)?,
            unmanaged,
        })
    };
    let plain = |expected, desired| Expectation {
        expected,
        desired,
        unmanaged: false,
    };
    match (&budget.spec.max_unavailable, &budget.spec.min_available) {
        (Some(max), _) => by_owners(&|total| Ok((total - scaled(max, total)?).max(0))),
        (None, Some(min @ IntOrString::Text(_))) => by_owners(&|total| scaled(min, total)),
        (None, Some(IntOrString::Int(min))) => {
            let present = i64::try_from(pods.len()).unwrap_or(i64::MAX);
            Ok(plain(present, i64::from(*min)))
        }
        // A budget without a bound allows nothing.
        (None, None) => Ok(plain(0, 0)),
    }
}

/// The sum of what the owners of the pods want, and whether there are pods without one.
fn wanted_by_owners(pods: &[Arc<Pod>], world: &World) -> Result<(i64, bool), String> {
    let mut owners: BTreeMap<String, i64> = BTreeMap::new();
    let mut unmanaged = false;
    // Thousands of pods have few owners, and each is looked up once.
    let mut asked: BTreeSet<[&str; 4]> = BTreeSet::new();
    for pod in pods {
        let Some(owner) = pod.metadata.controller() else {
            unmanaged = true;
            continue;
        };
        let OwnerReference {
            api_version,
            kind,
            name,
            uid,
            ..
        } = owner;
        if !asked.insert([uid, name, kind, api_version]) {
            continue;
        }
        let (uid, replicas) = scale_of(&pod.metadata, owner, world)?;
        owners.insert(uid, replicas.unwrap_or(1).into());
    }
    let total = owners.values().copied().fold(0, i64::saturating_add);
    Ok((total, unmanaged))
}

/// Who decides how many pods there should be, and how many.
fn scale_of(
    pod: &ObjectMeta,
    owner: &OwnerReference,
    world: &World,
) -> Result<(String, Option<i32>), String> {
    let (caches, namespace, name) = (&world.caches, &pod.namespace, &owner.name);
    let of =
        |meta: &ObjectMeta, replicas| (meta.uid == owner.uid).then(|| (meta.uid.clone(), replicas));
    let found = match owner.kind.as_str() {
        "ReplicaSet" => caches.replica_sets.get(namespace, name).and_then(|set| {
            let above = set
                .metadata
                .controller()
                .filter(|o| o.kind == "Deployment")
                .and_then(|o| caches.deployments.get(namespace, &o.name));
            let own = of(&set.metadata, set.spec.replicas)?;
            Some(above.map_or(own, |d| (d.metadata.uid.clone(), d.spec.replicas)))
        }),
        "ReplicationController" => caches
            .replication_controllers
            .get(namespace, name)
            .and_then(|rc| of(&rc.metadata, rc.spec.replicas)),
        "StatefulSet" => caches
            .stateful_sets
            .get(namespace, name)
            .and_then(|set| of(&set.metadata, set.spec.replicas)),
        kind => {
            let group = owner
                .api_version
                .split_once('/')
                .map_or(String::new(), |(group, _)| format!(".{group}"));
            return Err(format!(
                "{}s{group} does not implement the scale subresource",
                kind.to_lowercase()
            ));
        }
    };
    found.ok_or_else(|| format!("found no controllers for pod {:?}", pod.name))
}

/// When the budget cannot be computed nothing may be disrupted.
fn refuse(budget: &PodDisruptionBudget, message: &str, now: Micros) -> Plan {
    let conditions = with_condition(
        &budget.status.conditions,
        "False",
        "SyncFailed",
        message,
        budget.metadata.generation,
        now,
    );
    if conditions == budget.status.conditions && budget.status.disruptions_allowed == 0 {
        return Plan::none();
    }
    let status = json!({"disruptionsAllowed": 0, "observedGeneration": budget.metadata.generation, "conditions": conditions});
    let message = format!("Failed to calculate the number of expected pods: {message}");
    Plan::of(vec![
        Op::status(&POD_DISRUPTION_BUDGETS, &budget.metadata, status),
        warn(budget, "CalculateExpectedPodCountFailed", message),
    ])
}

fn with_condition(
    old: &[Condition],
    status: &str,
    reason: &str,
    message: &str,
    generation: i64,
    now: Micros,
) -> Vec<Condition> {
    let mut next = Condition {
        observed_generation: generation,
        ..patches::condition("DisruptionAllowed", status, reason, message, now)
    };
    if let Some(before) =
        condition(old, "DisruptionAllowed").filter(|before| before.status == status)
    {
        next.last_transition_time
            .clone_from(&before.last_transition_time);
    }
    let mut conditions: Vec<_> = old
        .iter()
        .filter(|c| c.kind != "DisruptionAllowed")
        .cloned()
        .collect();
    conditions.push(next);
    conditions
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    fn allowed(bound: &str, ready: usize, unready: usize) -> (i64, i64) {
        let mut text = format!(
            "kind: PodDisruptionBudget\nmetadata: {{name: b, namespace: a}}\nspec: {{{bound}, selector: {{matchLabels: {{app: web}}}}}}\n---\nkind: ReplicaSet\nmetadata: {{name: web, namespace: a, uid: rs}}\nspec: {{replicas: {}}}\n",
            ready + unready
        );
        for i in 0..ready + unready {
            let status = if i < ready { "True" } else { "False" };
            text.push_str(&format!("---\nkind: Pod\nmetadata: {{name: p{i}, namespace: a, labels: {{app: web}}, ownerReferences: [{{kind: ReplicaSet, name: web, uid: rs, controller: true}}]}}\nstatus: {{phase: Running, conditions: [{{type: Ready, status: '{status}'}}]}}\n"));
        }
        let plan = reconcile(&Key::new("a", "b"), &world(&text));
        let Op::Patch { body, .. } = &plan.ops[0] else {
            panic!("{plan:?}")
        };
        (
            body["status"]["disruptionsAllowed"].as_i64().unwrap(),
            body["status"]["desiredHealthy"].as_i64().unwrap(),
        )
    }

    #[test]
    fn bounds_in_both_directions() {
        assert_eq!(allowed("minAvailable: 2", 3, 0), (1, 2));
        assert_eq!(allowed("minAvailable: 2", 2, 1), (0, 2));
        assert_eq!(allowed("minAvailable: 50%", 3, 0), (1, 2));
        assert_eq!(allowed("maxUnavailable: 1", 3, 0), (1, 2));
        assert_eq!(allowed("maxUnavailable: 1", 2, 1), (0, 2));
        assert_eq!(allowed("maxUnavailable: 0", 3, 0), (0, 3));
        assert_eq!(allowed("unbounded: true", 3, 0), (0, 0));
        assert_eq!(allowed("minAvailable: -5", 3, 0), (8, -5));
    }

    fn lines(bound: &str, pods: &str) -> Vec<String> {
        let budget = format!(
            "kind: PodDisruptionBudget\nmetadata: {{name: b, namespace: a}}\nspec: {{{bound}, selector: {{}}}}\n"
        );
        let set = "---\nkind: ReplicaSet\nmetadata: {name: web, namespace: a, uid: rs}\nspec: {replicas: 4}\n";
        reconcile(
            &Key::new("a", "b"),
            &world(&[&budget, set, pods].map(str::to_owned).concat()),
        )
        .lines()
    }

    fn pod(name: &str, owner: &str) -> String {
        format!(
            "---\nkind: Pod\nmetadata: {{name: {name}, namespace: a, ownerReferences: [{owner}]}}\nstatus: {{conditions: [{{type: Ready, status: 'True'}}]}}\n"
        )
    }

    #[test]
    fn a_budget_without_pods_says_so_once() {
        let budget = "kind: PodDisruptionBudget\nmetadata: {name: b, namespace: a, generation: 1}\nspec: {minAvailable: 1, selector: {matchLabels: {app: web}}}\n";
        let lines = |text: &str| reconcile(&Key::new("a", "b"), &world(text)).lines();
        let first = lines(budget);
        assert!(
            first.len() == 2
                && first[1].starts_with("event Normal a/b NoPods")
                && first[1].ends_with("No matching pods found"),
            "{first:#?}"
        );
        let known = "status: {observedGeneration: 1, desiredHealthy: 1, conditions: [{type: DisruptionAllowed, status: 'False', reason: InsufficientPods, observedGeneration: 1, lastTransitionTime: '2026-01-01T00:00:00Z'}]}\n";
        assert_eq!(lines(&[budget, known].concat()), Vec::<String>::new());
    }

    #[test]
    fn unmanaged_pods_are_named_by_their_selector() {
        let selector: LabelSelector =
            serde_json::from_value(json!({"matchLabels": {"app": "web", "tier": "a"},
            "matchExpressions": [{"key": "k", "operator": "In", "values": ["x", "y"]}]}))
            .unwrap();
        assert_eq!(
            shown(&selector),
            "&LabelSelector{MatchLabels:map[string]string{app: web,tier: a,},MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},},}"
        );
    }

    #[test]
    fn pods_without_a_controller_do_not_stop_the_reckoning() {
        let owned = pod(
            "p",
            "{kind: ReplicaSet, name: web, uid: rs, controller: true}",
        );
        let lines = lines("maxUnavailable: 3", &[owned, pod("stray", "")].concat());
        assert!(
            lines[0].contains("\"expectedPods\":4")
                && lines[0].contains("\"currentHealthy\":2")
                && lines[0].contains("\"disruptionsAllowed\":1"),
            "{lines:#?}"
        );
        assert!(
            lines[1].starts_with("event Warning a/b UnmanagedPods"),
            "{lines:#?}"
        );
    }

    #[test]
    fn an_owner_without_a_scale_or_of_another_incarnation_refuses_everything() {
        let job = "{kind: Job, apiVersion: batch/v1, name: j, uid: j, controller: true}";
        let old =
            "{kind: ReplicaSet, apiVersion: apps/v1, name: web, uid: former, controller: true}";
        for (owner, message) in [
            (job, "jobs.batch does not implement the scale subresource"),
            (old, "found no controllers for pod \\\"p\\\""),
        ] {
            let lines = lines("minAvailable: 50%", &pod("p", owner));
            assert!(
                lines[0].contains(message)
                    && lines[0].contains("SyncFailed")
                    && lines[0].contains("\"disruptionsAllowed\":0"),
                "{lines:#?}"
            );
            assert!(lines[1].contains("CalculateExpectedPodCountFailed"));
        }
    }
}
