//! Every target, with its seeds and with what chance makes of them. `KONTIKI_FUZZ_CASES` asks for more inputs a target.

use fuzz::TARGETS;
use fuzz::chance::Chance;
use fuzz::change::changed;
use std::collections::BTreeSet;
use std::panic::catch_unwind;

/// Enough to have each sort of change on each seed, in a second or so a target.
const CASES: usize = 1_500;

#[test]
fn no_input_breaks_a_law() {
    let cases = std::env::var("KONTIKI_FUZZ_CASES");
    let cases = cases
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(CASES);
    let broken: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> = TARGETS
            .iter()
            .map(|target| scope.spawn(move || broken_by(target, cases)))
            .collect();
        let runs = runs.into_iter();
        runs.filter_map(|run| run.join().expect("it catches panics"))
            .collect()
    });
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// The first input that breaks the target, told for a person.
fn broken_by(target: &fuzz::Target, cases: usize) -> Option<String> {
    let mut pool = (target.seeds)();
    assert!(!pool.is_empty(), "{} has no seeds", target.name);
    let seeds = pool.len();
    let mut chance = Chance::new(0x006b_6f6e_7469_6b69);
    for case in 0..cases.max(seeds) {
        let input = match pool.get(case).filter(|_| case < seeds) {
            Some(seed) => seed.clone(),
            None => {
                let other = chance.one_of(&pool).cloned().unwrap_or_default();
                let input = chance.one_of(&pool).cloned().unwrap_or_default();
                changed(&input, &other, &mut chance)
            }
        };
        if catch_unwind(|| (target.run)(&input)).is_err() {
            let shown = input.escape_ascii().to_string();
            return Some(format!("{}: input {case}: {shown}", target.name));
        }
        // Later changes go on from some of the earlier ones.
        if case >= seeds && chance.below(20) == 0 {
            pool.push(input);
        }
    }
    None
}

#[test]
fn targets_have_names_of_their_own() {
    let names: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names.len(), TARGETS.len());
    assert!(fuzz::target("json").is_some() && fuzz::target("nothing").is_none());
}
