//! `kontiki store recover`: a cluster of one from what is left of a cluster that has lost its quorum.

mod survivors;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use store::InitialMember;
use store::backup::{NewCluster, Survivor};

use self::survivors::{Found, inspect, longest, require_lost_quorum, show};
use crate::cli::RecoverArgs;
use crate::local::{Home, Member, Plan};
use crate::up::{self, say, shell_word};

pub(super) fn recover(home: &Home, args: &RecoverArgs) -> Result<()> {
    match args.data_dir.is_empty() {
        true => recover_home(home, args),
        false => recover_dirs(args),
    }
}

fn recover_home(home: &Home, args: &RecoverArgs) -> Result<()> {
    let (_lock, mut plan) = up::begin(home)?;
    refuse_running(home, &plan)?;
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
    let member = remaining(&plan, best, survivor)?;
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

fn refuse_running(home: &Home, plan: &Plan) -> Result<()> {
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
    Ok(())
}

/// The member that the others are given up for.
fn remaining(plan: &Plan, best: &Found, survivor: &Survivor) -> Result<Member> {
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
    Ok(member)
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
fn keep_lost(home: &Home, survivor: &str, lost: &[Member]) -> Result<()> {
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
