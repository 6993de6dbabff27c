//! Which nodes have changed, for those who keep what they have decided about nodes.
//!
//! It tells of what says where pods may run: that a node is there, its labels and its taints. Whoever has seen the changes up to a
//! number asks for those after it, and need not look at all nodes again.

use agent_runtime::Cache;
use agent_runtime::kinds::Node;
use host::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// So many nodes that are gone are remembered. Who has not heard of one before it is forgotten has to begin anew.
const GONE_MAX: usize = 1_000;

/// See the module head.
#[derive(Default)]
pub(crate) struct NodeLog(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    /// Of the last change.
    last: u64,
    /// Each node once, by the number of its last change.
    names: BTreeMap<u64, Arc<str>>,
    numbers: HashMap<Arc<str>, u64>,
    /// Those of nodes that are gone.
    gone: BTreeSet<u64>,
    /// The last one of a node that was gone and is forgotten.
    forgotten: u64,
}

/// What is new to somebody.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct News {
    /// Whether these are all nodes that there are, and what is known of any is void.
    pub(crate) is_all: bool,
    /// Nodes that are there or gone; those last that changed last.
    pub(crate) names: Vec<Arc<str>>,
    /// Of the last change.
    pub(crate) number: u64,
}

impl NodeLog {
    /// The log of a cache, from now on and for as long as there is the cache. Who subscribes to the cache after this finds each
    /// change in the log already.
    pub(crate) fn of(nodes: &Cache<Node>) -> Arc<Self> {
        let log = Arc::new(Self::default());
        let writer = log.clone();
        nodes.subscribe(move |change| {
            let is_as_before = match (&change.old, &change.new) {
                (Some(old), Some(new)) => is_open_to_the_same(old, new),
                _ => false,
            };
            if !is_as_before {
                let name = &change.latest().metadata.name;
                writer.entries(|entries| entries.note(name, change.new.is_some()));
            }
        });
        log
    }

    /// What has changed since the change of a number; since the beginning for 0.
    pub(crate) fn since(&self, number: u64) -> News {
        self.entries(|entries| {
            let is_all = number == 0 || number < entries.forgotten;
            let from = if is_all { 0 } else { number + 1 };
            let new = entries.names.range(from..);
            let is_told = |number: u64| !is_all || !entries.gone.contains(&number);
            News {
                is_all,
                names: new
                    .filter(|(number, _)| is_told(**number))
                    .map(|(_, name)| name.clone())
                    .collect(),
                number: entries.last,
            }
        })
    }

    fn entries<T>(&self, with: impl FnOnce(&mut Entries) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Entries {
    fn note(&mut self, name: &str, is_there: bool) {
        let known = self.numbers.remove_entry(name);
        let (name, before) = match known {
            Some((name, number)) => (name, Some(number)),
            None => (name.into(), None),
        };
        if let Some(before) = before {
            self.names.remove(&before);
            self.gone.remove(&before);
        }
        self.last += 1;
        self.names.insert(self.last, name.clone());
        self.numbers.insert(name, self.last);
        if !is_there {
            self.gone.insert(self.last);
        }
        if self.gone.len() > GONE_MAX
            && let Some(oldest) = self.gone.pop_first()
            && let Some(name) = self.names.remove(&oldest)
        {
            self.numbers.remove(&name);
            self.forgotten = oldest;
        }
    }
}

/// Whether the same pods may run on a node as before.
pub(crate) fn is_open_to_the_same(old: &Node, new: &Node) -> bool {
    old.metadata.labels == new.metadata.labels && old.spec.taints == new.spec.taints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::object;
    use agent_runtime::Key;
    use agent_runtime::kinds::Kind;

    fn put(nodes: &Cache<Node>, name: &str, rest: &str) {
        let node = format!("{{metadata: {{name: {name}, uid: {name}}}, {rest}}}");
        nodes.apply(object(&node));
    }

    fn since(log: &NodeLog, number: u64) -> (bool, String, u64) {
        let news = log.since(number);
        (news.is_all, news.names.join(" "), news.number)
    }

    #[test]
    fn it_tells_of_each_node_once_what_matters_to_pods() {
        let nodes = Cache::new(Node::resource());
        put(&nodes, "a", "spec: {}");
        let log = NodeLog::of(&nodes);
        put(&nodes, "b", "spec: {}");
        put(&nodes, "c", "spec: {}");
        assert_eq!(since(&log, 0), (true, "a b c".into(), 3));
        assert_eq!(since(&log, 1), (false, "b c".into(), 3));
        assert_eq!(since(&log, 3), (false, String::new(), 3));
        put(&nodes, "b", "status: {phase: Running}");
        assert_eq!(since(&log, 3), (false, String::new(), 3));
        put(
            &nodes,
            "b",
            "spec: {taints: [{key: t, effect: NoSchedule}]}",
        );
        put(&nodes, "a", "spec: {unschedulable: true}");
        assert_eq!(since(&log, 3), (false, "b".into(), 4));
        nodes.remove(&Key::new("", "c"));
        assert_eq!(since(&log, 3), (false, "b c".into(), 5));
        assert_eq!(since(&log, 0), (true, "a b".into(), 5));
        put(&nodes, "c", "spec: {}");
        assert_eq!(since(&log, 4), (false, "c".into(), 6));
        assert_eq!(since(&log, 0), (true, "a b c".into(), 6));
    }

    #[test]
    fn who_has_not_heard_of_what_is_forgotten_begins_anew() {
        let nodes = Cache::new(Node::resource());
        let log = NodeLog::of(&nodes);
        put(&nodes, "stays", "spec: {}");
        for at in 0..=GONE_MAX {
            let name = format!("n{at}");
            put(&nodes, &name, "spec: {}");
            nodes.remove(&Key::new("", &name));
        }
        let last = log.since(0).number;
        // The first of them was gone with the third change.
        assert_eq!(since(&log, 2), (true, "stays".into(), last));
        let news = log.since(3);
        assert_eq!((news.is_all, news.names.len()), (false, GONE_MAX));
        log.entries(|entries| {
            assert_eq!(entries.gone.len(), GONE_MAX);
            assert_eq!(entries.names.len(), GONE_MAX + 1);
            assert_eq!(entries.numbers.len(), GONE_MAX + 1);
        });
    }
}
