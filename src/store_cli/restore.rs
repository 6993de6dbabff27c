//! `kontiki store restore`: a new cluster from a backup.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use store::InitialMember;
use store::backup::NewCluster;

use crate::cli::{OneMemberArgs, RestoreArgs};
use crate::local::{Home, Plan};
use crate::up::{self, say};

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

#[cfg(test)]
mod tests {
    use super::*;

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
