//! Lists that thousands of objects have alike: the owners, tolerations and containers of the pods of one ReplicaSet, the
//! conditions of pods that became ready in one second.

use super::{Condition, Container, ContainerStatus, Exact, OwnerReference, Toleration, Volume};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::RefCell;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// A list that does not change. Clones share it, and so do lists that were read one soon after the other and say the same. It
/// takes one word, and nothing more where it is empty.
pub struct List<T>(Option<Arc<Box<[T]>>>);

/// So many different lists of most types are remembered.
const REMEMBERED: usize = 256;
/// Longer ones are not: they would stay when their object is gone.
const SHARED_LEN_MAX: usize = 32;
/// Nor are those with longer messages, in bytes.
const SHARED_TEXT_MAX: usize = 256;

/// What stands in a [`List`].
pub trait Alike: PartialEq + Sized {
    /// So many different lists are remembered by each thread, to be shared.
    const REMEMBERED: usize = REMEMBERED;

    /// Adds what mostly tells different ones apart.
    fn mark(&self, hasher: &mut DefaultHasher);

    /// Whether anybody looks at it. What nobody looks at is left out when a list is read.
    fn is_read(&self) -> bool {
        true
    }

    /// Whether it is small, so that it may be remembered.
    fn is_small(&self) -> bool {
        true
    }

    /// Calls `use_them` with the lists that this thread has read lately.
    fn with_lately<R>(use_them: impl FnOnce(&mut Vec<List<Self>>) -> R) -> R;
}

/// Gives a type its memory, and says by what its values are told apart.
macro_rules! alike {
    ($ty:ty, |$one:ident| $marks:expr $(; $($more:tt)*)?) => {
        impl Alike for $ty {
            fn mark(&self, hasher: &mut DefaultHasher) {
                let $one = self;
                let marks = $marks;
                marks.hash(hasher);
            }
            $($($more)*)?
            fn with_lately<R>(use_them: impl FnOnce(&mut Vec<List<Self>>) -> R) -> R {
                thread_local! {
                    static LATELY: RefCell<Vec<List<$ty>>> = const { RefCell::new(Vec::new()) };
                }
                LATELY.with_borrow_mut(use_them)
            }
        }
    };
}

alike! {
    OwnerReference, |one| &one.uid;
    /// Of hundreds of owners hardly two take one place: where pods of two do so in turn, each of them has a list of its own.
    const REMEMBERED: usize = 2048;

    /// A node owns its Lease and little else: thousands of them would drive out the owners of thousands of pods.
    fn is_small(&self) -> bool {
        self.kind != "Node"
    }
}
alike!(Toleration, |one| (
    &one.key,
    &one.value,
    &one.effect,
    one.toleration_seconds
));
alike!(Container, |one| (&one.name, &one.image));
alike! {
    ContainerStatus, |one| (&one.name, since(one), one.restart_count);
    fn is_small(&self) -> bool {
        let waiting = self.state.waiting.as_ref();
        waiting.is_none_or(|waiting| waiting.reason.len() <= SHARED_TEXT_MAX)
    }
}
alike! {
    Condition, |one| (&one.kind, &one.status, &one.last_transition_time);
    fn is_small(&self) -> bool {
        self.reason.len() + self.message.len() <= SHARED_TEXT_MAX
    }
}
alike! {
    Volume, |one| &one.name;
    fn is_read(&self) -> bool {
        self.persistent_volume_claim.is_some() || self.ephemeral.is_some()
    }
    fn is_small(&self) -> bool {
        self.ephemeral.is_none()
    }
}

fn since(status: &ContainerStatus) -> Option<&str> {
    status.state.running.as_ref()?.started_at.as_deref()
}

impl<T: Alike> List<T> {
    /// Of what was read.
    fn read(mut all: Vec<T>) -> Self {
        all.retain(T::is_read);
        if all.is_empty() {
            return Self::default();
        }
        if all.len() > SHARED_LEN_MAX || !all.iter().all(T::is_small) {
            return all.into();
        }
        let mut hasher = DefaultHasher::new();
        all.iter().for_each(|one| one.mark(&mut hasher));
        let at = hasher.finish() as usize % T::REMEMBERED;
        T::with_lately(|lately| {
            if lately.is_empty() {
                lately.resize_with(T::REMEMBERED, Self::default);
            }
            if *lately[at] != *all {
                lately[at] = all.into();
            }
            lately[at].clone()
        })
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Some(all) => all,
            None => &[],
        }
    }
}

