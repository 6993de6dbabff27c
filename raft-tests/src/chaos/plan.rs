//! What is done to the cluster, and when: everything follows from the seed, before anything is done.
//!
//! There are two lanes, one for the network and one for the members' processes, disks and clocks, so that a member dies
//! while another one is cut off. Within a lane there is one fault at a time. A fault that needs a sound cluster around it
//! (a damaged disk, a change of members) is alone.

use super::links::{Cut, Pick};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A sort of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Kind {
    Partition,
    Flapping,
    Loss,
    Reset,
    Delay,
    Reorder,
    Duplicate,
    Bandwidth,
    Kill,
    CrashLoop,
    Pause,
    Stutter,
    Slow,
    Power,
    DiskError,
    SlowDisk,
    DiskFull,
    Corrupt,
    Clock,
    Member,
    Compact,
    MoveLeader,
    Snapshot,
    Restart,
    Upgrade,
    Backup,
    Node,
}

/// Every kind, its name on the command line, and in words what it does.
pub const KINDS: &[(Kind, &str, &str)] = &[
    (
        Kind::Partition,
        "partition",
        "cuts links: one way, one alone, halves, a bridge, a ring, all",
    ),
    (
        Kind::Flapping,
        "flapping",
        "cuts and mends links several times a second",
    ),
    (Kind::Loss, "loss", "loses some of the packets"),
    (Kind::Reset, "reset", "breaks connections between members"),
    (
        Kind::Delay,
        "delay",
        "delays what members say to each other, each direction differently",
    ),
    (
        Kind::Reorder,
        "reorder",
        "lets packets between members overtake each other",
    ),
    (
        Kind::Duplicate,
        "duplicate",
        "some packets between members come twice",
    ),
    (
        Kind::Bandwidth,
        "bandwidth",
        "leaves a member a narrow line, each way",
    ),
    (
        Kind::Kill,
        "kill",
        "SIGKILL of one, a majority or all; back after 0 to 3 s",
    ),
    (
        Kind::CrashLoop,
        "crash-loop",
        "SIGKILL again and again, soon after each start",
    ),
    (Kind::Pause, "pause", "SIGSTOP, later SIGCONT"),
    (
        Kind::Stutter,
        "stutter",
        "SIGSTOP and SIGCONT several times a second",
    ),
    (
        Kind::Slow,
        "slow",
        "leaves a member a twentieth of a processor",
    ),
    (
        Kind::Power,
        "power",
        "power loss of one or all: what was not synced to the disk is gone",
    ),
    (Kind::DiskError, "disk-error", "fsync fails"),
    (Kind::SlowDisk, "slow-disk", "each fsync takes longer"),
    (
        Kind::DiskFull,
        "disk-full",
        "no space left on a member's disk",
    ),
    (
        Kind::Corrupt,
        "corrupt",
        "flips a bit in, or cuts short, a file of a stopped member",
    ),
    (Kind::Clock, "clock", "a member's wall clock jumps"),
    (
        Kind::Member,
        "member",
        "removes a member and adds it anew, as a learner at first",
    ),
    (Kind::Compact, "compact", "compacts history and defragments"),
    (
        Kind::MoveLeader,
        "move-leader",
        "another member has to lead",
    ),
    (
        Kind::Snapshot,
        "snapshot",
        "keeps a member down until the others' logs have gone past it",
    ),
    (
        Kind::Restart,
        "restart",
        "stops and starts all members, one after the other",
    ),
    (
        Kind::Upgrade,
        "upgrade",
        "all run another build (--other-binary), one after the other, and back",
    ),
    (
        Kind::Backup,
        "backup",
        "copies the store under load, and restores it into a new cluster",
    ),
    (
        Kind::Node,
        "node",
        "SIGKILL of a node's agent and the end of all that runs there, or SIGSTOP",
    ),
];

