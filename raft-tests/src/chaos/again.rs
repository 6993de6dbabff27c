//! A run that failed is run again with parts of its schedule, as long as there is time for that, to find a smaller one that
//! fails as well.
//!
//! What is tried next, and what it all comes to, is decided by a [`Hunt`], which does nothing itself. The timing of real
//! processes is their own: what has failed once need not fail again, with all of its faults or with few. So a part that does
//! not fail proves little, and what was tried is told along with what was found.

use super::plan::Planned;
use super::run::{Over, Test};
use super::say;
use crate::report;
use crate::shrink::{End, Search, pick};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// What a run was to do, in its folder, and the smallest part of it that has failed as well, with the folder of that run.
pub const SCHEDULE: &str = "schedule.json";
const SMALL_SCHEDULE: &str = "schedule.min.json";
const SMALL: &str = "small";
/// The folder of a run that is under way.
const TRIED: &str = "tried";
/// Before the first fault, between two that do not overlap, and after the last one there is no more time than this: what
/// was between them is gone. Enough for a leader to be elected.
const CALM: Duration = Duration::from_secs(3);
/// A run without any fault.
const LEAST: Duration = Duration::from_secs(10);

/// # Errors
/// It cannot be read, or is no schedule.
pub fn read(file: &Path) -> Result<Vec<Planned>> {
    let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut schedule: Vec<Planned> = serde_json::from_slice(&text)
        .with_context(|| format!("{} is no schedule", file.display()))?;
    schedule.sort_by_key(|fault| fault.at);
    Ok(schedule)
}

