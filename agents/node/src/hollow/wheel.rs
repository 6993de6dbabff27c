//! All times at which something is due, soonest first: one heap instead of a task for each pod and node.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Times since the process began. What is due is not taken out when it is no longer wanted: whoever it is about knows
/// for when it is wanted, and does not listen to others.
#[derive(Debug)]
pub(super) struct Wheel<K> {
    heap: BinaryHeap<Reverse<(Duration, u64, Keyed<K>)>>,
    made: u64,
}

/// Not compared: the number before it is unique.
#[derive(Debug)]
struct Keyed<K>(K);

impl<K> PartialEq for Keyed<K> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<K> Eq for Keyed<K> {}

impl<K> PartialOrd for Keyed<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Keyed<K> {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl<K> Default for Wheel<K> {
    fn default() -> Self {
        Wheel {
            heap: BinaryHeap::new(),
            made: 0,
        }
    }
}

impl<K> Wheel<K> {
    pub(super) fn at(&mut self, time: Duration, key: K) {
        self.made += 1;
        self.heap.push(Reverse((time, self.made, Keyed(key))));
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse((time, ..))| *time)
    }

    /// What is due by now, with the time for which it was wanted.
    pub(super) fn pop(&mut self, now: Duration) -> Option<(Duration, K)> {
        if self.next()? > now {
            return None;
        }
        let Reverse((time, _, Keyed(key))) = self.heap.pop()?;
        Some((time, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_the_order_of_its_time_and_not_before() {
        let mut wheel = Wheel::default();
        let at = Duration::from_secs;
        for (time, key) in [(3, "c"), (1, "a"), (2, "b"), (1, "a2")] {
            wheel.at(at(time), key);
        }
        assert_eq!(wheel.pop(at(0)), None);
        let mut due = Vec::new();
        while let Some((_, key)) = wheel.pop(at(2)) {
            due.push(key);
        }
        assert_eq!(due, ["a", "a2", "b"]);
        assert_eq!(wheel.next(), Some(at(3)));
    }
}
