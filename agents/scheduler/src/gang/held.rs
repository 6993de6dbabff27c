//! Pods of a group that have their nodes and wait until the volumes of all of them are bound. Pure.

use super::Key;
use std::collections::BTreeMap;

/// Those that were decided about in one go, each as `P`.
#[derive(Debug)]
pub(crate) struct Held<P> {
    next: u64,
    cycles: BTreeMap<u64, Cycle<P>>,
}

#[derive(Debug)]
struct Cycle<P> {
    key: Key,
    /// How many volumes of pods are still being bound.
    open: usize,
    ready: Vec<P>,
    failed: bool,
}

/// What comes of it that one more is through.
#[derive(Debug, PartialEq)]
pub(crate) enum Released<P> {
    /// The others are not.
    Nothing,
    /// All are ready to be bound.
    Bind(Key, Vec<P>),
    /// Not all have come so far: these have to give their nodes back.
    GiveBack(Vec<P>),
}

impl<P> Default for Held<P> {
    fn default() -> Self {
        Held {
            next: 0,
            cycles: BTreeMap::new(),
        }
    }
}

impl<P> Held<P> {
    /// These are ready, and so many more will be told about by the number that this gives back.
    pub(crate) fn begin(&mut self, key: Key, ready: Vec<P>, open: usize) -> u64 {
        self.next += 1;
        let cycle = Cycle {
            key,
            open,
            ready,
            failed: false,
        };
        self.cycles.insert(self.next, cycle);
        self.next
    }

    /// The volumes of one are bound, or will not be.
    pub(crate) fn finish(&mut self, number: u64, ready: Option<P>) -> Released<P> {
        let Some(cycle) = self.cycles.get_mut(&number) else {
            return Released::Nothing;
        };
        cycle.open = cycle.open.saturating_sub(1);
        cycle.failed |= ready.is_none();
        cycle.ready.extend(ready);
        if cycle.failed {
            let back = std::mem::take(&mut cycle.ready);
            if cycle.open == 0 {
                self.cycles.remove(&number);
            }
            return Released::GiveBack(back);
        }
        match cycle.open {
            0 => self
                .cycles
                .remove(&number)
                .map_or(Released::Nothing, |cycle| {
                    Released::Bind(cycle.key, cycle.ready)
                }),
            _ => Released::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        ("d".into(), "g".into())
    }

    #[test]
    fn all_are_bound_when_the_last_is_ready() {
        let mut held = Held::default();
        let number = held.begin(key(), vec!["a"], 2);
        assert_eq!(held.finish(number, Some("b")), Released::Nothing);
        let all = Released::Bind(key(), vec!["a", "b", "c"]);
        assert_eq!(held.finish(number, Some("c")), all);
        assert_eq!(held.finish(number, Some("d")), Released::Nothing);
        assert!(held.cycles.is_empty());
    }

    #[test]
    fn when_one_fails_all_give_their_nodes_back_also_those_that_are_late() {
        let mut held = Held::default();
        let number = held.begin(key(), vec!["a"], 3);
        assert_eq!(held.finish(number, Some("b")), Released::Nothing);
        assert_eq!(
            held.finish(number, None),
            Released::GiveBack(vec!["a", "b"])
        );
        assert_eq!(
            held.finish(number, Some("c")),
            Released::GiveBack(vec!["c"])
        );
        assert!(held.cycles.is_empty());
    }
}
