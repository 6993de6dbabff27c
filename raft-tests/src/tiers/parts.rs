//! What each tier consists of. Another part is another line.

use super::pairs;
use crate::chaos::plan::KINDS;

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// This one.
    Own,
    /// This one, built by cargo with a feature that no other build has.
    With(&'static str),
}

/// How often, in the time that a part has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Often {
    Once,
    /// Once with so many `{count}`, to see how long one takes, and once with as many as fit.
    Fitted(u64),
    /// Again and again, with the next group of `{kinds}` each time.
    Groups,
}

/// One command of a tier.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub name: &'static str,
    pub program: Program,
    /// `{seed}`, `{count}`, `{kinds}`, `{seconds}` and `{folder}` are filled in.
    pub words: &'static [&'static str],
    /// Of the time of all.
    pub share: u32,
    pub often: Often,
}

const fn own(name: &'static str, share: u32, often: Often, words: &'static [&'static str]) -> Part {
    Part {
        name,
        program: Program::Own,
        words,
        share,
        often,
    }
}

/// Each night. Figures come first, while the machine is cool; what has to be built comes last.
pub const NIGHTLY: &[Part] = &[
    own(
        "failover",
        3,
        Often::Once,
        &[
            "measure",
            "failover",
            "--seconds",
            "{seconds}",
            "--folder",
            "{folder}",
        ],
    ),
    own(
        "handover",
        3,
        Often::Once,
        &[
            "measure",
            "handover",
            "--seconds",
            "{seconds}",
            "--folder",
            "{folder}",
        ],
    ),
    own(
        "sim",
        30,
        Often::Fitted(100),
        &[
            "sim",
            "--seeds",
            "{count}",
            "--seed-from",
            "{seed}",
            "--folder",
            "{folder}",
        ],
    ),
    own(
        "kube-sim",
        12,
        Often::Fitted(20),
        &["kube-sim", "--seeds", "{count}", "--seed-from", "{seed}"],
    ),
    own(
        "chaos",
        20,
        Often::Groups,
        &[
            "chaos",
            "--minutes",
            "0.75",
            "--nemesis",
            "{kinds}",
            "--seed",
            "{seed}",
            "--folder",
            "{folder}",
        ],
    ),
    own(
        "kills",
        8,
        Often::Once,
        &[
            "measure",
            "kills",
            "--seconds",
            "{seconds}",
            "--folder",
            "{folder}",
        ],
    ),
    own(
        "power-losses",
        8,
        Often::Once,
        &[
            "measure",
            "power-losses",
            "--seconds",
            "{seconds}",
            "--folder",
            "{folder}",
        ],
    ),
    own(
        "flips",
        8,
        Often::Once,
        &[
            "measure",
            "flips",
            "--seconds",
            "{seconds}",
            "--folder",
            "{folder}",
        ],
    ),
    Part {
        name: "mutants",
        program: Program::With("mutants"),
        words: &["mutants"],
        share: 8,
        often: Often::Once,
    },
];

/// In less than half a minute.
pub const SMOKE: &[Part] = &[
    own(
        "sim",
        1,
        Often::Once,
        &["sim", "--seeds", "100", "--seed-from", "{seed}"],
    ),
    own(
        "chaos",
        2,
        Often::Once,
        &[
            "chaos",
            "--minutes",
            "0.1",
            "--nemesis",
            "kill,partition",
            "--seed",
            "{seed}",
            "--folder",
            "{folder}",
        ],
    ),
];

/// Groups of kinds of faults in which each pair comes together; joined by commas.
pub fn groups(possible: impl Fn(&str) -> bool) -> Vec<String> {
    let names: Vec<&str> = KINDS.iter().map(|(_, name, _)| *name).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| possible(name)).collect();
    let groups = pairs::cover(names.len(), GROUP).into_iter();
    groups
        .map(|group| {
            let names: Vec<&str> = group.into_iter().map(|index| names[index]).collect();
            names.join(",")
        })
        .collect()
}

/// Kinds of faults in one run: so many that each has its turn in 45 seconds.
const GROUP: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_faults_comes_together() {
        let groups = groups(|_| true);
        for (_, one, _) in KINDS {
            for (_, other, _) in KINDS {
                let together = groups.iter().any(|group| {
                    let names: Vec<&str> = group.split(',').collect();
                    names.contains(one) && names.contains(other)
                });
                assert!(together, "{one} and {other}");
            }
        }
        let without = super::groups(|name| name != "clock");
        assert!(without.iter().all(|group| !group.contains("clock")));
    }

    #[test]
    fn shares_are_hundredths_and_names_are_unique() {
        let sum: u32 = NIGHTLY.iter().map(|part| part.share).sum();
        assert_eq!(sum, 100);
        for tier in [NIGHTLY, SMOKE] {
            let mut names: Vec<&str> = tier.iter().map(|part| part.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), tier.len());
        }
    }
}
