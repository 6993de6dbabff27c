//! What is asked and what is done in a run, as a value. It is drawn from the seed before the run begins, and each part
//! of it draws from a seed of its own: one that is left out changes nothing of what the others are, so that a failure
//! can be made small.
//!
//! What a cluster answers is not part of it, and a client or a fault that depends on that (the leader of the moment, a
//! key as it was read) looks when its time has come.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use super::nemesis::{Kind, Plan};
use super::smaller::{List, Lists, list};

/// See the module head. Times are milliseconds since the run began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    pub strikes: Vec<Strike>,
    pub turns: Vec<Turn>,
    pub watchers: Vec<Watcher>,
    #[serde(default)]
    pub keepers: Vec<Keeper>,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strike {
    pub at_ms: u64,
    /// Who does it: each does one thing after the other, and those that take longer than planned are waited for.
    pub hand: u32,
    pub kind: Kind,
    pub target: Target,
    pub lasts_ms: u64,
    pub seed: Seed,
}

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// Who leads at that time; somebody where nobody does.
    Leader,
    /// Of those that are in the cluster, counted around.
    Nth(u32),
}

/// A client asks for something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    pub at_ms: u64,
    pub client: u32,
    /// Which member it asks, of those in the cluster, counted around.
    pub seat: u32,
    pub seed: Seed,
}

/// A client watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watcher {
    pub client: u32,
    /// All keys, from the first revision on.
    pub everything: bool,
    pub seed: Seed,
}

/// A client keeps leases alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeper {
    pub client: u32,
    pub seed: Seed,
}

/// Decides, for one part of a schedule, all that the schedule does not say: a stream of chance of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed(u64);

impl Seed {
    pub(crate) fn draw(rng: &mut SmallRng) -> Seed {
        Seed(rng.random())
    }

    pub fn rng(self) -> SmallRng {
        SmallRng::seed_from_u64(self.0)
    }
}

/// What is whose, in the order in which it is listed.
pub fn by<T: Clone>(whose: impl Fn(&T) -> u32, things: &[T]) -> BTreeMap<u32, Vec<T>> {
    let mut found: BTreeMap<u32, Vec<T>> = BTreeMap::new();
    for thing in things {
        found.entry(whose(thing)).or_default().push(thing.clone());
    }
    found
}

/// What a schedule is drawn for.
#[derive(Clone, Debug)]
pub struct Wish {
    pub seed: u64,
    /// How long harm is done.
    pub length: Duration,
    /// Between two requests of a client, at most.
    pub think_max: Duration,
}

/// Clients go on after the last fault, until the cluster serves again: so long at most.
const AFTER: Duration = Duration::from_secs(25);
/// Between two requests of a client, at least.
const THINK_MIN: Duration = Duration::from_millis(3);

impl Schedule {
    pub fn draw(wish: &Wish) -> Schedule {
        let mut rng = SmallRng::seed_from_u64(wish.seed ^ 0x7363_6865);
        let mut drawn = Schedule::default();
        for client in 0..rng.random_range(2..6) {
            let turns = turns(client, wish, &mut rng);
            drawn.turns.extend(turns);
        }
        for client in 0..rng.random_range(1..4) {
            drawn.watchers.push(Watcher {
                client: 100 + client,
                everything: false,
                seed: Seed::draw(&mut rng),
            });
        }
        for client in 0..2 {
            drawn.watchers.push(Watcher {
                client: 200 + client,
                everything: true,
                seed: Seed::draw(&mut rng),
            });
        }
        // A calm beginning, mostly: a cluster that is never formed is not worth much.
        let calm = match rng.random_bool(0.8) {
            true => Duration::from_millis(1500),
            false => Duration::ZERO,
        };
        for hand in 0..rng.random_range(1..3) {
            let strikes = strikes(hand, calm, wish, &mut rng);
            drawn.strikes.extend(strikes);
        }
        for client in 0..rng.random_range(0..4) {
            drawn.keepers.push(Keeper {
                client: 300 + client,
                seed: Seed::draw(&mut rng),
            });
        }
        drawn
    }
}

