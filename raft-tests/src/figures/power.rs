//! Power losses of one member or of all at once, under load.

use super::ground::{Done, Ground, answers};
use super::kills::fault;
use super::numbers::summary;
use crate::chaos::links::Pick;
use crate::chaos::plan::{Kind, Planned, Victims};
use crate::chaos::rig::Rig;
use crate::chaos::say;
use crate::chaos::strike::strike;
use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Losses in one recording.
const SLICE: usize = 50;
/// For a member to answer after its power is back.
const ANSWERS: Duration = Duration::from_secs(30);
const PROGRESS: usize = 10;

/// So many losses, of all members at once in some of them, spread evenly.
pub fn plan(seed: u64, times: usize, all: usize, members: usize) -> Vec<Planned> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut whom: Vec<bool> = (0..times).map(|number| number < all).collect();
    whom.shuffle(&mut rng);
    whom.into_iter()
        .map(|all| {
            let victims = match (all, rng.random_bool(0.4)) {
                (true, _) => Victims::All,
                (false, true) => Victims::One(Pick::Leader),
                (false, false) => Victims::One(Pick::Member(rng.random_range(0..members))),
            };
            let seconds = rng.random_range(0.0..0.5);
            fault(&mut rng, Kind::Power, victims, seconds)
        })
        .collect()
}

/// See the command line.
pub async fn run(ground: &mut Ground, all: usize) -> Result<Done> {
    let task = ground.task().clone();
    let times = Arc::new(Mutex::new(Vec::new()));
    let mut losses = plan(task.seed, task.times, all, task.members);
    let (mut done, mut of_all) = (0, 0);
    while !losses.is_empty() && ground.goes_on() {
        let rest = losses.split_off(losses.len().min(SLICE));
        let now = std::mem::replace(&mut losses, rest);
        let slice = ground.slice().await?;
        let clients = ground.load(&slice);
        let (times, before) = (times.clone(), done);
        let (one, every) = ground
            .play(slice, clients, move |rig| {
                lose(rig, &now, task.until, before, &times)
            })
            .await?;
        done += one;
        of_all += every;
    }
    let times = times.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Done {
        lines: vec![
            format!(
                "{done} power losses of {}, {of_all} of them of all members",
                task.times
            ),
            summary(
                "from the power's return until the member answers",
                &times,
                None,
            ),
        ],
        times: done,
    })
}

/// Answers how many there were, and how many of them were of all members.
fn lose(
    rig: &Rig,
    losses: &[Planned],
    until: Instant,
    before: usize,
    times: &Mutex<Vec<Duration>>,
) -> (usize, usize) {
    let (mut done, mut of_all) = (0, 0);
    for loss in losses {
        let rest = Duration::from_millis(200 + loss.dice % 700);
        if Instant::now() > until || rig.halt.wait(rest) {
            break;
        }
        let hit = loss.victims.of(rig.members().len(), rig.shared.leader());
        strike(
            rig,
            &Planned {
                victims: match loss.victims {
                    Victims::All => Victims::All,
                    _ => Victims::One(Pick::Member(hit[0])),
                },
                ..loss.clone()
            },
        );
        let began = Instant::now();
        for index in &hit {
            if !answers(rig, *index, began, ANSWERS) && !rig.halt.is_halted() {
                rig.recorder().violation(
                    "power loss: does not come back",
                    format!(
                        "Member {} lost its power. It does not answer {ANSWERS:?} after it was started.",
                        rig.names([*index])
                    ),
                );
            }
        }
        times
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(began.elapsed());
        done += 1;
        of_all += usize::from(loss.victims == Victims::All);
        if (before + done).is_multiple_of(PROGRESS) {
            say(&format!("{} power losses", before + done));
        }
    }
    (done, of_all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_of_all_as_asked_for() {
        let losses = plan(7, 1000, 200, 3);
        assert_eq!(losses, plan(7, 1000, 200, 3));
        assert_eq!(losses.len(), 1000);
        let all = |losses: &[Planned]| {
            let of_all = losses.iter().filter(|loss| loss.victims == Victims::All);
            of_all.count()
        };
        assert_eq!(all(&losses), 200);
        // Not all at the beginning.
        assert!((60..140).contains(&all(&losses[..500])));
        let leader = losses
            .iter()
            .filter(|loss| loss.victims == Victims::One(Pick::Leader));
        assert!(leader.count() > 200);
    }
}
