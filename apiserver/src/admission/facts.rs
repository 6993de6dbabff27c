//! What plugins need to know of other objects, read once for each version of them and not with every write.
//!
//! Whether an object is there and which version counts is still asked of the caches each time: what changes is seen as soon
//! as it is there. Kept is only what a version says, which never changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use schema::Object;
use serde_json::Value;

use crate::entry::Entry;
use crate::trees::room;

/// So many objects of a kind are known; where there are more, what is known is forgotten and read again.
const KEPT_MAX: usize = 4_096;
/// So many bytes of memory do the facts of a kind take, by estimate: whoever may make LimitRanges or ServiceAccounts could
/// fill the memory with what these say, even if they delete them again.
const BYTES_MAX: usize = 8 << 20;

/// What the plugins of one server know.
pub(crate) struct Facts {
    /// Whether a namespace is on its way out, as its metadata has it.
    pub(super) leaving_namespaces: Kept<bool>,
    pub(super) priorities: Kept<Priority>,
    pub(super) accounts: Kept<Account>,
    /// The `spec.limits` items of a LimitRange.
    pub(super) limits: Kept<Vec<Value>>,
}

impl Default for Facts {
    fn default() -> Facts {
        Facts {
            leaving_namespaces: Kept::new(|object| object.deletion_timestamp().is_some(), |_| 0),
            priorities: Kept::new(Priority::of, Priority::room),
            accounts: Kept::new(Account::of, Account::room),
            limits: Kept::new(limits_of, |limits| limits.iter().map(room).sum()),
        }
    }
}

fn limits_of(range: &Object) -> Vec<Value> {
    let limits = range.get_array(&["spec", "limits"]);
    limits.cloned().unwrap_or_default()
}

/// What a PriorityClass says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Priority {
    pub(super) name: String,
    pub(super) is_default: bool,
    pub(super) value: i64,
    pub(super) preemption: String,
}

impl Priority {
    fn of(class: &Object) -> Priority {
        let preemption = class.get_str(&["preemptionPolicy"]);
        Priority {
            name: class.name().to_owned(),
            is_default: class.get_bool(&["globalDefault"]) == Some(true),
            value: class.get_i64(&["value"]).unwrap_or(0),
            preemption: preemption.unwrap_or("PreemptLowerPriority").to_owned(),
        }
    }

    fn room(&self) -> usize {
        self.name.len() + self.preemption.len()
    }
}

/// What a ServiceAccount says about the pods that run as it.
#[derive(Debug, PartialEq)]
pub(super) struct Account {
    pub(super) mounts_token: Option<bool>,
    pub(super) pull_secrets: Option<Value>,
}

impl Account {
    fn of(account: &Object) -> Account {
        Account {
            mounts_token: account.get_bool(&["automountServiceAccountToken"]),
            pull_secrets: account.get(&["imagePullSecrets"]).cloned(),
        }
    }

    fn room(&self) -> usize {
        self.pull_secrets.as_ref().map_or(0, room)
    }
}

/// What is known of objects, by their keys and the versions that say so.
pub(super) struct Kept<T> {
    read: fn(&Object) -> T,
    /// How many bytes hang on a fact.
    room: fn(&T) -> usize,
    all: Mutex<All<T>>,
}

struct All<T> {
    known: HashMap<Box<str>, Known<T>>,
    bytes: usize,
}

struct Known<T> {
    revision: i64,
    fact: Arc<T>,
    bytes: usize,
}

impl<T> Kept<T> {
    fn new(read: fn(&Object) -> T, room: fn(&T) -> usize) -> Kept<T> {
        let (known, bytes) = (HashMap::new(), 0);
        let all = Mutex::new(All { known, bytes });
        Kept { read, room, all }
    }

    fn lock(&self) -> MutexGuard<'_, All<T>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this version of an object says.
    pub(super) fn of(&self, entry: &Entry) -> Arc<T> {
        let (key, revision) = (entry.key(), entry.revision);
        self.find(key, revision).unwrap_or_else(|| {
            let fact = Arc::new((self.read)(&entry.object()));
            self.keep(key, revision, &fact);
            fact
        })
    }