impl Kind {
    pub fn name(self) -> &'static str {
        let entry = KINDS.iter().find(|(kind, _, _)| *kind == self);
        entry.map_or("", |(_, name, _)| name)
    }

    pub fn is_of_network(self) -> bool {
        self.is_on_links() || self == Kind::Bandwidth
    }

    /// Whether it hits links rather than members.
    pub fn is_on_links(self) -> bool {
        matches!(
            self,
            Kind::Partition
                | Kind::Flapping
                | Kind::Loss
                | Kind::Reset
                | Kind::Delay
                | Kind::Reorder
                | Kind::Duplicate
        )
    }

    pub fn is_alone(self) -> bool {
        matches!(
            self,
            Kind::Corrupt | Kind::Member | Kind::Snapshot | Kind::DiskError | Kind::Restart
        )
    }

    /// Whether the members need disks of their own for it.
    pub fn needs_disks(self) -> bool {
        matches!(self, Kind::Power | Kind::DiskFull)
    }

    /// The shortest and the longest time that it lasts, in milliseconds. Where it ends by itself, what it is given.
    fn lasts_ms(self) -> (u64, u64) {
        match self {
            Kind::Partition => (500, 7000),
            Kind::Flapping => (2000, 6000),
            Kind::Loss | Kind::Delay | Kind::Reorder | Kind::Duplicate => (1500, 7000),
            Kind::Reset => (200, 2000),
            Kind::Kill | Kind::Power => (0, 3000),
            Kind::CrashLoop => (2000, 5000),
            Kind::Pause => (300, 5000),
            Kind::Bandwidth | Kind::Stutter => (2000, 6000),
            Kind::Slow | Kind::SlowDisk | Kind::DiskFull => (2000, 6000),
            Kind::DiskError => (1000, 3000),
            Kind::Clock => (2000, 6000),
            Kind::Compact | Kind::MoveLeader => (500, 500),
            Kind::Corrupt | Kind::Member | Kind::Restart => (10_000, 10_000),
            Kind::Snapshot => (8000, 8000),
            Kind::Upgrade => (15_000, 15_000),
            Kind::Backup => (4000, 4000),
            Kind::Node => (0, 2500),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> String {
        kind.name().into()
    }
}

impl TryFrom<String> for Kind {
    type Error = String;

    fn try_from(name: String) -> Result<Kind, String> {
        name.parse()
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        let entry = KINDS.iter().find(|(_, name, _)| *name == text);
        entry.map(|(kind, _, _)| *kind).ok_or_else(|| {
            let names: Vec<&str> = KINDS.iter().map(|(_, name, _)| *name).collect();
            format!("one of {}", names.join(", "))
        })
    }
}

/// Whom it hits, of processes and disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Victims {
    One(Pick),
    /// Beginning with this one.
    Majority(usize),
    All,
}

impl fmt::Display for Victims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Victims::One(pick) => pick.fmt(f),
            Victims::Majority(_) => f.write_str("a majority"),
            Victims::All => f.write_str("all"),
        }
    }
}

impl Victims {
    /// Indexes among `count`.
    pub fn of(self, count: usize, leader: Option<usize>) -> Vec<usize> {
        match self {
            Victims::One(pick) => vec![pick.of(count, leader)],
            Victims::Majority(first) => {
                let mut hit: Vec<usize> = (0..=count / 2).map(|n| (first + n) % count).collect();
                hit.sort_unstable();
                hit
            }
            Victims::All => (0..count).collect(),
        }
    }
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    pub kind: Kind,
    #[serde(rename = "at_ms", with = "in_milliseconds")]
    pub at: Duration,
    #[serde(rename = "lasts_ms", with = "in_milliseconds")]
    pub length: Duration,
    pub cut: Cut,
    pub victims: Victims,
    /// Whatever else it needs: how much, which file.
    pub dice: u64,
}

mod in_milliseconds {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::time::Duration;

