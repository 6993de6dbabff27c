//! Trees of parts of objects that were read for one decision each, and are not needed any more: the next part of its kind is
//! like it but for some texts, so that such a tree is made into the copy of that, which takes less than a new tree and the end
//! of the old one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use schema::Object;
use schema::renew::renew;

/// As many wait at most: about as many decisions are made at once.
const SPENT_MAX: usize = 4;

#[derive(Default)]
pub(super) struct Spent(Mutex<Vec<Object>>);

impl Spent {
    fn lock(&self) -> MutexGuard<'_, Vec<Object>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a tree that nobody needs, where there is room.
    pub(super) fn put(&self, object: Object) {
        let mut waiting = self.lock();
        if waiting.len() < SPENT_MAX {
            waiting.push(object);
        }
    }

    /// A copy of an object, made of a spent one of its kind where there is one.
    pub(super) fn copy(&self, object: &Object) -> Object {
        let Some(mut copy) = self.take(object.kind()) else {
            return object.clone();
        };
        renew(copy.value_mut(), object.value());
        debug_assert_eq!(copy, *object, "what was spent is renewed");
        copy
    }

    fn take(&self, kind: &str) -> Option<Object> {
        let mut waiting = self.lock();
        let at = waiting.iter().rposition(|object| object.kind() == kind)?;
        Some(waiting.swap_remove(at))
    }

    /// Lets go of all of them.
    pub(super) fn clear(&self) {
        let waiting = std::mem::take(&mut *self.lock());
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, rest: Value) -> Object {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"a": name}}});
        if let (Value::Object(pod), Value::Object(rest)) = (&mut pod, rest) {
            pod.extend(rest);
        }
        Object::new(pod).unwrap()
    }

    #[test]
    fn a_copy_is_the_same_whatever_it_is_made_of() {
        let objects = [
            pod("a", json!({"status": {"phase": "Pending"}})),
            pod(
                "bb",
                json!({"spec": {"nodeName": "n"}, "status": {"phase": "Running", "conditions": [{"type": "x"}]}}),
            ),
            pod("c", json!({"status": {"conditions": [1.0, 1, null]}})),
            pod("d", json!({"metadata": {}})),
            Object::empty("v1", "Pod"),
            Object::empty("v1", "Node"),
        ];
        for spent in &objects {
            for object in &objects {
                let all = Spent::default();
                all.put(spent.clone());
                let copy = all.copy(object);
                assert_eq!(copy, *object);
                assert_eq!(copy.value().to_string(), object.value().to_string());
                let is_used = spent.kind() == object.kind();
                assert_eq!(all.lock().is_empty(), is_used);
            }
        }
    }

    #[test]
    fn what_is_spent_is_used_once_and_few_wait() {
        let all = Spent::default();
        let at = |object: &Object| object.name().as_ptr();
        let first = pod("a", json!({}));
        let place = at(&first);
        all.put(first);
        let other = pod("b", json!({}));
        let (once, twice) = (all.copy(&other), all.copy(&other));
        assert_eq!(at(&once), place);
        assert_ne!(at(&twice), place);
        for _ in 0..2 * SPENT_MAX {
            all.put(other.clone());
        }
        assert_eq!(all.lock().len(), SPENT_MAX);
        all.clear();
        assert!(all.lock().is_empty());
    }
}
