//! Takes away from a list of things (faults, clients, operations) whatever a failure does not need: delta debugging.
//!
//! [`Search`] decides what to try next and has no I/O; [`shrink`] and [`shrink_async`] run the tries. The same list and
//! the same answers give the same result. What remains is 1-minimal: without any one of its items the run does not
//! fail, unless the tries were used up before that was known.

use std::collections::BTreeSet;

/// What a search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk<T> {
    /// In their old order.
    pub items: Vec<T>,
    /// How many runs it took.
    pub tries: usize,
    pub end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every item that is left is needed.
    Minimal,
    /// The tries were used up. It fails, but fewer items might do.
    Exhausted,
    /// The whole list did not fail when it was tried, so nothing was taken away.
    NotReproduced,
}

/// The fewest of `items` with which `fails` still says true, in at most `tries_max` calls.
pub fn shrink<T: Clone>(
    items: &[T],
    tries_max: usize,
    mut fails: impl FnMut(&[T]) -> bool,
) -> Shrunk<T> {
    let mut search = Search::new(items.len(), tries_max);
    while let Some(candidate) = search.candidate() {
        let verdict = fails(&pick(items, &candidate));
        search.answer(verdict);
    }
    search.outcome(items)
}

/// As [`shrink`], for runs that have to be awaited.
pub async fn shrink_async<T: Clone>(
    items: &[T],
    tries_max: usize,
    mut fails: impl AsyncFnMut(Vec<T>) -> bool,
) -> Shrunk<T> {
    let mut search = Search::new(items.len(), tries_max);
    while let Some(candidate) = search.candidate() {
        let verdict = fails(pick(items, &candidate)).await;
        search.answer(verdict);
    }
    search.outcome(items)
}

/// Those with these indexes.
pub fn pick<T: Clone>(items: &[T], indexes: &[usize]) -> Vec<T> {
    indexes.iter().map(|index| items[*index].clone()).collect()
}

/// The search itself, over indexes: ask for a [`Search::candidate`], run it, give the [`Search::answer`], until there
/// is none.
#[derive(Debug)]
pub struct Search {
    /// The smallest set that is known to fail.
    best: Vec<usize>,
    /// Into how many parts `best` is cut; each candidate is all but one of them.
    parts: usize,
    step: usize,
    /// Whether this pass over the parts took one away: then those that were needed before may not be any more.
    shorter: bool,
    stage: Stage,
    asked: Option<Vec<usize>>,
    /// What did not fail: a set is never run twice.
    passed: BTreeSet<Vec<usize>>,
    tries: usize,
    tries_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The whole list, to see that it fails at all.
    Whole,
    /// Nothing at all: often none of the faults is needed.
    Empty,
    Parts,
    Over(End),
}

impl Search {
    pub fn new(items: usize, tries_max: usize) -> Search {
        Search {
            best: (0..items).collect(),
            parts: 2,
            step: 0,
            shorter: false,
            stage: Stage::Whole,
            asked: None,
            passed: BTreeSet::new(),
            tries: 0,
            tries_max,
        }
    }

    /// As [`Search::new`], of a list that is known to fail.
    pub fn of_failing(items: usize, tries_max: usize) -> Search {
        Search {
            stage: Stage::Empty,
            ..Search::new(items, tries_max)
        }
    }

    /// Ends the search with what it has come to: whatever it would try next is not tried.
    pub fn stop(&mut self) {
        self.asked = None;
        if !matches!(self.stage, Stage::Over(_)) {
            self.stage = Stage::Over(End::Exhausted);
        }
    }

    /// Indexes of the items to run next, ascending; nothing when the search is over.
    pub fn candidate(&mut self) -> Option<Vec<usize>> {
        let candidate = self.next()?;
        if self.tries == self.tries_max {
            // Without a single try it is not known whether the list fails.
            let unseen = self.stage == Stage::Whole;
            self.stage = Stage::Over(if unseen {
                End::NotReproduced
            } else {
                End::Exhausted
            });
            return None;
        }
        self.tries += 1;
        self.asked = Some(candidate.clone());
        Some(candidate)
    }

