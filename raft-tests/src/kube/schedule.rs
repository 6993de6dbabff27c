//! What is asked of a control plane and done to it in a run, as a value: as [`crate::sim::schedule`], with harm between
//! members and their clients, and with clients of the API.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use super::nemesis::Kind;
use crate::sim::schedule::{Seed, Strike, Wish, ms, strikes};
use crate::sim::smaller::{List, Lists, list};

/// See the module head. Times are milliseconds since clients began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// What is done to the store.
    pub strikes: Vec<Strike>,
    /// What is done to the control plane. One thing after the other.
    pub harms: Vec<Harm>,
    pub turns: Vec<Turn>,
    pub informers: Vec<Informer>,
}

/// One fault between members and clients, or of agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Harm {
    pub at_ms: u64,
    pub kind: Kind,
    /// Which member it hits, of those in the cluster, counted around.
    pub nth: u32,
    pub lasts_ms: u64,
    pub seed: Seed,
}

/// A client asks for something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    pub at_ms: u64,
    pub client: u32,
    pub work: Work,
    /// Which member it asks, of those that serve, counted around.
    pub seat: u32,
    pub seed: Seed,
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Writes objects in every way, and reads them.
    Objects,
    /// Creates Deployments, and changes how many pods of which image they want.
    Deployments,
    /// Wants pods of fixed names, as a StatefulSet does.
    Ordinals,
    /// Creates pods that the scheduler leaves alone, and has two bind each of them.
    Bindings,
    /// Services that want the same few addresses and ports.
    Services,
    /// Namespaces that come with something in them and go.
    Namespaces,
    /// StatefulSets that grow, shrink, change and go, and a DaemonSet.
    Sets,
    /// Jobs that are to be done once.
    Jobs,
    /// CronJobs that come due once.
    CronJobs,
    /// Objects of which there may be only so many.
    Quotas,
}

/// Who wants things to run, where somebody is there to run them.
pub const WORKLOADS: [(u32, Work); 11] = [
    (50, Work::Deployments),
    (51, Work::Ordinals),
    (52, Work::Bindings),
    // The second one who binds is 53.
    (54, Work::Services),
    (55, Work::Services),
    (56, Work::Namespaces),
    (57, Work::Sets),
    (58, Work::Jobs),
    (59, Work::Quotas),
    (60, Work::Quotas),
    (61, Work::CronJobs),
];

impl Work {
    /// Between two turns, at most.
    pub fn think_max(self) -> Duration {
        Duration::from_millis(match self {
            Work::Objects => 120,
            Work::Namespaces | Work::Jobs => 2800,
            _ => 700,
        })
    }

    /// In the name of its client.
    pub fn name(self) -> &'static str {
        match self {
            Work::Objects => "objects",
            Work::Deployments => "deployments",
            Work::Ordinals => "fixed names",
            Work::Bindings => "bindings",
            Work::Services => "services",
            Work::Namespaces => "namespaces",
            Work::Sets => "sets",
            Work::Jobs => "jobs",
            Work::CronJobs => "cron jobs",
            Work::Quotas => "quotas",
        }
    }
}

/// A client lists and watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Informer {
    pub client: u32,
    /// Of one namespace and not of all.
    pub of_one: bool,
    pub seed: Seed,
}

/// Clients go on after the last fault, until the control plane serves again: so long at most.
const AFTER: Duration = Duration::from_secs(40);
/// Of a fault, at most.
const LASTS_MAX: Duration = Duration::from_secs(4);

impl Schedule {
    /// What a seed has asked and done. `with_agents`: scheduler, controllers and nodes are there.
    pub fn draw(seed: u64, length: Duration, with_agents: bool) -> Schedule {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x6b73_6368);
        let mut drawn = Schedule::default();
        let writers = 0..rng.random_range(2..6);
        let writers = writers.map(|client| (client, Work::Objects));
        let workloads = WORKLOADS.into_iter().filter(|_| with_agents);
        for (client, work) in writers.chain(workloads) {
            drawn.turns.extend(turns(client, work, length, &mut rng));
        }
        for client in 100..rng.random_range(102..105) {
            drawn.informers.push(Informer {
                client,
                of_one: rng.random_bool(0.4),
                seed: Seed::draw(&mut rng),
            });
        }
        let wish = Wish {
            seed,
            length,
            think_max: Duration::ZERO,
        };
        for hand in 0..rng.random_range(0..3) {
            let strikes = strikes(hand, Duration::ZERO, &wish, &mut rng);
            drawn.strikes.extend(strikes);
        }
        if rng.random_bool(0.7) {
            drawn.harms = harms(length, with_agents, &mut rng);
        }
        drawn
    }
}

