//! Answers of others that hold for a while. So many at most: what asks may be anybody.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// Answers that are kept at once.
const ANSWERS_MAX: usize = 4_096;

/// By a digest of what was asked: neither tokens nor long questions are kept.
pub(crate) struct Recent<T> {
    known: Mutex<HashMap<Key, (Instant, T)>>,
}

pub(crate) type Key = [u8; 32];

/// The key of a question in several parts.
pub(crate) fn key<'a>(parts: impl IntoIterator<Item = &'a str>) -> Key {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

impl<T> Default for Recent<T> {
    fn default() -> Recent<T> {
        Recent {
            known: Mutex::default(),
        }
    }
}

impl<T: Clone> Recent<T> {
    pub(crate) fn get(&self, key: &Key, now: Instant) -> Option<T> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (end, answer) = known.get(key)?;
        (now < *end).then(|| answer.clone())
    }

    /// Keeps an answer for so long.
    pub(crate) fn put(&self, key: Key, answer: T, time: Duration, now: Instant) {
        if time.is_zero() {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ANSWERS_MAX {
            known.retain(|_, (end, _)| now < *end);
        }
        if known.len() >= ANSWERS_MAX {
            known.clear();
        }
        known.insert(key, (now + time, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_hold_for_a_while_and_are_not_too_many() {
        let recent = Recent::default();
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        recent.put(key(["a", "b"]), 1, second, now);
        recent.put(key(["c"]), 2, Duration::ZERO, now);
        assert_eq!(recent.get(&key(["a", "b"]), now), Some(1));
        assert_eq!(recent.get(&key(["ab", ""]), now), None);
        assert_eq!(recent.get(&key(["c"]), now), None);
        assert_eq!(recent.get(&key(["a", "b"]), now + second), None);
        for number in 0..10_000 {
            recent.put(key([number.to_string().as_str()]), number, second, now);
        }
        assert!(recent.known.lock().unwrap().len() <= ANSWERS_MAX);
        assert_eq!(recent.get(&key(["9999"]), now), Some(9_999));
    }
}
