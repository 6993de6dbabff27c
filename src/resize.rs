//! A cluster on this machine grows, shrinks, and gets a new member in the place of a dead one, while it serves.
//!
//! What is to be done is decided step by step from the plan in the home and the members that the store lists
//! ([`next`]), so that whatever ends the process, the next `kontiki up` goes on where it was. A member always joins as a
//! learner and votes when it has caught up; whoever leads goes last.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use store::etcd::client::{Client, ClientError, Member as Listed};

use crate::local::{self, Home, Member, Plan};
use crate::pki::Renew;
use crate::process::Process;
use crate::store_cli::Session;
use crate::up::{self, Progress, say};

/// What is said when a member cannot be replaced.
pub(crate) const WITHOUT_QUORUM: &str = "a dead member is replaced by those who remain, and they have no quorum; see `kontiki store recover`";
/// For a new member to catch up.
const CATCH_UP: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(100);

/// What the plan and the store's members together call for.
#[derive(Debug, PartialEq)]
enum Step {
    Done,
    /// This learner was added for this home, which does not know its id yet.
    Adopt {
        id: u64,
        peer_port: u16,
    },
    /// Wait until it has caught up, and let it vote.
    Promote(String),
    Add,
    Remove(String),
    /// The store has it no more.
    Forget(String),
}

/// `target` is how many members there shall be.
fn next(plan: &Plan, listed: &[Listed], target: usize) -> Result<Step> {
    let known = |id: u64| plan.members.iter().find(|member| member.id == id);
    for member in listed {
        match known(member.id) {
            Some(known) if member.is_learner => return Ok(Step::Promote(known.name.clone())),
            Some(_) => {}
            None => {
                let here = member.peer_address.strip_prefix("127.0.0.1:");
                let port = here.and_then(|port| port.parse().ok());
                match port {
                    Some(peer_port) if member.is_learner && member.name.is_empty() => {
                        let id = member.id;
                        return Ok(Step::Adopt { id, peer_port });
                    }
                    _ => bail!(
                        "the store has a member {:x} ({}) that is not of this home: remove it with `kontiki store member \
                         remove {:x}`",
                        member.id,
                        member.name,
                        member.id
                    ),
                }
            }
        }
    }
    for Member {
        name, id, leaving, ..
    } in &plan.members
    {
        match (listed.iter().any(|listed| listed.id == *id), leaving) {
            (true, true) => return Ok(Step::Remove(name.clone())),
            (false, true) => return Ok(Step::Forget(name.clone())),
            (true, false) => {}
            (false, false) => bail!(
                "the store has no member {name} ({id:x}) any more: `kontiki store replace {name}` makes a new one"
            ),
        }
    }
    Ok(match (plan.members.len(), plan.members.last()) {
        (count, _) if count < target => Step::Add,
        (count, Some(last)) if count > target => Step::Remove(last.name.clone()),
        _ => Step::Done,
    })
}

/// Brings the cluster, whose members all run, to so many of them (as many as there are where it is none), and to an end
/// what was begun before.
pub(crate) async fn settle(
    home: &Home,
    mut plan: Plan,
    target: Option<usize>,
    progress: &Progress,
) -> Result<Plan> {
    let target = target.unwrap_or(plan.members.len());
    loop {
        let (client, listed) = Session::of_home(home, &plan)?.members().await?;
        match next(&plan, &listed, target)? {
            Step::Done => return Ok(plan),
            Step::Adopt { id, peer_port } => adopt(home, &mut plan, id, peer_port)?,
            Step::Promote(name) => {
                up::start_member(home, &plan, &name)?;
                promote(home, &plan, &name, progress).await?;
                say(&format!("Member {name} votes."));
            }
            Step::Forget(name) => forget(home, &mut plan, &name)?,
            Step::Add => {
                let member = plan.another(&up::is_free)?;
                progress.say(&format!("adding member {}", member.name));
                join(home, &mut plan, member, &client).await?;
            }
            Step::Remove(name) => {
                progress.say(&format!("removing member {name}"));
                leave(home, &mut plan, &name).await?;
                forget(home, &mut plan, &name)?;
                say(&format!("Member {name} has left."));
            }
        }
    }
}