fn turns(client: u32, work: Work, length: Duration, rng: &mut SmallRng) -> Vec<Turn> {
    let (mut at, until) = (Duration::ZERO, length + AFTER);
    let mut seat = rng.random_range(0..60);
    let mut turns = Vec::new();
    while at < until {
        at += rng.random_range(Duration::from_millis(1)..work.think_max());
        // Mostly stays where it is, as a client with a connection does.
        if rng.random_bool(0.15) {
            seat = rng.random_range(0..60);
        }
        turns.push(Turn {
            at_ms: ms(at),
            client,
            work,
            seat,
            seed: Seed::draw(rng),
        });
    }
    turns
}

fn harms(length: Duration, with_agents: bool, rng: &mut SmallRng) -> Vec<Harm> {
    let rest = Duration::from_millis(rng.random_range(200..2000));
    let kinds: Vec<Kind> = Kind::ALL
        .iter()
        .copied()
        .filter(|kind| with_agents || !kind.needs_agents())
        .collect();
    let (mut at, mut harms) = (Duration::ZERO, Vec::new());
    loop {
        at += rng.random_range(Duration::ZERO..rest);
        if at >= length {
            return harms;
        }
        let lasts = rng.random_range(Duration::from_millis(50)..LASTS_MAX);
        let kind = kinds[rng.random_range(0..kinds.len())];
        harms.push(Harm {
            at_ms: ms(at),
            kind,
            nth: rng.random_range(0..60),
            lasts_ms: ms(lasts),
            seed: Seed::draw(rng),
        });
        if kind.lasts() {
            at += lasts;
        }
    }
}

impl Lists for Schedule {
    // Faults first: most of a schedule's effect is theirs. Once more in the end, when fewer may be needed.
    const ORDER: &'static [(List<Self>, (usize, usize))] = &[
        (list!(strikes), (1, 6)),
        (list!(harms), (1, 5)),
        (list!(turns), (2, 3)),
        (list!(informers), (1, 3)),
        (list!(strikes), (1, 2)),
        (list!(harms), (1, 1)),
    ];

    fn sort(&mut self) {
        self.turns.sort_by_key(|turn| turn.at_ms);
    }

    fn told(&self) -> String {
        let faults = self.strikes.len() + self.harms.len();
        let (turns, informers) = (self.turns.len(), self.informers.len());
        format!("{faults} faults, {turns} turns of clients and {informers} informers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::schedule::by;

    const LENGTH: Duration = Duration::from_secs(10);

    #[test]
    fn a_seed_has_one_schedule_and_it_survives_a_file() {
        let drawn = Schedule::draw(7, LENGTH, true);
        assert_eq!(Schedule::draw(7, LENGTH, true), drawn);
        assert_ne!(Schedule::draw(8, LENGTH, true), drawn);
        let text = serde_json::to_string(&drawn).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), drawn);
    }

    #[test]
    fn everybody_does_one_thing_after_the_other_within_the_time() {
        let mut harms = 0;
        for seed in 0..50 {
            let with_agents = seed % 2 == 0;
            let drawn = Schedule::draw(seed, LENGTH, with_agents);
            for turns in by(|turn| turn.client, &drawn.turns).values() {
                assert!(turns.is_sorted_by_key(|turn| turn.at_ms));
                assert!(turns.iter().all(|turn| turn.work == turns[0].work));
                assert!(turns.last().unwrap().at_ms > 40_000);
            }
            let ends = |harm: &Harm| harm.at_ms + u64::from(harm.kind.lasts()) * harm.lasts_ms;
            let mut pairs = drawn.harms.windows(2);
            assert!(pairs.all(|pair| ends(&pair[0]) <= pair[1].at_ms));
            assert!(drawn.harms.iter().all(|harm| harm.at_ms < 10_000));
            let needs = |harm: &Harm| harm.kind.needs_agents();
            assert!(with_agents || !drawn.harms.iter().any(needs));
            let workloads = drawn.turns.iter().any(|turn| turn.work != Work::Objects);
            assert_eq!(workloads, with_agents);
            harms += drawn.harms.len();
        }
        assert!(harms > 50);
    }
}
