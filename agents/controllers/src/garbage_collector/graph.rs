//! The graph of owners and dependents. Pure: it is told what was seen and answers what is to be looked at.

use super::dependents::Dependents;
use super::{FOREGROUND, ORPHAN, has_finalizer};
use agent_runtime::ResourceRef;
use agent_runtime::kinds::{List, ObjectMeta, OwnerReference, Text};
use host::HashMap;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// What is to be done about an object, by uid.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Work {
    /// Find out whether it exists: it was only named by a dependent.
    Verify(String),
    /// Find out whether it should still be there.
    Examine(String),
    /// Free its dependents from it.
    Orphan(String),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verify(uid) => write!(f, "verify {uid}"),
            Self::Examine(uid) => write!(f, "examine {uid}"),
            Self::Orphan(uid) => write!(f, "orphan {uid}"),
        }
    }
}

/// What sort of object a node is.
#[derive(Debug, PartialEq)]
struct Sort {
    /// Set once the object was seen; one that was only named is virtual.
    resource: Option<ResourceRef>,
    group: String,
    kind: String,
}

/// An object, seen or only named by a dependent. There is one for each object of the cluster, and so its uid is there once,
/// wherever it stands, and its sort once for all of that sort.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) uid: Arc<str>,
    sort: Arc<Sort>,
    pub(super) namespace: Text,
    pub(super) name: Text,
    owners: List<OwnerReference>,
    deleting: bool,
    foreground: bool,
    orphan: bool,
    dependents: Dependents,
}

impl Node {
    pub(super) fn is_virtual(&self) -> bool {
        self.sort.resource.is_none()
    }

    /// None where it was never seen.
    pub(super) fn resource(&self) -> Option<&ResourceRef> {
        self.sort.resource.as_ref()
    }

    pub(super) fn group(&self) -> &str {
        &self.sort.group
    }

    pub(super) fn kind(&self) -> &str {
        &self.sort.kind
    }

    /// Whether it was seen and nothing that counts here has changed since.
    fn is_like(&self, meta: &ObjectMeta) -> bool {
        !self.is_virtual()
            && self.owners == meta.owner_references
            && self.deleting == meta.is_deleting()
            && self.foreground == has_finalizer(meta, FOREGROUND)
            && self.orphan == has_finalizer(meta, ORPHAN)
    }

    fn waits_for_dependents(&self) -> bool {
        self.deleting && self.foreground
    }

    fn orphans(&self) -> bool {
        self.deleting && self.orphan
    }

    /// Whether a reference from a namespace names nothing, whatever has its uid.
    fn is_elsewhere(&self, namespace: &str) -> bool {
        !self.namespace.is_empty() && self.namespace != namespace
    }

    fn blocks(&self, owner: &str) -> bool {
        self.owners
            .iter()
            .any(|r| r.uid == owner && r.block_owner_deletion == Some(true))
    }
}

/// Whether a change of an object may be of concern here, where its state before was observed. Most are not, and so the object need
/// not be looked for among all there are.
pub(super) fn may_concern(old: Option<&ObjectMeta>, new: &ObjectMeta) -> bool {
    old.is_none_or(|old| {
        old.uid != new.uid
            || old.owner_references != new.owner_references
            || old.is_deleting() != new.is_deleting()
            || old.finalizers != new.finalizers
    })
}