/// Adds a learner to the store, and then to the plan with the id that it got.
async fn join(home: &Home, plan: &mut Plan, member: Member, client: &Client) -> Result<()> {
    let address = format!("127.0.0.1:{}", member.peer_port);
    let id = patiently(|| client.add_member(&address)).await?;
    take_in(home, plan, Member { id, ..member })
}

fn adopt(home: &Home, plan: &mut Plan, id: u64, peer_port: u16) -> Result<()> {
    let at_that_port = |member: &&Member| member.peer_port == peer_port;
    let member = match plan.members.iter().find(at_that_port) {
        Some(known) => known.clone(),
        None => Member {
            peer_port,
            ..plan.another(&up::is_free)?
        },
    };
    take_in(home, plan, Member { id, ..member })
}

/// A member of the store becomes one of the plan, by its name: in the place of an earlier one, or after the others. It
/// begins with an empty directory.
fn take_in(home: &Home, plan: &mut Plan, member: Member) -> Result<()> {
    move_data_away(home, &member.name)?;
    let name = member.name.clone();
    match plan.members.iter_mut().find(|known| known.name == name) {
        Some(known) => *known = member,
        None => plan.members.push(member),
    }
    // The node agent stands on its own from now on: it shall not end with one of several members.
    plan.node.apart |= plan.members.len() > 1;
    home.save(plan)?;
    local::ensure_pki(home, plan, &up::node_ip(), Renew::WhereNeeded)
}

/// What an earlier member of the name has left is kept for a look, but never used again.
fn move_data_away(home: &Home, name: &str) -> Result<()> {
    let data = home.process_dir(name).join("data");
    // Of attempts that were cut short: who takes the place has the data of the others.
    for attempt in ["data.restoring", "data.recovering"] {
        let _ = fs::remove_dir_all(data.with_file_name(attempt));
    }
    if !data.exists() {
        return Ok(());
    }
    let free = (1..).map(|number| data.with_file_name(format!("data.former-{number}")));
    let Some(to) = free.into_iter().find(|to| !to.exists()) else {
        bail!("no name is free beside {}", data.display());
    };
    fs::rename(&data, &to).with_context(|| format!("cannot move {} away", data.display()))?;
    say(&format!(
        "What was in {} is kept in {}.",
        data.display(),
        to.display()
    ));
    Ok(())
}

/// Waits until a learner has caught up, and lets it vote.
async fn promote(home: &Home, plan: &Plan, name: &str, progress: &Progress) -> Result<()> {
    let member = plan.member(name)?;
    let process = up::server_process(home, name);
    let session = Session::of_home(home, plan)?;
    let own = session.client(&member.etcd_url())?;
    let deadline = Instant::now() + CATCH_UP;
    loop {
        let client = session.any().await?;
        let refused = match client.promote_member(member.id).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let behind = match (client.status().await, own.status().await) {
            (Ok(all), Ok(own)) => {
                let (have, want) = (own.raft_applied_index, all.raft_applied_index);
                format!("it has {have} of {want} log entries")
            }
            _ => "it does not answer yet".into(),
        };
        progress.say(&format!("member {name} catches up: {behind}"));
        still_runs(&process, name)?;
        if Instant::now() > deadline {
            bail!("member {name} has not caught up in time ({behind}; {refused})");
        }
        tokio::time::sleep(POLL).await;
    }
}

fn still_runs(process: &Process, name: &str) -> Result<()> {
    if process.running().is_none() {
        bail!(
            "member {name} stopped. The end of {}:\n{}",
            process.log_file().display(),
            process.log_tail(12)
        );
    }
    Ok(())
}

