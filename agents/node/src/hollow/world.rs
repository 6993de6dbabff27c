//! What is known of all hollow nodes and their pods, under one lock that nobody holds while waiting.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::life::Life;
use super::nodes::{Node, Shown};
use super::slim::Slim;

pub(super) type Uid = Arc<str>;

/// A pod, and what is under way about it.
pub(super) struct Entry {
    pub(super) life: Life,
    pub(super) node: u32,
    pub(super) stage: usize,
    /// What the API has shown since it was looked at last.
    pub(super) seen: Option<Slim>,
    /// The API has it no more.
    pub(super) removed: bool,
    /// The list in which it was seen last.
    pub(super) listed: u64,
    /// It stands in the queue.
    pub(super) queued: bool,
    /// A write of it is under way; it is looked at again when that ends.
    pub(super) writing: bool,
    /// When it wants to be looked at.
    pub(super) due: Option<Duration>,
    pub(super) failures: u32,
}

/// A node, and what is under way about it.
pub(super) struct Place {
    pub(super) node: Node,
    pub(super) pods: BTreeSet<Uid>,
    /// What a watch has shown while something was under way.
    pub(super) seen: Option<Shown>,
    pub(super) listed: u64,
    pub(super) queued: bool,
    pub(super) writing: bool,
    pub(super) due: Option<Duration>,
    pub(super) lease: Lease,
    pub(super) failures: u32,
}

/// The renewals of a node's lease.
#[derive(Default)]
pub(super) struct Lease {
    pub(super) queued: bool,
    pub(super) writing: bool,
    pub(super) due: Option<Duration>,
    pub(super) failures: u32,
}

#[derive(Default)]
pub(super) struct World {
    pub(super) places: Vec<Place>,
    pub(super) pods: HashMap<Uid, Entry>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Progress {
    pub(super) nodes: usize,
    pub(super) registered: usize,
    pub(super) ready: usize,
    /// Those that have not told of themselves yet, and will.
    pub(super) waiting: usize,
    /// Nodes that are told to say nothing.
    pub(super) silent: usize,
    pub(super) pods: usize,
}

impl World {
    pub(super) fn new(nodes: impl Iterator<Item = Node>) -> World {
        let places = nodes.map(|node| Place {
            node,
            pods: BTreeSet::new(),
            seen: None,
            listed: 0,
            queued: false,
            writing: false,
            due: None,
            lease: Lease::default(),
            failures: 0,
        });
        World {
            places: places.collect(),
            pods: HashMap::new(),
        }
    }

    pub(super) fn place(&mut self, number: u32) -> Option<&mut Place> {
        self.places.get_mut(usize::try_from(number).ok()?)
    }

    pub(super) fn progress(&self) -> Progress {
        let count = |of: fn(&Node) -> bool| {
            let nodes = self.places.iter().map(|place| &place.node);
            nodes.filter(|node| of(node)).count()
        };
        Progress {
            nodes: self.places.len(),
            registered: count(Node::is_registered),
            ready: count(Node::is_ready),
            waiting: count(|node| !node.is_silent() && !node.is_told()),
            silent: count(Node::is_silent),
            pods: self.pods.len(),
        }
    }

    /// The pod of that name, the one that is not going away when there are two.
    pub(super) fn find(&self, namespace: &str, name: &str) -> Option<&Entry> {
        let mut found: Vec<&Entry> = self
            .pods
            .values()
            .filter(|entry| entry.life.pod.name == name && entry.life.pod.namespace == namespace)
            .collect();
        found.sort_by_key(|entry| std::cmp::Reverse(entry.life.pod.version));
        found.first().copied()
    }
}