impl<T> Clone for List<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> List<T> {
    /// Whether both are the same block.
    fn is_one_with(&self, other: &Self) -> bool {
        matches!((&self.0, &other.0), (Some(one), Some(other)) if Arc::ptr_eq(one, other))
    }
}

impl<T: PartialEq> PartialEq for List<T> {
    fn eq(&self, other: &Self) -> bool {
        self.is_one_with(other) || **self == **other
    }
}

impl<T: fmt::Debug> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T> From<Vec<T>> for List<T> {
    fn from(all: Vec<T>) -> Self {
        Self((!all.is_empty()).then(|| Arc::new(all.into_boxed_slice())))
    }
}

impl<'a, T> IntoIterator for &'a List<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> Exact for List<T> {}

impl<T: Serialize> Serialize for List<T> {
    fn serialize<S: Serializer>(&self, encoder: S) -> Result<S::Ok, S::Error> {
        encoder.collect_seq(self.iter())
    }
}

impl<'de, T: Alike + Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        Vec::deserialize(decoder).map(Self::read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Pod;
    use serde_json::json;

    fn pod(name: &str, ready: &str) -> Pod {
        let pod = json!({"metadata": {"name": name, "ownerReferences": [{"kind": "ReplicaSet", "uid": "u", "controller": true}]},
            "spec": {"containers": [{"name": "c", "image": "web"}], "tolerations": [{"key": "a", "operator": "Exists"}],
                "volumes": [{"name": "token", "projected": {}}, {"name": "data", "persistentVolumeClaim": {"claimName": "d"}}]},
            "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": ready}],
                "containerStatuses": [{"name": "c", "restartCount": 0, "state": {"running": {"startedAt": ready}}}]}});
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn what_pods_have_alike_is_there_once() {
        let (one, other) = (
            pod("a", "2026-11-27T14:29:17Z"),
            pod("b", "2026-11-27T14:29:17Z"),
        );
        let (meta, spec, status) = (&one.metadata, &one.spec, &one.status);
        assert!(
            meta.owner_references
                .is_one_with(&other.metadata.owner_references)
        );
        assert!(spec.containers.is_one_with(&other.spec.containers));
        assert!(spec.tolerations.is_one_with(&other.spec.tolerations));
        assert!(status.conditions.is_one_with(&other.status.conditions));
        assert!(
            status
                .container_statuses
                .is_one_with(&other.status.container_statuses)
        );
        let later = pod("c", "2026-11-27T14:29:18Z");
        assert!(later.is_ready() && later.status.conditions != one.status.conditions);
        assert_eq!(later.spec.containers, one.spec.containers);
    }

    #[test]
    fn owners_of_one_lease_each_are_not_remembered() {
        let read = |kind: &str| -> List<OwnerReference> {
            serde_json::from_value(json!([{"kind": kind, "uid": "u"}])).unwrap()
        };
        assert!(read("ReplicaSet").is_one_with(&read("ReplicaSet")));
        assert!(!read("Node").is_one_with(&read("Node")) && read("Node") == read("Node"));
    }

    #[test]
    fn pods_of_many_owners_in_turn_share_the_lists_of_their_owners() {
        let read = |uid: usize| -> List<OwnerReference> {
            serde_json::from_value(json!([{"kind": "ReplicaSet", "uid": format!("owner-{uid}")}]))
                .unwrap()
        };
        let first: Vec<_> = (0..100).map(read).collect();
        let again: Vec<_> = (0..100).map(read).collect();
        let both = first.iter().zip(&again);
        let shared = both.filter(|(one, other)| one.is_one_with(other)).count();
        assert!(shared >= 80, "{shared}");
    }

    #[test]
    fn volumes_without_a_claim_are_left_out() {
        let pod = pod("a", "");
        assert_eq!(pod.spec.volumes.len(), 1);
        let again: Pod = serde_json::from_value(serde_json::to_value(&pod).unwrap()).unwrap();
        assert_eq!(again, pod);
        assert_eq!(pod.spec.volumes[0].name, "data");
    }

    #[test]
    fn lists_with_much_text_are_not_remembered() {
        let read = |message: &str| -> List<Condition> {
            serde_json::from_value(json!([{"type": "Ready", "message": message}])).unwrap()
        };
        assert!(read("short").is_one_with(&read("short")));
        let long = "x".repeat(SHARED_TEXT_MAX + 1);
        assert!(!read(&long).is_one_with(&read(&long)) && read(&long) == read(&long));
        for number in 0..2 * REMEMBERED {
            let number = number.to_string();
            assert_eq!(read(&number)[0].message, number);
        }
    }
}
