//! `kontiki store restore` and `recover`: work on the files of a store that does not run.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use store::backup::{BackupError, LogEnd, NewCluster, Survivor};
use store::{DataDirError, InitialMember};

use super::table;
use crate::cli::{OneMemberArgs, RecoverArgs, RestoreArgs};
use crate::local::{Home, Plan};
use crate::up::{self, say, shell_word};

pub(super) fn restore(home: &Home, args: &RestoreArgs) -> Result<()> {
    match &args.one.data_dir {
        Some(data_dir) => restore_one(data_dir, &args.one, args),
        None => restore_home(home, args),
    }
}

/// A whole home, with a new cluster of as many members as are wished for.
fn restore_home(home: &Home, args: &RestoreArgs) -> Result<()> {
    crate::pki::create_private_dir(&home.0)?;
    let _lock = up::lock(home)?;
    if home.load()?.is_some() {
        bail!(
            "there is a cluster in {}, which is not overwritten: choose another --home",
            home.0.display()
        );
    }
    remove_what_was_cut_short(home)?;
    let plan = Plan::new(&args.wishes.wishes(), &mut rand::random)?;
    // So that it is known whose the data is if it goes no further than some members.
    crate::pki::write_secret(&restoring(home), &serde_json::to_vec(&plan)?)?;
    let cluster = NewCluster {
        cluster_id: plan.cluster_id,
        members: initial_members(&plan),
        bump_revision: args.bump_revision,
    };
    let mut made: Vec<PathBuf> = Vec::new();
    let mut restored = None;
    for member in &plan.members {
        let data = home.process_dir(&member.name).join("data");
        crate::pki::create_private_dir(&home.process_dir(&member.name))?;
        match restore_data(&args.file, &data, member.id, &cluster) {
            Ok(done) => {
                made.push(data);
                restored = Some(done);
            }
            Err(error) => {
                // All or nothing: half a cluster would stand in the way of the next attempt.
                for data in made {
                    let _ = fs::remove_dir_all(data);
                }
                let _ = fs::remove_file(restoring(home));
                return Err(error);
            }
        }
    }
    // What makes it a cluster goes last.
    home.save(&plan)?;
    fs::remove_file(restoring(home)).context("cannot remove what says that it is restored")?;
    let (revision, contents) = restored.context("a cluster has members")?;
    say(&format!(
        "Restored {} keys and {} leases of revision {} into a new cluster of {} members in {}, which begins at revision \
         {revision}.",
        contents.keys,
        contents.leases,
        contents.revision,
        plan.members.len(),
        home.0.display()
    ));
    say(&format!("To start it: kontiki up{}", up::home_flag(home)));
    Ok(())
}

/// The plan of a home while it is restored.
fn restoring(home: &Home) -> PathBuf {
    home.0.join("restoring.json")
}