    fn next(&mut self) -> Option<Vec<usize>> {
        loop {
            let candidate = match self.stage {
                Stage::Over(_) => return None,
                Stage::Whole => return Some(self.best.clone()),
                Stage::Empty if self.best.is_empty() => {
                    self.stage = Stage::Over(End::Minimal);
                    return None;
                }
                Stage::Empty => return Some(Vec::new()),
                Stage::Parts => self.all_but_one_part(),
            };
            match candidate {
                Some(candidate) if self.passed.contains(&candidate) => self.step += 1,
                Some(candidate) => return Some(candidate),
                None if self.parts < self.best.len() => self.pass(self.parts * 2),
                None if self.shorter => self.pass(self.parts),
                None => self.stage = Stage::Over(End::Minimal),
            }
        }
    }

    /// The candidate of this step; nothing at the end of the pass, or where all but one part is nothing at all.
    fn all_but_one_part(&self) -> Option<Vec<usize>> {
        let all = self.best.len();
        let parts = self.parts.min(all);
        if all == 1 || self.step >= parts {
            return None;
        }
        let from = self.step * all / parts;
        let until = (self.step + 1) * all / parts;
        Some([&self.best[..from], &self.best[until..]].concat())
    }

    fn pass(&mut self, parts: usize) {
        self.parts = parts.clamp(2, self.best.len().max(2));
        self.step = 0;
        self.shorter = false;
    }

    /// Whether the run with the last candidate failed.
    pub fn answer(&mut self, fails: bool) {
        let asked = self.asked.take().expect("an answer follows a candidate");
        match (self.stage, fails) {
            (Stage::Whole, true) => self.stage = Stage::Empty,
            (Stage::Whole, false) => self.stage = Stage::Over(End::NotReproduced),
            (Stage::Empty, true) => {
                self.best = asked;
                self.stage = Stage::Over(End::Minimal);
            }
            (Stage::Empty, false) => {
                self.passed.insert(asked);
                self.stage = Stage::Parts;
            }
            (_, true) => {
                self.best = asked;
                self.shorter = true;
                // What is left stays cut as finely as before, and the next part stands where this one stood.
                self.parts = (self.parts - 1).max(2);
                self.step = self.step.min(self.parts);
            }
            (_, false) => {
                self.passed.insert(asked);
                self.step += 1;
            }
        }
    }