#[derive(Default)]
pub(super) struct Graph {
    /// Each in a block of its own: up to half of the table are empty places.
    nodes: HashMap<Arc<str>, Box<Node>>,
    /// Of all resources of which objects were seen.
    sorts: Vec<Arc<Sort>>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid).map(|node| &**node)
    }

    /// An object was added or changed.
    pub(super) fn observe(&mut self, resource: &ResourceRef, meta: &ObjectMeta) -> Vec<Work> {
        if meta.uid.is_empty() {
            return Vec::new();
        }
        let known = self.get(&meta.uid);
        if known.is_some_and(|n| n.is_like(meta)) {
            // Most changes are of no concern here, and an owner may have very many dependents.
            return Vec::new();
        }
        let before = known.cloned();
        let uid = before.as_ref().map(|b| b.uid.clone());
        let node = Node {
            uid: uid.unwrap_or_else(|| meta.uid.as_str().into()),
            sort: self.sort(resource),
            namespace: meta.namespace.as_str().into(),
            name: meta.name.as_str().into(),
            owners: meta.owner_references.clone(),
            deleting: meta.is_deleting(),
            foreground: has_finalizer(meta, FOREGROUND),
            orphan: has_finalizer(meta, ORPHAN),
            dependents: before
                .as_ref()
                .map(|b| b.dependents.clone())
                .unwrap_or_default(),
        };
        let mut work = self.relink(before.as_ref(), &node);
        if before.as_ref().is_some_and(Node::is_virtual) {
            // Only now it is known where it is, and who named it from elsewhere.
            let dependents = node.dependents.iter().filter_map(|d| self.get(d));
            let strangers = dependents.filter(|d| node.is_elsewhere(&d.namespace));
            work.extend(strangers.map(|d| Work::Examine(d.uid.to_string())));
        }
        let was_waiting = before.as_ref().is_some_and(Node::waits_for_dependents);
        if node.waits_for_dependents() && !was_waiting {
            let dependents = node.dependents.iter();
            work.extend(dependents.map(|uid| Work::Examine(uid.to_string())));
            work.push(Work::Examine(node.uid.to_string()));
        }
        if node.orphans() && !before.as_ref().is_some_and(Node::orphans) {
            work.push(Work::Orphan(node.uid.to_string()));
        }
        self.nodes.insert(node.uid.clone(), Box::new(node));
        work
    }

    fn sort(&mut self, resource: &ResourceRef) -> Arc<Sort> {
        let mut sorts = self.sorts.iter();
        if let Some(known) = sorts.find(|sort| sort.resource.as_ref() == Some(resource)) {
            return known.clone();
        }
        let sort = Arc::new(Sort {
            resource: Some(resource.clone()),
            group: resource.group.to_string(),
            kind: resource.kind.to_string(),
        });
        self.sorts.push(sort.clone());
        sort
    }

    /// Follows the change of an object's owners.
    fn relink(&mut self, before: Option<&Node>, node: &Node) -> Vec<Work> {
        let mut work = Vec::new();
        let old_owners = before.map(|b| &*b.owners).unwrap_or_default();
        for lost in old_owners
            .iter()
            .filter(|old| node.owners.iter().all(|new| new.uid != old.uid))
        {
            if let Some(owner) = self.nodes.get_mut(lost.uid.as_str()) {
                owner.dependents.remove(&node.uid);
                if owner.waits_for_dependents() {
                    work.push(Work::Examine(owner.uid.to_string()));
                }
            }
        }
        for reference in &node.owners {
            let known = old_owners.iter().find(|old| old.uid == reference.uid);
            if known.is_some_and(|old| old.block_owner_deletion == reference.block_owner_deletion) {
                continue;
            }
            let uid = reference.uid.as_str();
            if !self.nodes.contains_key(uid) {
                // An owner never seen: its existence has to be verified.
                work.push(Work::Verify(reference.uid.clone()));
                let owner = virtual_node(reference, &node.namespace);
                self.nodes.insert(owner.uid.clone(), Box::new(owner));
            }
            let Some(owner) = self.nodes.get_mut(uid) else {
                continue;
            };
            owner.dependents.insert(node.uid.clone());
            if owner.is_elsewhere(&node.namespace) {
                work.push(Work::Examine(node.uid.to_string()));
            }
            if owner.waits_for_dependents() {
                work.push(Work::Examine(owner.uid.to_string()));
                work.push(Work::Examine(node.uid.to_string()));
            }
        }
        let dangling_since =
            before.is_some() && !node.owners.is_empty() && *old_owners != *node.owners;
        if dangling_since {
            work.push(Work::Examine(node.uid.to_string()));
        }
        work
    }

    /// An owner that was only named is not in the namespace where it was looked for: those there named nothing. Others may have
    /// named it from another namespace, and there it is looked for next, if its kind has namespaces.
    pub(super) fn absent(&mut self, uid: &str, namespace: &str, is_namespaced: bool) -> Vec<Work> {
        let nodes = &self.nodes;
        let is_still_sought = |node: &&Node| node.is_virtual() && node.namespace == namespace;
        let Some(node) = self.get(uid).filter(is_still_sought) else {
            return Vec::new();
        };
        if !is_namespaced {
            return self.remove(uid);
        }
        let of = |uid: &Arc<str>| nodes.get(uid).map_or("", |d| d.namespace.as_str());
        let dependents = node.dependents.iter().cloned();
        let (deceived, others): (BTreeSet<_>, BTreeSet<_>) =
            dependents.partition(|dependent| of(dependent) == namespace);
        let Some(next) = others.first().map(|other| of(other).to_owned()) else {
            return self.remove(uid);
        };
        let mut work: Vec<Work> = deceived
            .iter()
            .map(|dependent| Work::Examine(dependent.to_string()))
            .collect();
        work.push(Work::Verify(uid.to_owned()));
        if let Some(node) = self.nodes.get_mut(uid) {
            node.namespace = next.into();
            node.dependents = others.into();
        }
        work
    }

    /// The owner that this reference of an object names exists. Where it was looked for in vain, since somebody else had named it
    /// wrongly, it is made known again, or the object would not hear of its end.
    pub(super) fn exists(&mut self, uid: &str, reference: &OwnerReference) -> Option<Work> {
        let node = self.nodes.get(uid)?;
        let is_owned = node.owners.iter().any(|owner| owner.uid == reference.uid);
        // What owns itself does not wait for itself.
        if !is_owned || reference.uid == uid {
            return None;
        }
        let (uid, namespace) = (node.uid.clone(), node.namespace.clone());
        if let Some(owner) = self.nodes.get_mut(reference.uid.as_str()) {
            owner.dependents.insert(uid);
            return None;
        }
        let mut owner = virtual_node(reference, &namespace);
        owner.dependents.insert(uid);
        self.nodes.insert(owner.uid.clone(), Box::new(owner));
        Some(Work::Verify(reference.uid.clone()))
    }

    /// An object was deleted, or does not exist.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<Work> {
        let Some(node) = self.nodes.remove(uid) else {
            return Vec::new();
        };
        let dependents = node.dependents.iter();
        let dependents = dependents.map(|uid| Work::Examine(uid.to_string()));
        let mut work: Vec<Work> = dependents.collect();
        for reference in &node.owners {
            let Some(owner) = self.nodes.get_mut(reference.uid.as_str()) else {
                continue;
            };
            owner.dependents.remove(uid);
            if owner.waits_for_dependents() {
                work.push(Work::Examine(owner.uid.to_string()));
            }
            if owner.is_virtual() && owner.dependents.is_empty() {
                self.nodes.remove(reference.uid.as_str());
            }
        }
        work
    }

    /// Whether an object has dependents, and whether one of them is itself waiting for dependents of its own.
    pub(super) fn dependents_of(&self, uid: &str) -> (bool, bool) {
        let dependents = self.nodes.get(uid).map(|n| &n.dependents);
        let waiting = dependents
            .into_iter()
            .flatten()
            .any(|d| self.get(d).is_some_and(Node::waits_for_dependents));
        (dependents.is_some_and(|d| !d.is_empty()), waiting)
    }

    /// The dependents that keep an owner from going, and whether they are being deleted.
    pub(super) fn blocking_dependents(&self, uid: &str) -> Vec<(String, bool)> {
        let dependents = self
            .nodes
            .get(uid)
            .map(|n| &n.dependents)
            .into_iter()
            .flatten();
        dependents
            .filter_map(|d| self.get(d))
            .filter(|d| d.blocks(uid))
            .map(|d| (d.uid.to_string(), d.deleting))
            .collect()
    }

    /// Whether an object waits for itself: for a dependent that waits for one of its own, and so on around.
    pub(super) fn waits_in_a_circle(&self, uid: &str) -> bool {
        let waits = |uid: &str| self.get(uid).filter(|n| n.waits_for_dependents());
        let mut seen = BTreeSet::new();
        let mut ahead = vec![uid];
        while let Some(owner) = ahead.pop() {
            let dependents = waits(owner).into_iter().flat_map(|n| &n.dependents);
            for dependent in dependents.filter_map(|d| waits(d)) {
                if !dependent.blocks(owner) {
                    continue;
                }
                if *dependent.uid == *uid {
                    return true;
                }
                if seen.insert(&dependent.uid) {
                    ahead.push(&dependent.uid);
                }
            }
        }
        false
    }

    pub(super) fn all_dependents(&self, uid: &str) -> Vec<Node> {
        let dependents = self
            .nodes
            .get(uid)
            .map(|n| &n.dependents)
            .into_iter()
            .flatten();
        dependents.filter_map(|d| self.get(d)).cloned().collect()
    }
}