/// The data that a restore has made which did not come to its end. No member has ever run on it.
fn remove_what_was_cut_short(home: &Home) -> Result<()> {
    let file = restoring(home);
    let Ok(text) = fs::read(&file) else {
        return Ok(());
    };
    // Cut short itself: nothing was made yet.
    if let Ok(plan) = serde_json::from_slice::<Plan>(&text) {
        for member in &plan.members {
            let data = home.process_dir(&member.name).join("data");
            match fs::remove_dir_all(&data) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", data.display()));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn initial_members(plan: &Plan) -> Vec<InitialMember> {
    let members = plan.members.iter();
    members
        .map(|member| InitialMember {
            id: member.id,
            name: member.name.clone(),
            peer_address: format!("127.0.0.1:{}", member.peer_port),
        })
        .collect()
}

fn restore_data(
    file: &Path,
    data: &Path,
    member_id: u64,
    cluster: &NewCluster,
) -> Result<(i64, store::backup::Contents)> {
    let engine = store::config::engine();
    Ok(store::backup::restore(
        file,
        data,
        member_id,
        cluster,
        engine.as_ref(),
    )?)
}

fn restore_one(data_dir: &Path, one: &OneMemberArgs, args: &RestoreArgs) -> Result<()> {
    let (Some(member_id), Some(cluster_id)) = (one.member_id, one.cluster_id) else {
        bail!("--data-dir needs --member-id, --cluster-id and --initial-members");
    };
    let members = one.initial_members.iter().map(|member| InitialMember {
        id: member.id,
        name: member.name.clone(),
        peer_address: member.peer_address.clone(),
    });
    let cluster = NewCluster {
        cluster_id,
        members: members.collect(),
        bump_revision: args.bump_revision,
    };
    if let Some(parent) = data_dir.parent() {
        crate::pki::create_private_dir(parent)?;
    }
    let (revision, contents) = restore_data(&args.file, data_dir, member_id, &cluster)?;
    say(&format!(
        "Restored {} keys and {} leases of revision {} into {}, which begins at revision {revision}. Do the same on the \
         machines of the other members, with the same file, before you start any of them.",
        contents.keys,
        contents.leases,
        contents.revision,
        data_dir.display()
    ));
    Ok(())
}

/// A data directory, and what was found in it.
struct Found {
    name: String,
    data_dir: PathBuf,
    survivor: Result<Survivor, Unusable>,
}

struct Unusable {
    why: String,
    /// Its member runs.
    in_use: bool,
}

pub(super) fn recover(home: &Home, args: &RecoverArgs) -> Result<()> {
    match args.data_dir.is_empty() {
        true => recover_home(home, args),
        false => recover_dirs(args),
    }
}

fn inspect(name: String, data_dir: PathBuf) -> Found {
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
fn longest(found: &[Found]) -> Result<(&Found, &Survivor)> {
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

fn require_lost_quorum(found: &[Found], best: &Survivor, args: &RecoverArgs) -> Result<()> {
    if are_quorum(found, best) && !args.force {
        bail!(
            "these are a quorum of the {} members that vote: start them, and nothing is lost. To make one the only \
             member all the same: --force",
            best.voters.len()
        );
    }
    Ok(())
}

fn show(found: &[Found]) {
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

fn recover_home(home: &Home, args: &RecoverArgs) -> Result<()> {
    let (_lock, mut plan) = up::begin(home)?;
    for member in &plan.members {
        if let Some(pid) = up::server_process(home, &member.name).running() {
            bail!(
                "member {} runs (pid {pid}): if a quorum of the members can be started, nothing is lost; else stop them \
                 all with `kontiki down{}`",
                member.name,
                up::home_flag(home)
            );
        }
    }
    if !args.dry_run && finish_home(home, &mut plan)? {
        return Ok(());
    }
    let members = plan.members.iter();
    let found: Vec<Found> = members
        .map(|member| {
            let data = home.process_dir(&member.name).join("data");
            inspect(member.name.clone(), data)
        })
        .collect();
    show(&found);
    let (best, survivor) = longest(&found)?;
    say(&format!("The longest log is that of {}.", best.name));
    if args.dry_run {
        return Ok(());
    }
    require_lost_quorum(&found, survivor, args)?;
    let mut survivors = plan
        .members
        .iter()
        .filter(|member| member.id == survivor.member_id);
    let mut member = survivors
        .next()
        .with_context(|| {
            format!(
                "{} is not the directory of a member",
                best.data_dir.display()
            )
        })?
        .clone();
    member.leaving = false;
    let cluster = NewCluster {
        cluster_id: rand::random::<u64>() | 1,
        members: vec![InitialMember {
            id: member.id,
            name: member.name.clone(),
            peer_address: format!("127.0.0.1:{}", member.peer_port),
        }],
        bump_revision: args.bump_revision,
    };
    // The plan first: after a crash in between, this command can be run again.
    let before = plan.clone();
    // The node agent stays on its own, also beside a single member.
    plan.node.apart |= plan.members.len() > 1;
    plan.cluster_id = cluster.cluster_id;
    let lost = std::mem::replace(&mut plan.members, vec![member]);
    home.save(&plan)?;
    let revision = match recover_data(&best.data_dir, &cluster) {
        Ok(revision) => revision,
        Err(error) => {
            home.save(&before)?;
            return Err(error);
        }
    };
    keep_lost(home, &best.name, &lost)?;
    say_recovered(home, &best.name, revision);
    if lost.len() > 1 {
        say(&format!(
            "To have {} members again: kontiki up{} --members {}",
            lost.len(),
            up::home_flag(home),
            lost.len()
        ));
    }
    Ok(())
}

fn say_recovered(home: &Home, name: &str, revision: i64) {
    say(&format!(
        "Member {name} is the only one of a new cluster, which begins at revision {revision}."
    ));
    say(&format!("To start it: kontiki up{}", up::home_flag(home)));
}

/// Brings a recovery to its end that was cut short. True if there was one.
fn finish_home(home: &Home, plan: &mut Plan) -> Result<bool> {
    let engine = store::config::engine();
    for member in plan.members.clone() {
        let data = home.process_dir(&member.name).join("data");
        let Some(survivor) = store::backup::finish(&data, engine.as_ref())? else {
            continue;
        };
        plan.node.apart |= plan.members.len() > 1;
        plan.cluster_id = survivor.cluster_id;
        let lost = std::mem::replace(&mut plan.members, vec![member.clone()]);
        home.save(plan)?;
        keep_lost(home, &member.name, &lost)?;
        say("The recovery that was cut short is at its end.");
        say_recovered(home, &member.name, survivor.revision);
        return Ok(true);
    }
    Ok(false)
}

/// What the other members have left goes into the folder of the one that remains: for a look, and so that a reset finds
/// it.
fn keep_lost(home: &Home, survivor: &str, lost: &[crate::local::Member]) -> Result<()> {
    for member in lost.iter().filter(|member| member.name != survivor) {
        let from = home.process_dir(&member.name);
        if !from.exists() {
            continue;
        }
        let to = home
            .process_dir(survivor)
            .join(format!("lost-{}-{:x}", member.name, member.id));
        fs::rename(&from, &to).with_context(|| format!("cannot move {} away", from.display()))?;
        say(&format!(
            "What member {} has left is kept in {}.",
            member.name,
            to.display()
        ));
    }
    Ok(())
}

fn recover_data(data_dir: &Path, cluster: &NewCluster) -> Result<i64> {
    let engine = store::config::engine();
    let (kept, revision) = store::backup::recover(data_dir, cluster, engine.as_ref())?;
    say(&format!(
        "What was in {} is kept in {}.",
        data_dir.display(),
        kept.display()
    ));
    Ok(revision)
}

fn recover_dirs(args: &RecoverArgs) -> Result<()> {
    let engine = store::config::engine();
    for data_dir in args.data_dir.iter().filter(|_| !args.dry_run) {
        if let Some(survivor) = store::backup::finish(data_dir, engine.as_ref())? {
            say("The recovery that was cut short is at its end.");
            say_recovered_dir(&survivor, survivor.cluster_id, survivor.revision);
            return Ok(());
        }
    }
    let dirs = args.data_dir.iter();
    let found: Vec<Found> = dirs
        .map(|dir| {
            inspect(
                shell_word(dir.file_name().unwrap_or_default().as_ref()),
                dir.clone(),
            )
        })
        .collect();
    show(&found);
    let (best, survivor) = longest(&found)?;
    let (name, peer_address) = own_name(survivor);
    if found.len() > 1 {
        say(&format!(
            "The longest log is in {}.",
            best.data_dir.display()
        ));
    }
    if args.dry_run {
        return Ok(());
    }
    require_lost_quorum(&found, survivor, args)?;
    let cluster_id = rand::random::<u64>() | 1;
    let cluster = NewCluster {
        cluster_id,
        members: vec![InitialMember {
            id: survivor.member_id,
            name,
            peer_address,
        }],
        bump_revision: args.bump_revision,
    };
    let revision = recover_data(&best.data_dir, &cluster)?;
    say_recovered_dir(survivor, cluster_id, revision);
    Ok(())
}

/// Name and peer address.
fn own_name(survivor: &Survivor) -> (String, String) {
    let own = survivor.members.get(&survivor.member_id);
    own.cloned().unwrap_or_default()
}

fn say_recovered_dir(survivor: &Survivor, cluster_id: u64, revision: i64) {
    let (name, _) = own_name(survivor);
    for line in [
        format!("Member {name} is the only one of the new cluster {cluster_id:x}, which begins at revision {revision}."),
        "Where the cluster's authorities are kept, make its certificates anew:".into(),
        String::new(),
        format!("  kontiki pki --dir ./cluster --recovered {name} --cluster-id {cluster_id:x}"),
        String::new(),
        "copy them to its machine, and start it there. Add the others as new members, with empty data directories:".into(),
        String::new(),
        "  kontiki store member add NAME --peer HOST:PORT".into(),
        String::new(),
        "See that none of the others ever starts with its old data: most of them together would go on as the old cluster.".into(),
    ] {
        say(&line);
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

    #[test]
    fn a_restore_that_was_cut_short_does_not_stand_in_its_own_way() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home(dir.path().join("a b"));
        fs::create_dir(&home.0).unwrap();
        remove_what_was_cut_short(&home).unwrap();
        let wishes = crate::local::Wishes {
            members: Some(3),
            ..Default::default()
        };
        let plan = Plan::new(&wishes, &mut rand::random).unwrap();
        fs::write(restoring(&home), serde_json::to_vec(&plan).unwrap()).unwrap();
        for path in ["m1/data/state", "m1/pki", "m9/data"] {
            fs::create_dir_all(home.0.join(path)).unwrap();
        }
        remove_what_was_cut_short(&home).unwrap();
        assert!(!home.0.join("m1/data").exists());
        assert!(home.0.join("m1/pki").exists() && home.0.join("m9/data").exists());
    }
}
