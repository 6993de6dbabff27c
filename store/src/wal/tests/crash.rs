//! A power cut, or the death of the process, after every step of a log's life.

use super::sim::{Image, PowerCut, Sim, Step};
use super::{Dice, Said, Workload, create, open, said};
use crate::env::LogDisk;

/// A life of a log: the disk before, the steps, and what it said after each batch, the first before any.
struct Life {
    before: Image,
    steps: Vec<Step>,
    states: Vec<Said>,
}

/// Goes on with a log on this disk.
fn live(sim: &Sim, log: &dyn LogDisk, work: &mut Workload, batches: usize) -> Life {
    let before = sim.image();
    let from = sim.journal().len();
    let mut states = vec![work.model.0.clone()];
    for batch in 1..=batches {
        let (ops, durable) = work.batch();
        sim.note(Step::Begin(batch));
        log.write(&ops, durable).unwrap();
        sim.note(Step::Done(batch, durable));
        states.push(work.model.0.clone());
    }
    Life {
        before,
        steps: sim.journal().split_off(from),
        states,
    }
}

/// The last batch that was acknowledged and the last that was begun.
fn bounds(steps: &[Step]) -> (usize, usize) {
    let mut bounds = (0, 0);
    for step in steps {
        match step {
            Step::Begin(batch) => bounds.1 = *batch,
            Step::Done(batch, true) => bounds.0 = *batch,
            _ => {}
        }
    }
    bounds
}

/// Opens what a crash has left. It must say what it said after some batch: none that was acknowledged is missing, and
/// of the others there is a whole one or nothing.
fn check(life: &Life, steps: usize, image: Image) -> (Sim, usize) {
    let (acknowledged, begun) = bounds(&life.steps[..steps]);
    let sim = Sim::of(image);
    let found = open(&sim).map(|log| said(&log));
    let step = steps.checked_sub(1).map(|at| &life.steps[at]);
    let found =
        found.unwrap_or_else(|error| panic!("refused after step {steps}, {step:?}: {error}"));
    let state = (acknowledged..=begun)
        .rev()
        .find(|at| life.states[*at] == found);
    let state = state.unwrap_or_else(|| {
        panic!("after step {steps}, {step:?}: {found:?} is not a state of {acknowledged}..={begun}")
    });
    (sim, state)
}

#[test]
fn a_power_cut_after_any_step_loses_nothing_acknowledged_and_invents_nothing() {
    let mut images = 0;
    for seed in 0..2 {
        let sim = Sim::default();
        let log = create(&sim);
        let life = live(&sim, &log, &mut Workload::new(seed, 1200), 40);
        let mut dice = Dice(seed);
        let mut random = || dice.next();
        for steps in 0..=life.steps.len() {
            let cut = PowerCut::after(&life.before, &life.steps[..steps]);
            for image in cut.images(&mut random) {
                images += 1;
                check(&life, steps, image);
            }
            check(&life, steps, cut.process_death());
        }
    }
    assert!(images > 3_000, "{images}");
}

/// What a crash leaves is a beginning like any other.
#[test]
fn a_log_goes_on_after_a_power_cut_and_survives_the_next_one() {
    let mut dice = Dice(1);
    for seed in 100..101 {
        let sim = Sim::default();
        let log = create(&sim);
        let mut work = Workload::new(seed, 1200);
        let life = live(&sim, &log, &mut work, 16);
        for steps in 0..=life.steps.len() {
            let cut = PowerCut::after(&life.before, &life.steps[..steps]);
            let mut images = cut.images(&mut || dice.next());
            images.push(cut.process_death());
            let image = images.swap_remove(dice.below(images.len() as u64) as usize);
            let (sim, state) = check(&life, steps, image);
            let log = open(&sim).unwrap();
            let mut work = Workload::new(dice.next(), 1200);
            work.model.0 = life.states[state].clone();
            work.term = 1000;
            let second = live(&sim, &log, &mut work, 4);
            for steps in 0..=second.steps.len() {
                let cut = PowerCut::after(&second.before, &second.steps[..steps]);
                for image in cut.images(&mut || dice.next()) {
                    check(&second, steps, image);
                }
            }
        }
    }
}