impl Lists for Schedule {
    // Faults first: most of a schedule's effect is theirs. Once more in the end, when fewer may be needed.
    const ORDER: &'static [(List<Self>, (usize, usize))] = &[
        (list!(strikes), (1, 3)),
        (list!(turns), (3, 4)),
        (list!(watchers), (1, 2)),
        (list!(keepers), (1, 2)),
        (list!(strikes), (1, 1)),
    ];

    fn sort(&mut self) {
        self.turns.sort_by_key(|turn| turn.at_ms);
    }

    fn told(&self) -> String {
        let (faults, turns) = (self.strikes.len(), self.turns.len());
        format!("{faults} faults and {turns} requests")
    }
}

pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn turns(client: u32, wish: &Wish, rng: &mut SmallRng) -> Vec<Turn> {
    let (mut at, until) = (Duration::ZERO, wish.length + AFTER);
    let mut seat = rng.random_range(0..60);
    let mut turns = Vec::new();
    while at < until {
        turns.push(Turn {
            at_ms: ms(at),
            client,
            seat,
            seed: Seed::draw(rng),
        });
        at += THINK_MIN + rng.random_range(Duration::ZERO..wish.think_max);
        // Mostly stays where it is, as a client with a connection does.
        if rng.random_bool(0.15) {
            seat = rng.random_range(0..60);
        }
    }
    turns
}

/// What one hand does from the end of the calm to that of the harm.
pub(crate) fn strikes(hand: u32, calm: Duration, wish: &Wish, rng: &mut SmallRng) -> Vec<Strike> {
    let plan = Plan::draw(rng);
    let mut at = calm;
    let mut strikes = Vec::new();
    loop {
        at += rng.random_range(Duration::ZERO..plan.pause_max);
        if at >= wish.length {
            return strikes;
        }
        let mut lasts = rng.random_range(Duration::from_millis(20)..plan.length_max);
        if rng.random_bool(0.3) {
            // Many faults are over before anybody takes notice.
            lasts /= 10;
        }
        let target = match rng.random_bool(0.5) {
            true => Target::Leader,
            false => Target::Nth(rng.random_range(0..60)),
        };
        strikes.push(Strike {
            at_ms: ms(at),
            hand,
            kind: plan.next(rng),
            target,
            lasts_ms: ms(lasts).max(1),
            seed: Seed::draw(rng),
        });
        at += lasts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(seed: u64) -> Wish {
        Wish {
            seed,
            length: Duration::from_secs(10),
            think_max: Duration::from_millis(40),
        }
    }

    #[test]
    fn a_seed_has_one_schedule() {
        assert_eq!(Schedule::draw(&wish(7)), Schedule::draw(&wish(7)));
        assert_ne!(Schedule::draw(&wish(7)), Schedule::draw(&wish(8)));
    }

    #[test]
    fn everybody_does_one_thing_after_the_other_within_the_time() {
        for seed in 0..50 {
            let drawn = Schedule::draw(&wish(seed));
            for turns in by(|turn| turn.client, &drawn.turns).values() {
                assert!(turns.is_sorted_by(|one, next| one.at_ms < next.at_ms));
                assert!(turns.len() > 500);
            }
            for strikes in by(|strike| strike.hand, &drawn.strikes).values() {
                let follows = |one: &Strike, next: &Strike| one.at_ms + one.lasts_ms <= next.at_ms;
                assert!(strikes.is_sorted_by(follows));
                assert!(strikes.iter().all(|strike| strike.at_ms < 10_000));
            }
        }
    }

    #[test]
    fn a_schedule_survives_a_file() {
        let drawn = Schedule::draw(&wish(3));
        let text = serde_json::to_string(&drawn).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), drawn);
    }
}
