//! A run that fails, made small: of what was done and asked only that without which it does not fail any more. It is
//! tried, again and again, under the same seed.

use super::schedule::Schedule;
use super::{Options, Ran, run_schedule, schedule};
use crate::shrink::{End, shrink};

/// What is left of a run.
#[derive(Debug)]
pub struct Smaller {
    pub schedule: Schedule,
    /// The run of that schedule.
    pub ran: Ran,
    pub tries: usize,
    /// Whether every part that is left is needed, as far as parts can be taken away one by one.
    pub minimal: bool,
}

/// Makes a run small that breaks `rule`, in at most so many tries. Nothing where it does not do that again. `tell` is
/// called before each try with what has been tried so far.
pub fn smaller(
    options: &Options,
    rule: &str,
    tries_max: usize,
    tell: &mut dyn FnMut(&Schedule, usize),
) -> Option<Smaller> {
    let mut search = Search {
        options,
        rule,
        tries: 0,
        tries_max,
        tell,
    };
    let mut now = schedule(options);
    if !search.fails(&now) {
        return None;
    }
    // By time, so that its halves are times, too.
    now.turns.sort_by_key(|turn| turn.at_ms);
    let mut minimal = true;
    // Faults first: most of a schedule's effect is theirs. Once more in the end, when fewer may be needed.
    let share = search.left() / 3;
    minimal &= search.part(&mut now, share, |schedule| &mut schedule.strikes);
    let share = search.left() * 3 / 4;
    minimal &= search.part(&mut now, share, |schedule| &mut schedule.turns);
    let share = search.left() / 2;
    minimal &= search.part(&mut now, share, |schedule| &mut schedule.watchers);
    let share = search.left();
    minimal &= search.part(&mut now, share, |schedule| &mut schedule.strikes);
    let ran = run_schedule(options, &now);
    Some(Smaller {
        schedule: now,
        ran,
        tries: search.tries,
        minimal,
    })
}

struct Search<'a> {
    options: &'a Options,
    rule: &'a str,
    tries: usize,
    tries_max: usize,
    tell: &'a mut dyn FnMut(&Schedule, usize),
}

impl Search<'_> {
    fn left(&self) -> usize {
        self.tries_max.saturating_sub(self.tries)
    }

    fn fails(&mut self, schedule: &Schedule) -> bool {
        (self.tell)(schedule, self.tries);
        self.tries += 1;
        let ran = run_schedule(self.options, schedule);
        let mut rules = ran.violations.iter().map(|violation| &violation.rule);
        rules.any(|rule| rule == self.rule)
    }

    /// Takes away from one list of the schedule. True where nothing more can go.
    fn part<T: Clone>(
        &mut self,
        schedule: &mut Schedule,
        tries: usize,
        list: impl Fn(&mut Schedule) -> &mut Vec<T>,
    ) -> bool {
        let all = list(schedule).clone();
        let mut tried = schedule.clone();
        let shrunk = shrink(&all, tries, |some| {
            *list(&mut tried) = some.to_vec();
            self.fails(&tried)
        });
        *list(schedule) = shrunk.items;
        shrunk.end == End::Minimal
    }
}
