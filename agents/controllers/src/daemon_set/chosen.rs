//! The nodes that a DaemonSet is for, kept from one reconcile to the next.
//!
//! An event of one pod does not change them, and asks no node again; an event of a node asks that one. It is the same as if all
//! nodes were asked each time.

use super::placement::{Decision, Rules};
use crate::node_log::NodeLog;
use agent_runtime::Cache;
use agent_runtime::kinds::Node;
use std::collections::BTreeMap;
use std::sync::Arc;

/// See the module head.
#[derive(Default)]
pub(super) struct Chosen {
    /// By which they were.
    rules: Option<Rules>,
    /// Who told of changes, and the last one that is reckoned with.
    log: Option<Arc<NodeLog>>,
    seen: u64,
    /// Those where a pod has to be or may stay.
    nodes: BTreeMap<Arc<str>, Decision>,
}

impl Chosen {
    /// Decides about the nodes that have changed, or about all where the rules have. Returns how many it asked.
    pub(super) fn refresh(
        &mut self,
        rules: Rules,
        log: &Arc<NodeLog>,
        nodes: &Cache<Node>,
    ) -> usize {
        // What one log has numbered says nothing of another.
        let is_known = self
            .log
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, log));
        if !is_known || self.rules.as_ref() != Some(&rules) {
            *self = Self::default();
        }
        let news = log.since(self.seen);
        if news.is_all {
            self.nodes.clear();
        }
        for name in &news.names {
            let decision = nodes.get("", name).map(|node| rules.decide(&node));
            match decision.filter(|decision| *decision != Decision::default()) {
                Some(decision) => self.nodes.insert(name.clone(), decision),
                None => self.nodes.remove(name),
            };
        }
        self.log = Some(log.clone());
        self.seen = news.number;
        self.rules = Some(rules);
        news.names.len()
    }

    /// The nodes that are chosen, and of the others those of these that are there: they have pods.
    pub(super) fn with<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
        nodes: &Cache<Node>,
    ) -> BTreeMap<Arc<str>, Decision> {
        let mut all = self.nodes.clone();
        let Some(rules) = &self.rules else {
            return all;
        };
        for name in names {
            if !all.contains_key(name)
                && let Some(node) = nodes.get("", name)
            {
                // Asked once more: the log may be a moment behind the cache, and a pod on a new node is not to be taken for one
                // on a node that the set is not for.
                all.insert(name.into(), rules.decide(&node));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::Dice;
    use crate::testing::object;
    use agent_runtime::Key;
    use agent_runtime::kinds::Kind;
    use serde_json::{Value, json};

    fn rules(spec: Value) -> Rules {
        Rules::of(&json!({ "spec": spec }))
    }

    fn of_all(rules: &Rules, nodes: &Cache<Node>) -> BTreeMap<Arc<str>, Decision> {
        let all = nodes.list().into_iter();
        all.map(|node| (Arc::from(node.metadata.name.as_str()), rules.decide(&node)))
            .filter(|(_, decision)| *decision != Decision::default())
            .collect()
    }

    fn put(nodes: &Cache<Node>, name: &str, disk: &str, effect: &str) {
        nodes.apply(object(&format!(
            "{{metadata: {{name: {name}, uid: {name}, labels: {{disk: {disk}}}}}, \
             spec: {{taints: [{{key: t, effect: {effect}}}]}}}}"
        )));
    }

    #[test]
    fn they_are_the_same_as_if_all_were_asked_again() {
        let specs = [
            json!({}),
            json!({"nodeSelector": {"disk": "ssd"}}),
            json!({"tolerations": [{"operator": "Exists"}]}),
            json!({"nodeName": "n3"}),
        ];
        for seed in 0..50 {
            let mut dice = Dice(seed);
            let nodes = Cache::new(Node::resource());
            let log = NodeLog::of(&nodes);
            let (mut chosen, mut spec) = (Chosen::default(), specs[0].clone());
            for _ in 0..60 {
                let name = format!("n{}", dice.roll(6));
                match dice.roll(6) {
                    0 => nodes.remove(&Key::new("", &name)),
                    1 => spec = specs[usize::try_from(dice.roll(4)).unwrap()].clone(),
                    _ => {
                        let disk = ["ssd", "hdd"][usize::try_from(dice.roll(2)).unwrap()];
                        let effects = ["NoSchedule", "NoExecute", "PreferNoSchedule"];
                        let effect = effects[usize::try_from(dice.roll(3)).unwrap()];
                        put(&nodes, &name, disk, effect);
                    }
                }
                if dice.roll(3) > 0 {
                    chosen.refresh(rules(spec.clone()), &log, &nodes);
                    let expected = of_all(&rules(spec.clone()), &nodes);
                    assert_eq!(chosen.nodes, expected, "seed {seed}");
                }
            }
        }
    }

    #[test]
    fn only_what_has_changed_is_asked() {
        let nodes = Cache::new(Node::resource());
        let log = NodeLog::of(&nodes);
        for at in 0..100 {
            put(&nodes, &format!("n{at}"), "ssd", "PreferNoSchedule");
        }
        let mut chosen = Chosen::default();
        let mut asked = |spec: Value| chosen.refresh(rules(spec), &log, &nodes);
        assert_eq!([asked(json!({})), asked(json!({}))], [100, 0]);
        put(&nodes, "n7", "hdd", "PreferNoSchedule");
        nodes.remove(&Key::new("", "n8"));
        assert_eq!([asked(json!({})), asked(json!({}))], [2, 0]);
        // Another image asks the same of nodes.
        let image = json!({"containers": [{"name": "c", "image": "new"}]});
        assert_eq!(asked(image), 0);
        let ssd = json!({"nodeSelector": {"disk": "ssd"}});
        assert_eq!([asked(ssd.clone()), asked(ssd.clone())], [99, 0]);
        // The log of another cache.
        let other = Cache::new(Node::resource());
        put(&other, "n1", "ssd", "PreferNoSchedule");
        assert_eq!(chosen.refresh(rules(ssd), &NodeLog::of(&other), &other), 1);
        assert_eq!(chosen.nodes.len(), 1);
    }

    #[test]
    fn nodes_with_pods_are_among_them_if_they_are_there() {
        let nodes = Cache::new(Node::resource());
        let log = NodeLog::of(&nodes);
        put(&nodes, "ssd", "ssd", "PreferNoSchedule");
        put(&nodes, "hdd", "hdd", "PreferNoSchedule");
        put(&nodes, "empty", "hdd", "PreferNoSchedule");
        let mut chosen = Chosen::default();
        let spec = json!({"nodeSelector": {"disk": "ssd"}});
        chosen.refresh(rules(spec), &log, &nodes);
        // The log has not told of it yet.
        put(&nodes, "late", "ssd", "PreferNoSchedule");
        let all = chosen.with(["gone", "hdd", "late", "ssd"].into_iter(), &nodes);
        let runs: Vec<(&str, bool)> = all.iter().map(|(name, d)| (&**name, d.runs)).collect();
        assert_eq!(runs, [("hdd", false), ("late", true), ("ssd", true)]);
    }
}
