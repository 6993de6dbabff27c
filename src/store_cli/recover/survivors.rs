//! What is left of a cluster, and which of it has most.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Result, bail};
use store::DataDirError;
use store::backup::{BackupError, LogEnd, Survivor};

use crate::cli::RecoverArgs;
use crate::store_cli::table;
use crate::up::say;

/// A data directory, and what was found in it.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) data_dir: PathBuf,
    survivor: Result<Survivor, Unusable>,
}

pub(super) struct Unusable {
    why: String,
    /// Its member runs.
    in_use: bool,
}

pub(super) fn inspect(name: String, data_dir: PathBuf) -> Found {
    let engine = store::config::engine();
    let found = store::backup::inspect(&data_dir, engine.as_ref());
    Found {
        name,
        data_dir,
        survivor: found.map_err(|error| Unusable {
            why: error.to_string(),
            in_use: matches!(error, BackupError::DataDir(DataDirError::Locked { .. })),
        }),
    }
}

/// The one with the longest log. An error if there is none, or if they are of different clusters.
pub(super) fn longest(found: &[Found]) -> Result<(&Found, &Survivor)> {
    let in_use = |found: &&Found| found.survivor.as_ref().is_err_and(|why| why.in_use);
    if let Some(running) = found.iter().find(in_use) {
        bail!(
            "{} is in use: its member runs, and may have more than the others. Stop it first",
            running.data_dir.display()
        );
    }
    let survivors = found.iter();
    let survivors = survivors.filter_map(|found| Some((found, found.survivor.as_ref().ok()?)));
    let Some(best) = survivors.clone().max_by_key(|(_, survivor)| survivor.last) else {
        bail!("there is no survivor: none of these directories can be used; restore a backup");
    };
    for (found, survivor) in survivors {
        if survivor.cluster_id != best.1.cluster_id {
            bail!(
                "{} is of another cluster than {}: choose with --data-dir",
                found.data_dir.display(),
                best.0.data_dir.display()
            );
        }
    }
    Ok(best)
}

/// Whether those who are left can go on by themselves, so that nothing has to be given up.
fn are_quorum(found: &[Found], best: &Survivor) -> bool {
    let survivors = found
        .iter()
        .filter_map(|found| found.survivor.as_ref().ok());
    // One that has never had a log is not let in: its directory was lost and made anew.
    let left = survivors.filter(|survivor| {
        best.voters.contains(&survivor.member_id) && survivor.last > LogEnd::default()
    });
    let left: BTreeSet<u64> = left.map(|survivor| survivor.member_id).collect();
    left.len() > best.voters.len() / 2
}

pub(super) fn require_lost_quorum(
    found: &[Found],
    best: &Survivor,
    args: &RecoverArgs,
) -> Result<()> {
    if are_quorum(found, best) && !args.force {
        bail!(
            "these are a quorum of the {} members that vote: start them, and nothing is lost. To make one the only \
             member all the same: --force",
            best.voters.len()
        );
    }
    Ok(())
}

pub(super) fn show(found: &[Found]) {
    let head = [
        "MEMBER",
        "TERM",
        "INDEX",
        "APPLIED",
        "REVISION",
        "DIRECTORY",
    ];
    let mut lines = vec![head.map(String::from).to_vec()];
    lines.extend(found.iter().map(|found| match &found.survivor {
        Ok(survivor) => vec![
            found.name.clone(),
            survivor.last.term.to_string(),
            survivor.last.index.to_string(),
            survivor.applied_index.to_string(),
            survivor.revision.to_string(),
            found.data_dir.display().to_string(),
        ],
        Err(_) => {
            let none = ["-", "-", "-", "-"].map(String::from);
            let mut line = vec![found.name.clone()];
            line.extend(none);
            line.push(found.data_dir.display().to_string());
            line
        }
    }));
    say(table(&lines).trim_end());
    for found in found {
        if let Err(Unusable { why, .. }) = &found.survivor {
            say(&format!("{}: {why}", found.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn found(name: &str, cluster_id: u64, end: Option<(u64, u64)>) -> Found {
        let survivor = end.map(|(term, index)| Survivor {
            cluster_id,
            member_id: 1,
            last: LogEnd { term, index },
            applied_index: 1,
            revision: 1,
            members: BTreeMap::new(),
            voters: [1, 2, 3].into(),
        });
        Found {
            name: name.into(),
            data_dir: name.into(),
            survivor: survivor.ok_or_else(|| Unusable {
                why: "gone".into(),
                in_use: false,
            }),
        }
    }

    #[test]
    fn the_longest_log_is_chosen_among_those_that_are_left() {
        let best = |found: &[Found]| longest(found).map(|(found, _)| found.name.clone());
        let three = [
            found("m1", 7, Some((2, 900))),
            found("m2", 7, Some((3, 5))),
            found("m3", 7, None),
        ];
        assert_eq!(best(&three).unwrap(), "m2");
        assert!(best(&[found("m1", 7, None)]).is_err());
        // One that runs may have more than all of them.
        let mut running = found("m3", 7, None);
        running.survivor = Err(Unusable {
            why: "locked".into(),
            in_use: true,
        });
        let refused = longest(&[found("m1", 7, Some((2, 900))), running]).err();
        assert!(refused.unwrap().to_string().contains("Stop it first"));
        let mixed = [found("m1", 7, Some((2, 9))), found("m2", 8, Some((3, 5)))];
        assert!(
            best(&mixed)
                .unwrap_err()
                .to_string()
                .contains("another cluster")
        );
    }

    #[test]
    fn who_can_go_on_by_himself_gives_nothing_up() {
        let of = |ids: &[u64]| -> Vec<Found> {
            let found = |id: &u64| {
                let mut found = found("m", 7, Some((1, 1)));
                if let Ok(survivor) = &mut found.survivor {
                    survivor.member_id = *id;
                }
                found
            };
            ids.iter().map(found).collect()
        };
        let quorum = |ids: &[u64]| {
            let found = of(ids);
            let best = found[0].survivor.as_ref().ok().unwrap();
            are_quorum(&found, best)
        };
        assert!(quorum(&[1, 2]) && quorum(&[3, 1, 2]));
        // Twice the same, and one that never voted.
        assert!(!quorum(&[2]) && !quorum(&[2, 2]) && !quorum(&[1, 4]));
        // Two directories that were lost, and made anew by a start.
        let mut found = of(&[1, 2, 3]);
        for emptied in &mut found[1..] {
            if let Ok(survivor) = &mut emptied.survivor {
                survivor.last = LogEnd::default();
            }
        }
        let best = longest(&found).unwrap().1;
        assert!(!are_quorum(&found, best));
    }
}