    pub(super) fn serialize<S: Serializer>(length: &Duration, to: S) -> Result<S::Ok, S::Error> {
        (length.as_millis() as u64).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

impl Planned {
    pub fn until(&self) -> Duration {
        self.at + self.length
    }

    fn overlaps(&self, from: Duration, until: Duration) -> bool {
        self.at < until && from < self.until()
    }
}

/// Before the first fault clients and members get to know each other.
const QUIET_START: Duration = Duration::from_secs(1);
/// Around a fault that is alone.
const MARGIN: Duration = Duration::from_secs(1);

/// A mix of its own for each seed: each kind with 60 percent, but at least two.
pub fn draw_mix(seed: u64, from: &[Kind]) -> Vec<Kind> {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x5a4d);
    let mut order: Vec<(Kind, bool)> = from
        .iter()
        .map(|kind| (*kind, rng.random_bool(0.6)))
        .collect();
    order.shuffle(&mut rng);
    let drawn = order.iter().filter(|(_, drawn)| *drawn).count();
    let wanted = drawn.max(2).min(order.len());
    order.sort_by_key(|(_, drawn)| !drawn);
    let mut mix: Vec<Kind> = order.iter().take(wanted).map(|(kind, _)| *kind).collect();
    mix.sort_unstable();
    mix
}

/// The schedule of a run, ordered by time. Every fault is over before `length` is.
pub fn plan(seed: u64, length: Duration, members: usize, mix: &[Kind]) -> Vec<Planned> {
    let mut rng = StdRng::seed_from_u64(seed);
    let of = |network: bool| -> Vec<Kind> {
        let kinds = mix.iter().copied();
        kinds
            .filter(|kind| kind.is_of_network() == network)
            .collect()
    };
    let mut all = lane(&mut rng, length, members, &of(false), &[]);
    let alone: Vec<(Duration, Duration)> = all
        .iter()
        .filter(|fault| fault.kind.is_alone())
        .map(|fault| (fault.at.saturating_sub(MARGIN), fault.until() + MARGIN))
        .collect();
    all.extend(lane(&mut rng, length, members, &of(true), &alone));
    all.sort_by_key(|fault| fault.at);
    all
}

fn lane(
    rng: &mut StdRng,
    length: Duration,
    members: usize,
    kinds: &[Kind],
    closed: &[(Duration, Duration)],
) -> Vec<Planned> {
    let mut lane = Vec::new();
    let mut at = QUIET_START + milliseconds(rng, (0, 1500));
    let mut turn: Vec<Kind> = Vec::new();
    while !kinds.is_empty() && at < length {
        // Each has its turn before any comes again.
        if turn.is_empty() {
            turn = kinds.to_vec();
            turn.shuffle(rng);
        }
        let Some(kind) = turn.pop() else { break };
        let mut fault = draw(rng, kind, at, members);
        while let Some((_, end)) = closed
            .iter()
            .find(|(from, until)| fault.overlaps(*from, *until))
        {
            fault.at = *end;
        }
        if fault.until() <= length {
            at = fault.until() + milliseconds(rng, (500, 3000));
            lane.push(fault);
        } else {
            // A shorter kind may still fit.
            at += Duration::from_millis(500);
        }
    }
    lane
}

fn draw(rng: &mut StdRng, kind: Kind, at: Duration, members: usize) -> Planned {
    Planned {
        kind,
        at,
        length: milliseconds(rng, kind.lasts_ms()),
        cut: cut(rng, members),
        victims: victims(rng, kind, members),
        dice: rng.random(),
    }
}

fn milliseconds(rng: &mut StdRng, (least, most): (u64, u64)) -> Duration {
    Duration::from_millis(rng.random_range(least..=most))
}

fn pick(rng: &mut StdRng, members: usize) -> Pick {
    match rng.random_range(0..5) {
        0 | 1 => Pick::Leader,
        2 => Pick::Follower(rng.random_range(0..members - 1)),
        _ => Pick::Member(rng.random_range(0..members)),
    }
}

fn cut(rng: &mut StdRng, members: usize) -> Cut {
    let first = pick(rng, members);
    match rng.random_range(0..10) {
        0 => Cut::OneWay {
            deaf: first,
            to: pick(rng, members),
        },
        1 => Cut::Deaf(first),
        2 => Cut::Mute(first),
        3..6 => Cut::Alone(first),
        6 => Cut::Halves(rng.random_range(0..members)),
        7 => Cut::Bridge(first),
        8 => Cut::Ring,
        _ => Cut::All,
    }
}

fn victims(rng: &mut StdRng, kind: Kind, members: usize) -> Victims {
    let one = Victims::One(pick(rng, members));
    let chance = rng.random_range(0..10);
    match kind {
        Kind::Kill | Kind::Pause | Kind::Stutter | Kind::Power if chance == 0 => Victims::All,
        Kind::Kill | Kind::Pause | Kind::Stutter if chance == 1 => {
            Victims::Majority(rng.random_range(0..members))
        }
        Kind::Power if chance < 4 => Victims::All,
        // The leader's log is the one that goes on.
        Kind::Snapshot => Victims::One(Pick::Follower(rng.random_range(0..members - 1))),
        _ => one,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn all() -> Vec<Kind> {
        KINDS.iter().map(|(kind, _, _)| *kind).collect()
    }

    #[test]
    fn the_same_seed_makes_the_same_plan() {
        let plan = |seed| plan(seed, 5 * MINUTE, 3, &all());
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
        assert_eq!(draw_mix(7, &all()), draw_mix(7, &all()));
    }

    #[test]
    fn every_fault_is_over_before_the_end_and_none_is_in_another_ones_way() {
        for seed in 0..300 {
            for members in [3, 5] {
                let plan = plan(seed, 5 * MINUTE, members, &all());
                assert!(plan.len() > 30, "{}", plan.len());
                for (number, fault) in plan.iter().enumerate() {
                    assert!(fault.at >= QUIET_START && fault.until() <= 5 * MINUTE);
                    for other in &plan[number + 1..] {
                        let same = fault.kind.is_of_network() == other.kind.is_of_network();
                        let alone = fault.kind.is_alone() || other.kind.is_alone();
                        if same || alone {
                            assert!(
                                !fault.overlaps(other.at, other.until()),
                                "{fault:?} and {other:?}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn each_kind_has_its_turn() {
        for seed in 0..50 {
            let plan = plan(seed, 5 * MINUTE, 3, &all());
            for kind in all() {
                assert!(plan.iter().any(|fault| fault.kind == kind), "{seed} {kind}");
            }
            // Also where there is little time.
            let few = [Kind::Partition, Kind::Kill, Kind::Pause];
            let plan = super::plan(seed, MINUTE / 3, 3, &few);
            for kind in few {
                assert!(plan.iter().any(|fault| fault.kind == kind), "{seed} {kind}");
            }
        }
    }

    #[test]
    fn seeds_draw_different_mixes_of_all() {
        let mut seen = std::collections::BTreeSet::new();
        let mut mixes = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let mix = draw_mix(seed, &all());
            assert!(mix.len() >= 2);
            seen.extend(mix.iter().copied());
            mixes.insert(mix);
        }
        assert_eq!(seen.len(), KINDS.len());
        assert!(mixes.len() > 90);
        assert_eq!(draw_mix(1, &[Kind::Kill]), [Kind::Kill]);
    }

    #[test]
    fn names_are_read_back() {
        for (kind, name, _) in KINDS {
            assert_eq!(name.parse::<Kind>().as_ref(), Ok(kind));
            assert_eq!(kind.to_string(), *name);
        }
        assert!("kil".parse::<Kind>().unwrap_err().contains("crash-loop"));
    }

    #[test]
    fn a_plan_survives_a_file() {
        let plan = plan(7, 5 * MINUTE, 5, &all());
        let text = serde_json::to_string(&plan).unwrap();
        assert!(text.contains(r#""kind":"crash-loop","at_ms":"#), "{text}");
        assert_eq!(serde_json::from_str::<Vec<Planned>>(&text).unwrap(), plan);
    }

    #[test]
    fn a_majority_is_one() {
        assert_eq!(Victims::Majority(2).of(3, None), [0, 2]);
        assert_eq!(Victims::Majority(4).of(5, None), [0, 1, 4]);
        assert_eq!(Victims::All.of(3, None), [0, 1, 2]);
        assert_eq!(Victims::One(Pick::Leader).of(3, Some(2)), [2]);
    }
}