    pub fn outcome<T: Clone>(self, items: &[T]) -> Shrunk<T> {
        let Stage::Over(end) = self.stage else {
            unreachable!("a search ends where there is no candidate")
        };
        Shrunk {
            items: pick(items, &self.best),
            tries: self.tries,
            end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn needs(needles: &[u32]) -> impl Fn(&[u32]) -> bool {
        move |items| needles.iter().all(|needle| items.contains(needle))
    }

    #[test]
    fn the_needles_are_all_that_is_left_in_their_order() {
        let items: Vec<u32> = (0..100).collect();
        let shrunk = shrink(&items, 1000, needs(&[97, 3, 41]));
        assert_eq!(shrunk.items, [3, 41, 97]);
        assert_eq!(shrunk.end, End::Minimal);
    }

    #[test]
    fn one_needle_of_a_thousand_takes_few_runs() {
        let items: Vec<u32> = (0..1000).collect();
        let shrunk = shrink(&items, 1000, needs(&[700]));
        assert_eq!(shrunk.items, [700]);
        assert!(shrunk.tries <= 30, "{} tries", shrunk.tries);
    }

    #[test]
    fn a_failure_that_needs_nothing_shrinks_to_nothing_at_once() {
        let shrunk = shrink(&[1, 2, 3], 10, |_| true);
        assert_eq!((shrunk.items, shrunk.tries), (vec![], 2));
        assert_eq!(shrunk.end, End::Minimal);
    }

    #[test]
    fn what_does_not_fail_again_is_left_as_it_is() {
        let shrunk = shrink(&[1, 2, 3], 10, |_| false);
        assert_eq!((shrunk.items, shrunk.tries), (vec![1, 2, 3], 1));
        assert_eq!(shrunk.end, End::NotReproduced);
        assert_eq!(shrink(&[1], 0, |_| true).end, End::NotReproduced);
        assert_eq!(shrink::<u32>(&[], 9, |_| true).end, End::Minimal);
        assert_eq!(shrink::<u32>(&[], 9, |_| false).end, End::NotReproduced);
    }

    #[test]
    fn the_tries_are_bounded_and_what_remains_still_fails() {
        let items: Vec<u32> = (0..256).collect();
        let needles: Vec<u32> = (0..256).step_by(17).collect();
        let mut runs = 0;
        let shrunk = shrink(&items, 40, |some| {
            runs += 1;
            needs(&needles)(some)
        });
        assert_eq!((runs, shrunk.tries, shrunk.end), (40, 40, End::Exhausted));
        assert!(needs(&needles)(&shrunk.items));
        assert!(shrunk.items.len() < 256);
    }

    #[test]
    fn items_that_fail_only_together_stay_together() {
        let items: Vec<u32> = (0..64).collect();
        // A partition and, after it, any kill: not monotone in the single item.
        let fails = |some: &[u32]| {
            let cut = some.iter().position(|item| *item == 20);
            cut.is_some_and(|at| some[at..].iter().any(|item| item % 10 == 9))
        };
        let shrunk = shrink(&items, 500, fails);
        assert_eq!(shrunk.items.len(), 2);
        assert_eq!(shrunk.items[0], 20);
    }

    #[test]
    fn what_is_known_to_fail_is_not_tried_as_a_whole() {
        let items: Vec<u32> = (0..16).collect();
        let mut search = Search::of_failing(items.len(), 100);
        let mut asked = Vec::new();
        while let Some(candidate) = search.candidate() {
            search.answer(candidate.contains(&5));
            asked.push(candidate);
        }
        assert!(!asked.contains(&(0..16).collect()));
        assert_eq!(asked[..2], [vec![], (8..16).collect::<Vec<usize>>()]);
        assert_eq!(search.outcome(&items).items, [5]);
        let mut search = Search::of_failing(items.len(), 100);
        search.candidate();
        search.answer(false);
        search.candidate();
        search.stop();
        let shrunk = search.outcome(&items);
        assert_eq!((shrunk.end, shrunk.items.len()), (End::Exhausted, 16));
    }

    #[tokio::test]
    async fn the_awaited_search_asks_the_same() {
        let items: Vec<u32> = (0..50).collect();
        let mut asked = Vec::new();
        let plain = shrink(&items, 200, |some| {
            asked.push(some.to_vec());
            needs(&[7, 31])(some)
        });
        let mut asked_async = Vec::new();
        let awaited = shrink_async(&items, 200, async |some| {
            tokio::task::yield_now().await;
            asked_async.push(some.clone());
            needs(&[7, 31])(&some)
        });
        assert_eq!(awaited.await, plain);
        assert_eq!(asked_async, asked);
    }

    proptest! {
        #[test]
        fn what_remains_fails_and_needs_every_item(
            length in 0usize..40,
            groups in proptest::collection::vec(proptest::collection::btree_set(0u32..40, 1..4), 1..4),
        ) {
            let items: Vec<u32> = (0..length as u32).collect();
            // Fails with all of any one group.
            let fails = |some: &[u32]| {
                groups.iter().any(|group| group.iter().all(|item| some.contains(item)))
            };
            let mut seen = BTreeSet::new();
            let shrunk = shrink(&items, 100_000, |some| {
                assert!(seen.insert(some.to_vec()), "ran twice: {some:?}");
                fails(some)
            });
            if !fails(&items) {
                prop_assert_eq!(shrunk.end, End::NotReproduced);
                return Ok(());
            }
            prop_assert_eq!(shrunk.end, End::Minimal);
            prop_assert!(fails(&shrunk.items));
            for without in 0..shrunk.items.len() {
                let mut fewer = shrunk.items.clone();
                fewer.remove(without);
                prop_assert!(!fails(&fewer), "{:?} does without {}", shrunk.items, without);
            }
        }
    }
}
