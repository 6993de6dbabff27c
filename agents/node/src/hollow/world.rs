//! What is known of all hollow nodes and their pods, under one lock that nobody holds while waiting.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::life::Life;
use super::nodes::{Node, Shown, Template};
use super::slim::Slim;
use super::uids::Uids;
use crate::pod::admission::preempt::Holder;
use crate::pod::admission::resize::{Order, Outcome};
use crate::pod::admission::share::{Share, Used};
use crate::pod::admission::site::Site;
use crate::pod::admission::{self, Admission};
use crate::pod::status::Verdict;

pub(super) type Uid = Arc<str>;

/// A pod, and what is under way about it.
pub(super) struct Entry {
    pub(super) life: Life,
    pub(super) node: u32,
    pub(super) stage: u16,
    /// What the API has shown since it was looked at last: nothing, mostly.
    pub(super) seen: Option<Box<Slim>>,
    /// The API has it no more.
    pub(super) removed: bool,
    /// The list in which it was seen last.
    pub(super) listed: u32,
    /// It stands in the queue.
    pub(super) queued: bool,
    /// A write of it is under way; it is looked at again when that ends.
    pub(super) writing: bool,
    /// When it wants to be looked at.
    pub(super) due: Option<Duration>,
    /// When it is refused for what its node was shown as, unless that is another one by then.
    pub(super) refused_at: Option<Box<Duration>>,
    pub(super) failures: u16,
}

/// What is refused for these reasons may only have come sooner than the word of its node.
const OF_THE_NODE: [&str; 2] = ["NodeAffinity", "TaintToleration"];
/// How long it waits for that.
const BEHIND: Duration = Duration::from_millis(500);

impl Entry {
    /// When to look again before the pod is refused so. Nodes and pods are watched apart: who labels a node and makes a pod
    /// for it at once would else find it refused where the watch of nodes is behind.
    pub(super) fn looks_again(&mut self, verdict: &Verdict, elapsed: Duration) -> Option<Duration> {
        if !OF_THE_NODE.contains(&verdict.reason) {
            return None;
        }
        let at = self
            .refused_at
            .get_or_insert_with(|| Box::new(elapsed + BEHIND));
        (elapsed < **at).then_some(**at)
    }

    /// The pod as it was shown last.
    pub(super) fn newest(&self) -> &Slim {
        let seen = self.seen.as_deref();
        let newer = seen.filter(|seen| seen.version > self.life.pod.version);
        newer.unwrap_or(&self.life.pod)
    }

    /// Whether its own last write has not been shown yet. Until then nothing new can be said of it, and the answer to the write
    /// need not be read for more than its version.
    pub(super) fn awaits(&self) -> bool {
        !self.removed && self.newest().version < self.life.made()
    }

    /// Whether it is open if the node takes it: nothing of it has begun.
    pub(super) fn is_new(&self) -> bool {
        let pod = self.newest();
        !(self.life.has_begun() || pod.is_taken || pod.is_over)
    }

    /// What it takes of the node.
    fn taken(&self) -> Option<&Slim> {
        let pod = self.newest();
        let was_taken = pod.is_taken || self.life.has_begun() && !self.life.is_refused();
        (was_taken && !pod.is_over && !self.removed).then_some(pod)
    }

    /// What nobody else gets, of a pod that takes something. What was given since the last word of the API counts.
    fn held<'a>(&self, pod: &'a Slim) -> &'a Share {
        let given = pod.asks.as_deref().filter(|_| self.life.is_given());
        given.unwrap_or(&pod.kind.share)
    }

    fn holder(&self) -> Option<Holder<'_>> {
        let pod = self.taken()?;
        Some(Holder::new(&pod.uid, self.held(pod), pod.kind.rank))
    }
}

/// A node, and what is under way about it.
pub(super) struct Place {
    pub(super) node: Node,
    pub(super) pods: Uids,
    /// The last list of its pods that has ended: what was seen in a later one is decided when that has ended, too, since
    /// others may have been there before or be gone.
    pub(super) pods_listed: u64,
    /// What a watch has shown while something was under way.
    pub(super) seen: Option<Box<Shown>>,
    /// The API had it no more while something was under way.
    pub(super) lost: bool,
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
    /// In boxes: a table has room for twice as many.
    pub(super) pods: HashMap<Uid, Box<Entry>>,
}

/// What becomes of a pod when its turn comes.
#[derive(Debug, PartialEq)]
pub(super) enum Decision {
    Goes,
    Refused(Verdict),
    /// These end before it begins.
    Ends(Vec<String>),
    /// Others are ending.
    Waits,
}

