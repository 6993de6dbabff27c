//! A run that fails, made small: of what was done and asked only that without which it does not fail any more. It is
//! tried, again and again, under the same seed.

use crate::shrink::{End, shrink};

/// A schedule as lists of things, each of which can be left out without a change of the others.
pub trait Lists: Clone + 'static {
    /// Which lists to make smaller, one after the other, and for how much of the tries that are left: a share, as numerator
    /// and denominator. Those with the most effect come first, and may come again when they may have become needless.
    const ORDER: &'static [(List<Self>, (usize, usize))];

    /// Its lists by time, so that their halves are times, too.
    fn sort(&mut self);

    /// How much there is of what, in words.
    fn told(&self) -> String;
}

/// One list of a schedule, whatever it is of: a field of it, by [`list`].
pub struct List<S> {
    /// How many things are in it.
    pub len: fn(&S) -> usize,
    /// Leaves the things in these places alone in it, which ascend.
    pub keep: fn(&mut S, &[usize]),
}

/// The list in this field.
macro_rules! list {
    ($field:tt) => {
        $crate::sim::smaller::List {
            len: |all| all.$field.len(),
            keep: |all, places| {
                all.$field = places
                    .iter()
                    .map(|place| all.$field[*place].clone())
                    .collect();
            },
        }
    };
}
pub(crate) use list;

/// What is left of a run.
#[derive(Debug)]
pub struct Smaller<S, R> {
    pub schedule: S,
    /// The run of that schedule.
    pub ran: R,
    pub tries: usize,
    /// Whether every part that is left is needed, as far as parts can be taken away one by one.
    pub minimal: bool,
}

/// Makes a schedule small whose run `fails`, in at most so many tries, and runs what is left. Nothing where it does not fail
/// again. `tell` is called before each try with what has been tried so far.
pub fn smaller<S: Lists, R>(
    mut schedule: S,
    tries_max: usize,
    run: &dyn Fn(&S) -> R,
    fails: &dyn Fn(&R) -> bool,
    tell: &mut dyn FnMut(&S, usize),
) -> Option<Smaller<S, R>> {
    let mut search = Search {
        fails: &|schedule| fails(&run(schedule)),
        tries: 0,
        tries_max,
        tell,
    };
    if !search.fails(&schedule) {
        return None;
    }
    schedule.sort();
    let mut minimal = true;
    for (list, (part, of)) in S::ORDER {
        let tries = search.left() * part / of;
        minimal &= search.less(&mut schedule, list, tries);
    }
    let ran = run(&schedule);
    Some(Smaller {
        schedule,
        ran,
        tries: search.tries,
        minimal,
    })
}

struct Search<'a, S> {
    fails: &'a dyn Fn(&S) -> bool,
    tries: usize,
    tries_max: usize,
    tell: &'a mut dyn FnMut(&S, usize),
}

impl<S: Lists> Search<'_, S> {
    fn left(&self) -> usize {
        self.tries_max.saturating_sub(self.tries)
    }

    fn fails(&mut self, schedule: &S) -> bool {
        (self.tell)(schedule, self.tries);
        self.tries += 1;
        (self.fails)(schedule)
    }

    /// Takes away from one list of the schedule. True where nothing more can go.
    fn less(&mut self, schedule: &mut S, list: &List<S>, tries: usize) -> bool {
        let all: Vec<usize> = (0..(list.len)(schedule)).collect();
        // That all of it fails is known, and costs no try.
        let shrunk = shrink(&all, tries + 1, |some| {
            let mut less = schedule.clone();
            (list.keep)(&mut less, some);
            some.len() == all.len() || self.fails(&less)
        });
        (list.keep)(schedule, &shrunk.items);
        shrunk.end == End::Minimal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two lists of numbers.
    #[derive(Clone, Debug, PartialEq)]
    struct Numbers(Vec<u32>, Vec<u32>);

    impl Lists for Numbers {
        const ORDER: &'static [(List<Self>, (usize, usize))] =
            &[(list!(0), (1, 2)), (list!(1), (1, 1))];

        fn sort(&mut self) {
            self.1.sort_unstable();
        }

        fn told(&self) -> String {
            String::new()
        }
    }

    fn small(fails: &dyn Fn(&u32) -> bool, tries_max: usize) -> Option<Smaller<Numbers, u32>> {
        let all = Numbers((0..20).collect(), (0..100).rev().collect());
        // Each number of the one list counts for a number of the other.
        let run = |numbers: &Numbers| {
            let sum = |list: &[u32]| list.iter().filter(|number| **number > 15).count() as u32;
            sum(&numbers.0).min(sum(&numbers.1))
        };
        smaller(all, tries_max, &run, fails, &mut |_, _| {})
    }

    #[test]
    fn what_is_left_fails_in_the_same_way_and_needs_all_of_it() {
        let found = small(&|came: &u32| *came >= 2, 500).unwrap();
        assert_eq!((found.schedule.0.len(), found.schedule.1.len()), (2, 2));
        assert!(found.minimal && found.ran == 2 && found.tries <= 500);
        let hasty = small(&|came: &u32| *came >= 2, 12).unwrap();
        assert!(!hasty.minimal && hasty.ran >= 2 && hasty.tries <= 12);
    }

    #[test]
    fn what_does_not_fail_again_is_not_made_smaller() {
        assert!(small(&|came: &u32| *came > 50, 500).is_none());
    }
}