/// What the death of a process leaves in the kernel's memory is read by the next one, and is not on the disk yet.
#[test]
fn what_a_dead_process_had_not_synced_is_not_trusted() {
    let mut dice = Dice(2);
    for seed in 200..201 {
        let sim = Sim::default();
        let log = create(&sim);
        let life = live(&sim, &log, &mut Workload::new(seed, 1200), 15);
        for steps in 0..=life.steps.len() {
            let died = PowerCut::after(&life.before, &life.steps[..steps]);
            let (_, state) = check(&life, steps, died.process_death());
            let sim = Sim::of(died.process_death());
            let log = open(&sim).unwrap();
            let mut work = Workload::new(dice.next(), 1200);
            work.model.0 = life.states[state].clone();
            work.term = 1000;
            let second = live(&sim, &log, &mut work, 3);
            let opening = sim.journal().len() - second.steps.len();
            let both = [life.steps[..steps].to_vec(), sim.journal()].concat();
            for more in 0..=second.steps.len() {
                let cut = PowerCut::after(&life.before, &both[..steps + opening + more]);
                for image in cut.images(&mut || dice.next()) {
                    check(&second, more, image);
                }
            }
        }
    }
}

/// Steps of the creation are steps too: it is either begun anew or there.
#[test]
fn a_creation_that_was_cut_short_can_be_repeated() {
    let sim = Sim::default();
    drop(create(&sim));
    let steps = sim.journal();
    let mut dice = Dice(3);
    for count in 0..=steps.len() {
        let cut = PowerCut::after(&Image::default(), &steps[..count]);
        for image in cut.images(&mut || dice.next()) {
            let sim = Sim::of(image);
            assert_eq!(said(&create(&sim)), Said::default());
            assert_eq!(said(&open(&sim).unwrap()), Said::default());
        }
    }
}

/// Opening writes too: what it makes durable, and what it tidies up.
#[test]
fn a_power_cut_while_opening_loses_nothing() {
    let mut dice = Dice(5);
    for seed in 20..30 {
        let sim = Sim::default();
        let log = create(&sim);
        let mut work = Workload::new(seed, 1200);
        let life = live(&sim, &log, &mut work, 30);
        let before = sim.image();
        let from = sim.journal().len();
        drop(open(&sim).unwrap());
        let opening = sim.journal().split_off(from);
        for steps in 0..=opening.len() {
            let cut = PowerCut::after(&before, &opening[..steps]);
            for image in cut.images(&mut || dice.next()) {
                check(&life, life.steps.len(), image);
            }
        }
    }
}

/// Each step of each write fails once; after that the disk works again.
#[test]
fn after_a_failed_step_nothing_is_acknowledged_and_nothing_acknowledged_is_lost() {
    for seed in 40..44 {
        for failing in 0.. {
            let sim = Sim::default();
            let log = create(&sim);
            let mut work = Workload::new(seed, 1200);
            sim.fail_after(failing);
            let mut states = vec![work.model.0.clone()];
            let mut acknowledged = 0;
            let mut failed = false;
            for batch in 1..=25 {
                let (ops, durable) = work.batch();
                states.push(work.model.0.clone());
                match log.write(&ops, durable) {
                    // What comes after a failure is not known to the log: it must stay closed.
                    Ok(()) => assert!(!failed, "seed {seed}, step {failing}"),
                    Err(_) => failed = true,
                }
                if !failed && durable {
                    acknowledged = batch;
                }
            }
            drop(log);
            let came = !sim.still_to_fail();
            let found = said(&open(&sim).unwrap());
            let known = states[acknowledged..].contains(&found);
            assert!(known, "seed {seed}, step {failing}");
            if !came {
                assert!(failing > 60, "only {failing} steps");
                assert_eq!(found, work.model.0);
                break;
            }
        }
    }
}