impl Decision {
    /// About a new pod beside those that stay and those that have been told to end for a critical one.
    fn about(pod: &Slim, site: &Site, staying: &[Holder<'_>], leaving: &[Holder<'_>]) -> Decision {
        let object = pod.object();
        if object["metadata"]["deletionTimestamp"].is_string() {
            return Decision::Goes;
        }
        let ask =
            |holders: &[Holder<'_>]| admission::admission(site, holders, &object, &pod.kind.share);
        let admission = ask(&[staying, leaving].concat());
        if admission == Admission::Taken || leaving.is_empty() || !admission::is_critical(&object) {
            return Decision::of(admission);
        }
        // Those are not there for another critical pod, which waits for their end as well.
        match ask(staying) {
            Admission::Taken => Decision::Waits,
            other => Decision::of(other),
        }
    }

    fn of(admission: Admission) -> Decision {
        match admission {
            Admission::Taken => Decision::Goes,
            Admission::Refused(verdict) => Decision::Refused(verdict),
            Admission::InPlaceOf(victims) => Decision::Ends(victims),
        }
    }
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
            pods: Uids::default(),
            pods_listed: 0,
            seen: None,
            lost: false,
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

    /// A list of the pods of a node, or of all nodes, has ended. Says which may have waited for that.
    pub(super) fn pods_listed(&mut self, number: u64, node: Option<u32>) -> Vec<Uid> {
        let mut waiting = Vec::new();
        let is_meant = |place: &&mut Place| node.is_none_or(|node| place.node.number == node);
        for place in self.places.iter_mut().filter(is_meant) {
            place.pods_listed = number;
            let is_new = |uid: &&Uid| self.pods.get(*uid).is_some_and(|pod| pod.is_new());
            waiting.extend(place.pods.iter().filter(is_new).cloned());
        }
        waiting
    }

    /// What becomes of a new pod; of others nothing is asked.
    pub(super) fn decision(&self, uid: &Uid, template: &Template) -> Decision {
        let Some(entry) = self.pods.get(uid).filter(|entry| entry.is_new()) else {
            return Decision::Goes;
        };
        let place = usize::try_from(entry.node).ok();
        let Some(place) = place.and_then(|number| self.places.get(number)) else {
            return Decision::Goes;
        };
        let others = place.pods.iter().filter(|other| *other != uid);
        let others = others.filter_map(|other| self.pods.get(other));
        let (mut leaving, mut staying) = (Vec::new(), Vec::new());
        for other in others {
            let list = match other.life.is_preempted() {
                true => &mut leaving,
                false => &mut staying,
            };
            list.extend(other.holder());
        }
        let site = place.node.site(template);
        Decision::about(entry.newest(), &site, &staying, &leaving)
    }

    /// What becomes of what a pod asks for, where it was given something else. Of several that wait for more, the one whose turn it
    /// is gets it first, whoever asks: what it will get is kept for it.
    pub(super) fn resize(&self, uid: &Uid, template: &Template) -> Option<Outcome> {
        let entry = self.pods.get(uid)?;
        entry.taken()?.asks.as_ref()?;
        let place = self.places.get(usize::try_from(entry.node).ok()?)?;
        let others = place.pods.iter();
        let present: Vec<(&Uid, &Entry, &Slim)> = others
            .filter_map(|other| {
                let entry = &**self.pods.get(other)?;
                Some((other, entry, entry.taken()?))
            })
            .collect();
        let waits = |(other, entry, pod): &(&'_ Uid, &'_ Entry, &'_ Slim)| {
            let since = entry.life.deferred_since();
            let turn = since.or((*other == uid).then_some(u64::MAX))?;
            let asks = pod.asks.as_deref()?;
            Some(Order::among(pod.kind.rank, entry.held(pod), asks, turn))
        };
        let mut waiting: Vec<(Order, &Uid, &Slim)> = Vec::new();
        for one in &present {
            waiting.extend(waits(one).map(|order| (order, one.0, one.2)));
        }
        waiting.sort_by_key(|(order, ..)| *order);
        let site = place.node.site(template);
        let mut kept: BTreeMap<&Uid, &Share> = BTreeMap::new();
        for (_, other, pod) in waiting {
            let asks = pod.asks.as_deref()?;
            let mut used = Used::default();
            for (holder, entry, pod) in present.iter().filter(|(holder, ..)| *holder != other) {
                used.add(kept.get(holder).copied().unwrap_or(entry.held(pod)));
            }
            let outcome = admission::resize::decide(&site, &used, asks);
            if other == uid {
                return Some(outcome);
            }
            if outcome == Outcome::Fits {
                kept.insert(other, asks);
            }
        }
        None
    }

    /// The pods of a node that wait for others to have less.
    pub(super) fn deferred(&self, node: u32) -> Vec<Uid> {
        let place = usize::try_from(node).ok();
        let place = place.and_then(|number| self.places.get(number));
        let pods = place.into_iter().flat_map(|place| &place.pods);
        let waits = |uid: &&Uid| {
            let entry = self.pods.get(*uid);
            entry.is_some_and(|entry| entry.life.deferred_since().is_some())
        };
        pods.filter(waits).cloned().collect()
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
            .map(|entry| &**entry)
            .filter(|entry| {
                let pod = &entry.life.pod;
                *pod.name == *name && *pod.kind.namespace == *namespace
            })
            .collect();
        found.sort_by_key(|entry| std::cmp::Reverse(entry.life.pod.version));
        found.first().copied()
    }
}

#[cfg(test)]
mod tests;