/// Takes a member out of the store; the lead goes to another one first.
async fn leave(home: &Home, plan: &mut Plan, name: &str) -> Result<()> {
    // From here on it may be gone: then nobody waits for it.
    for member in plan.members.iter_mut().filter(|member| member.name == name) {
        member.leaving = true;
    }
    home.save(plan)?;
    let member = plan.member(name)?;
    let others: Vec<&Member> = plan.members.iter().filter(|m| m.name != name).collect();
    let urls = others.iter().map(|member| member.etcd_url()).collect();
    let session = Session::at(home, urls)?;
    let client = session.any().await?;
    if client.status().await?.leader == member.id {
        let heir = client.status().await?.member_id;
        session
            .client(&member.etcd_url())?
            .move_leader(heir)
            .await
            .with_context(|| {
                format!("member {name} leads, and the lead cannot go to another one")
            })?;
    }
    let removed = patiently(|| client.remove_member(member.id)).await;
    removed.with_context(|| format!("member {name} cannot leave"))
}

/// Repeats a change of members that another one stands in the way of for a moment.
async fn patiently<T, F>(change: impl Fn() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    const PATIENCE: Duration = Duration::from_secs(10);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match change().await {
            Err(ClientError::Unavailable { .. } | ClientError::Refused { .. })
                if Instant::now() < deadline =>
            {
                tokio::time::sleep(POLL).await;
            }
            other => return other,
        }
    }
}

/// Ends the process of a member that the store has no more, and removes all that it had.
fn forget(home: &Home, plan: &mut Plan, name: &str) -> Result<()> {
    up::server_process(home, name).stop(up::STOP_PATIENCE)?;
    // The node agent stays on its own, also beside a last one.
    plan.node.apart |= plan.members.len() > 1;
    plan.members.retain(|member| member.name != name);
    let folder = home.process_dir(name);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", folder.display()));
        }
        _ => {}
    }
    home.save(plan)?;
    local::ensure_pki(home, plan, &up::node_ip(), Renew::WhereNeeded)
}

/// `kontiki store member remove` of a member of this home: takes it out of the store and out of the plan. Answers its
/// name; nothing where it is not of this home.
pub(crate) async fn remove(home: &Home, id: u64) -> Result<Option<String>> {
    let (_lock, mut plan) = up::begin(home)?;
    let Some(name) = removable(&plan, id)? else {
        return Ok(None);
    };
    let before = plan.clone();
    if let Err(error) = leave(home, &mut plan, &name).await {
        // What was refused is not to be done by the next `up`.
        if let Ok((_, listed)) = Session::of_home(home, &before)?.members().await
            && listed.iter().any(|member| member.id == id)
        {
            home.save(&before)?;
        }
        return Err(error);
    }
    forget(home, &mut plan, &name)?;
    Ok(Some(name))
}

/// The name of the member that is to be removed, if it is of this home.
fn removable(plan: &Plan, id: u64) -> Result<Option<String>> {
    match plan.members.as_slice() {
        [only] if only.id == id => bail!(
            "member {} is the only one: `kontiki reset` takes the cluster away",
            only.name
        ),
        members => {
            let found = members.iter().find(|member| member.id == id);
            Ok(found.map(|member| member.name.clone()))
        }
    }
}

