//! What namespaces have of the cluster (dominant resource fairness). The *share* of a namespace is the largest part that
//! it has of any resource of the nodes, pods counted as one, divided by its weight. Kept current pod by pod and node by node,
//! in whole numbers, so that nothing drifts; who reads it is told which namespaces have changed.

use crate::object::{Node, Pod};
use crate::resources::Resources;
use std::collections::{BTreeMap, BTreeSet};

/// Of the share of a namespace that has all of a resource and the weight 1.
const WHOLE: u128 = 1 << 60;

/// A share, for comparing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u128);

impl Share {
    /// In percent of the cluster, if the weight is 1.
    pub fn percent(self) -> f64 {
        self.0 as f64 * 100.0 / WHOLE as f64
    }
}

/// Amounts by resource. Sums of numbers that may be too large for one number are larger still.
type Amounts = BTreeMap<String, i128>;

/// See the module head.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    capacity: Amounts,
    by_namespace: BTreeMap<String, Amounts>,
    /// Namespaces whose share may have changed since this was last asked for.
    changed: BTreeSet<String>,
}

impl Usage {
    /// A pod occupies a node.
    pub fn add(&mut self, pod: &Pod) {
        let amounts = self.by_namespace.entry(pod.namespace.clone()).or_default();
        count(amounts, &pod.requests, 1, 1);
        self.changed.insert(pod.namespace.clone());
    }

    /// It does no more.
    pub fn remove(&mut self, pod: &Pod) {
        let Some(amounts) = self.by_namespace.get_mut(&pod.namespace) else {
            return;
        };
        count(amounts, &pod.requests, 1, -1);
        if amounts.is_empty() {
            self.by_namespace.remove(&pod.namespace);
        }
        self.changed.insert(pod.namespace.clone());
    }

    /// A node is there, or in another form than before, or no more.
    pub fn set_node(&mut self, old: Option<&Node>, new: Option<&Node>) {
        let what = |node: &Node| (node.allocatable.clone(), node.pods_max);
        if old.map(what) == new.map(what) {
            return;
        }
        for (node, sign) in [(old, -1), (new, 1)] {
            if let Some(node) = node {
                count(&mut self.capacity, &node.allocatable, node.pods_max, sign);
            }
        }
        self.changed.extend(self.by_namespace.keys().cloned());
    }

    /// The weight of a namespace may have changed.
    pub fn note(&mut self, namespace: &str) {
        self.changed.insert(namespace.to_owned());
    }

    /// The namespaces whose share may have changed since the last call.
    pub fn take_changed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed)
    }

    /// The share of a namespace, and the resource that it is of.
    pub fn share(&self, namespace: &str, weight: u32) -> (Share, &str) {
        let used = self.by_namespace.get(namespace).into_iter().flatten();
        let parts = used.filter_map(|(resource, used)| {
            // Of what no node has, nothing can be shared.
            let all = u128::try_from(*self.capacity.get(resource)?).ok()?;
            let used = u128::try_from(*used).ok()?.min(1 << 64);
            let part = (used * WHOLE).checked_div(all * u128::from(weight.max(1)))?;
            Some((Share(part), resource.as_str()))
        });
        parts.max().unwrap_or_default()
    }
}

/// Adds or takes away. What is nothing has no entry.
fn count(amounts: &mut Amounts, resources: &Resources, pods: i64, sign: i128) {
    let usual = [
        ("cpu", resources.milli_cpu),
        ("memory", resources.memory),
        ("ephemeral-storage", resources.ephemeral_storage),
        ("pods", pods),
    ];
    let scalar = resources.scalar.iter();
    for (name, amount) in usual
        .into_iter()
        .chain(scalar.map(|(n, a)| (n.as_str(), *a)))
    {
        if amount == 0 {
            continue;
        }
        let before = amounts.get(name).copied().unwrap_or(0);
        match before + i128::from(amount) * sign {
            0 => drop(amounts.remove(name)),
            sum => match amounts.get_mut(name) {
                Some(amount) => *amount = sum,
                None => drop(amounts.insert(name.to_owned(), sum)),
            },
        }
    }
}

/// Namespaces with pods that could be taken now, in the order in which it is their turn.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    shares: BTreeMap<String, Share>,
    waiting: BTreeMap<String, usize>,
    order: BTreeSet<(Share, String)>,
}

impl Turns {
    /// A namespace has this share from now on.
    pub(crate) fn set_share(&mut self, namespace: &str, share: Share) {
        let old = self.share(namespace);
        if share == old {
            return;
        }
        match share == Share::default() {
            true => drop(self.shares.remove(namespace)),
            false => drop(self.shares.insert(namespace.to_owned(), share)),
        }
        if self.order.remove(&(old, namespace.to_owned())) {
            self.order.insert((share, namespace.to_owned()));
        }
    }

