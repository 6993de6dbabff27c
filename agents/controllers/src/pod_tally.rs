//! How many pods each ReplicaSet and ReplicationController has, kept as pods change: nobody has to look at a thousand of them
//! because one has become ready.

use agent_runtime::Cache;
use agent_runtime::kinds::{Labels, Pod};
use host::HashMap;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// See the module head. It is not older than the last change that the cache has told of.
#[derive(Default)]
pub(crate) struct PodTally(Mutex<Tally>);

/// By the uid of the controller, by namespace and by labels: the pods of one template mostly have the same.
#[derive(Default)]
struct Tally(HashMap<String, BTreeMap<String, BTreeMap<Labels, Counts>>>);

/// Pods of one controller that have the same labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Those that have ended, going or not.
    pub(crate) ended: usize,
    /// Others that are being deleted.
    pub(crate) going: usize,
    /// Others that are ready.
    pub(crate) ready: usize,
    /// Others that are not.
    pub(crate) unready: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Ended,
    Going,
    Ready,
    Unready,
}

impl Standing {
    fn of(pod: &Pod) -> Self {
        if pod.is_finished() {
            Self::Ended
        } else if pod.metadata.is_deleting() {
            Self::Going
        } else if pod.is_ready() {
            Self::Ready
        } else {
            Self::Unready
        }
    }
}

impl Counts {
    /// Those that count for their controller.
    pub(crate) fn active(&self) -> usize {
        self.ready + self.unready
    }

    /// All of them.
    pub(crate) fn all(&self) -> usize {
        self.ended + self.going + self.active()
    }

    fn of(&mut self, standing: Standing) -> &mut usize {
        match standing {
            Standing::Ended => &mut self.ended,
            Standing::Going => &mut self.going,
            Standing::Ready => &mut self.ready,
            Standing::Unready => &mut self.unready,
        }
    }
}

impl PodTally {
    /// The tally of a cache, from now on and for as long as there is the cache. Who subscribes to the cache after this finds each
    /// change counted already.
    pub(crate) fn of(pods: &Cache<Pod>) -> Arc<Self> {
        let tally = Arc::new(Self::default());
        let writer = tally.clone();
        pods.subscribe(move |change| {
            let (old, new) = (change.old.as_deref(), change.new.as_deref());
            if let (Some(old), Some(new)) = (old, new)
                && is_counted_alike(old, new)
            {
                return;
            }
            writer.with(|tally| {
                if let Some(old) = old {
                    tally.take_out(old);
                }
                if let Some(new) = new {
                    tally.take_in(new);
                }
            });
        });
        tally
    }

    /// Calls `visit` for the pods of a namespace that a uid controls, once for each set of labels. It is called under the lock
    /// and has to be quick.
    pub(crate) fn visit(&self, namespace: &str, uid: &str, mut visit: impl FnMut(&Labels, Counts)) {
        self.with(|tally| {
            let classes = tally.0.get(uid).and_then(|all| all.get(namespace));
            for (labels, counts) in classes.into_iter().flatten() {
                visit(labels, *counts);
            }
        });
    }

    fn with<R>(&self, with: impl FnOnce(&mut Tally) -> R) -> R {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Tally {
    fn take_in(&mut self, pod: &Pod) {
        let Some(owner) = counted_owner(pod) else {
            return;
        };
        let meta = &pod.metadata;
        let namespaces = self.0.entry(owner.to_owned()).or_default();
        let classes = namespaces.entry(meta.namespace.clone()).or_default();
        let counts = classes.entry(meta.labels.clone()).or_default();
        *counts.of(Standing::of(pod)) += 1;
    }

    fn take_out(&mut self, pod: &Pod) {
        let meta = &pod.metadata;
        let Some(owner) = counted_owner(pod) else {
            return;
        };
        let Some(namespaces) = self.0.get_mut(owner) else {
            return;
        };
        let Some(classes) = namespaces.get_mut(&meta.namespace) else {
            return;
        };
        if let Some(counts) = classes.get_mut(&meta.labels) {
            let count = counts.of(Standing::of(pod));
            *count = count.saturating_sub(1);
            if counts.all() == 0 {
                classes.remove(&meta.labels);
            }
        }
        if classes.is_empty() {
            namespaces.remove(&meta.namespace);
        }
        if namespaces.is_empty() {
            self.0.remove(owner);
        }
    }
}

/// Who controls a pod, if it is one of those that keep a number of pods: others may have one pod each, and nobody asks.
fn counted_owner(pod: &Pod) -> Option<&str> {
    let owner = pod.metadata.controller()?;
    let counts = matches!(owner.kind.as_str(), "ReplicaSet" | "ReplicationController");
    counts.then_some(owner.uid.as_str())
}

/// Whether a pod is counted where it was. It has the same name and namespace before and after.
fn is_counted_alike(old: &Pod, new: &Pod) -> bool {
    old.metadata.owner_references == new.metadata.owner_references
        && old.metadata.labels == new.metadata.labels
        && Standing::of(old) == Standing::of(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::object;
    use agent_runtime::Key;
    use agent_runtime::kinds::Kind;

    fn pod(name: &str, owner: &str, app: &str, status: &str) -> Pod {
        object(&format!(
            "{{metadata: {{name: {name}, namespace: a, uid: {name}, labels: {{app: {app}}}, \
             ownerReferences: [{owner}]}}, status: {{{status}}}}}"
        ))
    }

    fn found(tally: &PodTally, uid: &str) -> Vec<(String, [usize; 4])> {
        let mut found = Vec::new();
        tally.visit("a", uid, |labels, counts| {
            let Counts {
                ended,
                going,
                ready,
                unready,
            } = counts;
            found.push((labels["app"].clone(), [ended, going, ready, unready]));
        });
        found
    }

    #[test]
    fn pods_are_counted_as_they_come_change_and_go() {
        const SET: &str = "{kind: ReplicaSet, uid: rs, controller: true}";
        let ready = "phase: Running, conditions: [{type: Ready, status: 'True'}]";
        let pods = Cache::new(Pod::resource());
        pods.apply(pod("early", SET, "x", "phase: Pending"));
        let tally = PodTally::of(&pods);
        assert_eq!(found(&tally, "rs"), [("x".to_owned(), [0, 0, 0, 1])]);
        pods.apply(pod("early", SET, "x", ready));
        pods.apply(pod("other", SET, "y", "phase: Failed"));
        pods.apply(pod("foreign", &SET.replace("rs", "of"), "x", ready));
        pods.apply(pod(
            "daemon",
            &SET.replace("ReplicaSet", "DaemonSet"),
            "x",
            ready,
        ));
        pods.apply(pod("free", "", "x", ready));
        assert_eq!(
            found(&tally, "rs"),
            [
                ("x".to_owned(), [0, 0, 1, 0]),
                ("y".to_owned(), [1, 0, 0, 0])
            ]
        );
        tally.visit("b", "rs", |_, _| panic!("of another namespace"));
        pods.apply(pod("early", SET, "y", ready));
        assert_eq!(found(&tally, "rs"), [("y".to_owned(), [1, 0, 1, 0])]);
        for name in ["early", "other", "foreign", "daemon", "free"] {
            pods.remove(&Key::new("a", name));
        }
        assert!(tally.with(|tally| tally.0.is_empty()));
    }
}