/// `kontiki store replace`: a new member in the place of one that is dead, under its name and on its ports.
pub(crate) async fn replace(home: &Home, name: &str) -> Result<()> {
    let (_lock, mut plan) = up::begin(home)?;
    let dead = plan.member(name)?.clone();
    if let Some(pid) = up::server_process(home, name).running() {
        bail!(
            "member {name} runs (pid {pid}): one that is to be replaced must have ended; `kill {pid}` ends it"
        );
    }
    if plan.members.len() == 1 {
        bail!(
            "member {name} is the only one: there is nobody to take its data from; restore a backup"
        );
    }
    let progress = Progress::new(&format!("replacing member {name}"));
    let others = plan.members.iter().filter(|member| member.name != name);
    let session = Session::at(home, others.map(Member::etcd_url).collect())?;
    let (client, listed) = session.members().await.context(WITHOUT_QUORUM)?;
    if listed.iter().any(|member| member.id == dead.id) {
        let removed = patiently(|| client.remove_member(dead.id)).await;
        removed.with_context(|| format!("member {name} cannot be removed"))?;
        progress.say(&format!("member {name} ({:x}) is removed", dead.id));
    }
    let address = format!("127.0.0.1:{}", dead.peer_port);
    // An earlier attempt may have added it.
    let added = listed
        .iter()
        .find(|it| it.is_learner && it.peer_address == address);
    match added {
        Some(learner) => take_in(
            home,
            &mut plan,
            Member {
                id: learner.id,
                ..dead
            },
        )?,
        None => join(home, &mut plan, dead, &client).await?,
    }
    up::start_member(home, &plan, name)?;
    promote(home, &plan, name, &progress).await?;
    progress.done();
    say(&format!(
        "Member {name} is a new one ({:x}), has caught up, and votes.",
        plan.member(name)?.id
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::Wishes;

    fn plan(members: usize) -> Plan {
        let wishes = Wishes {
            members: Some(members),
            node_name: Some("here".into()),
            ..Wishes::default()
        };
        let mut id = 8;
        let mut random = || {
            id += 10;
            id
        };
        Plan::new(&wishes, &mut random).unwrap()
    }

    fn listed(plan: &Plan) -> Vec<Listed> {
        let members = plan.members.iter();
        members
            .map(|member| Listed {
                id: member.id,
                name: member.name.clone(),
                peer_address: format!("127.0.0.1:{}", member.peer_port),
                ..Listed::default()
            })
            .collect()
    }

    #[test]
    fn members_come_and_go_one_at_a_time_from_the_end() {
        let three = plan(3);
        let all = listed(&three);
        let step = |target| next(&three, &all, target).unwrap();
        assert_eq!(step(3), Step::Done);
        assert_eq!(step(5), Step::Add);
        assert_eq!(step(1), Step::Remove("m3".into()));
    }

    #[test]
    fn what_was_begun_is_brought_to_an_end_first() {
        let mut three = plan(3);
        let mut all = listed(&three);
        all[2].is_learner = true;
        // Even if it is to go again.
        assert_eq!(next(&three, &all, 1).unwrap(), Step::Promote("m3".into()));
        // Added, and the process ended before the plan had it.
        all[2].name.clear();
        let added = three.members.pop().unwrap();
        let step = next(&three, &all, 3).unwrap();
        let (id, peer_port) = (added.id, added.peer_port);
        assert_eq!(step, Step::Adopt { id, peer_port });
        // Its removal had begun, or was done, and the process ended before the plan was rid of it.
        let two = listed(&three);
        three.members.push(added);
        let gone = next(&three, &two, 3).unwrap_err().to_string();
        assert!(gone.contains("kontiki store replace m3"), "{gone}");
        three.members[2].leaving = true;
        assert_eq!(next(&three, &two, 3).unwrap(), Step::Forget("m3".into()));
        let step = next(&three, &listed(&three), 3);
        assert_eq!(step.unwrap(), Step::Remove("m3".into()));
    }

    #[test]
    fn the_last_member_is_not_removed_and_that_of_others_not_by_this_home() {
        let three = plan(3);
        let id = three.members[1].id;
        assert_eq!(removable(&three, id).unwrap(), Some("m2".into()));
        assert_eq!(removable(&three, 0xabc).unwrap(), None);
        let one = plan(1);
        let refused = removable(&one, one.members[0].id).unwrap_err();
        assert!(refused.to_string().contains("the only one"), "{refused}");
    }

    #[test]
    fn members_of_others_are_left_alone() {
        let one = plan(1);
        let mut all = listed(&one);
        all.push(Listed {
            id: 0xabc,
            name: "far".into(),
            peer_address: "10.0.0.9:6480".into(),
            ..Listed::default()
        });
        for is_learner in [false, true] {
            all[1].is_learner = is_learner;
            let refused = next(&one, &all, 3).unwrap_err().to_string();
            assert!(
                refused.contains("not of this home") && refused.contains("abc"),
                "{refused}"
            );
        }
    }
}
