//! The pods that nothing has helped yet, by what could help them.
//!
//! Pods that ask for the same and were refused by the same filters make a class: a change helps all of them or none, and is held
//! against one of them. Each class stands under the changes that its filters hear of, so that a change that can help nobody is
//! over at once, however many wait.

use super::{Place, Queued};
use crate::config::Config;
use crate::extender;
use crate::object::Pod;
use crate::plugins::{Change, ChangeKind, Near};
use crate::snapshot::Millis;
use host::HashMap;
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// See the module head.
#[derive(Debug, Default)]
pub(super) struct Parked {
    /// Of the last class that began.
    last: u64,
    numbers: HashMap<Arc<Class>, u64>,
    /// By number. A class ends with its last pod.
    classes: HashMap<u64, Waiting>,
    hearing: HashMap<Topic, BTreeSet<u64>>,
    /// By uid: the class, and since when.
    pods: HashMap<String, (u64, Millis)>,
}

/// Those of a class.
#[derive(Debug)]
struct Waiting {
    class: Arc<Class>,
    /// Under which it stands.
    topics: BTreeSet<Topic>,
    /// Since when, and the uid.
    pods: BTreeSet<(Millis, String)>,
}

/// What changes are looked up by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Topic {
    /// Whatever changes.
    Everything,
    Anywhere(ChangeKind),
    Namespace(ChangeKind, String),
    /// By namespace and name.
    Claim(ChangeKind, String, String),
}

impl Topic {
    /// Under which those stand that the change may help.
    fn of(change: &Change) -> Vec<Topic> {
        let kind = change.kind();
        let mut topics = vec![Topic::Everything, Topic::Anywhere(kind)];
        if let Some(namespace) = change.namespace() {
            topics.push(Topic::Namespace(kind, namespace.to_owned()));
            let claim = change.claim();
            topics.extend(claim.map(|c| Topic::Claim(kind, namespace.to_owned(), c.to_owned())));
        }
        topics
    }
}

/// One pod for all of a class, and who refused them.
#[derive(Debug)]
struct Class {
    pod: Arc<Pod>,
    refused_by: BTreeSet<&'static str>,
}

impl Class {
    /// All that filters read of a pod, and arguments depend on, to say whether a change helps it. What makes pods of one
    /// template differ is not in it.
    fn essence(&self) -> impl Eq + Hash {
        let pod = &*self.pod;
        let who = (&pod.scheduler_name, &pod.namespace, &self.refused_by);
        let where_to = (&pod.node_name, &pod.node_selector, &pod.required_nodes);
        let on_node = (&pod.tolerations, &pod.requests, &pod.host_ports);
        let claims = (&pod.volumes, &pod.resource_claims, &pod.extended);
        let affinity = (pod.affinity.is_empty(), pod.has_affinity());
        (who, where_to, on_node, claims, affinity)
    }

    fn topics(&self, config: &Config) -> BTreeSet<Topic> {
        let everything = BTreeSet::from([Topic::Everything]);
        let Some(profile) = config.profile(&self.pod) else {
            return everything;
        };
        if self.hears_everything() {
            return everything;
        }
        let filters = profile.filters.iter();
        filters
            .filter(|filter| self.refused_by.contains(filter.name))
            .flat_map(|filter| filter.hears)
            .flat_map(|(kind, near)| self.topics_near(*kind, *near))
            .collect()
    }

    /// What such a one waits for is not known here.
    fn hears_everything(&self) -> bool {
        self.refused_by.is_empty() || self.refused_by.contains(extender::NAME)
    }

    fn topics_near(&self, kind: ChangeKind, near: Near) -> Vec<Topic> {
        let pod = &*self.pod;
        let of_claim = |name: &str| Topic::Claim(kind, pod.namespace.clone(), name.to_owned());
        match (near, kind) {
            (Near::Anywhere, _) => vec![Topic::Anywhere(kind)],
            (Near::Namespace, _) => vec![Topic::Namespace(kind, pod.namespace.clone())],
            (Near::Claim, ChangeKind::DeviceClaim) => pod.device_claims().map(of_claim).collect(),
            (Near::Claim, _) => pod.claims().map(of_claim).collect(),
        }
    }

    fn is_helped_by(&self, change: &Change, config: &Config) -> bool {
        self.hears_everything()
            || config.profile(&self.pod).is_none_or(|profile| {
                profile.filters.iter().any(|filter| {
                    self.refused_by.contains(filter.name)
                        && (filter.wakes_on)(&self.pod, change, &profile.args)
                })
            })
    }
}

impl PartialEq for Class {
    fn eq(&self, other: &Self) -> bool {
        self.essence() == other.essence()
    }
}

impl Eq for Class {}

impl Hash for Class {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.essence().hash(state);
    }
}

impl Parked {
    /// A pod has this place now: it is among these, or is no more.
    pub(super) fn put(&mut self, queued: &Queued, place: &Place, config: &Config) {
        self.remove(&queued.pod.uid);
        let Place::Unschedulable(since, uid) = place else {
            return;
        };
        let class = Class {
            pod: queued.pod.clone(),
            refused_by: queued.refused_by.clone(),
        };
        let number = match self.numbers.get(&class) {
            Some(number) => *number,
            None => self.begin(class, config),
        };
        if let Some(waiting) = self.classes.get_mut(&number) {
            waiting.pods.insert((*since, uid.clone()));
        }
        self.pods.insert(uid.clone(), (number, *since));
    }

    fn begin(&mut self, class: Class, config: &Config) -> u64 {
        self.last += 1;
        let (number, class) = (self.last, Arc::new(class));
        let topics = class.topics(config);
        for topic in &topics {
            let classes = self.hearing.entry(topic.clone()).or_default();
            classes.insert(number);
        }
        self.numbers.insert(class.clone(), number);
        let waiting = Waiting {
            class,
            topics,
            pods: BTreeSet::new(),
        };
        self.classes.insert(number, waiting);
        number
    }

    /// A pod is not among these any more.
    pub(super) fn remove(&mut self, uid: &str) {
        let Some((number, since)) = self.pods.remove(uid) else {
            return;
        };
        let Some(waiting) = self.classes.get_mut(&number) else {
            return;
        };
        waiting.pods.remove(&(since, uid.to_owned()));
        if waiting.pods.is_empty() {
            self.end(number);
        }
    }

    fn end(&mut self, number: u64) {
        let Some(Waiting { class, topics, .. }) = self.classes.remove(&number) else {
            return;
        };
        self.numbers.remove(&class);
        for topic in &topics {
            if let Some(classes) = self.hearing.get_mut(topic) {
                classes.remove(&number);
                if classes.is_empty() {
                    self.hearing.remove(topic);
                }
            }
        }
    }

    /// The classes of which somebody has to be asked about the change.
    fn concerned(&self, change: &Change) -> BTreeSet<u64> {
        if self.hearing.is_empty() {
            return BTreeSet::new();
        }
        let topics = Topic::of(change);
        let classes = topics.iter().filter_map(|topic| self.hearing.get(topic));
        classes.flatten().copied().collect()
    }

    /// Uids of the pods that the change may help; first those that have waited longest.
    pub(super) fn helped_by(&self, change: &Change, config: &Config) -> Vec<String> {
        let concerned = self.concerned(change).into_iter();
        let waiting = concerned.filter_map(|number| self.classes.get(&number));
        let helped = waiting.filter(|waiting| waiting.class.is_helped_by(change, config));
        let mut pods: Vec<&(Millis, String)> = helped.flat_map(|waiting| &waiting.pods).collect();
        pods.sort_unstable();
        pods.into_iter().map(|(_, uid)| uid.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