/// # Errors
/// It cannot be written.
pub fn write(file: &Path, schedule: &[Planned]) -> Result<()> {
    let text = serde_json::to_vec_pretty(schedule)?;
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// How long a schedule takes.
pub fn length(schedule: &[Planned]) -> Duration {
    let last = schedule.iter().map(Planned::until).max();
    (last.unwrap_or_default() + CALM).max(LEAST)
}

/// The same faults without the time in which nothing happened between them. What overlaps does so as before.
pub fn squeezed(schedule: &[Planned]) -> Vec<Planned> {
    let (mut over, mut gone) = (Duration::ZERO, Duration::ZERO);
    let squeeze = |fault: &Planned| {
        gone += fault.at.saturating_sub(over).saturating_sub(CALM);
        over = over.max(fault.until());
        Planned {
            at: fault.at - gone,
            ..fault.clone()
        }
    };
    schedule.iter().map(squeeze).collect()
}

/// Which part of a schedule to run next, and what has come of the others. See the module head.
pub struct Hunt {
    all: Vec<Planned>,
    search: Search,
    /// Time that is left.
    left: Duration,
    /// What a run takes longer than its schedule.
    more: Duration,
    tries: usize,
    /// How often it failed again.
    again: usize,
}

/// What a hunt came to.
#[derive(Debug, PartialEq)]
pub struct Found {
    /// The smallest part that has failed; nothing where none has.
    pub schedule: Option<Vec<Planned>>,
    /// In a sentence or two.
    pub words: String,
}

impl Hunt {
    /// For a schedule, ordered by time, that has failed in a run which took so long.
    pub fn new(schedule: &[Planned], took: Duration, budget: Duration) -> Hunt {
        Hunt {
            all: schedule.to_vec(),
            search: Search::of_failing(schedule.len(), usize::MAX),
            left: budget,
            more: took.saturating_sub(length(schedule)),
            tries: 0,
            again: 0,
        }
    }

    /// What to run next; nothing where nothing is left to try, or no time for it.
    pub fn candidate(&mut self) -> Option<Vec<Planned>> {
        let some = self.search.candidate()?;
        let schedule = squeezed(&pick(&self.all, &some));
        if length(&schedule) + self.more > self.left {
            self.search.stop();
            return None;
        }
        Some(schedule)
    }

    /// Whether it failed again in the same way, and how long it took.
    pub fn answer(&mut self, failed: bool, took: Duration) {
        self.left = self.left.saturating_sub(took);
        self.tries += 1;
        self.again += usize::from(failed);
        self.search.answer(failed);
    }

    pub fn found(mut self) -> Found {
        self.search.stop();
        let shrunk = self.search.outcome(&self.all);
        let (tries, whole) = (self.tries, self.all.len());
        if self.again == 0 {
            let words = match tries {
                0 => "There was no time to run a part of its schedule again.".into(),
                _ => format!(
                    "It has not failed again: {tries} smaller parts of its {whole} faults did not fail, which need not mean that they cannot."
                ),
            };
            return Found {
                schedule: None,
                words,
            };
        }
        let left = shrunk.items.len();
        let less = match shrunk.end {
            End::Minimal => "without any one of them it did not fail",
            _ => "there was no time to try with fewer",
        };
        Found {
            schedule: Some(squeezed(&shrunk.items)),
            words: format!(
                "It fails with {left} of its {whole} faults as well: {} of {tries} runs with parts of its schedule failed again, and {less}.",
                self.again
            ),
        }
    }
}

/// Looks for a smaller schedule that fails, after a run that took so long, and puts it beside the report of that run.
pub(crate) async fn make_small(test: &Test<'_>, first: &Over, took: Duration) {
    let minutes = test.args.shrink_minutes;
    let budget = minutes.map_or(took, |minutes| Duration::from_secs_f64(minutes * 60.0));
    if budget.is_zero() {
        return;
    }
    say(&format!(
        "parts of its schedule are run again, for {:.1} minutes at most",
        budget.as_secs_f64() / 60.0
    ));
    let mut hunt = Hunt::new(&test.schedule, took, budget);
    while let Some(schedule) = hunt.candidate() {
        let began = Instant::now();
        say(&format!("again with {} faults", schedule.len()));
        let failed = match try_again(test, first, &schedule).await {
            Ok(failed) => failed,
            Err(error) => {
                say(&format!("this run does not count: {error:#}"));
                false
            }
        };
        hunt.answer(failed, began.elapsed());
    }
    let found = hunt.found();
    say(&found.words);
    if let Err(error) = keep(test, first, &found) {
        say(&format!("it is not kept: {error:#}"));
    }
}

/// Whether it breaks one of the same rules. The folder of the last run that did stays.
async fn try_again(test: &Test<'_>, first: &Over, schedule: &[Planned]) -> Result<bool> {
    let (tried, small) = (test.folder.join(TRIED), test.folder.join(SMALL));
    let replay = test.replay(Some(&test.folder.join(SMALL_SCHEDULE)));
    let over = test.once(schedule, length(schedule), &tried, replay).await;
    let failed = over.as_ref().is_ok_and(|over| {
        let mut rules = over.violations.iter().map(|found| &found.rule);
        rules.any(|rule| first.violations.iter().any(|found| found.rule == *rule))
    });
    let gone = match failed {
        true => &small,
        false => &tried,
    };
    if gone.exists() {
        fs::remove_dir_all(gone)?;
    }
    if failed {
        fs::rename(&tried, &small)?;
        say(&format!("that one is in {} now", small.display()));
        write(&test.folder.join(SMALL_SCHEDULE), schedule)?;
    }
    over.map(|_| failed)
}

/// The report of the first run says what came of it.
fn keep(test: &Test<'_>, first: &Over, found: &Found) -> Result<()> {
    let mut recording = first.recording.clone();
    recording.run.smaller = found.words.clone();
    if found.schedule.is_some() {
        let file = test.folder.join(SMALL_SCHEDULE);
        let again = test.replay(Some(&file));
        say(&format!("again, with less: {again}"));
        recording.run.smaller += &format!(
            " What is left is in {SMALL_SCHEDULE} and {SMALL}/, beside this page: {again}"
        );
    }
    report::write(&test.folder, &recording, &first.violations)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::links::{Cut, Pick};
    use super::super::plan::{KINDS, Kind, Victims, plan};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fault(at: u32, lasts: u32) -> Planned {
        Planned {
            kind: Kind::Kill,
            at: at * SECOND,
            length: lasts * SECOND,
            cut: Cut::All,
            victims: Victims::One(Pick::Leader),
            dice: u64::from(at),
        }
    }

    fn whole() -> Vec<Planned> {
        (0..16).map(|number| fault(2 + 6 * number, 2)).collect()
    }

    #[test]
    fn only_time_in_which_nothing_happened_goes() {
        let all = [fault(30, 10), fault(35, 2), fault(60, 1), fault(62, 1)];
        let squeezed = squeezed(&all);
        let times: Vec<u64> = squeezed.iter().map(|fault| fault.at.as_secs()).collect();
        assert_eq!(times, [3, 8, 16, 18]);
        assert!(
            squeezed
                .iter()
                .zip(&all)
                .all(|(new, old)| new.length == old.length)
        );
        assert_eq!(length(&squeezed), 22 * SECOND);
        assert_eq!(length(&[]), LEAST);
    }

    #[test]
    fn no_two_faults_of_a_plan_meet_that_did_not_before() {
        let kinds: Vec<Kind> = KINDS.iter().map(|(kind, _, _)| *kind).collect();
        let meet = |one: &Planned, two: &Planned| one.at < two.until() && two.at < one.until();
        for seed in 0..50 {
            let plan = plan(seed, 300 * SECOND, 3, &kinds);
            let half: Vec<Planned> = plan.iter().step_by(2).cloned().collect();
            let squeezed = squeezed(&half);
            assert!(squeezed.is_sorted_by_key(|fault| fault.at));
            for (a, one) in half.iter().enumerate() {
                for (b, two) in half.iter().enumerate().skip(a + 1) {
                    assert_eq!(meet(one, two), meet(&squeezed[a], &squeezed[b]));
                }
            }
        }
    }

    /// A hunt in which a run takes ten seconds more than its schedule.
    fn hunt(budget: Duration, fails: impl Fn(&[Planned]) -> bool) -> (Found, usize, Duration) {
        let all = whole();
        let took = |schedule: &[Planned]| length(schedule) + 10 * SECOND;
        let mut hunt = Hunt::new(&all, took(&all), budget);
        let (mut tries, mut spent) = (0, Duration::ZERO);
        while let Some(schedule) = hunt.candidate() {
            assert!(schedule.len() < all.len(), "the whole has failed already");
            (tries, spent) = (tries + 1, spent + took(&schedule));
            hunt.answer(fails(&schedule), took(&schedule));
        }
        (hunt.found(), tries, spent)
    }

    fn has(dice: &'static [u64]) -> impl Fn(&[Planned]) -> bool {
        move |some| {
            dice.iter()
                .all(|wanted| some.iter().any(|fault| fault.dice == *wanted))
        }
    }

    #[test]
    fn what_fails_again_and_again_is_made_as_small_as_it_can_be() {
        let (found, _, _) = hunt(10_000 * SECOND, has(&[14, 80]));
        let schedule = found.schedule.unwrap();
        let dice: Vec<u64> = schedule.iter().map(|fault| fault.dice).collect();
        assert_eq!(dice, [14, 80]);
        assert_eq!(schedule[0].at, CALM);
        assert!(
            found.words.contains("2 of its 16 faults"),
            "{}",
            found.words
        );
        assert!(found.words.contains("without any one of them"));
    }

    #[test]
    fn the_time_is_bounded_and_what_is_kept_has_failed() {
        for seconds in (0..400).step_by(10) {
            let budget = seconds * SECOND;
            let (found, tries, spent) = hunt(budget, has(&[14, 80]));
            assert!(spent <= budget, "{spent:?} of {budget:?}");
            match found.schedule {
                Some(schedule) => assert!(has(&[14, 80])(&schedule) && schedule.len() < 16),
                None => assert_eq!(found.words.contains("no time to run"), tries == 0),
            }
        }
        let (found, _, _) = hunt(400 * SECOND, has(&[14, 80]));
        assert!(
            found.words.contains("no time to try with fewer"),
            "{}",
            found.words
        );
    }

    #[test]
    fn what_does_not_come_again_is_said() {
        let (found, tries, _) = hunt(200 * SECOND, |_| false);
        assert_eq!(found.schedule, None);
        let told = format!("It has not failed again: {tries} smaller parts");
        assert!(
            tries >= 2 && found.words.starts_with(&told),
            "{}",
            found.words
        );
    }

    #[test]
    fn what_fails_without_any_fault_needs_none() {
        let (found, tries, _) = hunt(60 * SECOND, |_| true);
        assert_eq!((found.schedule, tries), (Some(Vec::new()), 1));
    }
}