fn virtual_node(reference: &OwnerReference, namespace: &str) -> Node {
    let group = reference
        .api_version
        .split_once('/')
        .map_or("", |(group, _)| group);
    Node {
        uid: reference.uid.as_str().into(),
        sort: Arc::new(Sort {
            resource: None,
            group: group.to_owned(),
            kind: reference.kind.clone(),
        }),
        namespace: namespace.into(),
        name: reference.name.as_str().into(),
        owners: List::default(),
        deleting: false,
        foreground: false,
        orphan: false,
        dependents: Dependents::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_runtime::resource_ref::{PODS, REPLICA_SETS};

    fn meta(uid: &str, owner: &str, finalizers: &[&str]) -> ObjectMeta {
        let owner_references = if owner.is_empty() {
            Vec::new()
        } else {
            vec![OwnerReference {
                api_version: "apps/v1".into(),
                kind: "ReplicaSet".into(),
                name: owner.into(),
                uid: owner.into(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]
        };
        let deletion_timestamp =
            (!finalizers.is_empty()).then(|| Box::new("2026-01-01T00:00:00Z".into()));
        let finalizers: Vec<String> = finalizers.iter().map(|f| (*f).to_owned()).collect();
        ObjectMeta {
            uid: uid.into(),
            name: uid.into(),
            namespace: "a".into(),
            owner_references: owner_references.into(),
            deletion_timestamp,
            finalizers: finalizers.into(),
            ..ObjectMeta::default()
        }
    }

    fn texts(mut work: Vec<Work>) -> Vec<String> {
        work.sort();
        work.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_node_is_small() {
        // There is one for each object of the cluster. It fills one of the allocator's sizes.
        assert!(size_of::<Node>() <= 80, "{}", size_of::<Node>());
    }

    #[test]
    fn a_deleted_owner_brings_its_dependents() {
        let mut graph = Graph::default();
        assert!(
            graph
                .observe(&REPLICA_SETS, &meta("rs", "", &[]))
                .is_empty()
        );
        assert!(graph.observe(&PODS, &meta("p1", "rs", &[])).is_empty());
        graph.observe(&PODS, &meta("p2", "rs", &[]));
        assert_eq!(texts(graph.remove("rs")), ["examine p1", "examine p2"]);
    }

    #[test]
    fn an_owner_never_seen_is_verified_whatever_the_order() {
        let mut graph = Graph::default();
        assert_eq!(
            texts(graph.observe(&PODS, &meta("p", "rs", &[]))),
            ["verify rs"]
        );
        assert!(graph.get("rs").unwrap().is_virtual());
        assert_eq!(graph.get("rs").unwrap().kind(), "ReplicaSet");
        assert!(
            graph
                .observe(&REPLICA_SETS, &meta("rs", "", &[]))
                .is_empty()
        );
        assert!(!graph.get("rs").unwrap().is_virtual());
        assert_eq!(texts(graph.remove("rs")), ["examine p"]);
        assert!(graph.remove("nobody").is_empty());
    }

    #[test]
    fn an_owner_is_looked_for_wherever_it_was_named() {
        let mut graph = Graph::default();
        let mut stranger = meta("q", "rs", &[]);
        stranger.namespace = "z".into();
        graph.observe(&PODS, &stranger);
        graph.observe(&PODS, &meta("p", "rs", &[]));
        assert!(
            graph.absent("rs", "a", true).is_empty(),
            "not asked for there"
        );
        assert_eq!(
            texts(graph.absent("rs", "z", true)),
            ["verify rs", "examine q"]
        );
        assert_eq!(graph.get("rs").unwrap().namespace, "a");
        // Whoever named it rightly is told of when it goes.
        graph.observe(&REPLICA_SETS, &meta("rs", "", &[]));
        assert!(
            graph.absent("rs", "a", true).is_empty(),
            "it was seen meanwhile"
        );
        assert_eq!(texts(graph.remove("rs")), ["examine p"]);
        graph.observe(&PODS, &meta("o", "rt", &[]));
        assert_eq!(texts(graph.absent("rt", "a", true)), ["examine o"]);
        assert!(graph.get("rt").is_none());
        // Who has no namespace is nowhere else.
        graph.observe(&PODS, &meta("n", "ru", &[]));
        stranger.owner_references = meta("q", "ru", &[]).owner_references;
        graph.observe(&PODS, &stranger);
        let absent = texts(graph.absent("ru", "a", false));
        assert_eq!(absent, ["examine n", "examine q"]);
        assert!(graph.get("ru").is_none());
    }

    #[test]
    fn who_named_an_owner_of_another_namespace_is_examined_once_it_is_seen() {
        let mut graph = Graph::default();
        let mut stranger = meta("q", "rs", &[]);
        stranger.namespace = "z".into();
        graph.observe(&PODS, &stranger);
        graph.observe(&PODS, &meta("p", "rs", &[]));
        let seen = graph.observe(&REPLICA_SETS, &meta("rs", "", &[]));
        assert_eq!(texts(seen), ["examine q"]);
    }

    #[test]
    fn an_object_takes_little() {
        // There is one for each of a hundred thousand pods, and a place in a table that may be half empty.
        assert!(size_of::<Node>() <= 96, "{}", size_of::<Node>());
        assert_eq!(size_of::<(Arc<str>, Box<Node>)>(), 24);
    }

    #[test]
    fn an_owner_that_another_one_names_wrongly_is_not_lost() {
        let mut graph = Graph::default();
        let mut wrong = meta("q", "rs", &[]);
        let mut owners = wrong.owner_references.to_vec();
        owners[0].name = "other".into();
        wrong.owner_references = owners.into();
        graph.observe(&PODS, &wrong);
        let right = meta("p", "rs", &[]);
        graph.observe(&PODS, &right);
        let absent = texts(graph.absent("rs", "a", true));
        assert_eq!(absent, ["examine p", "examine q"]);
        let reference = right.owner_references.first().unwrap();
        let sought = graph.exists("p", reference);
        assert_eq!(sought, Some(Work::Verify("rs".into())));
        assert_eq!(graph.get("rs").unwrap().name, "rs");
        assert_eq!(graph.exists("p", reference), None);
        graph.observe(&REPLICA_SETS, &meta("rs", "", &[]));
        assert_eq!(texts(graph.remove("rs")), ["examine p"]);
        let own = meta("o", "o", &[]);
        graph.observe(&PODS, &own);
        assert_eq!(graph.exists("o", &own.owner_references[0]), None);
        assert_eq!(graph.dependents_of("o"), (false, false));
        // Who has no such owner any more is not tied to it again.
        graph.observe(&PODS, &meta("p", "", &[]));
        assert_eq!(graph.exists("p", reference), None);
        assert!(graph.get("rs").is_none());
    }

    #[test]
    fn a_uid_and_a_sort_are_there_once() {
        let mut graph = Graph::default();
        graph.observe(&REPLICA_SETS, &meta("rs", "", &[]));
        for uid in ["p", "q"] {
            graph.observe(&PODS, &meta(uid, "rs", &[]));
        }
        let (p, q) = (graph.get("p").unwrap(), graph.get("q").unwrap());
        assert!(Arc::ptr_eq(&p.sort, &q.sort) && p.resource() == Some(&PODS));
        let dependents = &graph.get("rs").unwrap().dependents;
        assert!(Arc::ptr_eq(dependents.first().unwrap(), &p.uid));
        // It stays the same when more is known of it.
        let mut changed = meta("p", "rs", &[]);
        changed.owner_references = List::default();
        graph.observe(&PODS, &changed);
        graph.observe(&PODS, &meta("p", "rs", &[]));
        let dependents = &graph.get("rs").unwrap().dependents;
        assert!(Arc::ptr_eq(
            dependents.first().unwrap(),
            &graph.get("p").unwrap().uid
        ));
    }

    #[test]
    fn foreground_deletion_goes_from_the_leaves() {
        let mut graph = Graph::default();
        graph.observe(&REPLICA_SETS, &meta("rs", "", &[]));
        graph.observe(&PODS, &meta("p", "rs", &[]));
        assert_eq!(
            texts(graph.observe(&REPLICA_SETS, &meta("rs", "", &[FOREGROUND]))),
            ["examine p", "examine rs"]
        );
        assert_eq!(graph.blocking_dependents("rs"), [("p".to_owned(), false)]);
        assert_eq!(texts(graph.remove("p")), ["examine rs"]);
        assert!(graph.blocking_dependents("rs").is_empty());
    }

    #[test]
    fn what_may_not_concern_changes_nothing() {
        let mut labelled = meta("p", "rs", &[]);
        labelled.labels.insert("a".into(), "b".into());
        labelled.resource_version = "7".into();
        let states = [
            meta("p", "", &[]),
            meta("p", "rs", &[]),
            labelled,
            meta("p", "rs", &["other"]),
            meta("p", "rs", &[FOREGROUND]),
            meta("p", "rs", &[FOREGROUND, ORPHAN]),
            meta("q", "rs", &[]),
        ];
        for old in &states {
            for new in &states {
                let mut graph = Graph::default();
                graph.observe(&REPLICA_SETS, &meta("rs", "", &[]));
                graph.observe(&PODS, old);
                let before = format!("{:?}", graph.get(&new.uid));
                let work = graph.observe(&PODS, new);
                let is_as_before = before == format!("{:?}", graph.get(&new.uid));
                let changes_nothing = work.is_empty() && is_as_before;
                assert!(
                    changes_nothing || may_concern(Some(old), new),
                    "{old:?} {new:?}"
                );
                assert!(may_concern(None, new));
            }
        }
        assert!(!may_concern(Some(&states[1]), &states[2]));
    }

    #[test]
    fn what_did_not_change_makes_no_work_and_forgets_nothing() {
        let mut graph = Graph::default();
        graph.observe(&REPLICA_SETS, &meta("rs", "", &[]));
        graph.observe(&PODS, &meta("p", "rs", &[]));
        let mut again = meta("rs", "", &[]);
        again.labels.insert("a".into(), "b".into());
        assert!(graph.observe(&REPLICA_SETS, &again).is_empty());
        assert_eq!(graph.dependents_of("rs"), (true, false));
        // An owner that is taken off in the foreground later is noticed all the same.
        assert!(
            !graph
                .observe(&REPLICA_SETS, &meta("rs", "", &[FOREGROUND]))
                .is_empty()
        );
    }

    #[test]
    fn orphaning_is_asked_for_once() {
        let mut graph = Graph::default();
        graph.observe(&PODS, &meta("p", "rs", &[]));
        assert_eq!(
            texts(graph.observe(&REPLICA_SETS, &meta("rs", "", &[ORPHAN]))),
            ["orphan rs"]
        );
        assert!(
            graph
                .observe(&REPLICA_SETS, &meta("rs", "", &[ORPHAN]))
                .is_empty()
        );
        assert_eq!(graph.all_dependents("rs").len(), 1);
        graph.observe(&PODS, &meta("p", "", &[]));
        assert!(graph.all_dependents("rs").is_empty());
    }

    #[test]
    fn who_waits_for_itself_is_found() {
        let mut graph = Graph::default();
        let circle = [("a", "c"), ("b", "a"), ("c", "b")];
        for (uid, owner) in circle {
            graph.observe(&REPLICA_SETS, &meta(uid, owner, &[]));
        }
        graph.observe(&REPLICA_SETS, &meta("d", "a", &[FOREGROUND]));
        for (index, (uid, owner)) in circle.into_iter().enumerate() {
            graph.observe(&REPLICA_SETS, &meta(uid, owner, &[FOREGROUND]));
            let around = ["a", "b", "c"].map(|uid| graph.waits_in_a_circle(uid));
            assert_eq!(around, [index == 2; 3]);
        }
        assert!(!graph.waits_in_a_circle("d"), "it only hangs on the circle");
        let mut free = meta("b", "a", &[FOREGROUND]);
        let mut owners = free.owner_references.to_vec();
        owners[0].block_owner_deletion = Some(false);
        free.owner_references = owners.into();
        graph.observe(&REPLICA_SETS, &free);
        assert!(!graph.waits_in_a_circle("a"));
    }
}