    fn find(&self, key: &str, revision: i64) -> Option<Arc<T>> {
        let all = self.lock();
        let known = all.known.get(key);
        let known = known.filter(|known| known.revision == revision);
        known.map(|known| known.fact.clone())
    }

    fn keep(&self, key: &str, revision: i64, fact: &Arc<T>) {
        let bytes = key.len() + (self.room)(fact);
        let mut all = self.lock();
        if let Some(before) = all.known.remove(key) {
            all.bytes -= before.bytes;
        }
        if all.known.len() >= KEPT_MAX || all.bytes + bytes > BYTES_MAX {
            all.known.clear();
            all.bytes = 0;
        }
        if bytes > BYTES_MAX {
            return;
        }
        all.bytes += bytes;
        let known = Known {
            revision,
            fact: fact.clone(),
            bytes,
        };
        all.known.insert(key.into(), known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(key: &str, revision: i64, object: &Value) -> Entry {
        let stored = crate::codec::encode(object);
        let names_at = "/registry/priorityclasses/".len();
        Entry::new(key, names_at, &stored.into(), revision, &[], None).unwrap()
    }

    fn class(value: i64) -> Value {
        json!({"kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1",
            "metadata": {"name": "high"}, "value": value})
    }

    const KEY: &str = "/registry/priorityclasses/high";

    #[test]
    fn a_class_that_changes_is_seen_at_once_and_the_older_version_stays_what_it_was() {
        let facts = Facts::default();
        let (old, new) = (entry(KEY, 7, &class(1)), entry(KEY, 8, &class(2)));
        assert_eq!(facts.priorities.of(&old).value, 1);
        assert_eq!(facts.priorities.of(&new).value, 2);
        assert_eq!(facts.priorities.of(&old).value, 1);
        assert_eq!(facts.priorities.of(&new).name, "high");
    }

    #[test]
    fn a_version_is_read_once() {
        let facts = Facts::default();
        let one = entry(KEY, 7, &class(1));
        let first = facts.priorities.of(&one);
        assert!(Arc::ptr_eq(&first, &facts.priorities.of(&one)));
        let other = entry("/registry/priorityclasses/low", 7, &class(1));
        assert!(!Arc::ptr_eq(&first, &facts.priorities.of(&other)));
    }

    #[test]
    fn what_is_known_is_bounded() {
        let kept = Kept::<usize>::new(|_| 0, |_| 0);
        for at in 0..KEPT_MAX + 10 {
            kept.keep(&at.to_string(), 1, &Arc::new(at));
            assert_eq!(kept.find(&at.to_string(), 1).as_deref(), Some(&at));
        }
        assert_eq!(kept.lock().known.len(), 10);
        // One that changes takes no more room.
        kept.keep(&KEPT_MAX.to_string(), 2, &Arc::new(0));
        assert_eq!(kept.lock().known.len(), 10);
    }

    #[test]
    fn facts_of_large_objects_take_no_more_memory() {
        let kept = Kept::<usize>::new(|_| 0, |bytes| *bytes);
        let third = Arc::new(BYTES_MAX / 3 - 8);
        for key in ["a", "b", "c", "c", "d"] {
            kept.keep(key, 1, &third);
            assert!(kept.find(key, 1).is_some());
            let all = kept.lock();
            let bytes: usize = all.known.values().map(|known| known.bytes).sum();
            assert_eq!(all.bytes, bytes);
            assert!(bytes <= BYTES_MAX);
        }
        assert_eq!(kept.lock().known.len(), 1);
        kept.keep("e", 1, &Arc::new(BYTES_MAX));
        assert!(kept.find("e", 1).is_none());
    }

    #[test]
    fn lists_in_objects_are_weighed() {
        let facts = Facts::default();
        let secrets = json!(vec![json!({"name": "a"}); 100]);
        let account = json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "high"},
            "imagePullSecrets": secrets});
        let limits = json!({"kind": "LimitRange", "apiVersion": "v1", "metadata": {"name": "high"},
            "spec": {"limits": secrets}});
        facts.accounts.of(&entry(KEY, 7, &account));
        facts.limits.of(&entry(KEY, 7, &limits));
        assert!(facts.accounts.lock().bytes > 50_000);
        assert!(facts.limits.lock().bytes > 50_000);
    }
}
