//! What selectors ask of objects that this server is about to write: it has them in hand, so that the cache, which gets to
//! see the bytes a moment later, need not look for it in these.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::facts::Facts;

/// Writes of one kind under way are fewer than that, unless some never came to an end: those of a few batches of bindings, and of
/// as many requests as are served at once.
const WRITES_MAX: usize = 2_048;
/// Larger objects are looked at again. In bytes of JSON.
const JSON_BYTES_MAX: usize = 64 << 10;

/// By storage key: what will be stored there, and its facts.
#[derive(Default)]
pub(crate) struct Foreseen(Mutex<HashMap<String, (Bytes, Facts)>>);

impl Foreseen {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Bytes, Facts)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the facts of an object that is about to be stored as `stored`.
    pub(crate) fn note(&self, key: &str, stored: &Bytes, facts: impl FnOnce() -> Facts) {
        if stored.len() > JSON_BYTES_MAX {
            return;
        }
        let facts = facts();
        let mut writes = self.lock();
        if writes.len() >= WRITES_MAX {
            writes.clear();
        }
        writes.insert(key.to_owned(), (stored.clone(), facts));
    }

    /// The facts of what came under `key`, where it is what was foreseen. They are told once.
    pub(crate) fn take(&self, key: &str, stored: &Bytes) -> Option<Facts> {
        let (foreseen, facts) = self.lock().remove(key)?;
        (foreseen == *stored).then_some(facts)
    }

    /// What was written may have been read without this being asked for: nothing of it would be asked for again.
    pub(crate) fn forget_all(&self) {
        self.lock().clear();
    }

    /// The write did not take effect.
    pub(crate) fn forget(&self, key: &str, stored: &Bytes) {
        let mut writes = self.lock();
        if writes.get(key).is_some_and(|(known, _)| known == stored) {
            writes.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(foreseen: &Foreseen, key: &str, stored: &'static str) -> bool {
        foreseen.take(key, &stored.into()).is_some()
    }

    #[test]
    fn facts_are_those_of_the_very_same_bytes() {
        let foreseen = Foreseen::default();
        let note = |key: &str, stored: &'static str| {
            foreseen.note(key, &stored.into(), Facts::default);
        };
        note("a", "1");
        assert!(!known(&foreseen, "b", "1"));
        assert!(known(&foreseen, "a", "1"));
        assert!(!known(&foreseen, "a", "1"));
        // Somebody else was faster.
        note("a", "2");
        assert!(!known(&foreseen, "a", "3"));
        note("a", "4");
        foreseen.forget("a", &"3".into());
        assert!(known(&foreseen, "a", "4"));
        note("a", "4");
        foreseen.forget("a", &"4".into());
        assert!(!known(&foreseen, "a", "4"));
        note("a", "5");
        foreseen.forget_all();
        assert!(!known(&foreseen, "a", "5"));
    }

    #[test]
    fn batches_of_bindings_may_be_under_way_together() {
        let foreseen = Foreseen::default();
        let keys: Vec<String> = (0..4 * 256).map(|number| number.to_string()).collect();
        for key in &keys {
            foreseen.note(key, &Bytes::new(), Facts::default);
        }
        assert!(keys.iter().all(|key| known(&foreseen, key, "")));
    }

    #[test]
    fn writes_that_never_end_are_forgotten() {
        let foreseen = Foreseen::default();
        for number in 0..10 * WRITES_MAX {
            foreseen.note(&number.to_string(), &Bytes::new(), Facts::default);
        }
        assert!(foreseen.lock().len() <= WRITES_MAX);
        let large = Bytes::from(vec![0; JSON_BYTES_MAX + 1]);
        foreseen.note("large", &large, || unreachable!("it is too large"));
    }
}