    /// One more of its pods could be taken.
    pub(crate) fn add(&mut self, namespace: &str) {
        let count = self.waiting.entry(namespace.to_owned()).or_default();
        *count += 1;
        if *count == 1 {
            let share = self.share(namespace);
            self.order.insert((share, namespace.to_owned()));
        }
    }

    /// One less.
    pub(crate) fn remove(&mut self, namespace: &str) {
        let Some(count) = self.waiting.get_mut(namespace) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.waiting.remove(namespace);
            let share = self.share(namespace);
            self.order.remove(&(share, namespace.to_owned()));
        }
    }

    /// Whose turn it is.
    pub(crate) fn next(&self) -> Option<&str> {
        self.order.first().map(|(_, namespace)| namespace.as_str())
    }

    fn share(&self, namespace: &str) -> Share {
        self.shares.get(namespace).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::world::World;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn node(name: &str, allocatable: Value) -> Arc<Node> {
        Arc::new(Node::compile(
            &json!({"metadata": {"name": name}, "status": {"allocatable": allocatable}}),
        ))
    }

    fn pod(namespace: &str, name: &str, requests: Value) -> Pod {
        Pod::compile(&json!({
            "metadata": {"name": name, "namespace": namespace, "uid": format!("{namespace}-{name}")},
            "spec": {"containers": [{"resources": {"requests": requests}}]},
        }))
    }

    #[test]
    fn the_share_is_the_largest_part_of_any_resource_by_weight() {
        let mut usage = Usage::default();
        let big = node(
            "n",
            json!({"cpu": "10", "memory": "10Gi", "pods": "100", "x/chip": "4"}),
        );
        usage.set_node(None, Some(&big));
        usage.add(&pod("a", "1", json!({"cpu": "1", "memory": "2Gi"})));
        usage.add(&pod(
            "b",
            "1",
            json!({"cpu": "1", "x/chip": "1", "x/none": "9"}),
        ));
        usage.add(&pod("c", "1", json!({})));
        let of = |usage: &Usage, namespace: &str, weight| {
            let (share, resource) = usage.share(namespace, weight);
            (share.percent().round() as i64, resource.to_owned())
        };
        assert_eq!(of(&usage, "a", 1), (20, "memory".into()));
        assert_eq!(of(&usage, "b", 1), (25, "x/chip".into()));
        assert_eq!(of(&usage, "b", 5), (5, "x/chip".into()));
        assert_eq!(
            of(&usage, "c", 1),
            (1, "pods".into()),
            "none asks for nothing"
        );
        assert_eq!(of(&usage, "d", 1), (0, String::new()));
        assert_eq!(usage.take_changed().len(), 3);
        usage.remove(&pod("a", "1", json!({"cpu": "1", "memory": "2Gi"})));
        assert_eq!(usage.take_changed(), BTreeSet::from(["a".to_owned()]));
        assert_eq!(of(&usage, "a", 1).0, 0);
        let other = node("n", json!({"cpu": "10", "pods": "100", "x/chip": "2"}));
        usage.set_node(Some(&big), Some(&other));
        assert_eq!(of(&usage, "b", 1), (50, "x/chip".into()));
        usage.set_node(Some(&other), None);
        assert_eq!(of(&usage, "b", 1).0, 0);
    }

    #[test]
    fn amounts_beyond_all_numbers_do_no_harm() {
        let mut usage = Usage::default();
        let huge = json!({"cpu": "9E", "memory": "9E", "pods": "-9E", "x/y": "-9E"});
        usage.set_node(None, Some(&node("n", huge.clone())));
        let pods: Vec<Pod> = (0..9)
            .map(|at| pod("a", &at.to_string(), huge.clone()))
            .collect();
        pods.iter().for_each(|pod| usage.add(pod));
        assert!(usage.share("a", u32::MAX).0 > Share::default());
        pods.iter().for_each(|pod| usage.remove(pod));
        assert_eq!(usage.share("a", 0).0, Share::default());
    }

    fn world(weights: &[(String, u32)]) -> World {
        let weights: Vec<String> = weights
            .iter()
            .map(|(namespace, weight)| format!("{{namespace: {namespace}, weight: {weight}}}"))
            .collect();
        let config = format!(
            "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n- plugins:\n    \
             queueSort: {{disabled: [{{name: '*'}}], enabled: [{{name: FairShare}}]}}\n  \
             pluginConfig: [{{name: FairShare, args: {{weights: [{}]}}}}]\n",
            weights.join(", ")
        );
        World::new(Arc::new(Config::parse(&config).unwrap()))
    }

    fn set(world: &mut World, pod: Pod, now: u64) {
        let name = (pod.namespace.clone(), pod.name.clone());
        world.set_pod(name, Some(Arc::new(pod)), now);
    }

    proptest! {
        /// In a cluster of equal nodes, where all pods ask for the same, whoever still waits is behind nobody by more than
        /// one pod; and every pod has its turn.
        #[test]
        fn nobody_who_waits_is_behind_by_more_than_one_pod(
            namespaces in prop::collection::vec((1_usize..12, 1_u32..4), 2..5),
            running in prop::collection::vec(0_usize..5, 60),
        ) {
            let name = |at: usize| format!("ns{at}");
            let weights: Vec<(String, u32)> = namespaces
                .iter()
                .enumerate()
                .map(|(at, (_, weight))| (name(at), *weight))
                .collect();
            let mut world = world(&weights);
            let big = node("n", json!({"cpu": "1000", "memory": "1Ti", "pods": "1000"}));
            world.set_node("n", Some(big), 0);
            for (at, (count, _)) in namespaces.iter().enumerate() {
                for number in 0..*count {
                    let pod = pod(&name(at), &format!("p{number}"), json!({"cpu": "1"}));
                    set(&mut world, pod, at as u64);
                }
            }
            let mut left: Vec<usize> = namespaces.iter().map(|(count, _)| *count).collect();
            let mut bound: Vec<Vec<Arc<Pod>>> = vec![Vec::new(); namespaces.len()];
            // Pods that end at random give their share back.
            for ends in running {
                let Some(queued) = world.pop(100) else { break };
                let at: usize = queued.pod.namespace[2..].parse().unwrap();
                let share = |at: usize| bound[at].len() as f64 / f64::from(weights[at].1);
                for other in (0..namespaces.len()).filter(|other| left[*other] > 0) {
                    prop_assert!(share(at) <= share(other) + 1e-9, "{at} before {other}");
                }
                left[at] -= 1;
                world.snapshot.assume(queued.pod.clone(), "n");
                bound[at].push(queued.pod);
                if let Some(ended) = bound.get_mut(ends).and_then(Vec::pop) {
                    world.set_pod((ended.namespace.clone(), ended.name.clone()), None, 100);
                }
            }
            while world.pop(100).is_some_and(|queued| {
                left[queued.pod.namespace[2..].parse::<usize>().unwrap()] -= 1;
                true
            }) {}
            prop_assert!(left.iter().all(|left| *left == 0));
        }
    }

    #[test]
    fn within_a_namespace_priority_decides_and_what_is_critical_comes_before_all() {
        let mut world = world(&[]);
        world.set_node(
            "n",
            Some(node("n", json!({"cpu": "100", "pods": "100"}))),
            0,
        );
        let with = |namespace: &str, name: &str, priority: i32| Pod {
            priority,
            ..pod(namespace, name, json!({"cpu": "1"}))
        };
        world
            .snapshot
            .assume(Arc::new(with("greedy", "there", 0)), "n");
        set(&mut world, with("greedy", "high", 1_000), 0);
        set(&mut world, with("poor", "low", 0), 1);
        set(&mut world, with("poor", "higher", 1), 2);
        set(&mut world, with("greedy", "critical", 2_000_001_000), 3);
        let next = |world: &mut World| world.pop(4).map(|queued| queued.pod.name.clone());
        let order: Vec<_> = std::iter::from_fn(|| next(&mut world)).collect();
        assert_eq!(order, ["critical", "higher", "low", "high"]);
    }

    #[test]
    fn a_namespace_whose_pods_fit_nowhere_keeps_nobody_waiting() {
        let mut world = world(&[]);
        world.set_node(
            "n",
            Some(node("n", json!({"cpu": "100", "pods": "100"}))),
            0,
        );
        world
            .snapshot
            .assume(Arc::new(pod("b", "there", json!({"cpu": "9"}))), "n");
        set(&mut world, pod("a", "huge", json!({"cpu": "200"})), 0);
        set(&mut world, pod("b", "small", json!({"cpu": "1"})), 0);
        let huge = world.pop(1).unwrap();
        assert_eq!(huge.pod.name, "huge");
        world
            .queue
            .park(huge, BTreeSet::from(["NodeResourcesFit"]), 1);
        assert_eq!(world.pop(2).unwrap().pod.name, "small");
    }
}
